"""Rooms in pyroomacoustics, one listener at a time: the baseline of the speed of `sonarium.rooms`.

`simulate` is the straightforward loop: images, responses and sound are recomputed at each position. `hear` saves
what can be saved: in a box the images are reused, since all of them are audible everywhere, and one batched
transform convolves all sounds. In other rooms each position has its own images, and as microphones cannot be
removed from the engine, a fresh room is made for each (0.7 ms, of 80 in a hexagon at order 10). The high-pass
filter of pyroomacoustics is off, as ours has none.
"""

from typing import Any

import numpy as np
import pyroomacoustics as pra
from jaxtyping import Float
from scipy.signal import fftconvolve

from sonarium.rooms.acoustics.geometry import Room


class PlainRoom:
    """A room of pyroomacoustics with its sources."""

    def __init__(
        self,
        room: Room,
        sources: Float[np.ndarray, "source axis"],
        sounds: list[np.ndarray],
        rate: int,
        order: int,
        threads: int = 1,
    ):
        pra.constants.set("rir_hpf_enable", False)
        pra.constants.set("num_threads", threads)
        self.plan, self.sources, self.sounds = room, sources, sounds
        self.rate, self.order = rate, order
        self.box = room.box and not room.corners[0].any()
        self.room: Any = self.fresh() if self.box else None

    def fresh(self) -> Any:
        materials = [pra.Material(float(share)) for share in self.plan.absorption[:, 0]]
        if self.box:
            walls = dict(zip(("south", "east", "north", "west"), materials, strict=True))
            found = pra.ShoeBox(self.plan.corners[2], fs=self.rate, max_order=self.order, materials=walls)
        else:
            corners = self.plan.corners.T
            found = pra.Room.from_corners(corners, fs=self.rate, max_order=self.order, materials=materials)
        for source, sound in zip(self.sources, self.sounds, strict=True):
            found.add_source(source, signal=sound)
        found.set_sound_speed(self.plan.speed)
        return found

    def simulate(self, ears: Float[np.ndarray, "ear 2"]) -> Float[np.ndarray, "ear rendered"]:
        """All sounds from their beginning with their reverberation, by the loops of pyroomacoustics."""
        self.listen(ears)
        self.room.image_source_model()
        self.room.compute_rir()
        self.room.simulate()
        return self.room.mic_array.signals

    def listen(self, ears: Float[np.ndarray, "ear 2"]) -> None:
        """Move both ears."""
        if self.box and self.room.mic_array is not None:
            self.room.mic_array.R = ears.T
        else:
            self.room = self.room if self.box else self.fresh()
            self.room.add_microphone_array(ears.T)

    def respond(self, ears: Float[np.ndarray, "ear 2"]) -> Float[np.ndarray, "source ear time"]:
        """Impulse responses at both ears."""
        self.listen(ears)
        self.room.compute_rir()
        length = max(len(response) for row in self.room.rir for response in row)
        found = np.zeros((len(self.sounds), len(ears), length), np.float32)
        for ear, row in enumerate(self.room.rir):
            for source, response in enumerate(row):
                found[source, ear, : len(response)] = response
        return found

    def hear(self, ears: Float[np.ndarray, "ear 2"]) -> Float[np.ndarray, "ear rendered"]:
        """All sounds from their beginning with their reverberation."""
        return self.convolve(self.respond(ears), np.stack(self.sounds))

    def hear_window(
        self, ears: Float[np.ndarray, "ear 2"], time: int, window: int, offsets: np.ndarray
    ) -> Float[np.ndarray, "ear window"]:
        """A window of sounds that have been looping forever."""
        responses = self.respond(ears)
        before = responses.shape[-1] - 1
        span = np.arange(time - before, time + window)
        past = [sound[(span + at) % len(sound)] for sound, at in zip(self.sounds, offsets, strict=True)]
        return self.convolve(responses, np.stack(past))[:, before : before + window]

    @staticmethod
    def convolve(
        responses: Float[np.ndarray, "source ear time"], sounds: Float[np.ndarray, "source sample"]
    ) -> Float[np.ndarray, "ear rendered"]:
        return fftconvolve(responses, sounds[:, None], axes=-1).sum(axis=0)


class OtoWorldStep:
    """A step of OtoWorld's environment as in its paper and source code (Ranadive et al., 2020): check whether the
    goal is inside and which sources are near, place new microphones at the ears, compute the responses, and let
    pyroomacoustics render all sounds whole. Only for boxes: elsewhere its microphones cannot be moved."""

    def __init__(self, plain: PlainRoom, sources: Float[np.ndarray, "source 2"], radius: float = 1.0):
        self.room: Any = plain.room
        self.sources, self.radius = sources, radius

    def step(self, goal: Float[np.ndarray, "2"], ears: Float[np.ndarray, "ear 2"]) -> tuple[np.ndarray, float]:
        inside = bool(self.room.is_inside(goal))
        distances = [float(np.linalg.norm(goal - source)) for source in self.sources]
        reward = -0.5 + 100 * sum(distance <= self.radius for distance in distances)
        if inside:
            reward += 1 / (min(distances) + 1e-4)
        microphones: Any = pra.MicrophoneArray(ears.T, self.room.fs)
        self.room.mic_array = None
        self.room.add_microphone_array(microphones)
        self.room.compute_rir()
        self.room.simulate()
        return microphones.signals, reward
