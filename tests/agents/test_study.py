"""Audio_ML_study: its saved parameters give the actions, and its grid environment the rewards, of the study."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from typechecking import unchecked

from sonarium.agents.contract import alone
from sonarium.agents.playground import Playground
from sonarium.agents.presets import PPO_ENTRY
from sonarium.models.contract import Learner
from sonarium.training.fit import Callbacks, LoopConfig, Training
from sonarium.training.state import pack, unpack


def saved(path, size=4, actions=2, seed=0, **more):
    """A file as the study's main.py writes it."""
    made = torch.Generator().manual_seed(seed)
    shapes = {
        "fc1.weight": (256, size),
        "fc1.bias": (256,),
        "fc_pi.weight": (actions, 256),
        "fc_pi.bias": (actions,),
    }
    shapes |= {"fc_v.weight": (1, 256), "fc_v.bias": (1,)}
    tensors = {name: torch.randn(shape, generator=made) for name, shape in shapes.items()} | more
    torch.save(tensors, path)
    return tensors


def starting_from(file: Path, preset: str) -> Any:
    """A new agent, initialised with the weights in a file."""
    env = gymnasium.make("CartPole-v1")
    agent: Any = PPO_ENTRY.build(PPO_ENTRY.presets[preset](), env.observation_space, env.action_space)
    nothing: Any = None
    with unchecked():
        Training(agent, nothing, nothing, nothing, LoopConfig(), Callbacks()).start_from(file)
    return agent


def test_saved_parameters_act_as_the_study_does(tmp_path):
    file = tmp_path / "PPO.CartPole-v1.pt"
    theirs = saved(file)
    agent = starting_from(file, "study")
    agent.greedy = True
    for seen in np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32):
        hidden = torch.relu(theirs["fc1.weight"] @ torch.tensor(seen) + theirs["fc1.bias"])
        expected = int((theirs["fc_pi.weight"] @ hidden + theirs["fc_pi.bias"]).argmax())
        assert alone(agent, None, seen, True, torch.Generator(), {})[1] == expected
        value = agent.heads.values(torch.tensor(seen)[None])
        torch.testing.assert_close(value, theirs["fc_v.weight"] @ hidden + theirs["fc_v.bias"])


@pytest.mark.parametrize(
    ("made", "preset", "said"),
    [
        ({"size": 6}, "study", r"fc1.weight has the shape \(256, 6\), expected \(256, 4\).*another environment"),
        ({}, "default", "give --preset study, or minimalrl"),
        ({"more": torch.zeros(1)}, "study", "not fc1, fc_pi and fc_v"),
        ({"more": 3}, "study", "holds no state_dict"),
        (None, "study", "holds no tensors of PyTorch"),
    ],
)
def test_other_files_are_one_line(tmp_path, made, preset, said):
    file = tmp_path / "a.pt"
    if made is None:
        file.write_bytes(b"no archive")
    else:
        saved(file, **made)
    with pytest.raises(ValueError, match=said) as caught:
        starting_from(file, preset)
    assert "a.pt" in str(caught.value) and "\n" not in str(caught.value)


class Plain(Learner):
    def update(self, data: Any, engine: Any) -> Any:
        return {}


def test_models_that_take_no_files_say_so():
    with pytest.raises(ValueError, match="Plain begins with the weights of run folders alone"):
        Plain().weights_of({})


@pytest.mark.filterwarnings("ignore:.*:UserWarning:gymnasium")
def test_gymnasiums_checker_finds_nothing():
    with pytest.warns(DeprecationWarning, match="Playground-v0 is out of date"):
        gymnasium.make("sonarium/Playground-v0")
    env = gymnasium.make("sonarium/Playground-v1", render_mode="rgb_array")
    check_env(env.unwrapped)
    shown = env.reset(seed=3)[0]
    assert env.observation_space.contains(shown) and shown.tolist()[4:] == [0, 0, 1, 1]
    assert [env.step(step % 2)[3] for step in range(300)].index(True) == 299
    assert (env.reset(seed=3)[0] == shown).all() and (env.reset(seed=4)[0] != shown).any()


def begun(agent, target, width=10, height=10):
    env = Playground(width, height, render_mode="rgb_array")
    env.reset(seed=0)
    env.places = np.array([agent, target, (0, 0), (1, 1)])
    return env


def test_rewards_are_those_of_the_study():
    env = begun((2, 3), (4, 3))
    # Right, nearer; left, back again; left, away; right, back again.
    rewards = [env.step(action)[1] for action in (3, 2, 2, 3)]
    assert rewards == [1 - 1 / 20, -0.25, -0.75, -0.25]
    shown, reward, terminated, truncated, _ = env.step(3)
    assert (reward, terminated, truncated) == (1 - 1 / 20, False, False)
    assert shown.tolist() == [3, 3, 4, 3, 1, 0, 1, 0]
    assert env.step(3)[1:3] == (1.0, True)
    env = begun((0, 0), (5, 5), 6, 9)
    assert env.step(2)[1] == -0.25 and env.step(1)[1] == -0.25 and env.step(3)[1] == 1 - 9 / 15
    for size in ((1, 1), (0, 5)):
        with pytest.raises(ValueError, match="at least two"):
            Playground(*size)


def test_the_picture_shows_agent_and_target():
    picture = begun((2, 3), (9, 0), 10, 5).render()
    assert picture is not None and picture.shape == (125, 250, 3)
    assert picture[80, 60].tolist() == [255, 0, 0] and picture[10, 240].tolist() == [0, 0, 255]
    assert picture[75, 10].tolist() == [0, 0, 0] and picture[10, 10].tolist() == [255, 255, 255]


def test_its_state_goes_on_bit_for_bit(tmp_path):
    env, other = Playground(), Playground()
    env.reset(seed=1)
    env.step(0)
    tensors: dict[str, torch.Tensor] = {}
    packed = pack(env.state_dict(), tensors, tmp_path)
    other.load_state_dict(unpack(packed, tensors, tmp_path))
    for action in (3, 1):
        assert (env.step(action)[0] == other.step(action)[0]).all()
    assert (env.reset()[0] == other.reset()[0]).all()
    state = env.state_dict()
    for changes in ({"places": state["places"] + 99}, {"places": state["places"][:1]}, {"random": None}):
        with pytest.raises(ValueError, match=r"places|random"):
            other.load_state_dict(state | changes)
