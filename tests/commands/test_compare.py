"""Both studies' forms of the CPC loss and ours agree at every time; a wrong form is detected."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sonarium.bench import plain_cpc
from sonarium.commands import compare
from sonarium.commands.faults import UsageError
from sonarium.models.cpc.presets import CONFIGS

SMALL = "--filters 6 --width 5 --clips 3 --seconds 0.2 --steps-ahead 4".split()


def found(capsys, *words: str) -> dict:
    compare.main(["cpc", *SMALL, *words, "--json"])
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("bits", ["32", "64"])
def test_the_forms_agree_at_every_time(capsys, bits):
    said = found(capsys, "--bits", bits)
    assert said["agree"] and said["weights_kept"]
    assert said["forms"] == ["study-jefflai108", "study-spijkervet", "sonarium"]
    # 3200 samples are 20 frames; the last time has 4 frames ahead of it.
    assert [row["time"] for row in said["times"]] == list(range(16))
    assert all(set(row["losses"]) == set(said["forms"]) for row in said["times"])
    assert len({row["losses"]["sonarium"] for row in said["times"]}) == 16
    if bits == "64":
        assert said["loss_apart"] < 1e-13 and said["gradient_apart"] < 1e-11


def test_on_speech_from_files(capsys, shared_data: Path):
    speech = sorted(shared_data.glob("librispeech/**/*.flac"))[:2]
    assert len(speech) == 2
    said = found(capsys, "--sound", *map(str, speech))
    assert said["agree"]
    assert said["times"] != found(capsys)["times"]


def test_at_the_size_of_the_study_on_speech(shared_data: Path):
    """Wide layers have millions of ReLUs; a single one whose sign is changed by rounding would show."""
    speech = sorted(shared_data.glob("librispeech/**/*.flac"))[:2]
    flags = compare.CompareFlags(sound=tuple(speech), clips=2, seconds=0.32)
    wave = compare.clips_of(flags).double()
    forms, kept = compare.build(compare.small(CONFIGS["study-spijkervet"], flags), wave, 0)
    rows = list(compare.compare(forms, 2))
    assert kept and max(row.loss_apart for row in rows) < 1e-12
    assert max(row.gradient_apart for row in rows) < 1e-10
    assert sum(weight.numel() for weight in forms[2].weights.values()) == 7_417_344


def test_a_table_for_people(capsys):
    compare.main(["cpc", *SMALL])
    said = capsys.readouterr().out
    assert "They agree at 16 times" in said and "copied there and back are the same" in said


def test_a_form_whose_softmax_is_over_the_other_side_is_found_out(capsys, monkeypatch):
    def loss_at(form, latents, time):
        context = form.gru(latents[:, : time + 1])[0][:, time]
        total = torch.zeros(())
        for step, layer in enumerate(form.Wk, start=1):
            scores = latents[:, time + step] @ layer(context).T
            total = total - torch.log_softmax(scores, dim=1).diagonal().sum()
        return total / (len(form.Wk) * len(latents))

    monkeypatch.setattr(plain_cpc.OneTime, "loss_at", loss_at)
    with pytest.raises(SystemExit) as stop:
        compare.main(["cpc", *SMALL])
    assert stop.value.code == 1
    assert "They DISAGREE" in capsys.readouterr().out


def test_a_wrong_gradient_is_found_out_where_losses_agree(capsys, monkeypatch):
    encode = plain_cpc.OneTime.encode

    def halved(form, wave):
        latents = encode(form, wave)
        return 0.5 * latents + 0.5 * latents.detach()

    monkeypatch.setattr(plain_cpc.OneTime, "encode", halved)
    with pytest.raises(SystemExit):
        compare.main(["cpc", *SMALL, "--json"])
    said = json.loads(capsys.readouterr().out)
    assert not said["agree"] and said["loss_apart"] < 1e-6 and said["gradient_apart"] > 0.3


def test_constants_cannot_be_copied_to_a_form_without():
    config = compare.small(
        compare.CONFIGS["study-spijkervet"], compare.CompareFlags(filters=2, width=2, steps_ahead=2)
    )
    with pytest.raises(ValueError, match=r"Wk.0.bias is not zero"):
        plain_cpc.to_all_times(plain_cpc.OneTime(config).state_dict())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "compare what"),
        (["ppo"], "no comparison is called 'ppo'"),
        (["cpc", "--clips", "1"], "--clips 1: give a whole number from 2 to"),
        (["cpc", "--seconds", "0"], "--seconds 0"),
    ],
)
def test_words_that_do_not_say_what_to_do(words, message):
    with pytest.raises(UsageError, match=message):
        compare.main(words)


def test_sound_that_is_too_short(tmp_path):
    path = tmp_path / "short.wav"
    soundfile.write(path, np.zeros(1600), 16000)
    with pytest.raises(ValueError, match=r"0.10 s of sound are too short for 3 different clips"):
        compare.main(["cpc", *SMALL, "--sound", str(path)])
    soundfile.write(path, np.ones(16000), 16000)
    with pytest.raises(ValueError, match=r"make 6 frame\(s\), too few to predict 12 ahead"):
        compare.main(["cpc", "--seconds", "0.06", "--sound", str(path)])
