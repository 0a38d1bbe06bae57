"""Checks of settings: each error names the field, the value, and what would be right."""

from __future__ import annotations

import math
from collections.abc import Collection


class ConfigError(ValueError):
    """A setting that cannot be right, refused when it is built.

    The message has one line for each fault: the path of the field, the value, and what
    would be right.
    """


def fault(field: str, value: object, expected: str) -> ConfigError:
    """The error for one wrong value of one field."""
    return ConfigError(f"{field}: {value!r} is not valid; expected {expected}")


def _is_number(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond any float
        return False


def seconds(field: str, value: float, *, zero: bool = False) -> None:
    """Refuse what is not a finite number of seconds above 0 (or from 0, with `zero`)."""
    if not _is_number(value) or value < 0 or (value == 0 and not zero):
        raise fault(field, value, f"a number of seconds {'>=' if zero else '>'} 0")


def optional_seconds(field: str, value: float | None) -> None:
    """As `seconds`, with None for "no limit"."""
    if value is not None and (not _is_number(value) or value <= 0):
        raise fault(field, value, "a number of seconds > 0, or None for no limit")


def ratio(field: str, value: float) -> None:
    """Refuse what lies outside 0..1."""
    if not _is_number(value) or not 0 <= value <= 1:
        raise fault(field, value, "a ratio from 0 to 1")


def number(field: str, value: float, *, minimum: float = 0.0, above: bool = False) -> None:
    """Refuse what is not a finite number from `minimum` (or above it, with `above`)."""
    if not _is_number(value) or value < minimum or (above and value == minimum):
        raise fault(field, value, f"a number {'>' if above else '>='} {minimum:g}")


def count(field: str, value: int, *, minimum: int = 1) -> None:
    """Refuse what is not a whole number from `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise fault(field, value, f"a whole number >= {minimum}")


def one_of(field: str, value: object, choices: Collection[object]) -> None:
    """Refuse what is not one of `choices`."""
    if value not in choices:
        raise fault(field, value, "one of " + ", ".join(repr(choice) for choice in choices))


def instance(field: str, value: object, types: type | tuple[type, ...], expected: str) -> None:
    """Refuse what is not an instance of `types`; `expected` says what would be right."""
    if not isinstance(value, types):
        raise fault(field, value, expected)
