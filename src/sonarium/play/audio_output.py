"""What is heard while one plays: windows of stereo sound, played without a gap by pygame, or not at all.

A sound device asks for samples from a thread of its own; windows wait for it in a queue. Without a device time
passes all the same, so that playing goes at the same pace.
"""

import os
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from jaxtyping import Float

CHUNK = 256
"""Samples that the device asks for at a time."""
STUCK = 1.0
"""Seconds by which a device may be late before it is taken for gone."""


class Loudspeaker(ABC):
    """Takes windows of sound, each when it is hungry."""

    heard: bool

    @abstractmethod
    def hungry(self) -> bool:
        """Whether another window is needed soon."""

    @abstractmethod
    def play(self, window: Float[np.ndarray, "2 time"]) -> None:
        """Let this be heard after all that was given before."""

    @abstractmethod
    def close(self) -> None:
        """Fall silent."""


class Silence(Loudspeaker):
    """Nothing is heard; a window is over when its time is."""

    heard = False

    def __init__(self, rate: int) -> None:
        self.rate, self.until = rate, 0.0

    def hungry(self) -> bool:
        return time.monotonic() >= self.until

    def play(self, window: Float[np.ndarray, "2 time"]) -> None:
        # From when the last window ended, unless that was long ago.
        self.until = max(self.until, time.monotonic() - 0.1) + window.shape[1] / self.rate

    def close(self) -> None:
        pass


class Speaker(Loudspeaker):
    """A sound device and the windows that wait for it."""

    heard = True

    def __init__(self, rate: int) -> None:
        from pygame import _sdl2
        from pygame._sdl2 import audio

        _sdl2.init_subsystem(_sdl2.INIT_AUDIO)
        names = audio.get_audio_device_names(False)
        if not names:
            raise OSError("there is no sound device")
        self.lock, self.waiting = threading.Lock(), deque[np.ndarray]()
        self.ready, self.rate, self.given = 0, rate, 0.0
        self.device = audio.AudioDevice(names[0], False, rate, audio.AUDIO_F32, 2, CHUNK, 0, self.fill)
        self.device.pause(0)

    def fill(self, device: Any, memory: Any) -> None:
        """The device takes what there is, and silence for the rest."""
        wanted = np.frombuffer(memory, np.float32).reshape(-1, 2)
        done = 0
        with self.lock:
            while done < len(wanted) and self.waiting:
                first = self.waiting.popleft()
                count = min(len(wanted) - done, len(first))
                wanted[done : done + count] = first[:count]
                if count < len(first):
                    self.waiting.appendleft(first[count:])
                done, self.ready = done + count, self.ready - count
        wanted[done:] = 0

    def hungry(self) -> bool:
        """To ask earlier would make keys feel slow."""
        with self.lock:
            if time.monotonic() - self.given > STUCK:
                # Keys must count even if the device has gone.
                self.waiting.clear()
                self.ready = 0
            return self.ready <= 2 * CHUNK

    def play(self, window: Float[np.ndarray, "2 time"]) -> None:
        with self.lock:
            self.waiting.append(np.ascontiguousarray(window.T, dtype=np.float32))
            self.ready += window.shape[1]
            self.given = time.monotonic() + window.shape[1] / self.rate

    def close(self) -> None:
        self.device.pause(1)
        self.device.close()


def loudspeaker(rate: int) -> Loudspeaker:
    """A device if there is one; what its libraries complain of is of no use on the screen."""
    with quiet():
        try:
            return Speaker(rate)
        except Exception:
            # SDL's errors are of many kinds, and each of them means that nothing can be heard here.
            return Silence(rate)


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing that C libraries say reaches the error stream."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
