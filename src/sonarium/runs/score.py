"""The evaluation of a run, as `scores.json` holds it."""

from typing import Any

from sonarium.agents.contract import Agent
from sonarium.catalogue import MEASURES
from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.meanings import recorded
from sonarium.measures.contract import Meaning
from sonarium.models.contract import FeatureLearner, Learner
from sonarium.runs.build import Opened, Progress, silent
from sonarium.runs.plan import RolloutsPlan

MEANINGS = {
    "return": Meaning("return", "Mean sum of rewards of an episode.", None, None),
    "length": Meaning("episode length", "Mean number of steps of an episode.", 0.0, None),
}


def score(
    opened: Opened, config: EvaluationConfig = EvaluationConfig(), device: str = "cpu", progress: Progress = silent
) -> dict[str, Any]:
    """Scores of a run and of its controls, with what is needed to read them."""
    try:
        if isinstance(opened.plan.source, RolloutsPlan):
            found = episodes(opened, config)
        else:
            # The measures take long to import, which a person who asks for help should not wait for.
            from sonarium.evaluation.evaluate import evaluate

            data, seed, measures = opened.data, opened.plan.seed, MEASURES.loadable()
            untrained = control(opened)
            found = evaluate(
                opened.learner, untrained, data.world, data.split, config, seed, device, progress, measures
            )
            found["split"] = opened.split_in_words()
    except ValueError as error:
        raise ValueError(f"'{opened.run.folder}' cannot be scored: {error}") from error
    return found | {"step": opened.step}


def control(opened: Opened) -> Learner:
    """The untrained network, with the front end as it is now."""
    untrained = opened.untrained()
    if isinstance(untrained, FeatureLearner) and isinstance(opened.learner, FeatureLearner):
        untrained.front.load_state_dict(opened.learner.front.state_dict())
    return untrained


def episodes(opened: Opened, config: EvaluationConfig) -> dict[str, Any]:
    """Episodes of an agent in its environment."""
    from sonarium.agents.evaluate import evaluate
    from sonarium.agents.rollout import make

    source, agent, untrained = opened.plan.source, opened.learner, opened.untrained()
    assert isinstance(source, RolloutsPlan) and isinstance(agent, Agent) and isinstance(untrained, Agent)
    env = source.rollouts.env
    found = evaluate(agent, untrained, lambda: make(env), config.episodes, opened.plan.seed)
    return found | {"meanings": recorded(MEANINGS), "planted": True, "settings": {"episodes": config.episodes}}
