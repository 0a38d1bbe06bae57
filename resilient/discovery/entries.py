"""Endpoints as users write them: text, pairs and mappings. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from resilient.balance.endpoint import Endpoint, Locality, parse_endpoint
from resilient.core import check

Entry = str | Endpoint | tuple[str | Endpoint, float] | Mapping[str, Any]
"""The ways to write one endpoint."""

_FIELDS = ("host", "port", "weight", "priority", "locality", "labels")
_LOCALITY_FIELDS = ("region", "zone", "subzone")


def endpoint_of(entry: object, path: str) -> Endpoint:
    """One endpoint; raises ConfigError, beginning with `path`, for anything else."""
    try:
        return _endpoint_of(entry)
    except check.ConfigError as error:
        raise check.ConfigError(f"{path}: {error}") from None


def _endpoint_of(entry: object) -> Endpoint:
    if isinstance(entry, Endpoint):
        return entry
    if isinstance(entry, str):
        return parse_endpoint(entry)
    if isinstance(entry, Mapping):
        return _from_mapping(entry)
    if isinstance(entry, tuple) and len(entry) == 2:
        address, weight = entry
        return replace(_endpoint_of(address), weight=weight)
    raise check.fault("endpoint", entry, f"an address, (address, weight), or a mapping with {', '.join(_FIELDS)}")


def _from_mapping(entry: Mapping[object, object]) -> Endpoint:
    settings = _known_fields(entry, _FIELDS)
    check.instance("host", settings.get("host"), str, "an IP address, a DNS name or a Unix socket's path")
    if "port" not in settings:
        address = parse_endpoint(settings["host"])
        settings |= {"host": address.host, "port": address.port}
    if "locality" in settings:
        settings["locality"] = locality_of(settings["locality"])
    if "labels" in settings:
        settings["labels"] = _labels(settings["labels"])
    return Endpoint(**settings)


def _known_fields(entry: Mapping[object, object], fields: tuple[str, ...]) -> dict[str, Any]:
    for name in entry:
        if name not in fields:
            raise check.ConfigError(f"unknown field {name!r}; expected some of {', '.join(fields)}")
    return {str(name): value for name, value in entry.items()}


def locality_of(value: object) -> Locality:
    """A Locality from a mapping, or from "region/zone/subzone" as Istio writes it."""
    if isinstance(value, Locality):
        return value
    if isinstance(value, str) and value.count("/") < len(_LOCALITY_FIELDS):
        return Locality(*value.split("/"))
    if isinstance(value, Mapping):
        parts = _known_fields(value, _LOCALITY_FIELDS)
        for name, part in parts.items():
            check.instance(f"locality.{name}", part, str, "a string")
        return Locality(**parts)
    raise check.fault("locality", value, '"region/zone/subzone", or a mapping with some of these')


def _labels(value: object) -> tuple[tuple[str, str], ...]:
    check.instance("labels", value, Mapping, "a mapping of strings to strings")
    labels = cast(Mapping[object, object], value)
    for name, label in labels.items():
        check.instance("labels", name, str, "a mapping of strings to strings")
        check.instance(f"labels.{name}", label, str, "a string (in quotes, if it looks like a number)")
    return tuple(sorted(cast(Mapping[str, str], labels).items()))
