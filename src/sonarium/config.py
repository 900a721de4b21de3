"""Configurations: frozen dataclasses, their conversion to and from JSON with type tags, and their help texts.

A configuration is read against a default instance, which defines the keys and their types; unknown keys and values
of another type are refused. Where a field accepts one of several dataclasses, a tag names the class.
"""

import ast
import dataclasses
import inspect
import itertools
import math
import numbers
import textwrap
import types
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

FORMAT = 2
"""Format number of config.json; 1 is the format of version 0.1, without tags."""
LARGEST = 2**63
"""Bound on the absolute value of integers (exclusive)."""
TYPE = "type"
"""Key of the type tag."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Valid range of a numeric field, in its annotation: `width: Annotated[int, Range(1, 64)] = 8`. It applies to
    every element of a tuple; None is always valid. Integer fields accept whole numbers only."""

    least: float = -math.inf
    most: float = math.inf
    above: bool = False
    """Whether the lower bound is exclusive."""
    below: bool = False
    """Whether the upper bound is exclusive."""
    infinite: bool = False
    """Whether infinity is valid."""
    example: float | None = None

    def holds(self, value: Any, whole: bool = False) -> bool:
        """Whether a value, or every element of a tuple, is in the range; `whole` accepts whole numbers only."""
        if isinstance(value, list | tuple):
            return all(self.holds(one, whole) for one in value)
        if value is None:
            return True
        # `numbers.Real` includes NumPy scalars.
        if not isinstance(value, numbers.Real) or isinstance(value, bool):
            return False
        return self.contains(value, whole)

    def contains(self, value: Any, whole: bool) -> bool:
        if whole and not (abs(value) < LARGEST and value == int(value)):
            return False
        if not ((self.infinite and value == value) or representable(value)):
            return False
        over = self.least < value if self.above else self.least <= value
        return over and (value < self.most if self.below else value <= self.most)

    def words(self, whole: bool = False) -> str:
        """The valid numbers in words, for error messages."""
        least, most = number(self.least), number(self.most)
        kind = "a whole number" if whole else "a number"
        if self.above and self.least == 0:
            kind, said = f"a positive{kind[1:]}", "" if math.isinf(self.most) else f" up to {most}"
        elif math.isinf(self.most):
            said = "" if math.isinf(self.least) else f" {'above' if self.above else 'of at least'} {least}"
            said = said or " that is finite"
        elif math.isinf(self.least):
            said = f" {'below' if self.below else 'of at most'} {most}"
        else:
            said = f" {'above' if self.above else 'from'} {least} to {'below ' if self.below else ''}{most}"
        return f"{kind}{said}" + ("" if self.example is None else f", such as {number(self.example)}")


def number(value: float) -> str:
    return str(int(value)) if math.isfinite(value) and value == int(value) and abs(value) < 1e15 else f"{value:g}"


@cache
def ranges_of(config: type) -> dict[str, tuple[Range, bool]]:
    """The range of each field that has one, and whether it accepts whole numbers only."""
    found = {}
    for name, hint in get_type_hints(config, include_extras=True).items():
        if get_origin(hint) is Annotated:
            plain, *marks = get_args(hint)
            whole = int in leaf_types(plain) and float not in leaf_types(plain)
            for mark in (one for one in marks if isinstance(one, Range)):
                found[name] = (mark, whole)
    return found


def leaf_types(hint: Any) -> set[Any]:
    """Leaf types of an annotation."""
    return set().union(*map(leaf_types, get_args(hint))) if get_args(hint) else {hint}


@cache
def choices_of(config: type) -> dict[str, tuple[Any, ...]]:
    """The options of each field that is annotated as a Literal, with None where that is one."""
    found = {}
    for name, hint in get_type_hints(config).items():
        parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        if all(part is types.NoneType or get_origin(part) is Literal for part in parts):
            found[name] = tuple(value for part in parts for value in get_args(part) or (None,))
    return found


def out_of_range(config: Any) -> Iterator[tuple[str, Any, str]]:
    """Fields whose value is out of range or not an option, as (name, value, valid values in words)."""
    for name, (own, whole) in ranges_of(type(config)).items():
        if not own.holds(value := getattr(config, name), whole):
            yield name, value, own.words(whole)
    for name, options in choices_of(type(config)).items():
        if (value := getattr(config, name)) not in options:
            *others, last = (str(option) for option in options if option is not None)
            yield name, value, f"{', '.join(others)} or {last}" if others else last


def check_ranges(config: Any) -> None:
    """Raise ValueError for a number out of its range, or a value that is not an option of its Literal; called by
    every configuration in `__post_init__`."""
    for name, value, expected in out_of_range(config):
        raise ValueError(f"{name}={short(value)}: give {expected}")


def check_number(name: str, value: object, own: Range, whole: bool = False) -> None:
    """Raise ValueError for a function argument that is None or out of its range."""
    if value is None or not own.holds(value, whole):
        raise ValueError(f"got {name}={short(value)}: give {own.words(whole)}")


def to_json(config: Any) -> dict[str, Any]:
    """A configuration as JSON values, each dataclass with its type tag."""
    values: dict[str, Any] = {TYPE: type(config).__name__}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        values[field.name] = to_json(value) if dataclasses.is_dataclass(value) else value
    return values


def from_json(
    default: Any,
    values: Mapping[str, Any],
    where: str,
    known: Iterable[type] = (),
    renamed: Mapping = {},
    added: Mapping = {},
) -> Any:
    """Copy of the default with these values.

    `known` are subclasses accepted where a base class is annotated. By class name, `renamed` maps old names of
    fields to new ones, and `added` has the values of fields that older files lack.
    """
    own_type = type(default).__name__
    if (tag := values.get(TYPE, own_type)) != own_type:
        raise ValueError(f"{where} is tagged as a {short(tag)}, expected a {own_type}: restore the file")
    names = renamed.get(own_type, {})
    given = {names.get(name, name): value for name, value in values.items() if name != TYPE}
    given = {**added.get(own_type, {}), **given}
    hints, ranges = types_of(type(default)), ranges_of(type(default))
    if unknown := sorted(set(given) - set(hints)):
        raise ValueError(
            f"{where} has unknown keys {clipped(', '.join(unknown))}: it knows {', '.join(sorted(hints))}"
        )
    changed = {}
    for name, value in given.items():
        own, place = getattr(default, name), f"{where}.{name}"
        if dataclasses.is_dataclass(own) and isinstance(value, Mapping):
            chosen = tagged(own, hints[name], value.get(TYPE), place, known)
            changed[name] = from_json(chosen, value, place, known, renamed, added)
        elif fits(hints[name], value) or unlimited(ranges.get(name), value):
            changed[name] = frozen(value)
        else:
            raise ValueError(f"{place} is {short(value)}, expected something like {own!r}: restore the file")
    try:
        return dataclasses.replace(default, **changed)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def unlimited(own: tuple[Range, bool] | None, value: Any) -> bool:
    """Whether a value is infinite and its range allows infinity."""
    return own is not None and own[0].infinite and isinstance(value, float) and math.isinf(value)


def tagged(own: Any, hint: Any, tag: object, where: str, known: Iterable[type]) -> Any:
    """Default instance of the class named by the tag; raises ValueError if the annotation does not allow it."""
    if tag is None or tag == type(own).__name__:
        return own
    allowed = [option for option in (get_args(hint) or (hint,)) if isinstance(option, type)]
    options = {
        option.__name__: option
        for option in (*allowed, *known)
        if dataclasses.is_dataclass(option) and issubclass(option, tuple(allowed))
    }
    if not isinstance(tag, str) or tag not in options:
        raise ValueError(
            f"{where} is tagged as a {short(tag)}, expected {' or '.join(options)}: install the package that has "
            "it, or restore the file"
        )
    return options[tag]()


@cache
def types_of(config: type) -> dict[str, Any]:
    """The annotation of each field."""
    hints = get_type_hints(config)
    return {field.name: hints[field.name] for field in dataclasses.fields(config)}


def fits(hint: Any, value: Any) -> bool:
    """Whether a value read from JSON is of the annotated type."""
    origin, options = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(option, value) for option in options)
    if origin is Literal:
        return any(value == option and type(value) is type(option) for option in options)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return False
        if len(options) == 2 and options[1] is Ellipsis:
            return all(fits(options[0], one) for one in value)
        return len(value) == len(options) and all(map(fits, options, value))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and representable(value)
    if hint is Any:
        return True
    if hint is type(None):
        return value is None
    if hint is int:
        return type(value) is int and abs(value) < LARGEST
    if origin is dict:
        return isinstance(value, dict) and all(
            fits(options[0], key) and fits(options[1], one) for key, one in value.items()
        )
    return isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def representable(value: float) -> bool:
    """Whether a number is finite as a float; integers in JSON may have 400 digits."""
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def frozen(value: Any) -> Any:
    """JSON lists as tuples, as in configurations."""
    return tuple(map(frozen, value)) if isinstance(value, list | tuple) else value


def short(value: Any) -> str:
    """Clipped representation for error messages."""
    return clipped(repr(value))


def clipped(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"


@cache
def help_of(config: type) -> dict[str, str]:
    """The docstring below each field of a dataclass and its bases; classes made at run time have none."""
    found: dict[str, str] = {}
    for base in reversed(config.__mro__):
        if dataclasses.is_dataclass(base):
            try:
                source = inspect.getsource(base)
            except (OSError, TypeError):
                continue
            [definition] = ast.parse(textwrap.dedent(source)).body
            assert isinstance(definition, ast.ClassDef), base
            lines = definition.body
            for field, below in itertools.pairwise(lines):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    docstring = below.value if isinstance(below, ast.Expr) else None
                    if isinstance(docstring, ast.Constant) and isinstance(docstring.value, str):
                        found[field.target.id] = " ".join(docstring.value.split())
    return found


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One field, at any depth, of a configuration."""

    path: tuple[str, ...]
    hint: Any
    default: Any
    help: str
    range: tuple[Range, bool] | None = None
    """Valid range, and whether it accepts whole numbers only."""


def leaves(config: Any, path: tuple[str, ...] = ()) -> list[Leaf]:
    """All fields of a configuration and of its nested configurations, in order."""
    found: list[Leaf] = []
    helps = help_of(type(config))
    for field in dataclasses.fields(config):
        value, at = getattr(config, field.name), (*path, field.name)
        if dataclasses.is_dataclass(value):
            found += leaves(value, at)
        else:
            hint, own = types_of(type(config))[field.name], ranges_of(type(config)).get(field.name)
            found.append(Leaf(at, hint, value, helps.get(field.name, ""), own))
    return found


def replaced(config: Any, values: Mapping[tuple[str, ...], Any]) -> Any:
    """Copy of the configuration with these values, given by path."""
    changed: dict[str, Any] = {}
    below: dict[str, dict[tuple[str, ...], Any]] = {}
    for (name, *rest), value in values.items():
        if rest:
            below.setdefault(name, {})[tuple(rest)] = value
        else:
            changed[name] = value
    changed |= {name: replaced(getattr(config, name), inner) for name, inner in below.items()}
    return dataclasses.replace(config, **changed)


def located(config: Any, *names: str) -> Any:
    """Copy of the configuration whose fields of these names, if there are any, hold absolute paths."""
    paths = {
        field.name: str(Path(value).expanduser().absolute())
        for field in dataclasses.fields(config)
        if field.name in names and (value := getattr(config, field.name)) is not None
    }
    return dataclasses.replace(config, **paths)
