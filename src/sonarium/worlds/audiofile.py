"""The one place that opens an audio file, and distrusts it."""

from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from jaxtyping import Float
from torch import Tensor


def read_mono(path: Path, rate: int) -> Float[Tensor, " time"]:
    """The mean of a file's channels at `rate`, refused if any sample is missing or not finite."""
    if not path.is_file():
        raise ValueError(f"'{path}' is not a file: give the path of a WAV, FLAC, OGG, MP3 or AIFF file")
    try:
        with soundfile.SoundFile(path) as file:
            promised, own_rate = file.frames, file.samplerate
            samples = file.read(dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"'{path}' is not sound that can be read ({error.error_string})") from None
    if len(samples) == 0:
        raise ValueError(f"'{path}' holds no samples: leave it out")
    if len(samples) < promised or cut_short(path):
        raise ValueError(
            f"'{path}' is cut short: its header promises more than its {len(samples)} samples; fetch it again"
        )
    if not np.isfinite(samples).all():
        raise ValueError(f"'{path}' holds NaN or infinite samples: mend it or leave it out")
    mono = samples.mean(axis=1)
    return torch.from_numpy(mono if own_rate == rate else soxr.resample(mono, own_rate, rate))


def cut_short(path: Path) -> bool:
    """Whether a WAV file is smaller than its header says, which libsndfile passes over in silence."""
    with open(path, "rb") as file:
        head = file.read(8)
    promised = int.from_bytes(head[4:8], "little")
    # Programs that write to a pipe cannot know the size, and leave all bits set.
    return head[:4] == b"RIFF" and promised != 0xFFFFFFFF and promised + 8 > path.stat().st_size
