"""Evaluation of a trained agent in settings of seek-suite, on their held-out episodes."""

from collections.abc import Sequence

import torch

from sonarium.agents.contract import Agent, Stochastic
from sonarium.play.evaluate import Evaluation, Progress, evaluate
from sonarium.rooms import suite_id
from sonarium.rooms.seek.env import action_space, observation_space
from sonarium.rooms.seek.suite import HELD_OUT, SUITE
from sonarium.runs.build import Opened
from sonarium.runs.listening import listener_of
from sonarium.runs.plan import RolloutsPlan

AGENT, BESIDE = "agent", ("random", "loudness", "difference", "oracle")
"""Name of a run's agent, and the scripted agents for comparison, from chance to the shortest path."""


def setting_of(opened: Opened) -> str | None:
    """The setting of seek-suite in whose environment a run was trained, if any."""
    source = opened.plan.source
    names = {suite_id(name): name for name in SUITE}
    if not isinstance(source, RolloutsPlan) or source.rollouts.env_kwargs:
        return None
    return names.get(source.rollouts.env)


@torch.no_grad()
def agent_in_suite(
    opened: Opened,
    names: Sequence[str],
    episodes: int,
    progress: Progress,
    separation: bool = False,
    sampled: bool = False,
) -> dict[str, Evaluation]:
    """Evaluation by setting of a run's agent, with its most probable or with sampled actions if it is stochastic,
    and of scripted agents; with `separation` also of how it separates and localises the sources in these
    episodes."""
    agent, source = opened.learner, opened.plan.source
    if not isinstance(agent, Agent) or not isinstance(source, RolloutsPlan):
        raise ValueError(f"'{opened.run.folder}' holds no agent: --suite is for runs of sonarium/Seek-v0")
    listeners = {AGENT: listener_of(agent, str(opened.run.folder))} if separation else {}
    env = source.rollouts.make()
    shown, taken = env.observation_space, env.action_space
    env.close()
    if isinstance(agent, Stochastic):
        agent.greedy = not sampled
    found = {}
    for name in names:
        config = SUITE[name].tested
        if (shown, taken) != (observation_space(config), action_space(config)):
            raise ValueError(
                f"'{opened.run.folder}' was trained in {source.rollouts.env}, whose observations or actions are "
                f"others than those of the setting {name}: give a run of sonarium/Seek-v0 or of a setting"
            )
        found[name] = evaluate(
            BESIDE, config, episodes, HELD_OUT, progress=progress, trained={AGENT: agent}, listeners=listeners
        )
    return found
