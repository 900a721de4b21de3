"""Several processes train as one does: gradients, weights, clips, metrics, checkpoints; only rank 0 writes."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from contracts.small import autoregressive, dreaming
from corpus import SMALL, write_corpus
from rank_tasks import Hums, collectives, commanded, in_double
from safetensors.torch import load_file
from several_ranks import Meeting, RankEngine

from sonarium.agents.contract import Agent
from sonarium.agents.rollout import RolloutConfig, Rollouts
from sonarium.catalogue import MODELS
from sonarium.commands.faults import UsageError
from sonarium.models.autoregressive import AutoregressiveConfig
from sonarium.models.contract import Learner
from sonarium.models.cpc.cpc import CPCConfig
from sonarium.models.dreaming import DreamingConfig
from sonarium.training.clips import Clips, ClipsConfig
from sonarium.training.engine import ProcessLost
from sonarium.training.journal import read_metrics


def test_gathering_and_averaging_pass_gradients_back(ranks):
    first, second = ranks.run(2, collectives)
    every = torch.tensor([[0.0, 1], [2, 3], [10, 11], [12, 13]])
    for found in (first, second):
        assert torch.equal(found["every"], every)
        assert found["mean"].item() == 0.5
        # Gradients of the sum of both losses, 1 Σx² + 2 Σx² and 1 m² + 2 m².
        assert found["averaged"].item() == 3 * 2 * 0.5 / 2
        assert found["flags"].tolist() == [True, False] and found["whole"].tolist() == [0, 1]
        assert found["any"] == (True, False)
    assert torch.equal(torch.cat([first["gathered"], second["gathered"]]), 6 * every)
    assert first["share"].tolist() == [0, 1, 2] and second["share"].tolist() == [3, 4, 5]


def config(name: str, preset: str = "default", **changed: Any) -> Any:
    made = replace(MODELS[name].presets[preset]("wave"), **changed)
    if isinstance(made, AutoregressiveConfig):
        return autoregressive(made)
    if isinstance(made, DreamingConfig):
        return dreaming(made)
    if not isinstance(made, CPCConfig):
        return made
    # The smallest width for eight attention heads.
    width = 16 if made.predictors.form == "transformer" else 8
    return replace(
        made,
        encoder=replace(made.encoder, filters=(8,)),
        context=replace(made.context, width=width),
        predictors=replace(made.predictors, steps_ahead=3),
    )


PRESETS = ("default", "study-spijkervet", "jefflai108-cdck6", "cpc-audio")
"""Presets with distinct features: attention, batch normalisation, other negatives, those of the same speaker.
`tests/models/test_ranks.py` covers all."""
CASES = {
    f"{name} {preset}": (name, config(name, preset))
    for name, entry in MODELS.items()
    if "wave" in entry.kinds and entry.trains
    for preset in entry.presets
    if preset in PRESETS
}
BY_SPEAKER = replace(CASES["cpc default"][1].contrast, from_speaker=5, drawn="each", side="predictions")
CASES["cpc by speaker"] = ("cpc", config("cpc", speaker=1, contrast=BY_SPEAKER))


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one_in_double_precision(ranks, case):
    name, made = CASES[case]
    # Cases alternate between clips of equal and of unequal lengths.
    unequal = sorted(CASES).index(case) % 2 == 1
    [one] = ranks.run(1, in_double, name, made, unequal, 3)
    both = ranks.run(2, in_double, name, made, unequal, 3)
    for found in both:
        assert torch.equal(found["generator"], one["generator"])
        assert found["weights"].keys() == one["weights"].keys()
        for key, value in one["weights"].items():
            torch.testing.assert_close(found["weights"][key], value, rtol=1e-6, atol=1e-6, msg=f"{case}: {key}")
        assert found["metrics"] == both[0]["metrics"], "metrics are means over ranks"
        assert found["metrics"] == pytest.approx(one["metrics"], rel=1e-6, abs=1e-6)
    assert [a + b for a, b in zip(*(found["clips"] for found in both), strict=True)] == one["clips"]


class Still(Learner):
    def update(self, data, engine):
        return {}


@pytest.mark.parametrize("ranks_of_them", [2, 4])
@pytest.mark.parametrize("drop_last", [True, False])
def test_the_processes_deal_out_each_epoch(ranks_of_them, drop_last):
    def clips(rank: int, number: int) -> Clips:
        made = Clips(Hums(28), torch.arange(28), ClipsConfig(8, drop_last=drop_last), 5)
        made.check_batch_size(1, number)
        made.attach(Still(), RankEngine(Meeting(number), rank, 0, 28))
        return made

    alone, several = clips(0, 1), [clips(rank, ranks_of_them) for rank in range(ranks_of_them)]
    for epoch in range(2):
        seen: list[int] = []
        for _ in range(alone.batches_per_pass):
            dealt = [next(source).index for source in several]
            assert len({len(index) for index in dealt}) == 1
            assert torch.equal(torch.cat(dealt), next(alone).index)
            seen += torch.cat(dealt).tolist()
        assert len(set(seen)) == len(seen) == (24 if drop_last else 28), epoch
        assert alone.pass_ended and all(source.pass_ended for source in several)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "words")


LOOP = "--steps 3 --log-every 2 --save-every 2".split()
TONES = "--world tones --frequencies 9 --amplitudes 3 --seconds 0.1 --batch-size 16".split()
DIGITS = "--world digits --batch-size 48 --validation 0.1".split()
SMALL_CPC = "--filters 16 --width 16 --steps-ahead 3".split()
AUTOENCODERS = [name for name, entry in MODELS.items() if "picture" in entry.kinds]
COMMANDS = (
    {f"{name} tones": [name, *TONES] for name in AUTOENCODERS}
    | {f"{name} digits": [name, *DIGITS] for name in ("beta-vae", "factor-vae", "vq-vae")}
    | {
        f"cpc {preset} {world}": ["cpc", "--preset", preset, *SMALL_CPC, *words]
        for preset in PRESETS
        for world, words in {"tones": [*TONES, "--seconds", "0.4"], "recordings": ["--batch-size", "8"]}.items()
    }
)


def train(ranks: Any, number: int, words: Sequence[str], folder: Path) -> list[list[str]]:
    return ranks.run(number, commanded, [*words, "--device", "cpu", "--run", str(folder)])


@pytest.mark.parametrize("case", COMMANDS)
def test_every_learner_trains_in_two_processes(ranks, tmp_path, corpus, case):
    words = COMMANDS[case]
    if case.endswith("recordings"):
        words = [*words, "--world", "recordings", "--path", str(corpus), *SMALL]
    first, second = train(ranks, 2, [*words, *LOOP], tmp_path / "two")
    assert any(path.endswith("metrics.jsonl") for path in first) and second == []
    two = read_metrics(tmp_path / "two" / "metrics.jsonl")
    # Validation has a record of its own.
    assert [record["step"] for record in two] == ([2, 2, 3, 3] if "--validation" in words else [2, 3])
    if case not in ("beta-vae digits", "cpc default recordings"):
        return
    train(ranks, 1, [*words, *LOOP], tmp_path / "one")
    for record, other in zip(two, read_metrics(tmp_path / "one" / "metrics.jsonl"), strict=True):
        assert record == pytest.approx(other, rel=1e-4)
    assert written(tmp_path / "two") == written(tmp_path / "one")


def written(folder: Path) -> set[str]:
    files = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    # TensorBoard names its files by time and process.
    return {re.sub(r"tfevents.*", "tfevents", path) for path in files}


SHORT = "vae --world digits --batch-size 48 --log-every 4 --save-every 5 --test 0".split()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoints" / "step-12" / "weights.safetensors")


@pytest.fixture(scope="module")
def unbroken(ranks, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    train(ranks, 1, [*SHORT, "--steps", "12"], folder)
    return folder


@pytest.mark.parametrize(("before", "after"), [(2, 1), (2, 4), (1, 2)])
def test_a_checkpoint_resumes_in_another_number_of_processes(ranks, tmp_path, unbroken, before, after):
    train(ranks, before, [*SHORT, "--steps", "8"], tmp_path / "run")
    # Resume within an interval of the metrics, the first half of which is in the checkpoint.
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-8")
    train(ranks, after, [*SHORT, "--steps", "12"], tmp_path / "run")
    for name, value in weights(unbroken).items():
        torch.testing.assert_close(weights(tmp_path / "run")[name], value, rtol=1e-3, atol=1e-4, msg=name)
    expected = read_metrics(unbroken / "metrics.jsonl")
    assert [record["step"] for record in expected] == [4, 8, 12]
    for record, other in zip(read_metrics(tmp_path / "run" / "metrics.jsonl"), expected, strict=True):
        assert record == pytest.approx(other, rel=1e-4)


def test_tasks_of_srun_train_as_those_of_torchrun(ranks, tmp_path, unbroken):
    words = [*SHORT, "--steps", "12", "--run", str(tmp_path / "run")]
    ranks.run(2, commanded, words, slurm=True)
    expected = read_metrics(unbroken / "metrics.jsonl")
    for record, other in zip(read_metrics(tmp_path / "run" / "metrics.jsonl"), expected, strict=True):
        assert record == pytest.approx(other, rel=1e-4)


@pytest.mark.parametrize(
    ("flags", "kind", "said"),
    [
        (
            "--batch-size 49",
            ValueError,
            "cannot be divided evenly among 2 processes: use a --batch-size",
        ),
        ("--test 0 --batch-size 48 --no-drop-last", ValueError, "among 2 processes.*or --drop-last"),
        ("--processes 3", UsageError, "--processes 3, but torchrun started 2 here: leave it out"),
        ("--nodes 2", ValueError, r"--nodes 2, but processes were started on 1 machine\(s\)"),
    ],
)
def test_what_does_not_fit_the_processes_is_refused(ranks, tmp_path, flags, kind, said):
    words = ["vae", *"--world digits --steps 2".split(), *flags.split(), "--run", str(tmp_path / "run")]
    first, other = (failed[0] for _, _, failed in ranks.outcomes(2, commanded, words))
    assert isinstance(first, kind) and re.search(said, str(first)), first
    # The second process may be waiting for the first, which has refused.
    assert isinstance(other, kind | SystemExit | ProcessLost), other
    assert not (tmp_path / "run").exists()


def test_agents_train_in_one_process():
    rollouts = Rollouts(RolloutConfig("CartPole-v1", envs=1), 0)
    with pytest.raises(ValueError, match="agents learn in one process: leave out --processes"):
        rollouts.attach(Acting(), RankEngine(Meeting(2), 0, 0, 0))


class Acting(Agent):
    def initial(self, slots):
        return None

    def act(self, memory, observation, first, generator, info):
        raise AssertionError("nothing is to be done")
