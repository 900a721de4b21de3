"""Worlds, models and other entries by kind and name: built in, or from installed packages through entry points.

Each kind is a mapping from names to entries (`WorldEntry`, `ModelEntry`, …), which are loaded lazily. A package
registers an entry through an entry point of the group `sonarium.worlds`, `sonarium.models` and so on: its name is
the name in the catalogue, its object is the entry. Entries that cannot be loaded are left out, with the reason in
`broken`.
"""

from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from sonarium.agents.contract import AgentEntry
    from sonarium.features.contract import FrontEndEntry
    from sonarium.measures.contract import MeasureEntry
    from sonarium.models.contract import ModelEntry
    from sonarium.rooms.contract import RoomEntry
    from sonarium.worlds.contract import WorldEntry

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Fault:
    """An entry of another package that cannot be used."""

    kind: str
    name: str
    package: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind[:-1]} '{self.name}' of the package {self.package} cannot be used: {self.reason}"


class Kind(Mapping[str, Entry], Generic[Entry]):
    """Lazy mapping from names to the entries of one kind."""

    def __init__(self, kind: str, contract: str, built_in: Mapping[str, str]):
        self.kind, self.built_in = kind, built_in
        self.contract = contract
        """Class of the entries, as `module:class`."""
        self.loaded: dict[str, Entry] = {}
        self.broken: dict[str, Fault] = {}
        self.shadowed: dict[str, Fault] = {}

    @cached_property
    def foreign(self) -> Mapping[str, EntryPoint]:
        """Entry points of other packages; of several with one name the built-in counts, or else the first."""
        found: dict[str, EntryPoint] = {}
        for point in entry_points(group=f"sonarium.{self.kind}"):
            if point.name in self.built_in:
                self.shadowed[point.name] = fault(self.kind, point, "the name is built in")
            elif point.name in found:
                reason = f"the package {package_of(found[point.name])} has one of this name"
                self.shadowed[point.name] = fault(self.kind, point, reason)
            else:
                found[point.name] = point
        return found

    def names(self) -> list[str]:
        return [name for name in (*self.built_in, *self.foreign) if name not in self.broken]

    def __getitem__(self, name: str) -> Entry:
        if name not in self.loaded:
            if name in self.built_in:
                self.loaded[name] = resolve(self.built_in[name])
            elif name in self.foreign and name not in self.broken:
                self.loaded[name] = self.load(self.foreign[name])
            else:
                raise KeyError(name)
        return self.loaded[name]

    def load(self, point: EntryPoint) -> Entry:
        """Load an entry of another package; whatever it raises is recorded in `broken`, and becomes a KeyError."""
        expected = resolve(self.contract)
        try:
            entry = point.load()
            if not isinstance(entry, expected):
                raise TypeError(f"it is a {type(entry).__name__}, expected a {expected.__name__}")
        except Exception as error:
            self.broken[point.name] = fault(self.kind, point, f"{type(error).__name__}: {error}")
            raise KeyError(point.name) from None
        return entry

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def loadable(self) -> dict[str, Entry]:
        """Load all entries; those that cannot be loaded are left out, and recorded in `broken`."""
        found = {}
        for name in self.names():
            try:
                found[name] = self[name]
            except KeyError:
                continue
        return found

    def items(self) -> ItemsView[str, Entry]:
        return self.loadable().items()

    def values(self) -> ValuesView[Entry]:
        return self.loadable().values()

    def select(self, name: str, what: str | None = None) -> Entry:
        """The entry of this name; raises ValueError with the valid names if there is none."""
        try:
            return self[name]
        except KeyError:
            pass
        if name in self.broken:
            raise ValueError(str(self.broken[name]))
        raise ValueError(
            f"no {what or self.kind[:-1].replace('_', ' ')} is called '{name}': choose one of {', '.join(self)}"
        )


def fault(kind: str, point: EntryPoint, reason: str) -> Fault:
    return Fault(kind, point.name, package_of(point), " ".join(reason.split()))


def package_of(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value


def faults() -> list[Fault]:
    """Faults found so far in entries of other packages."""
    return [one for kind in KINDS.values() for one in (*kind.broken.values(), *kind.shadowed.values())]


def resolve(target: str) -> Any:
    """Import the object `module:name`."""
    module, _, name = target.partition(":")
    return vars(import_module(module))[name]


WORLDS: "Kind[WorldEntry]" = Kind(
    "worlds",
    "sonarium.worlds.contract:WorldEntry",
    {
        "tones": "sonarium.worlds.tones.world:TONES",
        "syntone": "sonarium.worlds.tones.world:SYNTONE",
        "syntone-file": "sonarium.worlds.tones.syntone:SYNTONE_FILE",
        "digits": "sonarium.worlds.digits:DIGITS",
        "songbird": "sonarium.worlds.songbird.world:SONGBIRD",
        "recordings": "sonarium.worlds.recordings.world:RECORDINGS",
        "sentences": "sonarium.worlds.sentences:SENTENCES",
        "mixtures": "sonarium.rooms.mixtures:MIXTURES",
    },
)
FRONT_ENDS: "Kind[FrontEndEntry]" = Kind(
    "front_ends",
    "sonarium.features.contract:FrontEndEntry",
    {
        "spectrogram": "sonarium.features.spectrogram:SPECTROGRAM",
        "pixels": "sonarium.features.pixels:PIXELS",
    },
)
MODELS: "Kind[ModelEntry]" = Kind(
    "models",
    "sonarium.models.contract:ModelEntry",
    {
        "vae": "sonarium.models.autoencoders:VAE",
        "beta-vae": "sonarium.models.autoencoders:BETA_VAE",
        "annealed-vae": "sonarium.models.autoencoders:ANNEALED_VAE",
        "factor-vae": "sonarium.models.autoencoders:FACTOR_VAE",
        "tc-vae": "sonarium.models.autoencoders:TC_VAE",
        "dip-vae": "sonarium.models.autoencoders:DIP_VAE",
        "vq-vae": "sonarium.models.autoencoders:VQ_VAE",
        "cpc": "sonarium.models.cpc.presets:CPC",
        "encoder": "sonarium.models.external:EXTERNAL",
        "hmm": "sonarium.models.hmm.learner:HMM",
        "gru": "sonarium.models.gru:ENTRY",
        "dreaming": "sonarium.models.dreaming:ENTRY",
        "autoregressive": "sonarium.models.autoregressive:ENTRY",
        "mrgan": "sonarium.models.mrgan:ENTRY",
        "separator": "sonarium.models.separator:ENTRY",
    },
)
AGENTS: "Kind[AgentEntry]" = Kind(
    "agents",
    "sonarium.agents.contract:AgentEntry",
    {
        "ppo": "sonarium.agents.presets:PPO_ENTRY",
        "dqn": "sonarium.agents.presets:DQN_ENTRY",
        "pqn": "sonarium.agents.presets:PQN_ENTRY",
        "dreamer": "sonarium.agents.presets:DREAMER_ENTRY",
    },
)
MEASURES: "Kind[MeasureEntry]" = Kind("measures", "sonarium.measures.contract:MeasureEntry", {})
ROOMS: "Kind[RoomEntry]" = Kind(
    "rooms",
    "sonarium.rooms.contract:RoomEntry",
    {
        "shoebox": "sonarium.rooms.seek.generate:SHOEBOX",
        "ngon": "sonarium.rooms.seek.generate:NGON",
        "nonconvex": "sonarium.rooms.seek.generate:NONCONVEX",
    },
)
KINDS = {kind.kind: kind for kind in (WORLDS, FRONT_ENDS, MODELS, AGENTS, MEASURES, ROOMS)}
