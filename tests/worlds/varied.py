"""Clips of unequal length, with segments and tracks; every sample and every frame encodes its position."""

import torch

from sonarium.worlds.contract import Batch, Factor, Signal, World

CLIP = 10_000


class Varied(World):
    """Sample t of clip i is CLIP × i + t + 1; so is frame t of its first track."""

    name = "varied"
    factors = (Factor("parity", ("even", "odd")), Factor("size", (1.0, 2.0), "s"))
    tracks = (Factor("place", (0.0, 1.0)), Factor("phase", ("a", "b", "c")))
    group_kind = "pair"

    def __init__(self, sizes, piece=40, rate=100, track_rate=25.0):
        self.sizes, self.track_rate = torch.tensor(sizes), track_rate
        self.signal = Signal("wave", (piece,), rate)

    def __len__(self):
        return len(self.sizes)

    def lengths(self, index):
        return self.sizes[index.cpu()]

    def group(self, index):
        return index // 2

    def group_names(self):
        return tuple(f"caf\udce9 {number}" for number in range((len(self) + 1) // 2))

    def marks(self, index):
        return [((0.0, 0.05, "a"), (0.1, 0.2, "b\udcff")) if clip % 2 else () for clip in index.tolist()]

    def whole(self, index, device="cpu"):
        lengths = self.lengths(index)
        longest = int(lengths.max()) if len(index) else 0
        frames = self.frames_of(lengths)
        most = int(frames.max()) if len(index) else 0
        signal, tracks = torch.zeros(len(index), longest), torch.zeros(len(index), most, 2)
        for row, clip in enumerate(index.tolist()):
            signal[row, : lengths[row]] = CLIP * clip + torch.arange(int(lengths[row])) + 1.0
            place = torch.arange(int(frames[row]))
            tracks[row, : frames[row]] = torch.stack([CLIP * clip + place + 1.0, place % 3], dim=1)
        factors = torch.stack([index % 2, 1 + index % 2], dim=1).float()
        return Batch(index, signal, factors, lengths=lengths, tracks=tracks).to(device)
