"""Evaluation of a run, or of an encoder from a file, as written to `scores.json`."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sonarium.agents.contract import Agent
from sonarium.agents.evaluate import Watch
from sonarium.agents.rollout import RolloutConfig
from sonarium.catalogue import MEASURES, MODELS
from sonarium.config import located
from sonarium.evaluation.config import EvaluationConfig
from sonarium.evaluation.episodes import Heard
from sonarium.evaluation.meanings import recorded
from sonarium.evaluation.splits import hold
from sonarium.files import write_whole
from sonarium.measures.contract import Meaning
from sonarium.models.contract import FeatureLearner, Learner
from sonarium.runs.build import Built, Opened, Progress, Worlds, silent
from sonarium.runs.listening import Witness, listener_of
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
    """Caches shared by several evaluations: worlds that were read from disk, and scores of controls."""

    worlds: Worlds = field(default_factory=dict)
    controls: dict[Any, Any] = field(default_factory=dict)


def score(
    built: Built,
    config: EvaluationConfig = EvaluationConfig(),
    device: str = "cpu",
    progress: Progress = silent,
    shared: Shared | None = None,
) -> dict[str, Any]:
    """Scores of a run, or of an encoder from a file, and of its controls, with all that is needed to read them."""
    try:
        if isinstance(built.plan.source, RolloutsPlan):
            found = episodes(built, config)
        elif config.separation:
            raise ValueError("--separation is for agents, in their episodes; of a separator leave it out")
        else:
            # Deferred import: the measures are slow to import, and `--help` should not wait for them.
            from sonarium.evaluation.evaluate import evaluate

            data, seed, measures = built.data, built.plan.seed, MEASURES.loadable()
            untrained, kept = control(built), None if shared is None else shared.controls
            found = evaluate(
                built.learner, untrained, data.world, data.split, config, seed, device, progress, measures, kept
            )
            found["split"] = built.split_in_words()
    except ValueError as error:
        raise ValueError(f"'{name_of(built)}' cannot be scored: {error}") from error
    best = isinstance(built, Opened) and built.best
    return found | {"step": built.step if isinstance(built, Opened) else 0} | ({"best": True} if best else {})


def name_of(built: Built) -> str:
    """The run folder, or the file of an encoder."""
    return str(built.run.folder) if isinstance(built, Opened) else summary(built.plan.recorded()).title


def control(built: Built) -> Learner | None:
    """Untrained control network, with the state of the trained front end; None if the model does not train."""
    if not isinstance(built, Opened) or not MODELS[built.plan.model].trains:
        return None
    untrained = built.untrained()
    if isinstance(untrained, FeatureLearner) and isinstance(built.learner, FeatureLearner):
        untrained.front.load_state_dict(built.learner.front.state_dict())
    return untrained


def encoder_on(source: ClipsPlan, encoder: Any, seed: int) -> Plan:
    """Plan of an encoder from a file, on the clips and the split of `source`."""
    return Plan("encoder", "default", located(encoder, "encoder"), source, LoopConfig(seed))


def keep(built: Built, folder: Path) -> None:
    """Write a run folder of an encoder from a file, which every verb accepts: its weights are the file's hash."""
    run = RunFolder.create(folder, built.plan.recorded(), lambda found: found)
    hold(built.data.world, built.data.split, folder)
    built.data.world.keep(folder)
    if run.newest() is None:
        run.save(0, built.learner.state_dict(), {"parts": {}})
    write_whole(folder / "metrics.jsonl", json.dumps({"step": 0}) + "\n")


def episodes(built: Built, config: EvaluationConfig) -> dict[str, Any]:
    """Scores of an agent over episodes in its environment."""
    from sonarium.agents.evaluate import evaluate

    assert isinstance(built, Opened), type(built)
    source, agent = built.plan.source, built.learner
    assert isinstance(source, RolloutsPlan) and isinstance(agent, Agent)
    rollouts, settings = source.rollouts, {"episodes": config.episodes, "separation": config.separation}
    # An agent without a separator is rejected before any episode is played.
    heard = heard_in_episodes(built, agent, rollouts, config.episodes) if config.separation else None
    untrained = built.untrained()
    assert isinstance(untrained, Agent)
    found = evaluate(agent, untrained, rollouts.make, config.episodes, built.plan.seed)
    found |= {"meanings": recorded(MEANINGS), "planted": True, "settings": settings, "notes": list(built.remarks)}
    if heard is None:
        return found
    told = heard.as_json()
    found["scores"] |= {name: one["mean"] for name, one in told["scores"].items()}
    found["controls"] |= {
        who: {name: one["mean"] for name, one in scores.items()} for who, scores in told["controls"].items()
    }
    return found | {"separation": told, "notes": [*built.remarks, heard.left_out(), *heard.correlations()]}


def heard_in_episodes(built: Opened, agent: Agent, rollouts: RolloutConfig, episodes: int) -> Heard:
    """Separation and localisation of the sources by an agent in the episodes of its score, with their returns."""
    from sonarium.agents.evaluate import greedily

    listener, witnesses = listener_of(agent, str(built.run.folder)), []
    try:
        one = rollouts.make(source_info=True)
    except ValueError as error:
        raise ValueError(
            f"--separation: {rollouts.env} does not tell the sound of each source: give a run of sonarium/Seek-v0"
        ) from error
    told = one.metadata
    one.close()

    def watching(slots: int) -> Watch:
        witnesses.append(Witness(listener, told, slots))
        return witnesses[-1].take

    played = greedily(agent, lambda: rollouts.make(source_info=True), episodes, built.plan.seed, watching)
    rows = [row for witness in witnesses for row in witness.episodes()]
    return Heard(rows, "return", played.returns.tolist())
