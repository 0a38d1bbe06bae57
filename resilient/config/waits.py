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
    known = reader.known(path, settings, inspect.signature(WAITS[name]).parameters) or {}
    numbers = {setting: _number(reader, join(path, setting), value) for setting, value in known.items()}
    return FAULTY if FAULTY in numbers.values() else _wait(name, **numbers)


def _number(reader: Reader, path: str, value: Any) -> Any:
    number: Any = seconds(value) if isinstance(value, str) else value

    def checked() -> float:
        check.seconds(path, number, zero=True)
        return float(number)

    return reader.attempt("", checked)


@cache
def _wait(name: str, **settings: float) -> Any:
    # Tenacity's waits are equal only to themselves: without the cache a file that is read
    # again would seem to hold another policy, and the state of the old one would be lost.
    return WAITS[name](**settings)
