"""Recurrent state-space models (PlaNet, arXiv 1811.04551; DreamerV2, arXiv 2010.02193).

    h_t = f(h_{t−1}, z_{t−1}, a_t)      the deterministic state, a memory
    z_t ~ p(z_t | h_t)                  the prior, before token t is observed
    z_t ~ q(z_t | h_t, x_t)             the posterior, once token t is observed

a_t is the action that produces token t. `observe` infers states from tokens, `imagine` continues without tokens.
With `posterior="obs"`, q depends on the token alone, and h may be a causal transformer over the previous z.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from sonarium.config import Range, check_ranges
from sonarium.models.cpc.context import CausalLayer, CausalStack, check_heads
from sonarium.models.latent import Categorical, Gaussian, Latent
from sonarium.models.nade import NADE
from sonarium.models.recurrence import EPSILON, UPDATE_BIAS, Weights, recur

MOST_NUMBERS = 2**14
"""Maximum dimension of the stochastic state, over all its variables."""


@dataclass(frozen=True)
class DynamicsConfig:
    dynamics: Literal["gru", "transformer"] = "gru"
    """Deterministic state h: the state of a GRU with layer normalisation, or the output of a causal transformer
    (needs posterior obs)."""
    posterior: Literal["state", "obs"] = "state"
    """Input of the posterior: h and the token (state), or the token alone (obs)."""
    latent: Literal["categorical", "gaussian"] = "categorical"
    """Stochastic state z: categorical (one-hot variables with straight-through gradients), or gaussian."""
    variables: Annotated[int, Range(1, MOST_NUMBERS)] = 16
    """Number of variables of the stochastic state."""
    classes: Annotated[int, Range(2, MOST_NUMBERS)] = 16
    """Classes of each categorical variable."""
    uniform_mix: Annotated[float, Range(0, 1, below=True)] = 0.01
    """Fraction of the uniform distribution mixed into every categorical one (unimix of DreamerV3)."""
    deter: Annotated[int, Range(1, 2**13)] = 256
    """Dimension of the deterministic state h."""
    hidden: Annotated[int, Range(1, 2**13)] = 256
    """Hidden units of the input layer of h, of the prior and of the posterior."""
    depth: Annotated[int, Range(1, 64)] = 2
    """Number of layers of a transformer."""
    heads: Annotated[int, Range(1, 1024)] = 4
    """Number of attention heads of a transformer."""
    reach: Annotated[int, Range(1, 2**14)] = 64
    """Maximum relative position of a transformer in tokens, to which larger ones are clipped."""
    loop: Literal["fast", "plain"] = "fast"
    """Implementation of the GRU: fast (hand-written gradients), or plain (step by step with autograd), which is
    equal and slower."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.latent == "categorical" and self.variables * self.classes > MOST_NUMBERS:
            raise ValueError(
                f"classes={self.classes}: give at most {MOST_NUMBERS // self.variables} with "
                f"variables={self.variables}"
            )
        if self.dynamics == "transformer":
            if self.posterior == "state":
                raise ValueError(
                    "a transformer takes all tokens at once: give posterior obs with dynamics transformer"
                )
            check_heads(self.deter, self.heads, "deter")

    def state(self) -> Latent:
        if self.latent == "gaussian":
            return Gaussian(self.variables)
        return Categorical(self.variables, self.classes, self.uniform_mix)


@dataclass(frozen=True)
class Rollout:
    """States of a sequence, and the parameters of the posterior and prior distributions of z."""

    h: Float[Tensor, "clip token deter"]
    z: Float[Tensor, "clip token size"]
    posterior: Float[Tensor, "clip token raw"]
    """For an imagined sequence, the prior."""
    prior: Float[Tensor, "clip token raw"]
    actions: Float[Tensor, "clip token action"]

    @property
    def feature(self) -> Float[Tensor, "clip token number"]:
        """[h, z]."""
        return torch.cat([self.h, self.z], -1)

    def since(self, token: int) -> "Rollout":
        return replace(self, **{name: value[:, token:] for name, value in vars(self).items()})

    def until(self, token: int) -> "Rollout":
        return replace(self, **{name: value[:, :token] for name, value in vars(self).items()})


State = tuple[Tensor, Tensor]


class RSSM(nn.Module):
    def __init__(self, config: DynamicsConfig, embedded: int, actions: int):
        super().__init__()
        self.config, self.latent, self.actions = config, config.state(), actions
        deter, hidden, raw = config.deter, config.hidden, self.latent.parameters
        self.of_latent = nn.Linear(self.latent.size, hidden)
        self.of_action = nn.Linear(actions, hidden, bias=False) if actions else None
        self.of_token = nn.Linear(embedded, hidden)
        self.of_state = nn.Linear(deter, hidden, bias=False) if config.posterior == "state" else None
        self.out = nn.Linear(hidden, raw)
        self.prior = nn.Sequential(nn.Linear(deter, hidden), nn.ELU(), nn.Linear(hidden, raw))
        if config.dynamics == "gru":
            self.gates = nn.Linear(hidden + deter, 3 * deter, bias=False)
            self.norm = nn.LayerNorm(3 * deter, EPSILON)
        else:
            layers = [CausalLayer(deter, config.heads, config.reach, 4 * deter) for _ in range(config.depth)]
            self.attend = CausalStack(nn.Linear(hidden, deter), *layers)

    def begin(self, clips: int, like: Tensor) -> State:
        weight = self.of_latent.weight
        return (
            like.new_zeros(clips, self.config.deter, dtype=weight.dtype),
            like.new_zeros(clips, self.latent.size, dtype=weight.dtype),
        )

    def observe(
        self,
        embedded: Float[Tensor, "clip token embedding"],
        actions: Float[Tensor, "clip token action"],
        noise: Float[Tensor, "clip token draw"] | None = None,
        first: Bool[Tensor, "clip token"] | None = None,
        state: State | None = None,
    ) -> Rollout:
        """Infer the states of tokens from an initial state, by default 0; without noise, each z is the mode. Where
        `first` is true, the previous state is reset to 0."""
        begun = state or self.begin(len(embedded), embedded)
        if not embedded.shape[1]:
            # Clips of codes may have no frames.
            none = begun[0].new_zeros(len(embedded), 0, self.latent.parameters)
            return Rollout(begun[0][:, None][:, :0], begun[1][:, None][:, :0], none, none, actions)
        if self.config.loop == "plain" and self.config.dynamics == "gru":
            return self.plain(embedded, actions, noise, first, state)
        if self.of_state is not None:
            h, z, posterior = self.fast(embedded, actions, noise, first, begun)
        else:
            posterior = self.out(functional.elu(self.of_token(embedded)))
            z = self.latent.draw(posterior, noise)
            h = self.follow(z, actions, first, state)
        return Rollout(h, z, posterior, self.prior(h), actions)

    def acted(self, actions: Tensor) -> Float[Tensor, "*rows hidden"]:
        """Contribution of actions, and the bias, to the input of h."""
        bias = self.of_latent.bias
        if self.of_action is None:
            return bias.expand(*actions.shape[:-1], len(bias))
        return self.of_action(actions) + bias

    def fast(
        self, embedded: Tensor, actions: Tensor, noise: Tensor | None, first: Tensor | None, state: State
    ) -> tuple[Tensor, Tensor, Tensor]:
        assert self.of_state is not None
        weights = Weights(
            self.of_latent.weight, self.gates.weight, self.norm.weight, self.norm.bias, self.of_state.weight,
            self.out.weight, self.out.bias,
        )  # fmt: skip
        by_time = "clip token number -> token clip number"
        found = recur(
            self.latent,
            self.of_token(rearrange(embedded, by_time)),
            self.acted(rearrange(actions, by_time)),
            None if noise is None else rearrange(noise, by_time),
            None if first is None else ~first.T,
            state,
            weights,
        )
        h, z, raw = (one.transpose(0, 1) for one in found)
        return h, z, raw

    def plain(
        self,
        embedded: Float[Tensor, "clip token embedding"],
        actions: Float[Tensor, "clip token action"],
        noise: Float[Tensor, "clip token draw"] | None = None,
        first: Bool[Tensor, "clip token"] | None = None,
        state: State | None = None,
    ) -> Rollout:
        """`observe` step by step, with the prior inside the loop."""
        h, z = state or self.begin(len(embedded), embedded)
        found = []
        for t in range(embedded.shape[1]):
            if first is not None:
                kept = (~first[:, t, None]).to(h.dtype)
                h, z = h * kept, z * kept
            h = self.step(h, z, actions[:, t])
            given = self.of_token(embedded[:, t])
            posterior = self.out(functional.elu(given if self.of_state is None else given + self.of_state(h)))
            z = self.latent.draw(posterior, None if noise is None else noise[:, t])
            found.append((h, z, posterior, self.prior(h)))
        return Rollout(*(torch.stack(each, 1) for each in zip(*found, strict=True)), actions=actions)

    def step(
        self, h: Float[Tensor, "row deter"], z: Float[Tensor, "row size"], action: Float[Tensor, "row action"]
    ) -> Float[Tensor, "row deter"]:
        """h of the next token, for a GRU."""
        return self.gru(functional.elu(functional.linear(z, self.of_latent.weight) + self.acted(action)), h)

    def gru(
        self, inputs: Float[Tensor, "row hidden"], h: Float[Tensor, "row deter"]
    ) -> Float[Tensor, "row deter"]:
        reset, candidate, update = self.norm(self.gates(torch.cat([inputs, h], -1))).chunk(3, -1)
        new = torch.tanh(torch.sigmoid(reset) * candidate)
        return torch.lerp(h, new.to(h.dtype), torch.sigmoid(update + UPDATE_BIAS).to(h.dtype))

    def follow(
        self,
        z: Float[Tensor, "clip token size"],
        actions: Float[Tensor, "clip token action"],
        first: Bool[Tensor, "clip token"] | None,
        state: State | None,
    ) -> Float[Tensor, "clip token deter"]:
        """h for a sequence of z that is known in advance."""
        begun, z_begun = state or self.begin(len(z), z)
        before = torch.cat([z_begun[:, None].to(z.dtype), z[:, :-1]], 1)
        if self.config.dynamics == "transformer":
            if first is not None or state is not None:
                raise ValueError("a transformer has no resets within a sequence: give each sequence its own row")
            return self.attend(self.inputs(before, actions))
        if first is not None:
            before = before * (~first[..., None]).to(before.dtype)
        h, found = begun, []
        for t, inputs in enumerate(self.inputs(before, actions).unbind(1)):
            h = h if first is None else h * (~first[:, t, None]).to(h.dtype)
            h = self.gru(inputs, h)
            found.append(h)
        return torch.stack(found, 1)

    def inputs(self, z: Tensor, actions: Tensor) -> Float[Tensor, "clip token hidden"]:
        return functional.elu(functional.linear(z, self.of_latent.weight) + self.acted(actions))

    def imagine(
        self,
        past: Rollout,
        actions: Float[Tensor, "clip future action"],
        noise: Float[Tensor, "clip future draw"] | None = None,
        joint: NADE | None = None,
        temperature: float = 1.0,
    ) -> Rollout:
        """Continue from the end of the past: z is drawn from the prior, or from a joint prior if given; without
        noise it is the mode."""
        h, z, found = past.h[:, -1], past.z[:, -1], []
        memory = None
        if self.config.dynamics == "transformer":
            _, memory = self.attend.read(self.inputs(functional.pad(past.z, (0, 0, 1, -1)), past.actions))
        for t in range(actions.shape[1]):
            if memory is None:
                h = self.step(h, z, actions[:, t])
            else:
                read, memory = self.attend.read(self.inputs(z[:, None], actions[:, t : t + 1]), memory)
                h = read[:, -1]
            own = None if noise is None else noise[:, t]
            if joint is None:
                prior = self.prior(h)
                z = self.latent.draw(prior, own, temperature)
            else:
                z, prior = joint.draw(h, own, temperature)
            found.append((h, z, prior, prior))
        return Rollout(*(torch.stack(each, 1) for each in zip(*found, strict=True)), actions=actions)

    def overshoot(
        self,
        rollout: Rollout,
        steps: int,
        noise: Float[Tensor, "clip token step draw"],
        starts: Int[Tensor, " start"],
        past: Rollout | None = None,
    ) -> list[Float[Tensor, "clip _start raw"]]:
        """Priors of the tokens k after each start, for k from 1 to `steps`, that have observed no token from the
        start on: z from there to the token before is drawn from the prior. A start whose k-th token would lie
        beyond the last one is left out. `past` are states before the rollout, which a transformer attends to."""
        h, raw, found = rollout.h[:, starts], rollout.prior[:, starts], []
        trunk, branches, before = [], None, 0
        if self.config.dynamics == "transformer":
            whole = [rollout] if past is None else [past, rollout]
            z, actions = (torch.cat([getattr(one, name) for one in whole], 1) for name in ("z", "actions"))
            before = z.shape[1] - rollout.z.shape[1]
            _, trunk = self.attend.read(self.inputs(functional.pad(z, (0, 0, 1, -1)), actions))
        for k in range(1, steps + 1):
            starts = starts[starts + k < rollout.h.shape[1]]
            count = len(starts)
            z, action = self.latent.draw(raw[:, :count], noise[:, starts, k - 1]), rollout.actions[:, starts + k]
            if trunk:
                if branches is not None:
                    branches = [(keys[:, :, :count], values[:, :, :count]) for keys, values in branches]
                h, branches = self.attend.branch(self.inputs(z, action), trunk, before + starts, branches)
            else:
                h = self.step(h[:, :count].flatten(0, 1), z.flatten(0, 1), action.flatten(0, 1))
                h = h.unflatten(0, (len(raw), count))
            raw = self.prior(h)
            found.append(raw)
        return found
