"""What a request is hashed by, and the hash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import Any

from resilient.core import check


@check.setting
@dataclass(frozen=True, kw_only=True, slots=True)
class HashOn:
    """The part of a request that decides its endpoint: exactly one of the four.

    `header`, `cookie`, `query`: the name of one; of a query parameter the first value counts
    (Envoy). `function`: a function of the request. A request without that part goes anywhere.
    """

    header: str | None = None
    cookie: str | None = None
    query: str | None = None
    function: Callable[[Any], str | bytes | None] | None = None

    def __post_init__(self) -> None:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        given = {name: value for name, value in given.items() if value is not None}
        if len(given) != 1:
            raise check.fault("HashOn", given, "exactly one of header, cookie, query and function")
        function = given.pop("function", None)
        if function is not None and not callable(function):
            raise check.fault("HashOn.function", function, "a function of the request")
        for name, value in given.items():
            if not isinstance(value, str) or not value:
                raise check.fault(f"HashOn.{name}", value, f"the name of a {name}")

    def key(self, request: Any) -> bytes | None:
        """The part of a request to hash; None if it does not have it."""
        value = self._value(request)
        if value is None or isinstance(value, bytes):
            return value
        if isinstance(value, str):
            return value.encode()
        raise TypeError(f"HashOn.function: {self.function!r} returned {value!r}; expected a str, bytes or None")

    def _value(self, request: Any) -> object:
        if self.function is not None:
            return self.function(request)
        if self.cookie is not None:
            return _cookie(request.headers.get("cookie") or "", self.cookie)
        source, name = (request.headers, self.header) if self.header is not None else (request.url.params, self.query)
        value: str | None = source.get(name)
        return value


def _cookie(header: str, name: str) -> str | None:
    for pair in header.split(";"):
        key, equals, value = pair.strip().partition("=")
        if equals and key == name:
            return value
    return None


def stable_hash(data: bytes) -> int:
    """64 bits of BLAKE2b: the same in every process, which Python's `hash` is not.

    Envoy and gRPC use XXH64, which is not in the standard library; a key costs 1 µs here.
    """
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")
