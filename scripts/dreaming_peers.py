"""Speed of our world model beside those of other projects, at equal sizes and on the same embeddings.

    OMP_NUM_THREADS=2 .venv/bin/python scripts/dreaming_peers.py --peers FOLDER

FOLDER contains checkouts of dreamer-torch (jsikyoon), pydreamer (jurgisp) and r2dreamer (NM512), and in `lib` what
`pip install --target FOLDER/lib --no-deps tensordict torchrl omegaconf antlr4-python3-runtime orjson cloudpickle
pyvers pyyaml` installs; missing ones are left out, and none of them is part of this project.

B16 T64, embeddings of dimension 256, two actions, deter 512, hidden 256, 32 × 16, fp32. Each runs its own code
from embeddings to [h, z], prior and posterior, with its own divergence and KL balance: the GRU of r2dreamer and
TorchRL is block-diagonal (8 blocks, DreamerV3), that of the others dense with layer norm, like ours. `states` is
forward and backward; `world model` adds our encoder and decoder of tokens of dimension 160, a mean squared error,
gradient clipping and Adam, the same for all; ours is the world model of `--objective reconstruction` with one
view, whose loss has the same parts.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from tones_results import ROOT, insert, table
from torch import Tensor, nn
from torch.nn import functional

from sonarium.bench.dreaming import CLIPS, EMBEDDING, NUMBERS, SIZES, TOKENS
from sonarium.bench.timing import case, hardware, interleaved
from sonarium.features.tokens import TokensConfig, ViewsConfig
from sonarium.models.dreaming import Dreaming, DreamingConfig, network
from sonarium.models.objectives import ObjectiveConfig, kl
from sonarium.models.optim import AdamConfig
from sonarium.models.rssm import RSSM
from sonarium.training.engine import FabricEngine, native_precisions
from sonarium.worlds.contract import Batch, Signal

RESULTS = ROOT / "docs" / "results" / "bench-dreaming-peers.json"
ACTIONS, BALANCE, CLIP = 2, 0.8, 100.0
DETER, HIDDEN, VARIABLES, CLASSES = SIZES.deter, SIZES.hidden, SIZES.variables, SIZES.classes
FEATURE = DETER + VARIABLES * CLASSES
REPEATS = 9

States = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Maps embeddings and actions to [h, z] and the KL divergence of each token."""


def module(folder: Path, name: str) -> Any:
    """Import a module of a project, whose files may have the same names as those of another."""
    sys.path.insert(0, str(folder))
    known = set(sys.modules)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))
        for one in set(sys.modules) - known:
            if str(getattr(sys.modules[one], "__file__", "")).startswith(f"{folder}/"):
                del sys.modules[one]


def dreamer_torch(folder: Path) -> tuple[nn.Module, States]:
    networks = module(folder, "networks")
    model = networks.RSSM(
        VARIABLES, DETER, HIDDEN, 1, 1, discrete=CLASSES, cell="gru_layer_norm",
        num_actions=ACTIONS, embed=EMBEDDING, device="cpu",
    )  # fmt: skip

    def states(embedded: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        posterior, prior = model.observe(embedded, actions)
        loss, _ = model.kl_loss(posterior, prior, False, BALANCE, 0.0, 1.0)
        return model.get_feat(posterior), loss

    return model, states


def pydreamer(folder: Path) -> tuple[nn.Module, States]:
    core = module(folder, "pydreamer.models.rssm").RSSMCore
    divergence, independent = torch.distributions.kl.kl_divergence, torch.distributions.Distribution
    independent.set_default_validate_args(False)
    model = core(EMBEDDING, ACTIONS, DETER, VARIABLES, CLASSES, HIDDEN, 1, "gru_layernorm", True)

    def states(embedded: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        embedded, actions = embedded.transpose(0, 1), actions.transpose(0, 1)
        reset = torch.zeros(TOKENS, CLIPS, dtype=torch.bool)
        prior, posterior, _, feature, *_ = model(embedded, actions, reset, model.init_state(CLIPS))
        told = model.zdistr
        to_posterior = divergence(told(posterior), told(prior.detach()))
        to_prior = divergence(told(posterior.detach()), told(prior))
        return feature[:, :, 0].transpose(0, 1), (1 - BALANCE) * to_posterior + BALANCE * to_prior

    return model, states


def r2dreamer(folder: Path) -> tuple[nn.Module, States]:
    rssm = module(folder, "rssm")
    settings = SimpleNamespace(
        stoch=VARIABLES, deter=DETER, hidden=HIDDEN, discrete=CLASSES, img_layers=1, obs_layers=1, dyn_layers=1,
        blocks=8, act="SiLU", norm=True, unimix_ratio=0.01, initial="learned", device="cpu",
    )  # fmt: skip
    model = rssm.RSSM(settings, EMBEDDING, ACTIONS)

    def states(embedded: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        first = torch.zeros(CLIPS, TOKENS, dtype=torch.bool)
        z, h, posterior = model.observe(embedded, actions, model.initial(CLIPS), first)
        _, prior = model.prior(h)
        to_prior, to_posterior = model.kl_loss(posterior, prior, 0.0)
        return model.get_feat(z, h), (1 - BALANCE) * to_posterior + BALANCE * to_prior

    return model, states


def torchrl(_: Path) -> tuple[nn.Module, States]:
    parts = importlib.import_module("torchrl.modules.models.model_based")
    tensordict = importlib.import_module("tensordict")
    wrapped = importlib.import_module("tensordict.nn").TensorDictModule
    prior = parts.RSSMPriorV3(
        action_shape=torch.Size([ACTIONS]), hidden_dim=HIDDEN, rnn_hidden_dim=DETER, num_categoricals=VARIABLES,
        num_classes=CLASSES, action_dim=ACTIONS, recurrent_model="block_gru", prior_num_layers=1, unimix=0.01,
    )  # fmt: skip
    posterior = parts.RSSMPosteriorV3(
        hidden_dim=HIDDEN, num_categoricals=VARIABLES, num_classes=CLASSES, rnn_hidden_dim=DETER,
        obs_embed_dim=EMBEDDING, use_rms_norm=True, unimix=0.01,
    )  # fmt: skip
    made = [("next", name) for name in ("prior_logits", "state", "belief")]
    found = [("next", name) for name in ("posterior_logits", "state")]
    model = parts.RSSMRolloutV3(
        wrapped(prior, in_keys=["state", "belief", "action"], out_keys=made),
        wrapped(posterior, in_keys=[("next", "belief"), ("next", "encoded_latents")], out_keys=found),
    )

    def states(embedded: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        begin = {"state": torch.zeros(CLIPS, TOKENS, FEATURE - DETER), "belief": torch.zeros(CLIPS, TOKENS, DETER)}
        given = {**begin, "action": actions, "next": {"encoded_latents": embedded}}
        out = model(tensordict.TensorDict(given, [CLIPS, TOKENS]))["next"]
        raw, expected = out["posterior_logits"], out["prior_logits"]
        to_posterior, to_prior = divergence(raw, expected.detach()), divergence(raw.detach(), expected)
        return torch.cat([out["belief"], out["state"]], -1), (1 - BALANCE) * to_posterior + BALANCE * to_prior

    return model, states


def divergence(one: Tensor, other: Tensor) -> Tensor:
    one, other = one.log_softmax(-1), other.log_softmax(-1)
    return (one.exp() * (one - other)).sum((-1, -2))


def ours(low: bool) -> tuple[nn.Module, States]:
    model, engine = RSSM(SIZES, EMBEDDING, ACTIONS), FabricEngine("cpu", "bf16" if low else "32", 0)

    def states(embedded: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        with engine.autocast():
            noise = model.latent.noise((CLIPS, TOKENS), engine.generator, embedded)
            found = model.observe(embedded, actions, noise)
        return found.feature, kl(model.latent, found.posterior, found.prior, BALANCE, 0.0)

    return model, states


PEERS = {"dreamer-torch": dreamer_torch, "pydreamer": pydreamer, "r2dreamer": r2dreamer, "torchrl": torchrl}


def stepping(model: nn.Module, states: States) -> Callable[[], object]:
    """Step function: forward and backward through the states of the same embeddings."""
    generator = torch.Generator().manual_seed(1)
    embedded = torch.randn(CLIPS, TOKENS, EMBEDDING, generator=generator).requires_grad_()
    actions = torch.randn(CLIPS, TOKENS, ACTIONS, generator=generator)

    def step() -> None:
        model.zero_grad()
        feature, apart = states(embedded, actions)
        assert feature.shape == (CLIPS, TOKENS, FEATURE), feature.shape
        (feature.square().mean() + apart.mean()).backward()

    return step


def modelling(model: nn.Module, states: States) -> Callable[[], object]:
    """Update function of a world model with these states: our encoder and decoder, gradient clipping, and Adam."""
    encoder = nn.Sequential(network(NUMBERS, HIDDEN, EMBEDDING), nn.LayerNorm(EMBEDDING), nn.ELU())
    decoder = network(FEATURE, HIDDEN, NUMBERS)
    weights = [weight for part in (encoder, model, decoder) for weight in part.parameters()]
    optimiser = AdamConfig(learning_rate=1e-3).build(weights, fused=True)
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(CLIPS, TOKENS, NUMBERS, generator=generator)
    actions = torch.randn(CLIPS, TOKENS, ACTIONS, generator=generator)

    def update() -> None:
        optimiser.zero_grad()
        feature, apart = states(encoder(tokens), actions)
        (functional.mse_loss(decoder(feature), tokens) + apart.mean()).backward()
        nn.utils.clip_grad_norm_(weights, CLIP)
        optimiser.step()

    return update


def own(low: bool) -> Callable[[], object]:
    """Update function of our world model."""
    engine = FabricEngine("cpu", "bf16" if low else "32", 0)
    config = DreamingConfig(
        burn_in=0, embedding=EMBEDDING, dynamics=SIZES, objective=ObjectiveConfig(objective="reconstruction"),
        augmentation=replace(ViewsConfig(), views=1), front=TokensConfig(),
    )  # fmt: skip
    model = Dreaming(config, Signal("codes", (TOKENS, NUMBERS), frame_rate=31.25))
    codes = torch.randn(CLIPS, TOKENS, NUMBERS, generator=torch.Generator().manual_seed(1))
    batch = Batch(torch.arange(CLIPS), codes, codes.new_zeros(CLIPS, 0))
    return lambda: model.update(batch, engine)


def write(found: dict[str, Any]) -> None:
    rows = []
    for one in found["cases"]:
        ours_ms, peer_ms = 1000 * one["ours_s"], 1000 * one["peer_s"]
        rows.append([one["name"], one["peer"], f"{ours_ms:.0f}", f"{peer_ms:.0f}", f"{one['ratio']:.1f} ×"])
    said = table(["", "peer", "ours ms", "peer ms", "ratio"], rows)
    insert("peers", f"{found['hardware']}, medians of {REPEATS} interleaved turns\n\n{said}", "dreaming.md")


def main() -> None:
    parser = argparse.ArgumentParser(description="World models of other projects beside ours.")
    parser.add_argument("--peers", type=Path, help="folder of their checkouts")
    parser.add_argument("--write", action="store_true", help="only write the page")
    flags = parser.parse_args()
    if flags.write:
        return write(json.loads(RESULTS.read_text(encoding="utf-8")))
    if flags.peers is None:
        raise SystemExit("give the folder of the checkouts: --peers FOLDER")
    torch.manual_seed(0)
    sys.path.append(str(flags.peers / "lib"))
    lows, cases = [False, *([True] if "bf16" in native_precisions() else [])], []
    for name, make in PEERS.items():
        if not (flags.peers / ("lib/torchrl" if name == "torchrl" else name)).is_dir():
            print(f"{name} is not in {flags.peers}: left out", file=sys.stderr)
            continue
        model, states = make(flags.peers / name if name != "torchrl" else flags.peers)
        weights = sum(weight.numel() for weight in model.parameters())
        for low in lows:
            mine, kind = ours(low), "bf16" if low else "fp32"
            work = f"B{CLIPS} T{TOKENS} deter {DETER} hidden {HIDDEN} {VARIABLES} × {CLASSES}"
            peer = f"{name}, fp32, {weights:,} weights"
            times = interleaved(stepping(*mine), stepping(model, states), REPEATS)
            cases.append(case(f"states, {kind}", work, peer, *times))
            times = interleaved(own(low), modelling(model, states), REPEATS)
            cases.append(case(f"world model, {kind}", work, peer, *times))
            for one in cases[-2:]:
                print(one["name"], one["peer"], f"{one['ours_s']:.3f} {one['peer_s']:.3f}", flush=True)
    found = {"bench": "dreaming-peers", "hardware": hardware(), "cases": cases}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    write(found)


if __name__ == "__main__":
    main()
