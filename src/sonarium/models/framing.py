"""Codes of sound of any length, as frames at a rate.

A learner of one code a clip encodes pieces as long as its training clips, one after the other (`Pieces`). Long
sound is encoded a window at a time (`coded`), in memory that does not grow with it, together with what comes
before and after the window, whose codes are thrown away: by then a recurrent network has the state it would have,
and a convolution does not see the cut; attention reaches no further back than the window. A window has the level
of the whole.
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
"""Pieces that are encoded in one batch."""
WINDOW = 30.0
"""Seconds of a window whose codes are kept."""
AROUND = 5.0
"""Seconds before and after the window that are encoded with it."""


class Derived(nn.Module, FrameEncoder):
    """What a function makes of sound, at the frames of an encoder: it takes the sound and the lengths of clips."""

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
    """An encoder whose code of each piece is a frame."""

    def __init__(self, encoder: Encoder, signal: Signal):
        assert signal.kind == "wave" and signal.rate is not None, signal
        self.encoder = encoder
        self.piece = signal.shape[0]
        self.code_rate = signal.rate / self.piece
        self.code_first = self.piece / 2 / signal.rate

    def code_lengths(self, lengths: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        """Pieces of clips of these lengths; a remainder counts if it is half a piece, or the whole clip."""
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
        """Silence fills the last piece of a clip; codes beyond a clip's own are zero. `power` is not used."""
        samples = signal.shape[1]
        if lengths is None:
            lengths = torch.full((len(signal),), samples, device=signal.device)
        counts = self.code_lengths(lengths)
        sound = signal.where(sounding(samples, lengths), 0)
        # A negative padding drops what no piece holds.
        filled = functional.pad(sound, (0, int(counts.max()) * self.piece - samples))
        parts = rearrange(filled, "clip (frame time) -> clip frame time", time=self.piece)
        own = sounding(parts.shape[1], counts)
        codes = torch.cat([self.encoder.encode(several) for several in parts[own].split(PIECES)])
        made = codes.new_zeros(*own.shape, codes.shape[2])
        made[own] = rearrange(codes, "piece 1 code -> piece code")
        return made


def in_frames(learner: nn.Module, signal: Signal) -> FrameEncoder:
    """The learner itself, if its codes are frames, or its code of each piece as a frame."""
    if isinstance(learner, FrameEncoder):
        return learner
    if not isinstance(learner, Encoder) or signal.kind != "wave":
        raise ValueError(
            f"{type(learner).__name__}, trained on signals of the kind {signal.kind}, cannot encode sound"
        )
    return Pieces(learner, signal)


def with_gradient(encoder: FrameEncoder, signal: Float[Tensor, "clip time"]) -> Float[Tensor, "clip frame code"]:
    """The codes of clips with their gradient, of an encoder that has one."""
    # What `torch.no_grad` decorates is kept under it.
    return inspect.unwrap(type(encoder).encode)(encoder, signal)


def coded(
    encoder: FrameEncoder,
    blocks: Iterable[Float[Tensor, " _"]],
    samples: int,
    power: float,
    rate: int,
    device: torch.device | str = "cpu",
) -> Iterator[Float[Tensor, "_ code"]]:
    """The codes of one sound that comes in blocks, window by window; `samples` is its length, `power` its mean
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
        # Whole frames before the end, for a network that also runs backwards from there.
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
