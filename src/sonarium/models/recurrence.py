"""The loop of a recurrent state-space model with its gradients written out.

    u_t = elu(a_t + W_z z_{t−1})                        a_t: the projected action, all times in one product before
    r, c, g = norm(W_g [u_t, h_{t−1}])                  a GRU with layer norm
    h_t = h_{t−1} + σ(g − 1) (tanh(σ(r) c) − h_{t−1})
    q_t = elu(e_t + W_q h_t)                            e_t: the projected embedding, likewise
    z_t is drawn from the distribution with the parameters W_o q_t + b

What automatic differentiation would do step by step is done once: a one-hot z selects columns of W_z and is not
multiplied, and the gradient of each weight is one product over all times after the loop. Under autocast in 16 bits
the products take these, and all else is in 32. The plain loop is `RSSM.plain` in `models/rssm.py`, the oracle of
the tests.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from sonarium.models.latent import Latent

EPSILON = 1e-5
"""Of the layer norm."""
UPDATE_BIAS = -1.0
"""Added to the update gate, so that the state changes slowly at first (Dreamer)."""
aten = torch.ops.aten


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
    """h, z, and the parameters of the distribution of z. Where `kept` is false, the state before is forgotten;
    without noise each z is the mode."""
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
        full = Weights(*weights)
        # Autocast may have left the projections in 16 bits.
        embedded, acted = embedded.to(h.dtype), acted.to(h.dtype)
        # In rows, in which few of them are multiplied a fifth faster.
        of_gates, of_state, out = (
            weight.to(low or h.dtype).T.contiguous() for weight in (full.of_gates, full.of_state, full.out)
        )
        (time, clips, hidden), deter, gates = acted.shape, h.shape[1], len(full.gain)
        columns = full.of_latent.T.contiguous()
        both = h.new_empty(time, clips, hidden + deter, dtype=low or h.dtype)
        before, after, others = (h.new_empty(time, clips, n) for n in (deter, deter, embedded.shape[2]))
        inputs, outputs = (h.new_empty(time, clips, gates) for _ in range(2))
        raws = h.new_empty(time, clips, latent.parameters)
        means, scales = (h.new_empty(time, clips, 1) for _ in range(2))
        us, news = h.new_empty(time, clips, hidden), h.new_empty(time, clips, deter)
        drawn, helps = [], []
        product, index = z @ columns, None
        for t in range(time):
            if t:
                product = (
                    drawn[-1] @ columns if index is None else functional.embedding_bag(index, columns, mode="sum")
                )
            if kept is not None:
                keep = kept[t, :, None].to(h.dtype)
                h, product = h * keep, product * keep
            before[t] = h
            u = functional.elu(torch.add(acted[t], product), inplace=True)
            us[t] = u
            both[t, :, :hidden], both[t, :, hidden:] = u, h
            torch.mm(both[t], of_gates, out=inputs[t]) if low is None else inputs[t].copy_(both[t] @ of_gates)
            normed, mean, scale = torch.native_layer_norm(inputs[t], [gates], full.gain, full.bias, EPSILON)
            means[t], scales[t] = mean, scale
            gate = outputs[t].copy_(normed)
            reset, candidate, update = gate.chunk(3, 1)
            reset.sigmoid_()
            update.add_(UPDATE_BIAS).sigmoid_()
            new = torch.tanh(reset * candidate)
            news[t] = new
            h = torch.lerp(h, new, update)
            after[t] = h
            other = functional.elu(torch.add(embedded[t], h.to(of_state.dtype) @ of_state), inplace=True)
            others[t] = other
            raw = torch.add(full.out_bias, other.to(out.dtype) @ out)
            raws[t] = raw
            pick, helped, index = latent.pick(raw, None if noise is None else noise[t])
            drawn.append(pick)
            helps.append(helped)
        picked = torch.stack(drawn)
        if index is not None:
            shape = helps[0].shape
            zs = h.new_zeros(time, *shape).scatter_(-1, picked[..., None], 1).view(time, clips, -1)
        else:
            zs = picked
        ctx.latent, ctx.low, ctx.there = latent, low, kept is not None
        saved = [kept] if kept is not None else []
        ctx.save_for_backward(
            z, before, after, zs, raws, torch.stack(helps), both, us, news, inputs, outputs, means, scales, others,
            *weights, *saved,
        )  # fmt: skip
        return after, zs, raws

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        of_h, of_z, of_raw = gradients
        z, before, after, zs, raws, helps, both, us, news, inputs, outputs, means, scales, others = (
            ctx.saved_tensors[:14]
        )
        weights = Weights(*ctx.saved_tensors[14:21])
        kept = ctx.saved_tensors[21] if ctx.there else None
        latent, low = ctx.latent, ctx.low
        kind = low or before.dtype
        of_latent, of_gates, of_state, out = (
            weight.to(kind) for weight in (weights.of_latent, weights.of_gates, weights.of_state, weights.out)
        )
        (time, clips, deter), hidden = before.shape, us.shape[2]
        d_raws, d_others = torch.empty_like(raws), torch.empty_like(others)
        d_outputs, d_inputs, d_us = (torch.empty_like(one) for one in (outputs, inputs, us))
        normed = (inputs - means) * scales
        d_h, d_z = before.new_zeros(clips, deter), zs.new_zeros(clips, latent.size)
        for t in reversed(range(time)):
            d_raw = torch.add(of_raw[t], latent.pull(d_z + of_z[t], raws[t], helps[t]), out=d_raws[t])
            d_other = (d_raw.to(kind) @ out).to(d_h.dtype)
            d_other = aten.elu_backward(d_other, 1.0, 1.0, 1.0, True, others[t])
            d_others[t] = d_other
            d_h = d_h + of_h[t] + d_other.to(kind) @ of_state
            reset, candidate, update = outputs[t].chunk(3, 1)
            new = news[t]
            pulled = aten.tanh_backward(d_h * update, new)
            of_reset, of_candidate, of_update = d_outputs[t].chunk(3, 1)
            of_reset.copy_(aten.sigmoid_backward(pulled * candidate, reset))
            torch.mul(pulled, reset, out=of_candidate)
            of_update.copy_(aten.sigmoid_backward(d_h * (new - before[t]), update))
            pulled = d_outputs[t] * weights.gain
            inner = (pulled * normed[t]).mean(1, keepdim=True)
            d_input = (
                pulled.sub_(pulled.mean(1, keepdim=True)).addcmul_(normed[t], inner, value=-1).mul_(scales[t])
            )
            d_inputs[t] = d_input
            d_both = (d_input.to(kind) @ of_gates).to(d_h.dtype)
            d_h = torch.addcmul(d_both[:, hidden:], d_h, 1 - update)
            d_u = aten.elu_backward(d_both[:, :hidden], 1.0, 1.0, 1.0, True, us[t])
            d_us[t] = d_u
            d_z = (d_u.to(kind) @ of_latent).to(d_h.dtype)
            if kept is not None:
                keep = kept[t, :, None].to(d_h.dtype)
                d_h, d_z = d_h * keep, d_z * keep
        past = torch.cat([z[None], zs[:-1]])
        if kept is not None:
            past = past * kept[..., None].to(past.dtype)

        def product(made: Tensor, given: Tensor) -> Tensor:
            """The gradient of a weight: one product over all times."""
            return (made.flatten(0, 1).to(kind).T @ given.flatten(0, 1).to(kind)).to(before.dtype)

        found = Weights(
            product(d_us, past), product(d_inputs, both), (d_outputs * normed).sum((0, 1)), d_outputs.sum((0, 1)),
            product(d_others, after), product(d_raws, others), d_raws.sum((0, 1)),
        )  # fmt: skip
        return None, None, d_others, d_us, None, None, d_h, d_z, *found
