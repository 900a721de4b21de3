"""Training objectives of a world model. All of them share the same states; `models/dreaming.py` has the rest of
the model.

dreaming        J_k^NCE and J_k^KL on open-loop predictions (Dreaming, arXiv 2007.14535 and 2203.00494)
contrast        InfoNCE of [h, z] and the embedding of the same token, k = 0 alone
barlow          the cross-correlation of [h, z] and the embedding is the identity (Barlow Twins, arXiv 2103.03230)
embedding       the same for a prediction and the embedding of the next token
twister         [h, z] and future actions predict each of the next tokens directly (action-conditioned CPC)
reconstruction  the decoder alone (DreamerV2, arXiv 2010.02193)
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from sonarium.config import Range, check_ranges
from sonarium.features.waveform import sounding
from sonarium.models.blocks import wide
from sonarium.models.contrast import ContrastConfig, Outcome, contrast
from sonarium.models.latent import Categorical, Latent
from sonarium.models.rssm import RSSM, Rollout
from sonarium.training.contract import Engine

NCE = ContrastConfig(whole_batch=True, from_sequence=0, from_batch=0)
"""All other tokens of the batch are negatives."""
DIRECT = ContrastConfig(whole_batch=True, from_sequence=0, from_batch=0, score="cosine", temperature=0.1)
OFF_DIAGONAL = 5e-3
"""Weight of the correlations off the diagonal (Barlow Twins)."""
Name = Literal["dreaming", "contrast", "barlow", "embedding", "twister", "reconstruction"]


@dataclass(frozen=True)
class ObjectiveConfig:
    objective: Name = "dreaming"
    """Objective that trains the states: dreaming (contrast and KL divergence on open-loop predictions), contrast
    (with the state's own token), barlow, embedding (of the next token), twister (direct predictions some steps
    ahead), or reconstruction."""
    horizon: Annotated[int, Range(0, 256)] = 3
    """Open-loop prediction horizon K in tokens; 0 disables open-loop predictions."""
    overshoot: Literal["one", "all"] = "one"
    """Overshooting, steps ahead per update: all (1 to K), or one (drawn from these and weighted K-fold, with every
    k-th token predicted by the prior, which has the same expectation and costs a third)."""
    predictor: Literal["linear", "mlp", "prior"] = "linear"
    """Predictor p̃ of states for the contrastive loss: linear, mlp (with hidden units), or the prior itself."""
    predicted: Literal["mean", "sample"] = "mean"
    """Input of further steps of p̃: its output (mean), or a state sampled from it (sample)."""
    critic: Literal["bilinear", "categorical"] = "bilinear"
    """Critic that scores a state against an embedding: bilinear (z̃ᵀWe(x)), or categorical (log-likelihood of z̃
    under a categorical distribution parametrised by We(x))."""
    nce_weight: Annotated[float, Range(0)] = 1.0
    """Weight of the objective itself."""
    kl_weight: Annotated[float, Range(0)] = 0.1
    """Weight of the KL divergence between posterior and prior."""
    kl_balance: Annotated[float, Range(0, 1)] = 0.8
    """KL balancing: fraction of the divergence that trains the prior; the rest trains the posterior."""
    free_nats: Annotated[float, Range(0, 1e6)] = 0.0
    """Free bits, in nats: the KL divergence of a token, summed over its variables, has no gradient below this."""
    kl_ahead: bool = True
    """Include the KL divergence of open-loop predictions."""
    alike_below: Annotated[float, Range(0, 1e6)] = 0.1
    """Threshold of near-duplicate tokens, such as silence, which are not negatives of each other: root-mean-square
    difference in standard deviations; with slots, tokens whose entries are all equal. 0 takes all as negatives."""
    direct_steps: Annotated[int, Range(1, 256)] = 10
    """Prediction horizon of twister in tokens."""
    direct_discount: Annotated[float, Range(0, 1, above=True)] = 0.75
    """Loss discount of twister per step ahead."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Observed:
    """States and their targets after the burn-in."""

    rollout: Rollout
    target: Float[Tensor, "clip token embedding"]
    """Embeddings of the target view."""
    counts: Int[Tensor, " clip"]
    """Tokens of each clip."""
    alike: Bool[Tensor, "all token all token"] | None
    """Mask over the global batch of near-duplicate tokens, which are not negatives of each other."""
    past: Rollout | None = None
    """States of the burn-in, if the dynamics attend to them."""

    @property
    def inside(self) -> Bool[Tensor, "clip token"]:
        return sounding(self.target.shape[1], self.counts)


Terms = dict[str, Float[Tensor, ""]]


class Objective(nn.Module, ABC):
    """Loss of the states, with the metrics to log."""

    decodes = False
    """Whether gradients of the decoder train the state."""

    def __init__(self, config: ObjectiveConfig, model: RSSM, embedding: int, hidden: int):
        super().__init__()
        self.config, self.latent = config, model.latent
        self.number = model.config.deter + model.latent.size
        self.actions, self.embedding, self.hidden = model.actions, embedding, hidden
        self.make()

    def make(self) -> None:
        """Build the modules."""

    @abstractmethod
    def forward(self, observed: Observed, model: RSSM, engine: Engine) -> tuple[Float[Tensor, ""], Terms]: ...

    def unexpected(
        self,
        rollout: Rollout,
        target: Float[Tensor, "clip token embedding"],
        others: Float[Tensor, "other embedding"],
        same: Bool[Tensor, "clip token other"],
    ) -> dict[str, Float[Tensor, "clip token"]]:
        """Surprise of each token under this objective relative to other tokens, by name; others that are the same
        as the token are excluded. Empty by default."""
        return {}


def kl(
    latent: Latent,
    posterior: Float[Tensor, "*rows raw"],
    prior: Float[Tensor, "*rows raw"],
    balance: float,
    free: float,
) -> Float[Tensor, "*rows"]:
    """KL divergence between posterior and prior of each token, at least `free` nats; a fraction `balance` of its
    gradient goes to the prior, the rest to the posterior. Tokens below the free nats have no gradient."""
    to_posterior, to_prior = latent.halves(posterior, prior)
    return balance * to_prior.clamp(min=free) + (1 - balance) * to_posterior.clamp(min=free)


def mean_over(values: Float[Tensor, "*rows"], inside: Bool[Tensor, "*rows"], engine: Engine) -> Float[Tensor, ""]:
    """Mean over the tokens of the global batch, as this rank's term of a mean over ranks."""
    count = engine.mean(inside.sum().to(values.dtype)).clamp(min=1)
    return values.where(inside, 0).sum() / count


def alike(
    tokens: Float[Tensor, "clip token number"], below: float, slots: int = 0
) -> Bool[Tensor, "clip token clip token"] | None:
    """Mask of near-duplicate tokens, which are not negatives of each other; None if all tokens are negatives."""
    if not below:
        return None
    rows = wide(tokens).flatten(0, 1)
    same = pairs_alike(rows, rows, below, slots)
    return same.unflatten(1, tokens.shape[:2]).unflatten(0, tokens.shape[:2])


def pairs_alike(
    one: Float[Tensor, "row number"], other: Float[Tensor, "column number"], below: float, slots: int
) -> Bool[Tensor, "row column"]:
    """Mask of pairs whose root-mean-square difference is at most `below`; with slots, of pairs with the same entry
    in each slot, because for one-hot entries a root mean square would depend on their number."""
    if not below:
        return torch.zeros(len(one), len(other), dtype=torch.bool, device=one.device)
    if slots:
        return one @ other.T > slots - 0.5
    return mean_squares(one, other) <= below**2


def mean_squares(
    one: Float[Tensor, "row number"], other: Float[Tensor, "column number"]
) -> Float[Tensor, "row column"]:
    """Mean squared difference of each pair."""
    squares, others = one.square().sum(1), other.square().sum(1)
    return (squares[:, None] + others - 2 * one @ other.T) / one.shape[1]


NO_NEGATIVES = "contrast/no_negatives"
"""Metric: fraction of batches without negatives."""


def without_negatives(found: Outcome, counts: Int[Tensor, " clip"]) -> Float[Tensor, ""]:
    """1 for a batch of tokens none of which has a negative, which gives no training signal; 0 otherwise."""
    return ((found.chance == 0) & (counts > 0).any()).to(found.chance)


def remarks_of(config: ObjectiveConfig, metrics: Mapping[str, float]) -> Sequence[str]:
    """Remarks for the user on the metrics."""
    if not metrics.get(NO_NEGATIVES):
        return ()
    return (
        "in some batches no token has a negative, for all are alike, and nothing is learnt from them by contrast: "
        f"give a smaller --alike-below than {config.alike_below:g}, or longer or other sound",
    )


class Tilde(nn.Module):
    """p̃: open-loop predictor of states several tokens ahead, separate from the prior unless it is the prior."""

    def __init__(self, config: ObjectiveConfig, latent: Latent, actions: int, hidden: int):
        super().__init__()
        self.config, self.latent, size = config, latent, latent.size
        if config.predictor == "linear":
            self.network = nn.Linear(size + actions, size)
        elif config.predictor == "mlp":
            self.network = nn.Sequential(nn.Linear(size + actions, hidden), nn.ELU(), nn.Linear(hidden, size))

    def forward(
        self,
        rollout: Rollout,
        priors: list[Tensor],
        steps: int,
        noise: Float[Tensor, "clip token step draw"] | None,
    ) -> list[Float[Tensor, "clip _token size"]]:
        """Predicted states 1 to `steps` tokens after each token; without noise, draws are modes. `priors` are the
        priors of the same tokens."""
        z, found = rollout.z, []
        for k in range(1, steps + 1):
            tokens = rollout.z.shape[1] - k
            own = None if noise is None else noise[:, :tokens, k - 1]
            if self.config.predictor == "prior":
                z = self.latent.draw(priors[k - 1], own)
            else:
                given = torch.cat([z[:, :tokens], rollout.actions[:, k:].to(z.dtype)], -1)
                z = wide(self.network(given))
                if self.config.predicted == "sample":
                    z = self.drawn(z, own)
            found.append(z)
        return found

    def drawn(self, mean: Tensor, noise: Tensor | None) -> Tensor:
        if isinstance(self.latent, Categorical):
            return self.latent.draw(mean, noise)
        return mean if noise is None else mean + noise.to(mean.dtype)

    def scored(self, z: Tensor, ahead: int) -> Tensor:
        """Input of the critic: the state, or its probabilities where the critic scores likelihoods."""
        drawn = ahead == 0 or self.config.predictor == "prior" or self.config.predicted == "sample"
        if self.config.critic == "bilinear" or drawn or not isinstance(self.latent, Categorical):
            return z
        return self.latent.split(z).softmax(-1).flatten(-2)


class Dream(Objective):
    """J = Σ_k J_k^NCE + J_k^KL.

    NCE of k: p̃ predicts z_t from z_{t−k}, and the tokens of the batch compete for the prediction. KL of k: between
    the posterior at t and a prior that has not observed the k tokens before t; the usual KL, k = 0, is part of
    every objective and not added here.
    """

    def make(self) -> None:
        config, latent = self.config, self.latent
        if config.critic == "categorical" and not isinstance(latent, Categorical):
            raise ValueError(
                "a categorical critic needs a categorical state: give critic bilinear with latent gaussian"
            )
        self.tilde = Tilde(config, latent, self.actions, self.hidden)
        self.critic = nn.Linear(self.embedding, latent.size)

    def keys(self, target: Tensor) -> Float[Tensor, "*rows size"]:
        """Keys, whose dot products with states are the scores: We(x), or log-probabilities."""
        made = wide(self.critic(target))
        if self.config.critic == "bilinear" or not isinstance(self.latent, Categorical):
            return made
        return self.latent.split(made).log_softmax(-1).flatten(-2)

    def forward(self, observed: Observed, model: RSSM, engine: Engine) -> tuple[Float[Tensor, ""], Terms]:
        config, rollout = self.config, observed.rollout
        tokens = rollout.z.shape[1]
        ahead, weight = self.ahead(tokens - 1, engine)
        starts, stride = self.starts(ahead, tokens, engine)
        with engine.autocast():
            keys = engine.gather(self.keys(observed.target))
            priors, predictions = self.unrolled(observed, model, max(ahead, default=0), starts, engine)
        counts = engine.gather(observed.counts)
        nce = {}
        for k in (0, *ahead):
            z = rollout.z if not k else predictions[k - 1]
            scored = engine.gather(self.tilde.scored(wide(z), k))[:, :, None]
            nce[k] = contrast(scored, keys, counts, NCE, engine.generator, k - 1, alike=observed.alike)
        divergence = []
        for k in ahead if config.kl_ahead else ():
            at = starts[starts + k < tokens] + k
            each = kl(self.latent, rollout.posterior[:, at], priors[k], config.kl_balance, config.free_nats)
            # k times the sum over every k-th token: its expectation over the offset is the sum over all tokens.
            count = engine.mean(observed.inside[:, k:].sum().to(each.dtype)).clamp(min=1)
            divergence.append(stride * each.where(observed.inside[:, at], 0).sum() / count)
        none = nce[0].loss.new_zeros(())
        further = torch.stack([nce[k].loss for k in ahead]).sum() if ahead else none
        kl_ahead = torch.stack(divergence).sum() if divergence else none
        loss = config.nce_weight * (nce[0].loss + weight * further) + config.kl_weight * weight * kl_ahead
        right = torch.stack([nce[k].accuracies[0] for k in ahead]).mean() if ahead else none
        terms = {
            "contrast/loss": nce[0].loss,
            "contrast/loss_ahead": further / max(1, len(ahead)),
            "contrast/chance": nce[0].chance,
            NO_NEGATIVES: without_negatives(nce[0], counts),
            "contrast/accuracy": nce[0].accuracies[0],
            "contrast/accuracy_ahead": right,
            "kl/ahead": kl_ahead / max(1, len(divergence)),
        }
        return loss, terms

    def unexpected(
        self,
        rollout: Rollout,
        target: Float[Tensor, "clip token embedding"],
        others: Float[Tensor, "other embedding"],
        same: Bool[Tensor, "clip token other"],
    ) -> dict[str, Float[Tensor, "clip token"]]:
        """−J_1^NCE of each token, with `others` as negatives in place of the batch; 0 for the first token."""
        if not self.config.horizon:
            return {}
        [made] = self.tilde(rollout, [rollout.prior[:, 1:]], 1, None)
        z = self.tilde.scored(wide(made), 1)
        own = (z * self.keys(target[:, 1:])).sum(-1)
        scores = (z @ self.keys(others).T).masked_fill(same[:, 1:], -torch.inf)
        against = torch.logsumexp(torch.cat([own[..., None], scores], -1), -1)
        return {"nce": functional.pad(against - own, (1, 0))}

    def ahead(self, longest: int, engine: Engine) -> tuple[list[int], float]:
        """Steps ahead (k ≥ 1) of this update, and the weight of each."""
        horizon = min(self.config.horizon, longest)
        if self.config.overshoot == "all" or horizon < 1:
            return list(range(1, horizon + 1)), 1.0
        drawn = torch.randint(1, horizon + 1, (), generator=engine.generator, device=engine.generator.device)
        return [int(drawn)], float(horizon)

    def starts(self, ahead: list[int], tokens: int, engine: Engine) -> tuple[Int[Tensor, " start"], int]:
        """Tokens from which the prior is unrolled, and their stride."""
        stride = max(ahead, default=1) if len(ahead) == 1 and self.config.predictor != "prior" else 1
        device = engine.generator.device
        first = int(torch.randint(stride, (), generator=engine.generator, device=device)) if stride > 1 else 0
        return torch.arange(first, tokens, stride, device=device), stride

    def unrolled(
        self, observed: Observed, model: RSSM, steps: int, starts: Int[Tensor, " start"], engine: Engine
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Priors of the tokens k after the starts, from k = 0 on, and predictions of p̃, from k = 1 on."""
        rollout = observed.rollout
        clips, tokens = rollout.z.shape[:2]
        noise = self.latent.noise((2, clips * engine.ranks, tokens, max(1, steps)), engine.generator, rollout.z)
        of_prior, of_tilde = (engine.share(one) for one in noise)
        from_prior = self.config.predictor == "prior"
        needed = steps if self.config.kl_ahead else steps - 1 if from_prior else 0
        further = model.overshoot(rollout, needed, of_prior, starts, observed.past) if needed > 0 else []
        # Prior 0 of token t + 1 has observed t, as has p̃ one step ahead.
        priors = [one[:, 1:] for one in (rollout.prior, *further)] if from_prior else []
        return [rollout.prior, *further], self.tilde(rollout, priors, steps, of_tilde)


class Contrast(Objective):
    """InfoNCE of [h, z] and the embedding of the same token, as in r2dreamer, but with gradients into both."""

    def make(self) -> None:
        self.project = nn.Linear(self.number, self.embedding)

    def forward(self, observed: Observed, model: RSSM, engine: Engine) -> tuple[Float[Tensor, ""], Terms]:
        with engine.autocast():
            predictions = engine.gather(wide(self.project(observed.rollout.feature)))[:, :, None]
        keys, counts = engine.gather(wide(observed.target)), engine.gather(observed.counts)
        found = contrast(predictions, keys, counts, NCE, engine.generator, -1, alike=observed.alike)
        terms = {
            "contrast/loss": found.loss,
            "contrast/chance": found.chance,
            NO_NEGATIVES: without_negatives(found, counts),
            "contrast/accuracy": found.accuracies[0],
        }
        return self.config.nce_weight * found.loss, terms


def correlation(
    one: Float[Tensor, "row number"], other: Float[Tensor, "row number"]
) -> Float[Tensor, "number number"]:
    """Pearson correlation of each column of one with each column of the other."""
    sides = []
    for side in (one, other):
        centred = side - side.mean(0)
        sides.append(centred / (centred.square().mean(0) + 1e-6).sqrt())
    return sides[0].T @ sides[1] / len(one)


def barlow(
    made: Float[Tensor, "clip token number"],
    target: Float[Tensor, "clip token number"],
    inside: Bool[Tensor, "clip token"],
    engine: Engine,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Barlow Twins loss over the tokens of the global batch, and the mean correlation on the diagonal."""
    own = engine.gather(inside)
    if int(own.sum()) < 2:
        nothing = engine.gather(wide(made)).sum() * 0
        return nothing, nothing
    matrix = correlation(engine.gather(wide(made))[own], engine.gather(wide(target.detach()))[own])
    diagonal = matrix.diagonal()
    off = matrix.square().sum() - diagonal.square().sum()
    return (1 - diagonal).square().sum() + OFF_DIAGONAL * off, diagonal.mean()


class Barlow(Objective):
    def make(self) -> None:
        self.project = nn.Linear(self.number, self.embedding)

    def forward(self, observed: Observed, model: RSSM, engine: Engine) -> tuple[Float[Tensor, ""], Terms]:
        with engine.autocast():
            made = self.project(observed.rollout.feature)
        loss, alike = barlow(made, observed.target, observed.inside, engine)
        return self.config.nce_weight * loss, {"barlow/loss": loss, "barlow/correlation": alike}


class NextEmbedding(Objective):
    def make(self) -> None:
        self.predict = nn.Sequential(
            nn.Linear(self.number + self.actions, self.hidden), nn.ELU(), nn.Linear(self.hidden, self.embedding)
        )

    def forward(self, observed: Observed, model: RSSM, engine: Engine) -> tuple[Float[Tensor, ""], Terms]:
        rollout = observed.rollout
        with engine.autocast():
            given = torch.cat([rollout.feature[:, :-1], rollout.actions[:, 1:].to(rollout.h.dtype)], -1)
            made = self.predict(given)
        loss, alike = barlow(made, observed.target[:, 1:], observed.inside[:, 1:], engine)
        return self.config.nce_weight * loss, {"barlow/loss": loss, "barlow/correlation": alike}


class Twister(Objective):
    """Direct prediction of each step ahead from [h, z] and all actions up to it; the decoder is kept."""

    decodes = True

    def make(self) -> None:
        steps = self.config.direct_steps
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(self.number + k * self.actions, self.hidden),
                nn.ELU(),
                nn.Linear(self.hidden, self.embedding),
            )
            for k in range(1, steps + 1)
        )

    def forward(self, observed: Observed, model: RSSM, engine: Engine) -> tuple[Float[Tensor, ""], Terms]:
        rollout, tokens = observed.rollout, observed.target.shape[1]
        keys, counts = engine.gather(wide(observed.target)), engine.gather(observed.counts)
        losses, right, weights, alone = [], [], [], []
        for k, layer in enumerate(self.layers[: tokens - 1], 1):
            come = [rollout.actions[:, step : tokens - k + step] for step in range(1, k + 1)]
            with engine.autocast():
                made = layer(torch.cat([rollout.feature[:, : tokens - k], *come], -1))
            predictions = engine.gather(wide(made))[:, :, None]
            found = contrast(predictions, keys, counts, DIRECT, engine.generator, k - 1, alike=observed.alike)
            losses.append(found.loss)
            right.append(found.accuracies[0])
            alone.append(without_negatives(found, counts))
            weights.append(self.config.direct_discount ** (k - 1))
        shares = torch.tensor(weights).to(keys)
        loss = (torch.stack(losses) * shares).sum() / shares.sum()
        terms = {
            "contrast/loss": loss,
            "contrast/accuracy": right[0],
            "contrast/accuracy_last": right[-1],
            NO_NEGATIVES: alone[0],
        }
        return self.config.nce_weight * loss, terms


class Reconstruction(Objective):
    """Reconstruction by the decoder alone."""

    decodes = True

    def forward(self, observed: Observed, model: RSSM, engine: Engine) -> tuple[Float[Tensor, ""], Terms]:
        return observed.target.new_zeros(()), {}


OBJECTIVES: Mapping[str, type[Objective]] = {
    "dreaming": Dream,
    "contrast": Contrast,
    "barlow": Barlow,
    "embedding": NextEmbedding,
    "twister": Twister,
    "reconstruction": Reconstruction,
}


def token_error(
    made: Float[Tensor, "clip token number"], tokens: Float[Tensor, "clip token number"], slots: int
) -> Float[Tensor, "clip token"]:
    """Negative log-likelihood of each token, up to a constant: half the squared error (a Gaussian of unit
    variance), or the cross-entropy of its entries."""
    if not slots:
        return 0.5 * (wide(made) - tokens).square().sum(-1)
    split = "clip token (slot entry) -> clip token slot entry"
    logs = rearrange(wide(made), split, slot=slots).log_softmax(-1)
    return -(rearrange(tokens, split, slot=slots) * logs).sum((-2, -1))


def most_likely(made: Float[Tensor, "clip token number"], slots: int) -> Float[Tensor, "clip token number"]:
    """Most likely token under the output of a decoder."""
    if not slots:
        return wide(made)
    logits = rearrange(made, "clip token (slot entry) -> clip token slot entry", slot=slots)
    chosen = functional.one_hot(logits.argmax(-1), logits.shape[-1]).to(made.dtype)
    return rearrange(wide(chosen), "clip token slot entry -> clip token (slot entry)")
