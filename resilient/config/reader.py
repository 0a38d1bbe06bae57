"""Plain data into frozen values: goes on after a fault, so that all are listed at once.

It knows no particular setting. What is right for a field is known by the class that has the
field, and by it alone: the reader builds the value, and where the class refuses a field, it
notes the fault under the path of that field, and builds the rest.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, fields
from typing import Any

from resilient.core import check

Part = Callable[["Reader", str, Any, Any], Any]
"""Reads the value of one field: `part(reader, path, data, base)`."""

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_TERM = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|m|s|us|µs|ns)", re.ASCII)
_BY_CLASS = re.compile(r"\w+\.(\w+)(.*)", re.DOTALL)  # `Retry.attempts: 0 is not valid; ...`


class Reader:
    """Reads values, and keeps the faults. `parts`: how to read the fields that are not plain."""

    def __init__(self, parts: Mapping[tuple[type, str], Part]) -> None:
        self.faults: list[str] = []
        self._parts = parts

    def finish(self) -> None:
        """Raise one ConfigError with all faults, if there are any."""
        if self.faults:
            raise check.ConfigError("\n".join(self.faults))

    def refuse(self, path: str, value: object, expected: str) -> None:
        """Note a wrong value."""
        self.faults.append(str(check.fault(path, value, expected)))

    def attempt(self, path: str, make: Callable[[], Any]) -> Any:
        """What `make` returns; None, and its fault noted, if it raises ConfigError."""
        try:
            return make()
        except check.ConfigError as error:
            self.faults.append(f"{path}: {error}")

    def known(self, path: str, data: object, names: Iterable[str]) -> dict[str, Any]:
        """The fields of a mapping; other names are faults."""
        names = list(names)
        if not isinstance(data, Mapping):
            self.refuse(path, data, "a mapping with some of " + ", ".join(names))
            return {}
        for name in data:
            if name not in names:
                self.faults.append(f"{join(path, name)}: unknown field{did_you_mean(name, names)}")
        return {name: data[name] for name in names if name in data}

    def build(self, cls: type, path: str, data: object, base: object = None) -> Any:
        """A `cls` from a mapping, with the fields of `base` where the mapping has none.

        After a fault the value lacks the field at fault; None if it cannot be built.
        """
        settings = {field.name: field for field in fields(cls) if field.init}
        kept = {name: getattr(base, name) for name in settings} if isinstance(base, cls) else {}
        given = self.known(path, data, settings)
        for name, value in given.items():
            given[name] = self._read(cls, settings[name], join(path, name), value, kept.get(name))
        missing = [name for name in settings.keys() - kept.keys() - given.keys() if _is_required(settings[name])]
        for name in missing:
            self.faults.append(f"{join(path, name)}: missing")
        return None if missing else self._make(cls, path, kept, given)

    def _read(self, cls: type, field: Field[Any], path: str, value: Any, base: Any) -> Any:
        part = self._parts.get((cls, field.name))
        if part is not None:
            return part(self, path, value, base)
        if isinstance(value, str) and _holds_seconds(field):
            return seconds(value)
        return tuple(value) if isinstance(value, list) else value

    def _make(self, cls: type, path: str, kept: dict[str, Any], given: dict[str, Any]) -> Any:
        while True:
            try:
                return cls(**(kept | given))
            except check.ConfigError as error:
                name = self._note(path, error, given)
            if name is None:
                return None
            del given[name]

    def _note(self, path: str, error: check.ConfigError, given: Mapping[str, Any]) -> str | None:
        """Note a fault that a class found; the name of the field, if it is one of `given`."""
        match = _BY_CLASS.match(str(error))
        if match is None:
            self.faults.append(f"{path}: {error}")
            return None
        name, rest = match.groups()
        self.faults.append(f"{join(path, name)}{rest}")
        return name if name in given else None


def nested(cls: type) -> Part:
    """A field that holds a `cls`: a mapping of its fields."""

    def read(reader: Reader, path: str, data: Any, base: Any) -> Any:
        if data is None or not is_plain(data):
            return data
        return reader.build(cls, path, data, base)

    return read


def choice(options: Callable[[], Mapping[str, type]]) -> Part:
    """A field that holds one of several classes: `name`, or `{name: {its settings}}`."""

    def read(reader: Reader, path: str, data: Any, base: Any) -> Any:
        if not is_plain(data):
            return data
        name, settings = _named(data)
        known = options()
        if name not in known:
            reader.refuse(path, data, f"one of {', '.join(known)}, or {{name: {{its settings}}}}")
            return base
        return reader.build(known[name], join(path, name), settings, base)

    return read


def _named(data: Any) -> tuple[Any, Any]:
    if isinstance(data, Mapping) and len(data) == 1:
        ((name, settings),) = data.items()
        return (name, settings) if isinstance(name, str) else (None, {})
    return (data, {}) if isinstance(data, str) else (None, {})


def is_plain(data: object) -> bool:
    """True for what a file can hold; anything else is a value that Python code put there."""
    return data is None or isinstance(data, (str, bool, int, float, list, tuple, Mapping))


def seconds(text: str) -> float | str:
    """"250ms", "1.5s" or "1m30s" (as Envoy and Go write durations) in seconds.

    Any other text is returned as it is, for the class of the field to refuse.
    """
    terms = _TERM.findall(text)
    if not terms or "".join(number + unit for number, unit in terms) != text:
        return text
    return sum(float(number) * _UNITS[unit] for number, unit in terms)


def _holds_seconds(field: Field[Any]) -> bool:
    return "float" in str(field.type) and not field.name.endswith(("ratio", "_per_second"))


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def join(path: str, name: object) -> str:
    """The path of a field."""
    return f"{path}.{name}" if path else str(name)


def did_you_mean(name: object, names: Iterable[str]) -> str:
    """What to add to the fault of an unknown name."""
    names = list(names)
    near = difflib.get_close_matches(str(name), names, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; expected {'some of ' + ', '.join(names) if names else 'none'}"
