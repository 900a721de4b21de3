"""Fitting of baselines and embeddings: training of a network, and model selection among hidden Markov models."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sonarium.measures.probes.classifiers import principal_axes
from sonarium.models.hmm import HMM, choose_states
from sonarium.models.optim import AdamConfig

Network = TypeVar("Network", bound=nn.Module)
BATCH, RATE = 16, 3e-3
"""Batch size in pieces and learning rate of networks."""
STATES = (32, 64, 128)
"""Numbers of states of hidden Markov models to choose from."""
HELD_OUT = 0.2
"""Fraction of the training pieces held out to choose the number of states by their likelihood."""
FIRST, MORE = 6, 14
"""EM iterations for each number of states, and for the chosen one on all pieces after that."""
COMPONENTS = 24
"""Principal components of the tokens that a hidden Markov model is fitted to."""
SEED = 0
"""Random draws depend on the clips alone, as in probing."""


@torch.enable_grad()
def trained(
    make: Callable[[], Network], loss: Callable[[Network, Tensor], Tensor], pieces: int, steps: int
) -> Network:
    """A network after `steps` steps of Adam on random minibatches of pieces."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = make()
    optimiser = AdamConfig(learning_rate=RATE).build(network.parameters())
    for _ in range(steps):
        rows = torch.randint(pieces, (BATCH,), generator=generator)
        optimiser.zero_grad()
        loss(network, rows).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
    return network


def chosen_hmm(rows: Float[np.ndarray, "token number"], lengths: Sequence[int], **settings: Any) -> HMM:
    """Hidden Markov model fitted to all pieces, with the number of states that maximises the likelihood of
    held-out pieces."""
    own = np.array([length for length in lengths if length])
    template = HMM(max_iter=FIRST, random_state=SEED, **settings)
    # Every state needs a training token, and held-out pieces provide none.
    room = max(1, len(rows) // 4)
    numbers = [number for number in STATES if number <= room] or [room]
    if len(own) < 4:
        return template.set_params(states=numbers[0], max_iter=FIRST + MORE).fit(rows, lengths=own)
    best, _ = choose_states(template, numbers, rows, own, held_out=HELD_OUT, random_state=SEED)
    return template.set_params(states=best.states, max_iter=MORE).fit(rows, lengths=own, start_from=best)


@dataclass(frozen=True)
class TokenHMM:
    """Hidden Markov model of principal components of the tokens, with a full covariance per state."""

    model: HMM
    centre: Float[np.ndarray, " number"]
    axes: Float[np.ndarray, "number component"]

    @classmethod
    def of(cls, tokens: Float[Tensor, "piece token number"], counts: Int[Tensor, " piece"]) -> "TokenHMM":
        inside = torch.arange(tokens.shape[1]) < counts[:, None]
        rows = tokens[inside].double().numpy()
        centre = rows.mean(0)
        axes = principal_axes(rows - centre)[1][:, -COMPONENTS:]
        model = chosen_hmm((rows - centre) @ axes, counts.tolist(), covariance="full", floor=1e-2)
        return cls(model, centre, axes)

    def belief(self, past: Float[Tensor, "row token number"]) -> Float[Tensor, "row state"]:
        """Posterior probability of each state at the last of these tokens."""
        rows = (past.double().numpy() - self.centre) @ self.axes
        posterior = self.model.predict_proba(rows.reshape(-1, rows.shape[2]), lengths=[past.shape[1]] * len(past))
        return torch.from_numpy(posterior.reshape(*rows.shape[:2], -1)[:, -1])

    def expected(self, belief: Float[Tensor, "row state"], steps: int) -> Float[Tensor, "row step number"]:
        """Mean of each future token."""
        moves, found = torch.from_numpy(self.model.transmat_), []
        for _ in range(steps):
            belief = belief @ moves
            found.append(belief)
        return self.tokens(torch.stack(found, 1) @ torch.from_numpy(self.model.means_))

    def drawn(
        self, belief: Float[Tensor, "row state"], steps: int, samples: int, generator: torch.Generator
    ) -> Float[Tensor, "sample row step number"]:
        moves, spread = torch.from_numpy(self.model.transmat_), np.linalg.cholesky(self.model.covars_)
        state = torch.multinomial(belief, samples, True, generator=generator).T.flatten()
        found = []
        for _ in range(steps):
            state = torch.multinomial(moves[state], 1, generator=generator)[:, 0]
            noise = torch.randn(len(state), spread.shape[1], 1, generator=generator, dtype=torch.double).numpy()
            found.append(torch.from_numpy(self.model.means_[state] + (spread[state] @ noise)[..., 0]))
        return self.tokens(torch.stack(found, 1)).unflatten(0, (samples, len(belief)))

    def tokens(self, components: Float[Tensor, "*some component"]) -> Float[Tensor, "*some number"]:
        return components @ torch.from_numpy(self.axes.T.copy()) + torch.from_numpy(self.centre)
