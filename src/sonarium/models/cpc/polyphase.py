"""Strided convolution with a kernel of twice the stride, in three quarters of the multiplications.

Over blocks of one stride, X₀ X₁ …, such a convolution is a filter of two taps, y_t = X_t·A + X_{t+1}·B. Two of its
outputs need three products instead of four (Winograd 1980, "Arithmetic complexity of computations", F(2, 2)):

    y₀ = (X₀ − X₁)·A + X₁·(A + B)
    y₁ = X₁·(A + B) − (X₁ − X₂)·B

The same holds for both gradients. All are matrix products over a few hundred frames at a time, whose sums and
differences stay in the processor's cache. The encoders of contrastive predictive coding consist of such layers.
"""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS = 512
"""Pairs of frames multiplied at a time: enough to keep the multiplier busy, few enough to stay in the cache."""


def convolve(
    sound: Float[Tensor, "clip time given"], weight: Float[Tensor, "made given kernel"], stride: int, padding: int
) -> Float[Tensor, "clip frame made"]:
    """Equivalent of `conv1d` with channels last."""
    assert weight.shape[2] == 2 * stride, f"a kernel of {weight.shape[2]} is not twice the stride of {stride}"
    return Polyphase.apply(sound, weight, stride, padding)


class Layout:
    """Layout of the samples of clips in blocks.

    A row is an even block and the odd one after it; each clip has one row more than pairs of outputs, because the
    last output depends on the next block. The clips of a group thus form one matrix of rows.
    """

    def __init__(self, clips: int, time: int, stride: int, padding: int):
        self.frames = (time + 2 * padding) // stride - 1
        self.pairs = (self.frames + 1) // 2
        self.stride, self.padding = stride, padding
        self.kept = min(time, (self.frames + 1) * stride - padding)
        self.group = max(1, ROWS // (self.pairs + 1))
        self.starts = range(0, clips, self.group)
        self.most_rows = self.group * (self.pairs + 1)

    def rows(self, clips: int) -> int:
        return clips * (self.pairs + 1)

    def samples(self, blocks: Tensor, clips: int) -> Tensor:
        """View of the samples of clips in their blocks, as (clip, time, channel)."""
        within = blocks[: self.rows(clips)]
        clip = rearrange(
            within, "(clip row) two (time given) -> clip (row two time) given", clip=clips, time=self.stride
        )
        return clip[:, self.padding : self.padding + self.kept]

    def fill(self, blocks: Tensor, group: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Copy a group of clips to its blocks; return the even ones, the odd ones, and the next even ones."""
        self.samples(blocks, len(group)).copy_(group[:, : self.kept])
        rows = self.rows(len(group))
        return blocks[:rows, 0], blocks[:rows, 1], blocks[1 : rows + 1, 0]

    def outputs(self, product: Tensor, clips: int) -> Tensor:
        """Rows of a product that hold outputs, as (clip, pair, made)."""
        return rearrange(product, "(clip row) made -> clip row made", clip=clips)[:, : self.pairs]


def taps(weight: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Taps A and B of the convolution."""
    first, second = rearrange(weight, "made given (tap time) -> tap (time given) made", time=stride)
    return first.contiguous(), second.contiguous()


class Polyphase(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sound: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(sound, weight)
        ctx.layout = at = Layout(sound.shape[0], sound.shape[1], stride, padding)
        first, second = taps(weight, stride)
        both = first + second
        made = sound.new_empty(len(sound), at.pairs, 2, len(weight))
        blocks = sound.new_zeros(at.most_rows + 1, 2, len(first))
        scratch, product, shared = (
            sound.new_empty(at.most_rows, size) for size in (len(first), len(weight), len(weight))
        )
        for start in at.starts:
            group, target = sound[start : start + at.group], made[start : start + at.group]
            clips, rows = len(group), at.rows(len(group))
            even, odd, after = at.fill(blocks, group)
            torch.mm(odd, both, out=shared[:rows])
            middle = at.outputs(shared[:rows], clips)
            torch.mm(torch.sub(even, odd, out=scratch[:rows]), first, out=product[:rows])
            torch.add(middle, at.outputs(product[:rows], clips), out=target[:, :, 0])
            torch.mm(torch.sub(odd, after, out=scratch[:rows]), second, out=product[:rows])
            torch.sub(middle, at.outputs(product[:rows], clips), out=target[:, :, 1])
        return rearrange(made, "clip pair two made -> clip (pair two) made")[:, : at.frames].contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        sound, weight = ctx.saved_tensors
        at: Layout = ctx.layout
        first, second = taps(weight, at.stride)
        both = first + second
        of_sound = torch.empty_like(sound) if at.kept == sound.shape[1] else torch.zeros_like(sound)
        of_first, of_second, of_both = first.new_zeros(3, *first.shape)
        blocks, of_blocks = sound.new_zeros(2, at.most_rows + 1, 2, len(first))
        scratch, spare = sound.new_empty(2, at.most_rows, len(first))
        upper, lower, sums = sound.new_zeros(3, at.most_rows, len(weight))
        for start in at.starts:
            group, given = sound[start : start + at.group], gradient[start : start + at.group]
            clips, rows = len(group), at.rows(len(group))
            u, v, w, d, s = upper[:rows], lower[:rows], sums[:rows], scratch[:rows], spare[:rows]
            at.outputs(u, clips).copy_(given[:, 0::2])
            at.outputs(v, clips)[:, : at.frames // 2].copy_(given[:, 1::2])
            torch.add(u, v, out=w)
            even, odd, after = at.fill(blocks, group)
            of_both.addmm_(odd.T, w)
            of_first.addmm_(torch.sub(even, odd, out=d).T, u)
            of_second.addmm_(torch.sub(odd, after, out=d).T, v, alpha=-1)
            to_even, to_odd, to_after = of_blocks[:rows, 0], of_blocks[:rows, 1], of_blocks[1 : rows + 1, 0]
            to_even.copy_(torch.mm(u, first.T, out=s))
            torch.sub(torch.mm(w, both.T, out=d), s, out=to_odd)
            torch.mm(v, second.T, out=s)
            to_odd -= s
            # Each even block also follows the previous pair, whose gradient is added.
            to_after += s
            of_sound[start : start + at.group, : at.kept] = at.samples(of_blocks, clips)
        pair = torch.stack([of_first + of_both, of_second + of_both])
        of_weight = rearrange(pair, "tap (time given) made -> made given (tap time)", time=at.stride)
        return of_sound, of_weight, None, None
