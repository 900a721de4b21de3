"""Codes of sound of any length, in memory that does not grow with it.

Long sound is encoded a window at a time, together with what comes before and after it, whose codes are thrown
away: by then a recurrent network knows what it would have known, and a convolution does not see the cut; attention
hears no further back than the window. A window has the level of the whole.
"""

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from sonarium.models.contract import FrameEncoder

WINDOW = 30.0
"""Seconds of a window whose codes are kept."""
AROUND = 5.0
"""Seconds before and after it that are heard, too."""


def coded(
    encoder: FrameEncoder,
    blocks: Iterable[Float[Tensor, " _"]],
    samples: int,
    power: float,
    rate: int,
    device: torch.device | str = "cpu",
) -> Iterator[Float[Tensor, "_ code"]]:
    """The codes of one sound that comes in blocks, window by window.

    `samples` is how many there are in all, and `power` their mean square.
    """
    hop = round(rate / encoder.code_rate)
    frames = int(encoder.code_lengths(torch.tensor([samples])))
    kept, around = max(1, round(WINDOW * encoder.code_rate)), round(AROUND * encoder.code_rate)
    if frames <= kept + 2 * around:
        kept = max(1, frames)
    source, held, begins = iter(blocks), torch.empty(0), 0
    for first in range(0, frames, kept):
        last = min(first + kept, frames)
        start = max(0, first - around) * hop
        # Whole frames before the end, for a network that hears the sound from there, too.
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
