"""Turns plain data into frozen values; goes on after a fault, so that all are listed at once.

It knows no particular setting. Only the class that has a field knows what is right for it: the
reader builds the value, and where the class refuses a field, it notes the fault under the path
of that field, and builds the rest.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, fields
from functools import cache
from typing import Any, get_args, get_type_hints

from resilient.core import check
from resilient.core.check import did_you_mean

Part = Callable[["Reader", str, Any, Any], Any]
"""Reads the value of one field, `part(reader, path, data, base)`; FAULTY once it has noted a fault."""

FAULTY: Any = object()
"""In place of a value that could not be read."""

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_TERM = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|m|s|us|µs|ns)", re.ASCII)
_FIELD = re.compile(r"(?:\w+\.)?(\w+)(.*)")  # of a ConfigError: `Retry.attempts`, `Failover.locality_weights['eu']`


class Reader:
    """Reads values, and keeps the faults. `parts`: how to read the fields that are not plain."""

    def __init__(self, parts: Mapping[tuple[type, str], Part]) -> None:
        self.faults: list[str] = []
        self.parts = dict(parts)

    def finish(self) -> None:
        """Raise one ConfigError with all faults, if there are any."""
        if self.faults:
            raise check.ConfigError("\n".join(self.faults))

    def refuse(self, path: str, value: object, expected: str) -> None:
        """Note a wrong value, shortened: it may be a whole section."""
        self.faults.append(f"{path}: {reprlib.repr(value)} is not valid; expected {expected}")

    def attempt(self, path: str, make: Callable[[], Any]) -> Any:
        """What `make` returns; FAULTY, and its fault noted, if it raises ConfigError."""
        try:
            return make()
        except check.ConfigError as error:
            self.faults.append(f"{path}: {error}" if path else str(error))
            return FAULTY

    def known(self, path: str, data: object, names: Iterable[str]) -> dict[str, Any] | None:
        """The fields of a mapping, None if it is not a mapping; other names are faults."""
        names = list(names)
        if not isinstance(data, Mapping):
            self.refuse(path or "configuration", data, "a mapping with some of " + ", ".join(names))
            return None
        for name in data:
            if name not in names:
                self.faults.append(f"{join(path, name)}: unknown field{did_you_mean(name, names)}")
        return {name: data[name] for name in names if name in data}

    def build(self, cls: type, path: str, data: object, base: object = None) -> Any:
        """A `cls` from a mapping, with the fields of `base` where the mapping has none.

        After a fault the value lacks the field at fault; FAULTY if it cannot do without it.
        """
        settings = {field.name: field for field in fields(cls) if field.init}
        data = self.known(path, data, settings)
        if data is None:
            return FAULTY
        kept = {name: getattr(base, name) for name in settings} if isinstance(base, cls) else {}
        read = {
            name: self._read(cls, settings[name], join(path, name), value, kept.get(name))
            for name, value in data.items()
        }
        required = {name for name, field in settings.items() if _is_required(field)} - kept.keys()
        self.faults += [f"{join(path, name)}: missing" for name in settings if name in required - read.keys()]
        given = {name: value for name, value in read.items() if value is not FAULTY}
        return self._make(cls, path, kept, given, required)

    def _read(self, cls: type, field: Field[Any], path: str, value: Any, base: Any) -> Any:
        part = self.parts.get((cls, field.name))
        if part is not None:
            return part(self, path, value, base)
        if isinstance(value, str) and field.name in _durations(cls):
            return seconds(value)
        return tuple(value) if isinstance(value, list) else value

    def _make(self, cls: type, path: str, kept: dict[str, Any], given: dict[str, Any], required: set[str]) -> Any:
        while required <= given.keys():
            try:
                return cls(**(kept | given))
            except check.ConfigError as error:
                name = self._note(cls, path, error)
            except (TypeError, ValueError, OverflowError) as error:
                # From a class that checks its settings less well than ours do.
                self.faults.append(f"{path}: {error}")
                return FAULTY
            if name not in given:
                return FAULTY
            del given[name]
        return FAULTY

    def _note(self, cls: type, path: str, error: check.ConfigError) -> str:
        """Note a fault that a class found; returns the name of the field, "" if it concerns none."""
        match = _FIELD.fullmatch(error.field)
        name, below = match.groups() if match is not None else ("", "")
        if name not in {field.name for field in fields(cls)}:
            self.faults.append(f"{path}: {str(error).removeprefix(f'{cls.__name__}: ')}")
            return ""
        self.faults.append(f"{join(path, name)}{below}{str(error).removeprefix(error.field)}")
        return name


def nested(cls: type) -> Part:
    """A field that holds a `cls`: a mapping of its fields."""

    def read(reader: Reader, path: str, data: Any, base: Any) -> Any:
        if data is None or not is_plain(data):
            return data
        return reader.build(cls, path, data, base)

    return read


def choice(options: Callable[[], Mapping[str, Callable[[], type]]]) -> Part:
    """A field that holds one of several classes: `name`, or `{name: {its settings}}`."""

    def read(reader: Reader, path: str, data: Any, base: Any) -> Any:
        if not is_plain(data):
            return data
        name, settings = named(data)
        known = options()
        if name is None or name not in known:
            reader.refuse(path, data, f"one of {', '.join(known)}, or {{name: {{its settings}}}}")
            return FAULTY
        cls = reader.attempt(path, known[name])
        return FAULTY if cls is FAULTY else reader.build(cls, join(path, name), settings, base)

    return read


def from_python(reader: Reader, path: str, data: Any, _base: Any) -> Any:
    """The part for fields that hold Python objects: a file can only switch them off."""
    if data is None or not is_plain(data):
        return data
    reader.refuse(path, data, "null, or an object that Python code puts there")
    return FAULTY


def named(data: Any) -> tuple[str | None, Any]:
    """`name` or `{name: settings}` as a name and settings; None and {} for anything else."""
    if isinstance(data, str):
        return data, {}
    if isinstance(data, Mapping) and len(data) == 1:
        name, settings = next(iter(data.items()))
        if isinstance(name, str):
            return name, {} if settings is None else settings
    return None, {}


def is_plain(data: object) -> bool:
    """True for what a file can hold; anything else is a value that Python code put there."""
    return data is None or isinstance(data, (str, bool, int, float, list, tuple, Mapping))


def seconds(text: str) -> float | str:
    """A duration as Envoy and Go write it, "250ms", "1.5s" or "1m30s", in seconds.

    Any other text is returned as it is, for the class of the field to refuse.
    """
    terms = _TERM.findall(text)
    if not terms or "".join(number + unit for number, unit in terms) != text:
        return text
    return sum(float(number) * _UNITS[unit] for number, unit in terms)


@cache
def _durations(cls: type) -> frozenset[str]:
    """The fields of a class whose type hint says that they are durations."""
    try:
        hints = get_type_hints(cls, include_extras=True)
    except Exception:  # noqa: BLE001  a third party's class may use names that only type checkers know
        return frozenset()
    return frozenset(name for name, hint in hints.items() if _is_duration(hint))


def _is_duration(hint: Any) -> bool:
    return check.SECONDS in getattr(hint, "__metadata__", ()) or any(map(_is_duration, get_args(hint)))


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def join(path: str, name: object) -> str:
    """The path of a field, on one line whatever the name."""
    shown = name if isinstance(name, str) and name and name.isprintable() else repr(name)
    return f"{path}.{shown}" if path else shown
