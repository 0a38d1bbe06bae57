"""What a response says about a rate limit: how many requests are left, and until when."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import ceil
from typing import Any, NamedTuple

from resilient.core.classify import http_date

_ITEM = re.compile(r'\s*"(?:[^"\\]|\\.)*"((?:\s*;\s*[a-z*][a-z0-9_.*-]*(?:=(?:"[^"]*"|[^;,"\s]+))?)*)\s*(?:,|$)')
_PARAMETER = re.compile(r";\s*([rt])=(\d{1,15})(?![^;,\s])")
_MEMBER = re.compile(r"\s*([a-z]+)\s*=\s*(\d{1,15})\s*(?:,|$)")
_PREFIXES = ("ratelimit", "x-ratelimit", "x-rate-limit")
_EPOCH = 1e9  # a `Reset` above it is a time (GitHub), one below it is seconds (the older drafts)


class Quota(NamedTuple):
    """How many requests are left, for how many seconds. No promise: limits are shared."""

    remaining: int
    seconds: float

    @property
    def interval(self) -> float:
        """Seconds between requests that would use it up evenly."""
        return self.seconds / max(1, self.remaining)


def quota(headers: Mapping[str, str] | Any) -> Quota | None:
    """The tightest quota that the headers of a response announce; None if there is none.

    `RateLimit: "default";r=50;t=30` (draft-ietf-httpapi-ratelimit-headers-08 and later), its
    form up to draft 07, `RateLimit: limit=100, remaining=50, reset=30`, and the pairs of
    `RateLimit-Remaining` and `-Reset`, also with `X-` in front. What is malformed is ignored,
    and so is what comes from a cache: its `Age` shows that it is old.
    """
    if "age" in headers:
        return None
    field = headers.get("ratelimit")
    found = [] if field is None else [*_items(field)] or [*_members(field)]
    if not found:
        found = [*_pairs(headers)]
    return max(found, key=lambda each: each.interval, default=None)


def _items(field: str) -> Iterator[Quota]:
    """The structured form, one quota for each policy; none if any of it is malformed."""
    quotas, position = [], 0
    while position < len(field):
        item = _ITEM.match(field, position)
        if item is None:
            return
        position = item.end()
        parameters = dict(_PARAMETER.findall(item[1]))
        if len(parameters) == 2:
            quotas.append(Quota(int(parameters["r"]), float(parameters["t"])))
    yield from quotas


def _members(field: str) -> Iterator[Quota]:
    members = dict(_MEMBER.findall(field))
    if "remaining" in members and "reset" in members:
        yield Quota(int(members["remaining"]), float(members["reset"]))


def _pairs(headers: Any) -> Iterator[Quota]:
    for prefix in _PREFIXES:
        remaining, reset = headers.get(f"{prefix}-remaining"), headers.get(f"{prefix}-reset")
        if _is_number(remaining) and _is_number(reset):
            seconds = _from_now(float(reset), headers)
            if seconds is not None:
                yield Quota(ceil(float(remaining)), seconds)


def _is_number(text: str | None) -> bool:
    return text is not None and re.fullmatch(r"\d{1,15}(\.\d{1,9})?", text.strip(), re.ASCII) is not None


def _from_now(reset: float, headers: Any) -> float | None:
    """Seconds until a reset that may be a time; it is compared with the answer's own `Date`."""
    if reset < _EPOCH:
        return reset
    base = http_date(headers.get("date") or "")
    return None if base is None else max(0.0, reset - base)
