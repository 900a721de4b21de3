"""A hidden Markov model of the codes of another run.

An update is the E-step of a batch of clips; the end of a pass is the M-step, from the sums over batches and
processes. Its codes are the posterior probabilities of the states at each frame, given the whole clip.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sonarium.models.contract import (
    Engine,
    FrameEncoder,
    Learner,
    MarkovChain,
    ModelEntry,
    Sampler,
    SequenceSampler,
    Source,
)
from sonarium.models.hmm.config import HMMConfig
from sonarium.models.hmm.divergence import departures, occupancies
from sonarium.models.hmm.em import Model, Statistics, e_step, empty_states, m_step, repair
from sonarium.models.hmm.emissions import Emission, Mixture
from sonarium.models.hmm.inference import Chain, Workspace, expect
from sonarium.models.hmm.packing import Block, pack
from sonarium.models.hmm.sampling import draw
from sonarium.models.hmm.starting import Known, first_emission, start_model, structure_of
from sonarium.training.contract import ClipSource
from sonarium.worlds.contract import Batch, Signal, SignalKind

MODEL, COUNT = "model_", "count_"


class HiddenMarkov(Learner, FrameEncoder, Sampler, SequenceSampler, MarkovChain):
    likelihood: Tensor
    repaired: Tensor

    def __init__(self, config: HMMConfig, signal: Signal):
        super().__init__()
        if signal.frame_rate is None:
            raise ValueError(f"a hidden Markov model takes codes, not {signal.kind}s: give --codes RUN")
        if config.emission not in ("gaussian", "mixture"):
            raise ValueError(f"--emission {config.emission}: codes are continuous, choose gaussian or mixture")
        self.config, self.signal = config, signal
        self.code_rate, self.code_first = signal.frame_rate, signal.frame_first
        like = torch.zeros(signal.shape[1], dtype=torch.float64 if config.dtype == "float64" else torch.float32)
        # The sparse topology is drawn like initial weights.
        rng = np.random.default_rng(int(torch.randint(2**31, ())))
        self.structure = structure_of(config, Known(), rng, like.device)
        self.blank = first_emission(config, 0, like)
        # The model is valid before `prepare`, because the untrained control is scored.
        allowed, first = (one.to(like) for one in (self.structure.allowed, self.structure.start_allowed))
        chain = Chain(first / first.sum(), allowed / allowed.sum(1, keepdim=True))
        if config.durations != "geometric":
            lasting = like.new_full((config.states, config.max_duration), 1 / config.max_duration)
            chain = replace(chain, durations=lasting)
        self.register_buffer("allowed", self.structure.allowed)
        for name, value in tensors(Model(self.structure, chain, self.blank)).items():
            self.register_buffer(MODEL + name, value.clone())
        self.get_buffer(MODEL + "mean").normal_()
        # The counts of an unfinished pass are saved with the model, because a run may be stopped within a pass.
        for name, value in parts(self.nothing()).items():
            self.register_buffer(COUNT + name, value)
        self.register_buffer("repaired", torch.zeros((), dtype=torch.int64))

    @property
    def model(self) -> Model:
        held = {name[len(MODEL) :]: value for name, value in self.named_buffers() if name.startswith(MODEL)}
        chain = Chain(held["start"], held["transitions"], held.get("durations"))
        structure = replace(
            self.structure,
            allowed=self.get_buffer("allowed"),
            start_allowed=self.structure.start_allowed.to(chain.start.device),
        )
        return Model(structure, chain, with_tensors(self.blank, held))

    @model.setter
    def model(self, model: Model) -> None:
        for name, value in tensors(model).items():
            self.get_buffer(MODEL + name).copy_(value)

    @property
    def counts(self) -> Statistics:
        held = {name[len(COUNT) :]: value for name, value in self.named_buffers() if name.startswith(COUNT)}
        emission = {name[len("emission_") :]: one for name, one in held.items() if name.startswith("emission_")}
        return Statistics(
            held["log_likelihood"],
            held["occupancy"],
            held["start"],
            held["transitions"],
            held.get("durations"),
            emission,
        )

    def nothing(self) -> Statistics:
        """Statistics of zero frames."""
        model = self.model
        chain, none = model.chain, self.get_buffer(MODEL + "start").new_zeros(0, self.signal.shape[1])
        zeros = none.new_zeros(0, self.config.states)
        durations = None if chain.durations is None else torch.zeros_like(chain.durations)
        emission = model.emission.count(model.emission.features(none), zeros)
        start = torch.zeros_like(chain.start)
        return Statistics(
            start.sum(), start.clone(), start.clone(), torch.zeros_like(chain.transitions), durations, emission
        )

    def check(self, source: Source) -> Sequence[str]:
        if isinstance(source, ClipSource):
            frames = int(source.world.lengths(source.index.cpu()).sum())
            if frames < self.config.states:
                raise ValueError(f"--states {self.config.states}: there are {frames} frames, give no more states")
        return ()

    @torch.no_grad()
    def prepare(self, source: Source, engine: Engine) -> None:
        clips: list[np.ndarray] = []
        for batch in source.preview(engine.progress):
            lengths = lengths_of(batch).tolist()
            rows = zip(batch.signal, lengths, strict=True)
            clips += [row[:length].double().cpu().numpy() for row, length in rows if length]
        seed = torch.randint(2**31, (), generator=engine.generator, device=engine.generator.device)
        frames, own = np.concatenate(clips), np.array([len(clip) for clip in clips])
        if len(frames) < self.config.states:
            raise ValueError(f"{self.config.states} states: there are {len(frames)} frames, give no more states")
        # Keep the sparse topology that was drawn.
        even = self.model.chain.transitions.double().cpu().numpy()
        known = Known(transitions=even) if self.config.topology == "sparse" else Known()
        rng = np.random.default_rng(int(seed))
        self.model = start_model(self.config, frames, own, rng, self.model.chain.start, known)

    def restart(self) -> None:
        """Reset what another run has left: the counts of an unfinished pass, and the number of repaired states."""
        self.clear()
        self.repaired.zero_()

    def clear(self) -> None:
        """Reset the counts of the pass."""
        for name in parts(self.counts):
            self.get_buffer(COUNT + name).zero_()

    def packed(
        self, signal: Float[Tensor, "clip frame code"], lengths: Int[Tensor, " clip"]
    ) -> list[tuple[Block, Float[Tensor, "row code"], Int[Tensor, " row"]]]:
        """Blocks of clips with frames, the frames of each block, and their rows among all frames of the batch."""
        own = lengths.cpu().numpy()
        sounding = np.flatnonzero(own)
        if not len(sounding):
            return []
        width = self.config.states * (1 if self.config.durations == "geometric" else self.config.max_duration)
        like = self.get_buffer(MODEL + "start")
        offsets = np.cumsum(own[sounding]) - own[sounding]
        rows = np.repeat(sounding * signal.shape[1] - offsets, own[sounding]) + np.arange(own.sum())
        places, flat = torch.from_numpy(rows).to(signal.device), signal.flatten(0, 1)
        found = []
        for block in pack(own[sounding], width, signal.device):
            where = places[block.source]
            found.append((block, flat[where].to(like), where))
        return found

    @torch.no_grad()
    def update(self, data: Batch, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        """The E-step of one batch."""
        model, found = self.model, self.nothing()
        blocks = [
            (block, model.emission.features(frames))
            for block, frames, _ in self.packed(data.signal, lengths_of(data))
        ]
        if blocks:
            found = found + e_step(model, blocks, self.config.arithmetic)
        # Summed over the global batch, so that all ranks have the same statistics whenever a checkpoint is saved.
        for name, value in parts(found).items():
            self.get_buffer(COUNT + name).add_(engine.ranks * engine.mean(value))
        frames = engine.mean(found.occupancy.sum()).clamp(min=1)
        return {"loss/negative_log_likelihood": -found.log_likelihood / frames}

    @torch.no_grad()
    def end_pass(self, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        """The M-step; an empty state takes over half the frames of the largest."""
        counts, before = self.counts, self.model
        objective = (counts.log_likelihood + before.penalty()) / counts.occupancy.sum().clamp(min=1)
        model, empty = m_step(before, counts), empty_states(counts)
        # Over all passes, no more repairs than there are states, so that EM converges.
        if self.config.repair and 0 < len(empty) <= self.config.states - int(self.repaired):
            model = repair(model, counts)
            self.repaired += len(empty)
        active = (counts.occupancy >= 1).double().mean()
        self.model = model
        self.clear()
        return {"states/objective": objective, "states/active": active}

    @torch.no_grad()
    def encode(
        self,
        signal: Float[Tensor, "clip time code"],
        lengths: Int[Tensor, " clip"] | None = None,
        *,
        power: Float[Tensor, " clip"] | None = None,
    ) -> Float[Tensor, "clip frame state"]:
        """Posterior probability of each state at each frame, given the whole clip."""
        clips, time = signal.shape[:2]
        own = torch.full((clips,), time) if lengths is None else lengths
        model, space = self.model, Workspace()
        codes = signal.new_zeros(clips * time, self.config.states)
        for block, frames, where in self.packed(signal, own):
            features = model.emission.features(frames)
            found = expect(
                model.chain,
                lambda rows=features: model.emission.log_density(rows),
                block,
                self.config.arithmetic,
                space,
            )
            assert found.posterior is not None
            codes[where] = found.posterior.to(codes)
        return codes.view(clips, time, -1)

    def code_lengths(self, lengths: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        return lengths

    @torch.no_grad()
    def sample(self, clips: int, generator: torch.Generator) -> Float[Tensor, "clip frame code"]:
        """Sampled codes of the run that the model was trained on, with as many frames as a training piece."""
        return self.sample_frames(clips, self.signal.shape[0], generator)

    @torch.no_grad()
    def sample_frames(
        self, clips: int, frames: int, generator: torch.Generator, temperature: float = 1.0
    ) -> Float[Tensor, "clip frame code"]:
        """Sampled codes; the temperature applies to the initial state and to transitions."""
        return draw(self.model, clips, frames, generator, temperature)[1].float()

    @torch.no_grad()
    def chain(self) -> tuple[Float[np.ndarray, " state"], Float[np.ndarray, "state state"]]:
        own = self.model.chain
        occupancy = occupancies(own)
        return occupancy.cpu().numpy(), departures(own, occupancy)[1].cpu().numpy()


def lengths_of(batch: Batch) -> Int[Tensor, " clip"]:
    if batch.lengths is not None:
        return batch.lengths
    return torch.full((len(batch.signal),), batch.signal.shape[1])


def tensors(model: Model) -> dict[str, Tensor]:
    """Learnt parameters by name."""
    found = {"start": model.chain.start, "transitions": model.chain.transitions} | model.emission.tensors()
    return found if model.chain.durations is None else found | {"durations": model.chain.durations}


def with_tensors(emission: Emission, held: dict[str, Tensor]) -> Emission:
    """The emission with these parameters."""
    if isinstance(emission, Mixture):
        gaussian = replace(emission.gaussian, **{name: held[name] for name in emission.gaussian.tensors()})
        return replace(emission, weights=held["weights"], gaussian=gaussian)
    return replace(emission, **{name: held[name] for name in emission.tensors()})


def parts(counts: Statistics) -> dict[str, Tensor]:
    """Statistics by name."""
    found = {
        "log_likelihood": counts.log_likelihood,
        "occupancy": counts.occupancy,
        "start": counts.start,
        "transitions": counts.transitions,
    }
    if counts.durations is not None:
        found["durations"] = counts.durations
    return found | {f"emission_{name}": value for name, value in counts.emission.items()}


def default(kind: SignalKind) -> HMMConfig:
    return HMMConfig()


def semi_markov(kind: SignalKind) -> HMMConfig:
    return HMMConfig(durations="categorical")


HMM = ModelEntry(
    "hidden Markov model, by expectation-maximisation",
    HiddenMarkov,
    {"default": default, "semi-markov": semi_markov},
    kinds=("codes",),
    main=("states", "emission", "covariance", "topology", "durations", "transition_prior", "arithmetic"),
    cut="whole",
    drop_last=False,
)
