"""Which front end a configuration asks for: a spectrogram for waveforms, pixels for pictures; and what in its
features is padding."""

from einops import rearrange
from jaxtyping import Bool, Int
from torch import Tensor, nn

from sonarium.features.pixels import Pixels, PixelsConfig
from sonarium.features.spectrogram import Spectrogram, SpectrogramConfig
from sonarium.features.waveform import sounding
from sonarium.worlds.contract import Signal

FrontEndConfig = SpectrogramConfig | PixelsConfig
FrontEnd = Spectrogram | Pixels


def build_front(config: FrontEndConfig, signal: Signal) -> tuple[FrontEnd, tuple[int, int], int]:
    """The front end for this form of signal; rows and frames of its features; how many rows tell the level."""
    if isinstance(config, PixelsConfig):
        if signal.kind != "picture":
            raise ValueError("a front end of pixels came for waveforms: choose a spectrogram front end")
        pixels = Pixels(config, *signal.shape)
        return pixels, (pixels.rows, pixels.columns), 0
    if signal.kind != "wave" or signal.rate is None:
        raise ValueError("a spectrogram front end came for pictures: choose a front end of pixels")
    spectrogram = Spectrogram(config, signal.rate)
    return spectrogram, spectrogram.shape(signal.shape[0])[1:], config.level_rows


def own_frames(
    front: nn.Module, lengths: Int[Tensor, " clip"] | None, frames: int
) -> Bool[Tensor, "clip 1 1 frame"] | None:
    """Which of so many frames each clip would have alone; None where all clips fill them, as pictures do."""
    if lengths is None or not isinstance(front, Spectrogram):
        return None
    return rearrange(sounding(frames, front.stft.frames(lengths)), "clip frame -> clip 1 1 frame")
