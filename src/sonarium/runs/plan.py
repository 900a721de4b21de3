"""Plans of trainings, recorded in `config.json`: equal plans give equal runs.

    {"format": 2, "model": {name, preset, config}, "loop": {…}, "upstream": null or {run, step, sha256, …},
     "source": {world, config, clips, split} or {rollouts, environment}}

Plans of version 0.1, without a format number, are upgraded when they are read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from sonarium.agents.contract import AgentEntry, AgentRecipe
from sonarium.agents.rollout import RolloutConfig
from sonarium.catalogue import AGENTS, FRONT_ENDS, MODELS, WORLDS, Kind
from sonarium.config import FORMAT, Range, check_ranges, fits, from_json, short, to_json, types_of
from sonarium.features.contract import FrontEndConfig
from sonarium.models.contract import ModelEntry, Recipe
from sonarium.runs.environments import Registered, read_registered
from sonarium.runs.upgrade import ADDED, RENAMED, RENAMED_2, from_format_1
from sonarium.training.clips import ClipsConfig
from sonarium.training.fit import LoopConfig
from sonarium.worlds.codes import CodesConfig
from sonarium.worlds.contract import PLURAL, SignalKind

CODES = "codes"
"""Name of the world of an upstream run's codes."""
FOLDER_WORLD = "recordings"
"""Default world if a path is given."""


@dataclass(frozen=True)
class SplitConfig:
    """Train, validation and test split by groups."""

    validation: Annotated[float, Range(0, 1, below=True)] = 0.0
    """Validation fraction of the groups; the loss on them is measured at every checkpoint, and the weights with
    the lowest are kept for `--best`."""
    test: Annotated[float, Range(0, 1, below=True)] = 0.2
    """Held-out test fraction of the groups; 0 holds out none, and nothing can be scored."""
    test_groups: tuple[str, ...] = ()
    """Held-out test groups by name (a speaker, a fold), in place of a fraction."""
    validation_groups: tuple[str, ...] = ()
    """Validation groups by name."""
    split_seed: Annotated[int | None, Range(0)] = None
    """Random seed of the split; by default that of the run."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class ClipsPlan:
    """Clips of a world, or of the codes of an upstream run."""

    world: str
    config: Any
    clips: ClipsConfig = ClipsConfig()
    split: SplitConfig = SplitConfig()

    @property
    def tested(self) -> bool:
        """Whether there is a test split."""
        return bool(self.split.test or self.split.test_groups)


@dataclass(frozen=True)
class RolloutsPlan:
    """Steps of an agent in an environment."""

    rollouts: RolloutConfig
    environment: Registered | None = None
    """Registration of the environment's id in training; None if not yet known."""


@dataclass(frozen=True)
class Upstream:
    """The run that provides the codes to train on, or the ears of an agent, at one checkpoint."""

    run: str
    step: Annotated[int, Range(0)]
    sha256: str
    """Hash of its weights."""
    width: Annotated[int, Range(1, 2**24)]
    """Dimension of a code; for a separator, whose codes are samples, the sources times two ears."""
    frame_rate: Annotated[float, Range(0, 10**6, above=True)]
    """Frame rate of the codes in Hz."""
    frame_first: Annotated[float, Range(-(10**6), 10**6)]
    """Seconds from the beginning of the sound to the middle of the first code."""
    plan: dict[str, Any]
    """Plan of the run, by which runs on codes of several seeds are recognised as alike."""
    best: bool = False
    """Whether its weights are those that were best in validation, not the newest."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Plan:
    model: str
    preset: str
    learner: Any
    """The configuration of the model."""
    source: ClipsPlan | RolloutsPlan
    loop: LoopConfig
    upstream: Upstream | None = None

    @property
    def seed(self) -> int:
        return self.loop.seed

    @property
    def clips(self) -> ClipsPlan:
        """The source of clips; raises ValueError for an agent, which has none."""
        if not isinstance(self.source, ClipsPlan):
            raise ValueError(f"{self.model} is an agent, which has no clips: give a model of sound")
        return self.source

    def recorded(self) -> dict[str, Any]:
        """The plan as JSON values."""
        source = self.source
        if isinstance(source, ClipsPlan):
            recorded = {"world": source.world, "config": to_json(source.config)}
            recorded |= {"clips": to_json(source.clips), "split": to_json(source.split)}
        else:
            recorded = {"rollouts": to_json(source.rollouts)}
            recorded |= {} if source.environment is None else {"environment": vars(source.environment)}
        return {
            "format": FORMAT,
            "model": {"name": self.model, "preset": self.preset, "config": to_json(self.learner)},
            "source": recorded,
            "loop": to_json(self.loop),
            "upstream": None if self.upstream is None else vars(self.upstream),
        }


DEFAULT_WORLD: dict[SignalKind, str] = {"wave": "tones", "picture": "digits", "binaural": "mixtures"}
"""Default world by the kind of signal of a model."""


def default_plan(
    model: str,
    world: str = "",
    preset: str = "default",
    front: str = "",
    upstream: Upstream | None = None,
    split: SplitConfig = SplitConfig(),
    settings: Mapping[str, Any] = {},
) -> Plan:
    """Default plan of a model on a world or on the codes of an upstream run, or of an agent.

    `settings` are those of the world, or of the rollouts of an agent, that differ from the default, by name.
    Change the rest with `dataclasses.replace`.
    """
    if model in AGENTS:
        agent = AGENTS.select(model)
        if upstream is not None and not agent.hears:
            raise ValueError(f"{model} cannot hear with another run: leave out --ears")
        own = preset_of(agent.presets, preset, model)()
        rollouts = with_settings(RolloutConfig(), {**agent_recipe(agent, preset).rollouts, **settings}, model)
        return Plan(model, preset, own, RolloutsPlan(rollouts), LoopConfig(), upstream)
    entry = MODELS.select(model, "model or agent")
    make = preset_of(entry.presets, preset, model)
    world = CODES if upstream is not None else world or DEFAULT_WORLD.get(entry.kinds[0], "")
    if not world:
        raise ValueError(f"{model} trains on the codes of another run: give --codes RUN")
    if upstream is None:
        chosen = WORLDS.select(world)
        config, kind = chosen.Config(), chosen.kind
    else:
        config, kind = CodesConfig(), "codes"
    if kind not in entry.kinds:
        raise ValueError(f"{model} does not train on {PLURAL[kind]}, which {world} gives: {suiting(entry.kinds)}")
    recipe = recipe_of(entry, preset)
    usual = {name: value for name, value in recipe.world.items() if name in vars(config)}
    config = with_settings(config, {**usual, **settings}, world)
    clips = replace(ClipsConfig(cut=entry.cut, drop_last=entry.drop_last), **recipe.clips)
    learner = with_front(make(kind), front, model)
    return Plan(model, preset, learner, ClipsPlan(world, config, clips, split), LoopConfig(), upstream)


def with_settings(config: Any, settings: Mapping[str, Any], name: str) -> Any:
    """A configuration with these settings."""
    known = vars(config)
    if unknown := [setting for setting in settings if setting not in known]:
        raise ValueError(f"{name} has no setting '{unknown[0]}': it has {', '.join(known)}")
    return replace(config, **settings)


def recipe_of(entry: ModelEntry, preset: str) -> Recipe:
    """Settings of training that belong to a preset."""
    return entry.recipes.get(preset, Recipe())


def agent_recipe(entry: AgentEntry, preset: str) -> AgentRecipe:
    return entry.recipes.get(preset, AgentRecipe())


def preset_of(presets: Mapping[str, Any], preset: str, model: str) -> Any:
    if preset not in presets:
        raise ValueError(f"no preset of {model} is called '{preset}': choose one of {', '.join(presets)}")
    return presets[preset]


def suiting(kinds: Sequence[SignalKind]) -> str:
    """Flags to give for a model that trains on these kinds of signal, in words."""
    worlds = [name for name, entry in WORLDS.loadable().items() if entry.kind in kinds]
    said = [f"--world {', '.join(worlds)}"] if worlds else []
    return f"take {' or '.join([*said, *(['--codes RUN'] if 'codes' in kinds else [])])}"


def with_front(config: Any, name: str, model: str) -> Any:
    """The configuration with another front end."""
    if not name:
        return config
    chosen = FRONT_ENDS.select(name).Config
    # Some models accept any front end, others only one kind: the annotation says which.
    takes = {field: hint for field, hint in types_of(type(config)).items() if is_front(hint)}
    fitting = [field for field, hint in takes.items() if issubclass(chosen, hint)]
    if not fitting:
        raise ValueError(f"--front {name}: {model} does not take it; leave it out")
    return replace(config, **{fitting[0]: chosen()})


def is_front(hint: object) -> bool:
    return isinstance(hint, type) and issubclass(hint, FrontEndConfig)


def read_plan(config: Mapping[str, Any], where: str) -> Plan:
    """The plan that a configuration records."""
    if "format" not in config:
        config = from_format_1(config, where)
        renamed: Mapping[str, Mapping[str, str]] = RENAMED
    elif config["format"] == FORMAT:
        renamed = RENAMED_2
    else:
        raise ValueError(
            f"{where} has the format {short(config['format'])}, and this version of Sonarium reads up to "
            f"{FORMAT}: use the version that wrote it, or a newer one"
        )
    model, source, loop, upstream = (
        section(config, name, where) for name in ("model", "source", "loop", "upstream")
    )
    if source is None or model is None or loop is None:
        raise ValueError(f"{where} lacks model, source or loop: restore it")
    name, preset = text(model, "name", f"{where}: model"), text(model, "preset", f"{where}: model")
    known = [entry.Config for entry in FRONT_ENDS.loadable().values()]
    if "rollouts" in source:
        default = among(entry_of(AGENTS, name, f"{where}: model").presets, preset, f"{where}: preset")()
        rollouts = from_json(
            RolloutConfig(), section(source, "rollouts", where) or {}, f"{where}: source.rollouts"
        )
        told = section(source, "environment", where)
        environment = None if told is None else read_registered(told, f"{where}: source.environment")
        chosen: ClipsPlan | RolloutsPlan = RolloutsPlan(rollouts, environment)
    else:
        chosen, kind = read_clips(source, f"{where}: source", known, renamed)
        default = among(entry_of(MODELS, name, f"{where}: model").presets, preset, f"{where}: preset")(kind)
    own = section(model, "config", where) or {}
    learner = from_json(default, own, f"{where}: model.config", known, renamed, ADDED)
    below = None if upstream is None else read_upstream(upstream, where)
    return Plan(name, preset, learner, chosen, from_json(LoopConfig(), loop, f"{where}: loop"), below)


def read_clips(
    source: Mapping[str, Any], where: str, known: Sequence[type], renamed: Mapping[str, Mapping[str, str]]
) -> tuple[ClipsPlan, SignalKind]:
    """The clips that a configuration records, and the kind of their signal."""
    world = text(source, "world", where)
    default, kind = world_default(world, where)
    config, clips, split = (section(source, name, where) or {} for name in ("config", "clips", "split"))
    plan = ClipsPlan(
        world,
        from_json(default, config, f"{where}.config", known, renamed, ADDED),
        from_json(ClipsConfig(), clips, f"{where}.clips"),
        from_json(SplitConfig(), split, f"{where}.split"),
    )
    return plan, kind


def world_default(world: str, where: str) -> tuple[Any, SignalKind]:
    """The default configuration of a world, and the kind of its signal."""
    if world == CODES:
        return CodesConfig(), "codes"
    entry = entry_of(WORLDS, world, f"{where}: world")
    return entry.Config(), entry.kind


def read_upstream(values: Mapping[str, Any], where: str) -> Upstream:
    types = types_of(Upstream)
    values = {**ADDED[Upstream.__name__], **values}
    if values.keys() != types.keys() or not all(fits(hint, values[name]) for name, hint in types.items()):
        raise ValueError(f"{where}: upstream is {short(dict(values))}, expected {', '.join(types)}: restore it")
    below = values["plan"].get("upstream")
    if below is not None:
        if not isinstance(below, Mapping):
            raise ValueError(f"{where}: upstream.plan.upstream is {short(below)}, expected an object: restore it")
        read_upstream(below, f"{where}: upstream.plan")
    try:
        return Upstream(**values)
    except ValueError as error:
        raise ValueError(f"{where}: upstream: {error}") from None


def section(config: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any] | None:
    value = config.get(name)
    if value is not None and not isinstance(value, Mapping):
        raise ValueError(f"{where}: {name} is {short(value)}, expected an object: restore it")
    return value


def text(config: Mapping[str, Any], name: str, where: str) -> str:
    value = config.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{where}.{name} is {short(value)}, expected a name: restore it")
    return value


def entry_of(kind: Kind, name: str, where: str) -> Any:
    try:
        return kind.select(name)
    except ValueError as error:
        raise ValueError(f"{where}: {error}; install the package that has it, or restore the file") from None


def among(table: Mapping[str, Any], name: str, where: str) -> Any:
    if name not in table:
        raise ValueError(f"{where} is {name!r}, expected one of {', '.join(table)}: restore the file")
    return table[name]


@dataclass(frozen=True)
class Summary:
    """Description of a plan in tables and reports, which does not require its packages."""

    model: str
    preset: str
    source: str
    """World or environment, with the name of its folder if it is read from one."""
    seed: int | None
    tested: bool

    @property
    def title(self) -> str:
        """The model, with its preset unless that is the default."""
        return self.model if self.preset == "default" else f"{self.model} ({self.preset})"


def summary(config: Mapping[str, Any]) -> Summary:
    """Summary of a recorded plan of any format; values that this version cannot read are unknown."""
    if "format" not in config:
        config = from_format_1(config, "config.json")
    model, source, loop = (mapping(config.get(name)) for name in ("model", "source", "loop"))
    split, seed, file = mapping(source.get("split")), loop.get("seed"), mapping(model.get("config")).get("encoder")
    return Summary(
        # An encoder from a file is named by its file and folder, as recordings are.
        "/".join(Path(file).parts[-2:]) if isinstance(file, str) else str(model.get("name", "unknown")),
        str(model.get("preset", "default")),
        source_of(config),
        seed if fits(int, seed) else None,
        bool(split.get("test", 0.2) or split.get("test_groups")),
    )


def source_of(config: Mapping[str, Any]) -> str:
    source, upstream = mapping(config.get("source")), config.get("upstream")
    if "rollouts" in source:
        return str(mapping(source["rollouts"]).get("env", "unknown"))
    if isinstance(upstream, Mapping):
        below = summary(mapping(upstream.get("plan")) or {"format": FORMAT})
        return f"codes of {below.title} on {below.source}"
    world, path = source.get("world", "unknown"), mapping(source.get("config")).get("path")
    return f"{world} ({Path(path).name})" if isinstance(path, str) and path else str(world)


def mapping(value: object) -> Mapping[str, Any]:
    """The value if it is a JSON object, or else an empty one."""
    return value if isinstance(value, Mapping) else {}
