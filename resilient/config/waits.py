"""Tenacity's waits by name: `{exponential_jitter: {initial: 0.025, max: 0.25}}`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import tenacity

from resilient.config.reader import FAULTY, Reader, join, named, seconds
from resilient.core import check

WAITS: Mapping[str, Callable[..., Any]] = {
    "exponential": tenacity.wait_exponential,
    "exponential_jitter": tenacity.wait_exponential_jitter,
    "incrementing": tenacity.wait_incrementing,
    "random": tenacity.wait_random,
    "random_exponential": tenacity.wait_random_exponential,
}
"""A number of seconds is a fixed wait, and needs no name."""
_FACTOR = "exp_base"  # the one of their settings that is not a duration


def read_wait(reader: Reader, path: str, data: Any, _base: Any) -> Any:
    """The part that reads `Retry.wait`: seconds, or a wait with its settings."""
    if isinstance(data, str) and data not in WAITS:
        data = seconds(data)
    if data is None or callable(data) or (isinstance(data, (int, float)) and not isinstance(data, bool)):
        return data
    name, settings = named(data)
    if name is None or name not in WAITS:
        reader.refuse(path, data, f"a number of seconds, or a mapping with one of {', '.join(WAITS)}")
        return FAULTY
    return _read_settings(reader, join(path, name), name, settings)


def _read_settings(reader: Reader, path: str, name: str, settings: Any) -> Any:
    parameters = inspect.signature(WAITS[name]).parameters
    known = reader.known(path, settings, parameters) or {}
    numbers = {setting: _number(reader, join(path, setting), setting, value) for setting, value in known.items()}
    if FAULTY in numbers.values():
        return FAULTY
    if "min" in numbers:
        longest = numbers.get("max", parameters["max"].default)
        if numbers["min"] > longest:
            reader.refuse(join(path, "min"), numbers["min"], f"at most {join(path, 'max')}, {longest:g}")
            return FAULTY
    return _wait(name, **numbers)


def _number(reader: Reader, path: str, setting: str, value: Any) -> Any:
    number: Any = seconds(value) if isinstance(value, str) and setting != _FACTOR else value

    def checked() -> float:
        if setting == _FACTOR:
            check.number(path, number, minimum=1.0)
        else:
            check.seconds(path, number, zero=True)
        return float(number)

    return reader.attempt("", checked)


@cache
def _wait(name: str, **settings: float) -> Any:
    # Tenacity's waits are equal only to themselves: without the cache, a file that is read again
    # would seem to hold a different policy, and the state of the old one would be lost.
    return WAITS[name](**settings)
