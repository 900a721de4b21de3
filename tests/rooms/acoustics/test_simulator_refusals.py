"""`Acoustics` refuses input that would otherwise yield silence or another room."""

import numpy as np
import pytest
from typechecking import unchecked

from sonarium.rooms.acoustics.geometry import Room, shoebox
from sonarium.rooms.acoustics.simulator import Acoustics

RATE, WINDOW = 8000, 700
SOUND = np.random.default_rng(0).standard_normal(500).astype(np.float32)


def entered(**others: object) -> Acoustics:
    acoustics = Acoustics(2, 1, RATE, WINDOW, 1, **others)  # pyright: ignore[reportArgumentType]
    acoustics.enter(0, shoebox((5, 4)), np.array([[1, 1.0]]), [SOUND])
    return acoustics


def enter(place: object = ((1.0, 1.0),), sound: object = None, room: Room | None = None, slot: int = 1) -> None:
    sounds = [SOUND] if sound is None else [np.array(sound)]
    entered().enter(slot, room or shoebox((5, 4)), np.array(place, float), sounds)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: enter(((6, 1),)), "not inside the room: move it off the walls"),
        (lambda: enter(((np.nan, 1),)), "not inside the room"),
        (lambda: enter(((1, 1), (2, 2))), "got 2 places and 1 sounds: 1 of each"),
        (lambda: enter(((1, 1, 1),)), "3 coordinates in a room of 2"),
        (lambda: enter(slot=2), "got slot 2: there are 2"),
        (lambda: enter(slot=-1), "got slot -1"),
        (lambda: enter(sound=[]), "finite samples of one channel"),
        (lambda: enter(sound=[0.1, np.nan]), "finite samples of one channel"),
        (lambda: enter(sound=[[0.1, 0.2]]), "finite samples of one channel"),
        (lambda: enter(room=shoebox((5, 4), bands=(500, 1000))), "room with bands"),
        (lambda: entered().hear(np.full((2, 2), 2.0), np.zeros(2)), "slot 1 has no room"),
        (lambda: entered().hear(np.full((1, 2), 2.0), np.zeros(1)), "slot 1 has no room"),
        (lambda: entered().hear(np.full((2, 2), 2.0), np.zeros(1), np.array([0])), r"shape \(2, 2\)"),
        (lambda: entered().hear(np.full((1, 1), 2.0), np.zeros(1), np.array([0])), "2 coordinates and a heading"),
        (lambda: entered().hear(np.full((1, 2), np.nan), np.zeros(1), np.array([0])), "NaN or infinite"),
        (lambda: entered().hear(np.full((1, 2), 1.0), np.full(1, np.inf), np.array([0])), "NaN or infinite"),
        (lambda: entered().move(0, 0, np.array([9, 9.0])), "not inside the room"),
        (lambda: Acoustics(0, 1, RATE, WINDOW, 1), "got slots=0: give a whole number"),
        (lambda: Acoustics(1, 1, RATE, WINDOW, -1), "got order=-1"),
        (lambda: Acoustics(1, 1, RATE, WINDOW, 1, ear_distance=-0.1), "got ear_distance=-0.1"),
        (lambda: Acoustics(1, 1, RATE, WINDOW, 1, ear_distance=float("nan")), "got ear_distance=nan"),
        (lambda: Acoustics(1, 1, RATE, WINDOW, 1, threads=10**9), "got threads=1000000000"),
        (lambda: entered(device="tpu"), "device 'tpu': give cpu"),
        (lambda: entered(device="cuda:99"), "device 'cuda:99': this torch sees"),
        (lambda: entered(longest_response=0.01), "more than 0.01 s: give a smaller room"),
        (lambda: entered(most_images=4), "more than 4 images"),
        (lambda: entered(clock="tape"), "choose stream or clip"),
        (lambda: entered(head="cube"), "none or sphere"),
        (lambda: Acoustics(1, 1, RATE, WINDOW, 1, bands=(1000, 500)), "increasing centre frequencies"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(call, says):
    with unchecked(), pytest.raises(ValueError, match=says):
        call()
