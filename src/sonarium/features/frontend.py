"""Which front end a configuration asks for: a spectrogram for waveforms, pixels for pictures."""

from sonarium.features.pixels import Pixels, PixelsConfig
from sonarium.features.spectrogram import Spectrogram, SpectrogramConfig
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
