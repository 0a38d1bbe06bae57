"""Checks of settings: each error names the field, the value, and what would be right."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import fields
from functools import wraps
from typing import Annotated, Any, TypeVar

SECONDS = "seconds"
Seconds = Annotated[float, SECONDS]
"""A field that holds a duration: a configuration file may give it a unit, as in "250ms"."""

Setting = TypeVar("Setting")


class ConfigError(ValueError):
    """A setting that cannot be right, refused when it is built.

    The message has one line for each fault: the path of the field, the value, and what
    would be right.
    """

    field = ""
    """The field that the message begins with, such as "Retry.attempts"; "" if it begins with none."""


def fault(field: str, value: object, expected: str) -> ConfigError:
    """The error for one wrong value of one field."""
    error = ConfigError(f"{field}: {value!r} is not valid; expected {expected}")
    error.field = field
    return error


def setting(cls: type[Setting]) -> type[Setting]:
    """Make the constructor of a dataclass answer an unknown keyword with the names of its fields."""
    init: Callable[..., None] = cls.__init__
    names = [field.name for field in fields(cls) if field.init]  # type: ignore[arg-type]

    @wraps(init)
    def checked(self: Setting, *args: Any, **options: Any) -> None:
        for name in options:
            if name not in names:
                raise TypeError(f"{cls.__name__} has no field {name!r}{did_you_mean(name, names)}")
        init(self, *args, **options)

    cls.__init__ = checked  # type: ignore[assignment]
    return cls


def did_you_mean(name: object, names: Iterable[str]) -> str:
    """What to add to the message about an unknown name."""
    from difflib import get_close_matches

    names = list(names)
    near = get_close_matches(str(name), names, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; expected {'some of ' + ', '.join(names) if names else 'none'}"


def is_number(value: object) -> bool:
    """True for a finite number that is not a bool."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond any float
        return False


def seconds(field: str, value: float, *, zero: bool = False) -> None:
    """Refuse anything but a finite number of seconds > 0 (>= 0 with `zero`)."""
    if not is_number(value) or value < 0 or (value == 0 and not zero):
        raise fault(field, value, f"a number of seconds {'>=' if zero else '>'} 0")


def optional_seconds(field: str, value: float | None) -> None:
    """As `seconds`, with None for "no limit"."""
    if value is not None and (not is_number(value) or value <= 0):
        raise fault(field, value, "a number of seconds > 0, or None for no limit")


def ratio(field: str, value: float) -> None:
    """Refuse what lies outside 0..1."""
    if not is_number(value) or not 0 <= value <= 1:
        raise fault(field, value, "a ratio from 0 to 1")


def number(field: str, value: float, *, minimum: float = 0.0, above: bool = False) -> None:
    """Refuse anything but a finite number >= `minimum` (> with `above`)."""
    if not is_number(value) or value < minimum or (above and value == minimum):
        raise fault(field, value, f"a number {'>' if above else '>='} {minimum:g}")


def count(field: str, value: int, *, minimum: int = 1) -> None:
    """Refuse anything but a whole number >= `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise fault(field, value, f"a whole number >= {minimum}")


def flag(field: str, value: object) -> None:
    """Refuse what is neither True nor False: the text "false" would count as true."""
    if not isinstance(value, bool):
        raise fault(field, value, "True or False")


def one_of(field: str, value: object, choices: Collection[object]) -> None:
    """Refuse what is not one of `choices`."""
    if value not in choices:
        raise fault(field, value, "one of " + ", ".join(repr(choice) for choice in choices))


def instance(field: str, value: object, types: type | tuple[type, ...], expected: str) -> None:
    """Refuse what is not an instance of `types`; `expected` says what would be right."""
    if not isinstance(value, types):
        raise fault(field, value, expected)


def statuses(field: str, value: object) -> frozenset[int]:
    """The status codes that a collection holds; refuse anything else."""
    if not isinstance(value, Iterable) or isinstance(value, (str, bytes, Mapping)):
        raise fault(field, value, "statuses such as (200, 204) or range(200, 400)")
    found = list(value)
    for status in found:
        if isinstance(status, bool) or not isinstance(status, int) or not 100 <= status <= 599:
            raise fault(field, status, "statuses from 100 to 599")
    return frozenset(found)


def pairs(field: str, value: object, expected: str) -> tuple[tuple[Any, Any], ...]:
    """The items of a mapping, or a tuple of pairs as it is; refuse anything else."""
    found = tuple(value.items()) if isinstance(value, Mapping) else value
    if not isinstance(found, tuple) or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in found):
        raise fault(field, value, expected)
    return found


def labels(field: str, value: object) -> tuple[tuple[str, str], ...]:
    """Labels sorted by name, from a mapping or a tuple of pairs; refuse what is not text."""
    expected = 'a mapping of strings to strings, such as {"version": "v2"}'
    found = pairs(field, value, expected)
    if not all(isinstance(word, str) for pair in found for word in pair):
        raise fault(field, value, expected)
    return tuple(sorted(found))
