"""The evaluation of a run, or of an encoder from a file, as `scores.json` holds it."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sonarium.agents.contract import Agent
from sonarium.catalogue import MEASURES, MODELS
from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.meanings import recorded
from sonarium.evaluation.splits import hold
from sonarium.files import write_whole
from sonarium.measures.contract import Meaning
from sonarium.models.contract import FeatureLearner, Learner
from sonarium.runs.build import Built, Opened, Progress, Worlds, silent
from sonarium.runs.plan import ClipsPlan, Plan, RolloutsPlan, summary
from sonarium.training.fit import LoopConfig
from sonarium.training.run import RunFolder

MEANINGS = {
    "return": Meaning("return", "Mean sum of rewards of an episode.", None, None),
    "sampled_return": Meaning(
        "return, drawn actions", "Mean return of actions drawn from the policy.", None, None
    ),
    "length": Meaning("episode length", "Mean number of steps of an episode.", 0.0, None),
}


@dataclass
class Shared:
    """What several evaluations have in common: worlds that were read from disk, and scores of controls."""

    worlds: Worlds = field(default_factory=dict)
    controls: dict[Any, Any] = field(default_factory=dict)


def score(
    built: Built,
    config: EvaluationConfig = EvaluationConfig(),
    device: str = "cpu",
    progress: Progress = silent,
    shared: Shared | None = None,
) -> dict[str, Any]:
    """Scores of a run, or of an encoder from a file, and of its controls, with what is needed to read them."""
    try:
        if isinstance(built.plan.source, RolloutsPlan):
            found = episodes(built, config)
        else:
            # The measures take long to import, which a person who asks for help should not wait for.
            from sonarium.evaluation.evaluate import evaluate

            data, seed, measures = built.data, built.plan.seed, MEASURES.loadable()
            untrained, kept = control(built), None if shared is None else shared.controls
            found = evaluate(
                built.learner, untrained, data.world, data.split, config, seed, device, progress, measures, kept
            )
            found["split"] = built.split_in_words()
    except ValueError as error:
        raise ValueError(f"'{name_of(built)}' cannot be scored: {error}") from error
    return found | {"step": built.step if isinstance(built, Opened) else 0}


def name_of(built: Built) -> str:
    """The run folder, or the file of an encoder."""
    return str(built.run.folder) if isinstance(built, Opened) else summary(built.plan.recorded()).title


def control(built: Built) -> Learner | None:
    """The untrained network, with the front end as it is now; None of what does not train."""
    if not isinstance(built, Opened) or not MODELS[built.plan.model].trains:
        return None
    untrained = built.untrained()
    if isinstance(untrained, FeatureLearner) and isinstance(built.learner, FeatureLearner):
        untrained.front.load_state_dict(built.learner.front.state_dict())
    return untrained


def encoder_on(source: ClipsPlan, encoder: Any, seed: int) -> Plan:
    """The plan of an encoder from a file, on the clips and the split of a plan."""
    located = replace(encoder, encoder=str(Path(encoder.encoder).expanduser().absolute()))
    return Plan("encoder", "default", located, source, LoopConfig(seed))


def keep(built: Built, folder: Path) -> None:
    """Write a run folder of an encoder from a file, which every verb takes: it has the file's hash for weights."""
    run = RunFolder.create(folder, built.plan.recorded(), lambda found: found)
    hold(built.data.world, built.data.split, folder)
    built.data.world.keep(folder)
    if run.newest() is None:
        run.save(0, built.learner.state_dict(), {"parts": {}})
    write_whole(folder / "metrics.jsonl", json.dumps({"step": 0}) + "\n")


def episodes(built: Built, config: EvaluationConfig) -> dict[str, Any]:
    """Episodes of an agent in its environment."""
    from sonarium.agents.evaluate import evaluate
    from sonarium.agents.rollout import make

    assert isinstance(built, Opened), type(built)
    source, agent, untrained = built.plan.source, built.learner, built.untrained()
    assert isinstance(source, RolloutsPlan) and isinstance(agent, Agent) and isinstance(untrained, Agent)
    env = source.rollouts.env
    found = evaluate(agent, untrained, lambda: make(env), config.episodes, built.plan.seed)
    return found | {"meanings": recorded(MEANINGS), "planted": True, "settings": {"episodes": config.episodes}}
