"""Recordings of noise on disk, for the tests of reading them."""

import numpy as np
import soundfile
import torch

from sonarium.worlds.recordings.world import RecordingsConfig

RATE = 8_000


def write(path, seconds=0.3, seed=0, **form):
    """Write and return noise of random samples, in which a piece identifies its position."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng([seed, 7]).integers(-9000, 9000, round(seconds * RATE)).astype(np.int16)
    soundfile.write(path, samples, RATE, **form)
    return samples / np.float32(32_768)


def settings_for(root, **changes):
    changes = {"rate": RATE, "seconds": 0.5, "cache": str(root.with_name("cache")), **changes}
    return RecordingsConfig(path=str(root), **changes)


def everything(world):
    return torch.arange(len(world))


def whole(world):
    batch = world.whole(everything(world))
    return batch.signal.numpy(), batch.lengths.numpy()
