"""A stand-in for the catalogue: the room shapes by name, loaded when asked for."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sonarium.rooms.contract import RoomEntry


class Rooms(Mapping[str, "RoomEntry"]):
    """Entries by name; each value "module:NAME" is imported when it is looked up."""

    def __init__(self, places: dict[str, str]) -> None:
        self.places = places

    def __getitem__(self, name: str) -> "RoomEntry":
        module, _, entry = self.places[name].partition(":")
        return vars(import_module(module))[entry]

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def select(self, name: str, what: str | None = None) -> "RoomEntry":
        if name not in self:
            raise ValueError(f"no {what or 'room'} is called '{name}': choose one of {', '.join(self)}")
        return self[name]


ROOMS = Rooms(
    {
        "shoebox": "sonarium.rooms.seek.generate:SHOEBOX",
        "ngon": "sonarium.rooms.seek.generate:NGON",
        "nonconvex": "sonarium.rooms.seek.generate:NONCONVEX",
    }
)
