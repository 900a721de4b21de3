"""The library in a few lines: a plan, a run, and its codes."""

import numpy as np
import pytest
import soundfile

import sonarium
from sonarium.runs.plan import RolloutsPlan


def test_a_run_is_trained_opened_and_used(tmp_path):
    settings = {"rate": 4000, "seconds": 0.2, "frequencies": 6, "amplitudes": 2}
    plan = sonarium.default_plan("vae", "tones", settings=settings)
    run = str(tmp_path / "run")
    assert sonarium.train(plan, run, steps=1, device="cpu", pictures=False)
    opened = sonarium.open_run(run)
    assert opened.data.world.signal.rate == 4000 and len(opened.data.world) == 48
    wave = np.random.default_rng(0).normal(0, 0.1, 6000)
    soundfile.write(tmp_path / "sound.wav", wave, 4000, subtype="FLOAT")
    coder = sonarium.load(run)
    codes = coder.encode_file(str(tmp_path / "sound.wav"))
    assert len(codes) == coder.rows(6000) > 1
    np.testing.assert_allclose(codes, coder.encode(wave, 4000), atol=1e-5)


def test_settings_are_those_of_the_world_or_of_the_rollouts():
    source = sonarium.default_plan("ppo", settings={"env": "CartPole-v1"}).source
    assert isinstance(source, RolloutsPlan) and source.rollouts.env == "CartPole-v1"
    with pytest.raises(ValueError, match="tones has no setting 'colour': it has rate, seconds, waveforms"):
        sonarium.default_plan("vae", "tones", settings={"colour": 1})
    with pytest.raises(ValueError, match="ppo has no setting 'steps'"):
        sonarium.default_plan("ppo", settings={"steps": 1})


def test_public_names_are_listed():
    assert {"default_plan", "load", "open_run", "train"} <= set(dir(sonarium)) and callable(sonarium.train)
    with pytest.raises(AttributeError, match="no attribute 'fly'"):
        sonarium.fly  # noqa: B018  # pyright: ignore
