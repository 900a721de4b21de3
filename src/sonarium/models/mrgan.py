"""The mode-regularised GAN of BirdsongGAN (Che et al. 2017, arXiv 1612.02136; Narula and Hahnloser's networks).

An encoder E, a generator G and three discriminators are trained on spectrogram snippets x and codes z of the prior
p(z). The updates of a training step are, in this order:

    1. D1:    minimise −log D1(x) − log(1 − D1(G(E(x))))
    2. E, G:  minimise −log D1(G(E(x))) + λ ( |G(E(x)) − x| + |pool G(E(x)) − pool x| )
    3. D2:    minimise −log D2(G(E(x))) − log(1 − D2(G(z)))
    4. E, G:  minimise w |E(G(z)) − z|                    where the codes are regularised
    5. G:     minimise −log D2(G(z))
    6. D3:    minimise −log D3(x) − log(1 − D3(G(z)))      a monitor, whose gradient reaches no other network

By default, a tenth of the discriminators' labels are flipped. Updates 2, 4 and 5 share one optimiser, the
discriminators another. Without discriminators the same network is a plain autoencoder; with a codebook it is
a VQ-GAN (Esser et al. 2021, arXiv 2012.09841), whose dead entries are revived.

A whole song is encoded as one code every `stride` frames, and decoded by overlap-add of its snippets.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from sonarium.config import Range, check_ranges
from sonarium.features.spectrogram import SNIPPET_SECONDS, SNIPPETS, Spectrogram, SpectrogramConfig
from sonarium.features.waveform import sounding
from sonarium.models.blocks import wide
from sonarium.models.contract import (
    Decoder,
    Engine,
    FeatureLearner,
    FrameEncoder,
    Learner,
    ModelEntry,
    Recipe,
    Sampler,
    Source,
    Stateful,
    Synthesiser,
)
from sonarium.models.optim import AdamConfig, ScheduleConfig
from sonarium.models.snippet_networks import (
    GENERATED,
    RECONSTRUCTED,
    DenseEncoder,
    DenseGenerator,
    Discriminator,
    Generator,
    Normalisation,
    PrincipalEncoder,
    PrincipalGenerator,
    SnippetEncoder,
    principal_components,
)
from sonarium.models.vqvae import Codebooks, VQVAEConfig, perplexity
from sonarium.worlds.contract import Batch, Signal, SignalKind, World

BLOCK = 256
"""Maximum number of snippets encoded or decoded in one batch."""
EXAMPLES = 8192
"""Minimum number of training snippets for the principal components, where there are as many."""
DEGREES = 10
"""Degrees of freedom of the t distribution."""
POOL, POOL_STRIDE = 3, 4
"""Kernel size and stride of the average pooling in the second reconstruction loss."""


@dataclass(frozen=True)
class MRGANConfig:
    latent: Annotated[int, Range(1, 2**14)] = 32
    """Latent dimension."""
    frames: Annotated[int, Range(1, 4096)] = 16
    """Frames per snippet."""
    stride: Annotated[int, Range(1, 4096)] = 4
    """Hop between snippets of whole songs in frames; below `frames`, they overlap."""
    ngf: Annotated[int, Range(1, 4096)] = 16
    """Channels of the first layer of encoder and generator; deeper layers have 2, 4 and 8 times as many."""
    ndf: Annotated[int, Range(1, 4096)] = 16
    """Channels of the first layer of a discriminator."""
    network: Literal["convolutional", "dense"] = "convolutional"
    """Encoder and generator: convolutional, or dense (two hidden layers of 32 × ngf units)."""
    linear: bool = False
    """Linear layers in parallel with encoder and generator, initialised with principal components of the training
    snippets."""
    normalisation: Normalisation = "layer"
    """Normalisation of convolutions: layer, batch (with separate statistics for reconstructions and samples),
    instance, selu (SELU activations, no normalisation), or spectral (spectral norm in the discriminators, layer
    elsewhere)."""
    residual: bool = False
    """Add a residual block after each strided convolution."""
    adversarial: bool = True
    """Adversarial training with discriminators; without it, the same network is an autoencoder."""
    reconstruction: Annotated[float, Range(0)] = 100.0
    """Weight λ of the reconstruction losses."""
    code_weight: Annotated[float, Range(0)] = 0.0
    """Weight of the code regularisation |E(G(z)) − z|."""
    flips: Annotated[float, Range(0, 1)] = 0.1
    """Label flipping: fraction of labels that are wrong for the discriminators."""
    prior: Literal["normal", "uniform", "t"] = "normal"
    """Prior of the codes: normal, uniform (−1 to 1) or t (10 degrees of freedom)."""
    entries: Annotated[int, Range(0, 2**20)] = 0
    """Codebook entries of a VQ-GAN; 0 for continuous codes."""
    slots: Annotated[int, Range(1, 2**14)] = 8
    """Number of codebooks of a VQ-GAN, each for its part of the code."""
    commitment: Annotated[float, Range(0)] = 0.25
    """Weight of the commitment loss of a VQ-GAN, multiplied by λ."""
    revival: Annotated[float, Range(0, 1, above=True)] = 0.01
    """Usage below which dead codebook entries of a VQ-GAN are reset to a vector of the batch, as a fraction of
    uniform use."""
    adam: AdamConfig = AdamConfig(learning_rate=2e-4, beta1=0.5)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    front: SpectrogramConfig = field(default_factory=lambda: SNIPPETS)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.stride > self.frames:
            raise ValueError(
                f"stride={self.stride}, frames={self.frames}: frames between snippets would be lost; give a "
                "stride of at most the frames"
            )
        if self.entries and self.latent % self.slots:
            raise ValueError(
                f"latent={self.latent}, slots={self.slots}: give a latent dimension that slots divide"
            )
        if self.entries and self.code_weight:
            raise ValueError(
                f"entries={self.entries}, code_weight={self.code_weight}: entries of a codebook are not "
                "regularised; give one of the two"
            )
        if self.front.centred:
            raise ValueError("centred=True: the frames of a snippet lie within the sound; leave it out")
        if self.front.compression == "log" or self.front.scaling == "standard":
            raise ValueError(
                f"compression={self.front.compression}, scaling={self.front.scaling}: the generator makes no "
                "negative features; choose compression log1p or none, and scaling none or unit"
            )


class Quantised(NamedTuple):
    """Vector-quantised codes of a batch."""

    codes: Float[Tensor, "clip code"]
    """Codebook entries, with the straight-through gradient of the codes."""
    commitment: Float[Tensor, ""]
    """Mean squared distance of the codes from their entries."""
    every: Float[Tensor, "all slot dim"]
    """Codes of the global batch before quantisation; `index` holds their entries."""
    index: Int[Tensor, "all slot"]


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Let gradients pass through the network without computing those of its weights."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def distances(
    made: Float[Tensor, "clip 1 row frame"], real: Float[Tensor, "clip 1 row frame"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean absolute errors of snippets, and of the average-pooled snippets; the pooling kernel is no larger than a
    snippet."""
    apart = made - real
    kernel = tuple(min(POOL, size) for size in apart.shape[2:])
    # Average pooling is linear: pooling the difference gives the difference of the pooled snippets.
    pooled = functional.avg_pool2d(apart, kernel, POOL_STRIDE)
    return apart.abs().mean(), pooled.abs().mean()


def deceived(odds: Float[Tensor, " clip"]) -> Float[Tensor, ""]:
    """Adversarial loss −log D, averaged over the clips."""
    return functional.softplus(-wide(odds)).mean()


class MRGAN(Learner, FeatureLearner, FrameEncoder, Decoder, Sampler, Synthesiser):
    front: Spectrogram
    updates: Tensor
    encoder: SnippetEncoder | DenseEncoder | PrincipalEncoder
    generator: Generator | DenseGenerator | PrincipalGenerator

    def __init__(self, config: MRGANConfig, signal: Signal):
        super().__init__()
        assert signal.rate is not None, signal
        self.config = config
        self.front = config.front.build(signal)
        self.signal = signal
        _, rows, frames = self.front.shape(signal.shape[0])
        if frames < config.frames:
            needed = config.front.hop * (config.frames - 1) + config.front.fft
            raise ValueError(
                f"pieces of {signal.shape[0]} samples have {frames} frames, and a snippet has {config.frames}: "
                f"choose --seconds of at least {needed / signal.rate:g}, or fewer --frames"
            )
        self.size = rows, config.frames
        self.code_rate = signal.rate / (config.front.hop * config.stride)
        self.code_first = (config.frames - 1) / 2 * config.front.hop / signal.rate
        self.minimum_batch_size = 2 if config.normalisation == "batch" else 1
        if config.network == "dense":
            dense = config.latent, config.ngf, self.size
            self.encoder, self.generator = DenseEncoder(*dense), DenseGenerator(*dense)
        else:
            coder = config.latent, config.ngf, config.normalisation, config.residual, self.size
            self.encoder, self.generator = SnippetEncoder(*coder), Generator(*coder)
        if config.linear:
            self.encoder = PrincipalEncoder(self.encoder, config.latent, self.size)
            self.generator = PrincipalGenerator(self.generator, config.latent, self.size)
        own = [*self.encoder.parameters(), *self.generator.parameters()]
        self.optimiser = config.adam.build(own, fused=True)
        names = ("reconstruction", "sample", "monitor") if config.adversarial else ()
        self.discriminators = nn.ModuleDict(
            {name: Discriminator(config.ndf, config.normalisation, config.residual, self.size) for name in names}
        )
        if config.adversarial:
            self.discriminator_optimiser = config.adam.build(self.discriminators.parameters(), fused=True)
        self.codebooks = Codebooks(codebook_config(config)) if config.entries else None
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    def prepare(self, source: Source, engine: Engine) -> None:
        """Fit the scale of the front end, and initialise the generator at the mean of the features, which its bias
        alone would take thousands of steps to reach, or encoder and generator at their principal components."""
        self.refuse_ranks(engine)
        self.front.fit_batches(source.preview(engine.progress))
        if isinstance(self.encoder, PrincipalEncoder) and isinstance(self.generator, PrincipalGenerator):
            found = principal_components(self.examples(source, engine), self.config.latent)
            self.encoder.begin_with(found)
            self.generator.begin_with(found)
            return
        total, count = 0.0, 0
        for batch in source.preview(engine.progress):
            features = self.features(batch)
            total, count = total + float(features.double().sum()), count + features.numel()
        assert not isinstance(self.generator, PrincipalGenerator)
        self.generator.begin_at(total / max(1, count))

    @torch.no_grad()
    def examples(self, source: Source, engine: Engine) -> Float[Tensor, "snippet number"]:
        """First snippets of evenly spaced training clips, at most 2 × `EXAMPLES`."""
        kept: list[Float[Tensor, "some number"]] = []
        every, seen = 1, 0
        for batch in source.preview(engine.progress):
            snippets = self.features(batch)[..., : self.config.frames].flatten(1)
            kept.append(snippets[-seen % every :: every])
            seen += len(snippets)
            if sum(map(len, kept)) > 2 * EXAMPLES:
                kept, every = [torch.cat(kept)[::2]], 2 * every
        return torch.cat(kept)

    def refuse_ranks(self, engine: Engine) -> None:
        """Refuse batch normalisation in several processes, where statistics of a part of the batch differ."""
        if engine.ranks > 1 and self.config.normalisation == "batch":
            raise ValueError(
                f"normalisation=batch in {engine.ranks} processes: statistics are those of one process; choose "
                "--normalisation layer, or leave out --processes"
            )

    def restart(self) -> None:
        self.updates.zero_()

    def parts(self) -> dict[str, Stateful]:
        if not self.config.adversarial:
            return {"autoencoder": self.optimiser}
        return {"autoencoder": self.optimiser, "discriminators": self.discriminator_optimiser}

    def features(self, batch: Batch) -> Float[Tensor, "clip 1 row frame"]:
        return self.front(batch.signal) if batch.features is None else batch.features

    def snippets(self, batch: Batch, engine: Engine) -> Float[Tensor, "clip 1 row snippet"]:
        """One snippet per clip, from a random position within the clip's length."""
        features = self.features(batch)
        clips, _, rows, frames = features.shape
        if frames == self.config.frames:
            return features
        own = torch.full((clips,), frames, device=features.device)
        if batch.lengths is not None:
            own = self.front.frames(batch.lengths.to(features.device))
        places = (own - self.config.frames).clamp(min=0) + 1
        # Drawn for the global batch, so that ranks draw different positions.
        drawn = torch.rand(engine.ranks * clips, generator=engine.generator, device=features.device)
        first = (engine.share(drawn) * places).long().clamp(max=places - 1)
        at = first[:, None] + torch.arange(self.config.frames, device=features.device)
        return features.gather(3, at[:, None, None, :].expand(-1, 1, rows, -1))

    def update(self, data: Batch, engine: Engine) -> dict[str, Float[Tensor, ""]]:
        self.refuse_ranks(engine)
        self.take_learning_rate()
        real = self.snippets(data, engine)
        terms = self.reconstruct(real, engine)
        if self.config.adversarial:
            terms |= self.generate(real, engine)
        return {name: value.detach() for name, value in terms.items()}

    def take_learning_rate(self) -> None:
        rate = self.config.adam.learning_rate * self.config.schedule.fraction(int(self.updates))
        for optimiser in (self.optimiser, *([self.discriminator_optimiser] if self.config.adversarial else [])):
            for group in optimiser.param_groups:
                group["lr"] = rate
        self.updates += 1

    def reconstruct(self, real: Float[Tensor, "clip 1 row frame"], engine: Engine) -> dict[str, Float[Tensor, ""]]:
        """Updates 1 and 2."""
        with engine.autocast():
            codes = self.encoder(real)
            quantised = None if self.codebooks is None else self.quantise(codes, engine)
            made = wide(self.generator(codes if quantised is None else quantised.codes))
        error, pooled = distances(made, real)
        loss = self.config.reconstruction * (error + pooled)
        terms = {"loss/error": error, "loss/pooled_error": pooled}
        if quantised is not None:
            loss = loss + self.config.reconstruction * self.config.commitment * quantised.commitment
            terms["loss/commitment"] = quantised.commitment
        if self.config.adversarial:
            judge = self.discriminators["reconstruction"]
            terms["discriminator/reconstruction"] = self.discriminate(judge, real, made.detach(), engine)
            with frozen(judge), engine.autocast():
                terms["loss/adversarial"] = deceived(judge(made, GENERATED))
            loss = loss + terms["loss/adversarial"]
        terms["loss/total"] = loss
        engine.descend(loss, self.optimiser)
        if self.codebooks is not None and quantised is not None:
            terms["codebook/perplexity"] = perplexity(quantised.index, self.config.entries)
            terms["codebook/revived"] = self.codebooks.follow(quantised.every, quantised.index, engine.generator)
        return terms

    def generate(self, real: Float[Tensor, "clip 1 row frame"], engine: Engine) -> dict[str, Float[Tensor, ""]]:
        """Updates 3 to 6."""
        judge, terms = self.discriminators["sample"], {}
        with torch.no_grad(), engine.autocast():
            made = wide(self.generator(self.quantised(self.encoder(real))))
        codes = engine.share(self.drawn(engine.ranks * len(real), engine.generator))
        with engine.autocast():
            false = wide(self.generator(codes, GENERATED))
        terms["discriminator/sample"] = self.discriminate(judge, made, false.detach(), engine)
        if self.config.code_weight:
            with engine.autocast():
                found = wide(self.encoder(false, GENERATED))
            terms["loss/code"] = (found - codes).abs().mean()
            engine.descend(self.config.code_weight * terms["loss/code"], self.optimiser)
            # The generator has changed, and the graph through its former weights is freed.
            with engine.autocast():
                false = wide(self.generator(codes, GENERATED))
        with frozen(judge), engine.autocast():
            terms["loss/sample"] = deceived(judge(false, GENERATED))
        engine.descend(terms["loss/sample"], self.optimiser)
        monitor = self.discriminators["monitor"]
        terms["discriminator/monitor"] = self.discriminate(monitor, real, false.detach(), engine)
        return terms

    def discriminate(
        self,
        judge: nn.Module,
        true: Float[Tensor, "clip 1 row frame"],
        false: Float[Tensor, "clip 1 row frame"],
        engine: Engine,
    ) -> Float[Tensor, ""]:
        """Update a discriminator; return its loss."""
        with engine.autocast():
            odds = wide(judge(true, RECONSTRUCTED)), wide(judge(false, GENERATED))
        loss = torch.zeros((), device=true.device)
        for logits, label in zip(odds, (1.0, 0.0), strict=True):
            labels = self.labels(len(logits), label, engine).to(logits)
            loss = loss + functional.binary_cross_entropy_with_logits(logits, labels)
        engine.descend(loss, self.discriminator_optimiser)
        return loss

    def labels(self, clips: int, label: float, engine: Engine) -> Float[Tensor, " clip"]:
        """This label for each clip, with a random fraction `flips` of them flipped."""
        drawn = torch.rand(engine.ranks * clips, generator=engine.generator, device=engine.device)
        wrong = engine.share(drawn) < self.config.flips
        return (label - wrong.float()).abs()

    def quantise(self, codes: Float[Tensor, "clip code"], engine: Engine) -> Quantised:
        """Codes quantised to the nearest entries; the codebooks are initialised with codes of the first batch."""
        assert self.codebooks is not None
        vectors = self.in_slots(wide(codes))
        # The codebooks are updated from the global batch, so that they stay equal on all ranks.
        every = engine.gather(vectors.detach())
        if not self.codebooks.started:
            self.codebooks.start(every, engine.generator)
        index = self.codebooks.nearest(vectors.detach())
        entries = self.codebooks.look_up(index)
        # Straight-through estimator of the gradient.
        through = vectors + (entries - vectors).detach()
        commitment = functional.mse_loss(vectors, entries)
        return Quantised(through.flatten(1), commitment, every, engine.gather(index))

    def in_slots(self, codes: Float[Tensor, "clip code"]) -> Float[Tensor, "clip slot dim"]:
        return rearrange(codes, "clip (slot dim) -> clip slot dim", slot=self.config.slots)

    def quantised(self, codes: Float[Tensor, "clip code"]) -> Float[Tensor, "clip code"]:
        """Nearest entries of the codebooks; the codes themselves without codebooks."""
        if self.codebooks is None:
            return codes
        return self.codebooks.look_up(self.codebooks.nearest(self.in_slots(wide(codes)))).flatten(1)

    def drawn(self, clips: int, generator: torch.Generator) -> Float[Tensor, "clip code"]:
        """Codes drawn from the prior; for a VQ-GAN, entries drawn independently per slot by training frequency."""
        if self.codebooks is not None:
            chosen = torch.multinomial(self.codebooks.uses, clips, replacement=True, generator=generator).T
            return self.codebooks.look_up(chosen).flatten(1)
        like = next(self.parameters())
        shape = clips, self.config.latent
        noise = like.new_empty(shape)
        if self.config.prior == "uniform":
            return noise.uniform_(-1, 1, generator=generator)
        noise.normal_(generator=generator)
        if self.config.prior == "t":
            squares = like.new_empty(*shape, DEGREES).normal_(generator=generator).square()
            noise = noise * squares.mean(-1).rsqrt()
        return noise

    def code_lengths(self, lengths: Int[Tensor, " clip"]) -> Int[Tensor, " clip"]:
        """Number of snippets that cover all frames of songs of these lengths; silence pads the last one."""
        frames = 1 + lengths // self.config.front.hop
        stride = self.config.stride
        more = (frames - self.config.frames).clamp(min=0)
        return (1 + (more + stride - 1) // stride) * (lengths > 0)

    def widened(self, signal: Float[Tensor, "clip time"], frames: int) -> Float[Tensor, "clip padded"]:
        """Songs padded with silence to this many frames, centred on multiples of the hop."""
        fft, hop = self.config.front.fft, self.config.front.hop
        # Negative padding crops samples beyond the last frame.
        after = (frames - 1) * hop + fft - fft // 2 - signal.shape[1]
        return functional.pad(signal, (fft // 2, after))

    @torch.no_grad()
    def encode(
        self,
        signal: Float[Tensor, "clip time"],
        lengths: Int[Tensor, " clip"] | None = None,
        *,
        power: Float[Tensor, " clip"] | None = None,
    ) -> Float[Tensor, "clip frame code"]:
        """Codes of the snippets that begin every `stride` frames. `power` is not used."""
        snippets, own = self.snippets_of(signal, lengths)
        made = signal.new_zeros(*own.shape, self.config.latent)
        if own.any():
            found = [self.quantised(wide(self.encoder(part))) for part in snippets[own].split(BLOCK)]
            made[own] = torch.cat(found).to(made)
        return made

    def snippets_of(
        self, signal: Float[Tensor, "clip time"], lengths: Int[Tensor, " clip"] | None
    ) -> tuple[Float[Tensor, "clip snippet 1 row frame"], Bool[Tensor, "clip snippet"]]:
        """Snippets every `stride` frames, and a mask of those within each clip's length."""
        samples = signal.shape[1]
        if lengths is None:
            lengths = torch.full((len(signal),), samples, device=signal.device)
        counts = self.code_lengths(lengths)
        most = int(counts.max()) if len(counts) else 0
        if not most:
            return signal.new_zeros(len(signal), 0, 1, *self.size), sounding(0, counts)
        sound = signal.where(sounding(samples, lengths), 0)
        features = self.front(self.widened(sound, self.covered(most)))
        windows = features.unfold(3, self.config.frames, self.config.stride)
        snippets = rearrange(windows, "clip one row window frame -> clip window one row frame")
        return snippets, sounding(most, counts)

    def covered(self, codes: int) -> int:
        """Number of frames of a song of this many codes."""
        return (codes - 1) * self.config.stride + self.config.frames

    @torch.no_grad()
    def decode(self, codes: Float[Tensor, "clip frame code"]) -> Float[Tensor, "clip 1 row column"]:
        """Weighted overlap-add of the decoded snippets, each faded in and out by a Hann window."""
        clips, count = codes.shape[:2]
        flat = rearrange(codes, "clip frame code -> (clip frame) code")
        snippets = torch.cat([wide(self.generator(part)) for part in flat.split(BLOCK)])
        frames, stride = self.config.frames, self.config.stride
        phase = (torch.arange(frames, device=codes.device) + 0.5) / frames
        fade = torch.sin(math.pi * phase).square().to(snippets)
        parts = rearrange(snippets * fade, "(clip count) 1 row frame -> (clip row) frame count", clip=clips)
        place = {"output_size": (1, self.covered(count)), "kernel_size": (1, frames), "stride": (1, stride)}
        weights = functional.fold(fade[None, :, None].expand(1, frames, count), **place)
        laid = functional.fold(parts, **place) / weights
        return rearrange(laid, "(clip row) 1 1 column -> clip 1 row column", clip=clips)

    @torch.no_grad()
    def sample(self, clips: int, generator: torch.Generator) -> Float[Tensor, "clip 1 code"]:
        """Codes of single snippets drawn from the prior."""
        return rearrange(self.drawn(clips, generator), "clip code -> clip 1 code")

    @torch.no_grad()
    def phase(self, signal: Float[Tensor, "clip time"]) -> Float[Tensor, "clip bin frame"]:
        lengths = torch.tensor([signal.shape[1]])
        return self.front.phase(self.widened(signal, self.covered(int(self.code_lengths(lengths)))))

    @torch.no_grad()
    def sound(
        self,
        codes: Float[Tensor, "clip frame code"],
        samples: int | None = None,
        phase: Float[Tensor, "clip bin column"] | None = None,
        iterations: int = 32,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "clip time"]:
        features = self.decode(codes)
        fft, covered = self.config.front.fft, (features.shape[3] - 1) * self.config.front.hop
        made = self.front.invert(features, covered + fft, iterations, generator, phase)[:, fft // 2 :]
        return functional.pad(made, (0, (covered if samples is None else samples) - made.shape[1]))


def codebook_config(config: MRGANConfig) -> VQVAEConfig:
    return VQVAEConfig(
        slots=config.slots,
        dimension=config.latent // config.slots,
        entries=config.entries,
        revival=config.revival,
    )


def complete(config: MRGANConfig, world: World, steps: int) -> MRGANConfig:
    """Configuration in which a cosine or linear schedule reaches 0 at the last step of training."""
    return replace(config, schedule=config.schedule.ending(steps))


def default(kind: SignalKind) -> MRGANConfig:
    return MRGANConfig()


def autoencoder(kind: SignalKind) -> MRGANConfig:
    return MRGANConfig(adversarial=False)


def principal(kind: SignalKind) -> MRGANConfig:
    return MRGANConfig(
        network="dense",
        linear=True,
        normalisation="selu",
        flips=0.3,
        adam=AdamConfig(learning_rate=1e-3, beta1=0.5),
        schedule=ScheduleConfig("cosine"),
    )


def birdsong_gan(kind: SignalKind) -> MRGANConfig:
    return MRGANConfig(ngf=256, ndf=256, adam=AdamConfig(learning_rate=1e-5, beta1=0.5))


def vq_gan(kind: SignalKind) -> MRGANConfig:
    return MRGANConfig(entries=64)


PIECES = {"seconds": SNIPPET_SECONDS}
ENTRY = ModelEntry(
    "mode-regularised GAN of spectrogram snippets, after BirdsongGAN",
    MRGAN,
    {
        "default": default, "autoencoder": autoencoder, "principal": principal, "birdsong-gan": birdsong_gan,
        "vq-gan": vq_gan,
    },
    kinds=("wave",),
    recipes={
        "default": Recipe(world=PIECES),
        "autoencoder": Recipe(world=PIECES),
        "principal": Recipe(world=PIECES),
        "birdsong-gan": Recipe(world=PIECES, clips={"batch_size": 128}),
        "vq-gan": Recipe(world=PIECES),
    },
    main=(
        "latent", "ngf", "ndf", "network", "linear", "normalisation", "reconstruction", "code_weight", "prior",
        "stride", "learning_rate", "schedule", "band_pass",
    ),
    complete=complete,
)  # fmt: skip
