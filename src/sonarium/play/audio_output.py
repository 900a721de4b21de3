"""Audio output while one plays: windows of stereo sound, played without gaps by pygame, or timed in silence.

A sound device pulls samples in a thread of its own from a queue of windows. Without a device the output only keeps
time, so that the game runs at the same pace.
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
"""Buffer size of the device in samples."""
STUCK = 1.0
"""Seconds by which a device may be late before it counts as gone."""


class AudioOutput(ABC):
    """Plays windows of sound one after the other."""

    audible: bool

    @abstractmethod
    def needs_window(self) -> bool:
        """Whether another window is needed soon."""

    @abstractmethod
    def play(self, window: Float[np.ndarray, "2 time"]) -> None:
        """Queue a window."""

    @abstractmethod
    def close(self) -> None:
        """Stop, and release the device."""


class SilentOutput(AudioOutput):
    """Keeps time without a device."""

    audible = False

    def __init__(self, rate: int) -> None:
        self.rate, self.until = rate, 0.0

    def needs_window(self) -> bool:
        return time.monotonic() >= self.until

    def play(self, window: Float[np.ndarray, "2 time"]) -> None:
        # From the end of the last window, unless that was long ago.
        self.until = max(self.until, time.monotonic() - 0.1) + window.shape[1] / self.rate

    def close(self) -> None:
        pass


class DeviceOutput(AudioOutput):
    """A sound device and its queue of windows."""

    audible = True

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
        """Callback of the device: what is queued, then silence."""
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

    def needs_window(self) -> bool:
        """As late as possible: what is queued delays the response to keys."""
        with self.lock:
            if time.monotonic() - self.given > STUCK:
                # Keys must work even if the device is gone.
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


def open_output(rate: int) -> AudioOutput:
    """A device if there is one. What its libraries print would disturb the screen."""
    with quiet():
        try:
            return DeviceOutput(rate)
        except Exception:
            # SDL raises many kinds of error; each of them means that there is no usable device.
            return SilentOutput(rate)


@contextmanager
def quiet() -> Iterator[None]:
    """Redirect what C libraries print to the error stream."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
