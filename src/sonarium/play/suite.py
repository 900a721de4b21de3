"""A trained agent in settings of seek-suite, on their held-out episodes."""

import dataclasses
from collections.abc import Sequence

import torch

from sonarium.agents.contract import Agent, Stochastic
from sonarium.agents.rollout import make
from sonarium.play.evaluate import BATCH, Evaluation, Progress, generator_of, play, steps_of_oracle
from sonarium.rooms.seek.env import action_space, observation_space
from sonarium.rooms.seek.suite import HELD_OUT, SUITE
from sonarium.runs.build import Opened
from sonarium.runs.plan import RolloutsPlan


@torch.no_grad()
def agent_in_suite(
    opened: Opened, names: Sequence[str], episodes: int, progress: Progress
) -> dict[str, Evaluation]:
    """By setting, what the agent of a run reaches there, by its most probable actions where it draws them."""
    agent, source = opened.learner, opened.plan.source
    if not isinstance(agent, Agent) or not isinstance(source, RolloutsPlan):
        raise ValueError(f"'{opened.run.folder}' holds no agent: --suite is for runs of sonarium/Seek-v0")
    env = make(source.rollouts.env)
    shown, taken = env.observation_space, env.action_space
    env.close()
    if isinstance(agent, Stochastic):
        agent.greedy = True
    found = {}
    for name in names:
        config = dataclasses.replace(SUITE[name].tested, oracle_info=True)
        if (shown, taken) != (observation_space(config), action_space(config)):
            raise ValueError(
                f"'{opened.run.folder}' was trained in {source.rollouts.env}, whose observations or actions are "
                f"others than those of the setting {name}: give a run of sonarium/Seek-v0 or of a setting"
            )
        played = []
        for start in range(0, episodes, BATCH):
            progress(f"episodes of {name}", start, episodes)
            count, seed = min(BATCH, episodes - start), HELD_OUT + start
            steps = steps_of_oracle(config, seed, count)
            played += play("agent", agent, config, seed, count, generator_of(agent, seed), [], steps)
        progress(f"episodes of {name}", episodes, episodes)
        found[name] = Evaluation(played, episodes, config.sources, None)
    return found
