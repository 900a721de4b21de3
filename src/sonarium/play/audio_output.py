"""Real-time audio output: windows of stereo sound, played without gaps by SDL, or timed in silence.

A sound device takes samples from SDL's queue. Without a device the output only keeps time, so that the game runs
at the same pace.
"""

import ctypes
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from jaxtyping import Float

CHUNK = 256
"""Buffer size of the device in samples."""
FRAME = 2 * np.dtype(np.float32).itemsize
"""Bytes of a stereo sample."""
STUCK = 1.0
"""Seconds by which a device may be late before it counts as lost."""


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


class Specification(ctypes.Structure):
    """SDL_AudioSpec, the format that is requested of a device."""

    _fields_ = (
        ("freq", ctypes.c_int), ("format", ctypes.c_uint16), ("channels", ctypes.c_uint8),
        ("silence", ctypes.c_uint8), ("samples", ctypes.c_uint16), ("padding", ctypes.c_uint16),
        ("size", ctypes.c_uint32), ("callback", ctypes.c_void_p), ("userdata", ctypes.c_void_p),
    )  # fmt: skip


class DeviceOutput(AudioOutput):
    """A sound device and its queue of windows."""

    audible = True

    def __init__(self, rate: int) -> None:
        import pygame
        from pygame import _sdl2
        from pygame._sdl2 import audio

        self.subsystem = _sdl2.INIT_AUDIO
        _sdl2.init_subsystem(self.subsystem)
        # pygame's AudioDevice calls Python in the device's thread and holds the GIL while it closes the device,
        # which can deadlock. SDL's queue needs no callback.
        self.sdl = ctypes.CDLL("SDL2.dll" if os.name == "nt" else audio.__file__)
        wanted = Specification(rate, audio.AUDIO_F32, channels=2, samples=CHUNK)
        self.device = self.sdl.SDL_OpenAudioDevice(None, 0, ctypes.byref(wanted), None, 0)
        if not self.device:
            raise OSError(f"there is no sound device: {pygame.get_error()}")
        self.rate, self.given = rate, 0.0
        self.sdl.SDL_PauseAudioDevice(self.device, 0)

    @property
    def queued(self) -> int:
        """Number of samples in the queue."""
        return self.sdl.SDL_GetQueuedAudioSize(self.device) // FRAME

    def needs_window(self) -> bool:
        """Whether the queue is almost empty; it is kept short because it delays the response to keys."""
        if time.monotonic() - self.given > STUCK:
            # Keys must work even if the device is gone.
            self.sdl.SDL_ClearQueuedAudio(self.device)
        return self.queued <= 2 * CHUNK

    def play(self, window: Float[np.ndarray, "2 time"]) -> None:
        samples = window.T.astype(np.float32).tobytes()
        self.sdl.SDL_QueueAudio(self.device, samples, len(samples))
        self.given = time.monotonic() + window.shape[1] / self.rate

    def close(self) -> None:
        self.sdl.SDL_CloseAudioDevice(self.device)
        self.sdl.SDL_QuitSubSystem(self.subsystem)


def open_output(rate: int) -> AudioOutput:
    """A sound device, or silent output if there is none. Its libraries are silenced, to not disturb the screen."""
    with quiet():
        try:
            return DeviceOutput(rate)
        except Exception:
            # SDL raises many kinds of error; each of them means that there is no usable device.
            return SilentOutput(rate)


@contextmanager
def quiet() -> Iterator[None]:
    """Discard what C libraries print to the error stream."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
