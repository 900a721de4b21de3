"""The loop of a recurrent state-space model with hand-written gradients.

    u_t = elu(a_t + W_z z_{t−1})                        a_t: the projected action, of all steps in one product
    r, c, g = norm(W_g [u_t, h_{t−1}])                  a GRU with layer norm
    h_t = h_{t−1} + σ(g − 1) (tanh(σ(r) c) − h_{t−1})
    q_t = elu(e_t + W_q h_t)                            e_t: the projected embedding, likewise
    z_t is drawn from the distribution with the parameters W_o q_t + b

Automatic differentiation would multiply matrices at each step; here a one-hot z selects columns of W_z, and the
gradient of each weight is one product over all steps after the loop. Under 16-bit autocast, the products except
W_z z are in 16 bits, and all else in 32. The plain loop, the reference of the tests, is `RSSM.plain` in
`models/rssm.py`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from sonarium.models.latent import Latent

EPSILON = 1e-5
"""Epsilon of the layer norm."""
UPDATE_BIAS = -1.0
"""Added to the update gate, so that the state changes slowly at first (Dreamer)."""


class Weights(NamedTuple):
    of_latent: Float[Tensor, "hidden size"]
    of_gates: Float[Tensor, "gates both"]
    gain: Float[Tensor, " gates"]
    bias: Float[Tensor, " gates"]
    of_state: Float[Tensor, "other deter"]
    out: Float[Tensor, "raw other"]
    out_bias: Float[Tensor, " raw"]


def recur(
    latent: Latent,
    embedded: Float[Tensor, "time clip other"],
    acted: Float[Tensor, "time clip hidden"],
    noise: Float[Tensor, "time clip draw"] | None,
    kept: Bool[Tensor, "time clip"] | None,
    state: tuple[Float[Tensor, "clip deter"], Float[Tensor, "clip size"]],
    weights: Weights,
) -> tuple[Float[Tensor, "time clip deter"], Float[Tensor, "time clip size"], Float[Tensor, "time clip raw"]]:
    """h, z, and the parameters of the distribution of z. Where `kept` is false, the previous state is reset to 0;
    without noise, each z is the mode."""
    kind = embedded.device.type
    low = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    with torch.autocast(kind, enabled=False):
        return Recurrence.apply(latent, low, embedded, acted, noise, kept, *state, *weights)


class Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        latent: Latent,
        low: torch.dtype | None,
        embedded: Tensor,
        acted: Tensor,
        noise: Tensor | None,
        kept: Tensor | None,
        h: Tensor,
        z: Tensor,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        full, kind = Weights(*weights), low or h.dtype
        # Autocast may have left the projections in 16 bits.
        embedded, acted = embedded.to(h.dtype), acted.to(h.dtype)
        (count, clips), gates, deter = acted.shape[:2], len(full.gain), h.shape[1]
        of_gates, of_state, out = (
            multiplier(weight, kind, clips) for weight in (full.of_gates, full.of_state, full.out)
        )
        columns, bias = full.of_latent.T.contiguous(), full.bias.clone()
        bias[2 * deter :] += UPDATE_BIAS
        # Preallocated outputs of the steps: stacking large tensors afterwards costs as much as computing them.
        normed, gate = (h.new_empty(count, clips, gates) for _ in range(2))
        new, after = (h.new_empty(count, clips, deter) for _ in range(2))
        scale, mean = (h.new_empty(count, clips, 1) for _ in range(2))
        keeps = None if kept is None else kept[..., None].to(h.dtype).unbind(0)
        draws = [None] * len(acted) if noise is None else noise.unbind(0)
        steps = []
        product = z @ columns
        for t, (action, token, draw) in enumerate(zip(acted.unbind(0), embedded.unbind(0), draws, strict=True)):
            if keeps is not None:
                h, product = h * keeps[t], product * keeps[t]
            before, u = h, functional.elu(action + product, inplace=True)
            inputs = of_gates(torch.cat([u, h], 1))
            into = {"out0": normed[t], "out1": mean[t], "out2": scale[t]}
            torch.ops.aten.native_layer_norm.out(inputs, [gates], None, None, EPSILON, **into)
            torch.addcmul(bias, normed[t], full.gain, out=gate[t])
            reset, candidate, update = gate[t].chunk(3, 1)
            reset.sigmoid_()
            update.sigmoid_()
            torch.tanh(reset * candidate, out=new[t])
            h = torch.lerp(h, new[t], update, out=after[t])
            other = functional.elu(of_state(h).add_(token), inplace=True)
            raw = out(other).add_(full.out_bias)
            pick, helped, index = latent.pick(raw, draw)
            # A one-hot z selects columns.
            product = pick @ columns if index is None else functional.embedding_bag(index, columns, mode="sum")
            steps.append((before, u, other, raw, helped, pick))
        befores, us, others, raws, helps, picked = (torch.stack(each) for each in zip(*steps, strict=True))
        zs = picked
        if not picked.is_floating_point():
            zs = h.new_zeros(helps.shape).scatter_(-1, picked[..., None], 1).flatten(2)
        ctx.latent, ctx.low, ctx.there = latent, low, kept is not None
        made = befores, us, normed, scale, gate, new, after, others, raws, helps
        ctx.save_for_backward(z, zs, *made, *weights, *([] if kept is None else [kept]))
        return after, zs, raws

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        z, zs, before, us, normed, scales, gate, news, after, others, raws, helps = ctx.saved_tensors[:12]
        weights, latent = Weights(*ctx.saved_tensors[12:19]), ctx.latent
        kind, deter, hidden = ctx.low or after.dtype, after.shape[2], us.shape[2]
        of_latent, of_gates, of_state, out = (
            multiplier(weight.T, kind, after.shape[1])
            for weight in (weights.of_latent, weights.of_gates, weights.of_state, weights.out)
        )
        # Local derivatives, for all steps at once.
        to_gates = slopes(gate, news, before)
        to_inputs = (to_gates * weights.gain.view(3, deter)).flatten(2).mul_(scales)
        stays, of_elu, of_other = 1 - gate[..., 2 * deter :], slope(us), slope(others)
        d_raws, d_others, d_us = (torch.empty_like(one) for one in (raws, others, us))
        d_inputs, d_after = torch.empty_like(normed), torch.empty_like(after)
        kept = ctx.saved_tensors[19] if ctx.there else None
        keeps = None if kept is None else kept[..., None].to(after.dtype).unbind(0)
        d_h, d_z = torch.zeros_like(before[0]), torch.zeros_like(zs[0])
        rows = zip(
            *(one.unbind(0) for one in gradients), raws.unbind(0), helps.unbind(0), of_other.unbind(0),
            to_inputs.unbind(0), normed.unbind(0), stays.unbind(0), of_elu.unbind(0), d_raws.unbind(0),
            d_others.unbind(0), d_after.unbind(0), d_inputs.unbind(0), d_us.unbind(0), strict=True,
        )  # fmt: skip
        for t, row in reversed(list(enumerate(rows))):
            of_h, of_z, of_raw, raw, helped, at_other, at_inputs, norm, stay, at_u = row[:10]
            d_raw, d_other, d_own, d_input, d_u = row[10:]
            torch.add(of_raw, latent.pull(d_z + of_z, raw, helped), out=d_raw)
            torch.mul(out(d_raw), at_other, out=d_other)
            torch.add(d_h + of_h, of_state(d_other), out=d_own)
            pulled = (d_own[:, None] * at_inputs.unflatten(1, (3, deter))).flatten(1)
            inner = torch.linalg.vecdot(pulled, norm)[:, None] / pulled.shape[1]
            torch.addcmul(pulled - pulled.mean(1, keepdim=True), norm, inner, value=-1, out=d_input)
            d_both = of_gates(d_input)
            d_h = torch.addcmul(d_both[:, hidden:], d_own, stay)
            torch.mul(d_both[:, :hidden], at_u, out=d_u)
            d_z = of_latent(d_u)
            if keeps is not None:
                d_h, d_z = d_h * keeps[t], d_z * keeps[t]
        past = torch.cat([z[None], zs[:-1]])
        if kept is not None:
            past = past * kept[..., None].to(past.dtype)
        d_gates = to_gates.mul_(d_after[:, :, None]).flatten(2)

        def product(made: Tensor, given: Tensor) -> Tensor:
            """Gradient of a weight: one product over all steps."""
            return times(made.flatten(0, 1).T, given.flatten(0, 1).to(kind), kind)

        found = Weights(
            product(d_us, past), product(d_inputs, torch.cat([us, before], -1)), (d_gates * normed).sum((0, 1)),
            d_gates.sum((0, 1)), product(d_others, after), product(d_raws, others), d_raws.sum((0, 1)),
        )  # fmt: skip
        return None, None, d_others, d_us, None, None, d_h, d_z, *found


def multiplier(weight: Float[Tensor, "out in"], kind: torch.dtype, rows: int) -> Callable[[Tensor], Tensor]:
    """Function that multiplies few rows with a weight, many times; the result has the dtype of the rows."""
    onednn = weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
    if kind == torch.bfloat16 and onednn and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        # oneDNN would reorder the weight at each call, which takes as long as the product.
        ordered = torch.ops.mkldnn._reorder_linear_weight(weight.to(kind).contiguous(), rows)
        product = torch.ops.mkldnn._linear_pointwise
        return lambda given: product(given.to(kind), ordered, None, "none", [], "").to(given.dtype)
    # In row-major order, in which products with few rows are a fifth faster.
    by_rows = weight.T.to(kind).contiguous()
    return lambda given: times(given, by_rows, kind)


def times(rows: Tensor, weight: Tensor, kind: torch.dtype) -> Tensor:
    """Matrix product in the dtype of the weight, returned in the dtype of the rows."""
    return rows @ weight if rows.dtype == kind else (rows.to(kind) @ weight).to(rows.dtype)


def slope(made: Tensor) -> Tensor:
    """Derivative of ELU, from its output."""
    return made.clamp(max=0) + 1


def slopes(
    gate: Float[Tensor, "time clip gates"], new: Float[Tensor, "time clip deter"], before: Tensor
) -> Float[Tensor, "time clip 3 deter"]:
    """Derivatives of h with respect to reset, candidate and update, before their nonlinearities."""
    reset, candidate, update = gate.chunk(3, -1)
    of_new = update * (1 - new.square())
    parts = (of_new * candidate * reset * (1 - reset), of_new * reset, (new - before) * update * (1 - update))
    return torch.stack(parts, 2)
