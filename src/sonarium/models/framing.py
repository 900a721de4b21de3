"""Code frames of sound of any length.

A learner with one code per clip encodes consecutive pieces as long as its training clips (`Pieces`). Long sound is
encoded window by window (`coded`), in memory that does not grow with its length. Each window is encoded with
context before and after it, whose codes are discarded: a recurrent network has then reached the state that it
would have, and a convolution does not see the cut; attention does not reach beyond the encoded window. A window is
normalised by the level of the whole sound.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from sonarium.features.waveform import sounding
from sonarium.models.contract import Encoder, FrameEncoder
from sonarium.worlds.contract import Signal

PIECES = 64
"""Number of pieces encoded in one batch."""
WINDOW = 30.0
"""Duration of a window, whose codes are kept, in seconds."""
AROUND = 5.0
"""Duration of the context encoded before and after the window, in seconds."""


class Derived(nn.Module, FrameEncoder):
    """Codes computed by a function of signal and clip lengths, at the frames of an encoder."""

    def __init__(self, encoder: FrameEncoder, make: Callable[[Tensor, Tensor | None], Tensor]):
        super().__init__()
        self.encoder, self.make = encoder, make
        self.code_rate, self.code_first = encoder.code_rate, encoder.code_first

    def code_lengths(self, lengths: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        return self.encoder.code_lengths(lengths)

    def encode(
        self,
        signal: Float[Tensor, "clip time *rest"],
        lengths: Int[Tensor, " clip"] | None = None,
        *,
        power: Float[Tensor, " clip"] | None = None,
    ) -> Float[Tensor, "clip frame code"]:
        return self.make(signal, lengths)


class Pieces(FrameEncoder):
    """Frame encoder with one frame per piece, from an encoder of clips."""

    def __init__(self, encoder: Encoder, signal: Signal):
        assert signal.kind == "wave" and signal.rate is not None, signal
        self.encoder = encoder
        self.piece = signal.shape[0]
        self.code_rate = signal.rate / self.piece
        self.code_first = self.piece / 2 / signal.rate

    def code_lengths(self, lengths: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        """Number of pieces of clips; a remainder counts if it is at least half a piece, or the whole clip."""
        pieces = (2 * lengths + self.piece) // (2 * self.piece)
        return pieces.clamp(min=1) * (lengths > 0)

    @torch.no_grad()
    def encode(
        self,
        signal: Float[Tensor, "clip time"],
        lengths: Int[Tensor, " clip"] | None = None,
        *,
        power: Float[Tensor, " clip"] | None = None,
    ) -> Float[Tensor, "clip frame code"]:
        """The last piece of a clip is padded with silence; codes beyond it are zero. `power` is not used."""
        samples = signal.shape[1]
        if lengths is None:
            lengths = torch.full((len(signal),), samples, device=signal.device)
        counts = self.code_lengths(lengths)
        sound = signal.where(sounding(samples, lengths), 0)
        # Negative padding drops samples beyond the last piece.
        filled = functional.pad(sound, (0, int(counts.max()) * self.piece - samples))
        parts = rearrange(filled, "clip (frame time) -> clip frame time", time=self.piece)
        own = sounding(parts.shape[1], counts)
        codes = torch.cat([self.encoder.encode(several) for several in parts[own].split(PIECES)])
        made = codes.new_zeros(*own.shape, codes.shape[2])
        made[own] = rearrange(codes, "piece 1 code -> piece code")
        return made


def in_frames(learner: nn.Module, signal: Signal) -> FrameEncoder:
    """The learner itself if it is a frame encoder, otherwise a frame encoder of `Pieces`."""
    if isinstance(learner, FrameEncoder):
        return learner
    if not isinstance(learner, Encoder) or signal.kind != "wave":
        raise ValueError(
            f"{type(learner).__name__}, trained on signals of the kind {signal.kind}, cannot encode sound"
        )
    return Pieces(learner, signal)


def with_gradient(encoder: FrameEncoder, signal: Float[Tensor, "clip time"]) -> Float[Tensor, "clip frame code"]:
    """Codes of clips with gradients, of a differentiable encoder."""
    # The method below the decorator `torch.no_grad`.
    return inspect.unwrap(type(encoder).encode)(encoder, signal)


def coded(
    encoder: FrameEncoder,
    blocks: Iterable[Float[Tensor, " _"]],
    samples: int,
    power: float,
    rate: int,
    device: torch.device | str = "cpu",
) -> Iterator[Float[Tensor, "_ code"]]:
    """Yield the codes of one sound, given in blocks, window by window; `samples` is its length, `power` its mean
    square."""
    hop = round(rate / encoder.code_rate)
    frames = int(encoder.code_lengths(torch.tensor([samples])))
    kept, around = max(1, round(WINDOW * encoder.code_rate)), round(AROUND * encoder.code_rate)
    if frames <= kept + 2 * around:
        kept = max(1, frames)
    source, held, begins = iter(blocks), torch.empty(0), 0
    for first in range(0, frames, kept):
        last = min(first + kept, frames)
        start = max(0, first - around) * hop
        # A whole number of hops before the end, to keep the frames of a backward network aligned.
        stop = samples - max(0, samples - (last + around) * hop) // hop * hop
        parts = [held[start - begins :]]
        reached = max(begins + len(held), start)
        while reached < stop:
            parts.append(next(source))
            reached += len(parts[-1])
        held, begins = torch.cat(parts), start
        wave = held[: stop - start].to(device)[None]
        codes = encoder.encode(wave, power=torch.tensor([power], device=device))[0]
        yield codes[first - start // hop : last - start // hop]
