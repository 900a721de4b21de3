"""Tensor operations for GPUs, here on the CPU, against the compiled loops."""

import numpy as np
import pytest
import torch
from rooms import oracles

from sonarium.rooms.acoustics import convolution
from sonarium.rooms.acoustics.cuda import CudaBackend
from sonarium.rooms.acoustics.geometry import Room, polygon, regular, shoebox
from sonarium.rooms.acoustics.simulator import Acoustics

BANDS = (125.0, 250.0, 500.0, 1000.0, 2000.0)
ROOMS = {
    "box": [shoebox((5, 4), absorption=0.3), shoebox((6, 3.5), absorption=0.1)],
    "tall": [shoebox((5, 4, 3), absorption=0.3), regular(5, 3, height=2.5, absorption=0.2)],
    "bent": [polygon(oracles.ELL, absorption=0.25), polygon(oracles.TEE, absorption=0.4)],
}


def pair(rooms: list[Room], monkeypatch, **settings) -> list[Acoustics]:
    """The same rooms, rendered by compiled loops and by tensor operations."""
    random, made = np.random.default_rng(0), []
    sounds = [random.standard_normal(length).astype(np.float32) for length in (900, 1300)]
    for on_cuda in (False, True):
        acoustics = Acoustics(len(rooms), 2, 4000, 1000, 3, threads=1, **settings)
        if on_cuda:
            with monkeypatch.context() as patch:
                patch.setattr(
                    convolution, "CpuBackend", lambda *given: CudaBackend(*given, device=torch.device("cpu"))
                )
                acoustics = Acoustics(len(rooms), 2, 4000, 1000, 3, threads=1, **settings)
            assert isinstance(acoustics.convolver.backend, CudaBackend)
        for slot, room in enumerate(rooms):
            places = oracles.placed(room, np.random.default_rng(slot), 2)
            acoustics.enter(slot, room, np.array(places), sounds, np.array([slot, 7]))
        made.append(acoustics)
    return made


@pytest.mark.parametrize("name", ROOMS)
@pytest.mark.parametrize("settings", [{}, {"clock": "clip"}, {"head": "sphere"}, {"bands": BANDS}], ids=str)
def test_both_hear_the_same(name, settings, monkeypatch):
    rooms = ROOMS[name]
    if "bands" in settings:
        rooms = [
            Room(
                room.corners,
                room.height,
                np.tile(room.absorption, len(BANDS)) * np.linspace(0.5, 1.5, len(BANDS)),
                BANDS,
            )
            for room in rooms
        ]
    listeners = pair(rooms, monkeypatch, **settings)
    random = np.random.default_rng(5)
    for step in range(3):
        places = np.array([oracles.placed(room, random, 1)[0] for room in rooms])
        headings = random.uniform(-3, 3, len(rooms))
        ours, theirs = (acoustics.hear(places, headings) for acoustics in listeners)
        assert np.abs(ours - theirs).max() < 1e-4 * np.abs(ours).max()
        assert np.abs(ours).max() > 0
        if step == 0:
            for acoustics in listeners:
                acoustics.switch_off(0, 1)
        if step == 1:
            # A changed room is copied to the device again.
            place = np.array(oracles.placed(rooms[1], np.random.default_rng(9), 1)[0])
            for acoustics in listeners:
                acoustics.move(1, 0, place)
