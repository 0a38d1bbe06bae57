"""What a wire can be told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from math import ceil, floor, inf
from typing import Any, Literal, get_args

from resilient.core import check
from resilient.identity.tls import TLS

Engine = Literal["default", "fast"]
SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


@check.setting
@dataclass(frozen=True, slots=True)
class WireSettings:
    """Connections to one endpoint: how they are made, how many, how long they live.

    `max_connections` (100, as httpx) counts for each endpoint; None for no limit.
    `max_keepalive` is how many of them may stay open while idle: None for all of them, since
    a smaller number makes a busy client reconnect all the time. An idle connection is closed
    after `keepalive_expiry` seconds (5, as httpx; None for never). A connection older than
    `max_connection_age` seconds takes no further request (None: no limit, as Envoy's
    `max_connection_duration`); each one draws an age up to 10 % smaller, so that
    connections opened together are not closed together. `http2` needs the `h2` package.
    `engine` is what reads HTTP/1.1: "default", which is h11, or "fast", which is llhttp and
    needs the `httptools` package: `pip install resilient-mesh[fast]`.
    """

    tls: TLS = TLS()
    http1: bool = True
    http2: bool = False
    max_connections: int | None = 100
    max_keepalive: int | None = None
    keepalive_expiry: float | None = 5.0
    max_connection_age: float | None = None
    local_address: str | None = None
    socket_options: Iterable[SocketOption] = ()
    engine: Engine = "default"

    def __post_init__(self) -> None:
        if not (self.http1 or self.http2):
            raise check.fault("WireSettings.http1", self.http1, "True, or else http2=True")
        if self.max_connections is not None:
            check.count("WireSettings.max_connections", self.max_connections)
        if self.max_keepalive is not None:
            check.count("WireSettings.max_keepalive", self.max_keepalive, minimum=0)
        if self.keepalive_expiry is not None:
            check.seconds("WireSettings.keepalive_expiry", self.keepalive_expiry, zero=True)
        check.optional_seconds("WireSettings.max_connection_age", self.max_connection_age)
        check_engine("WireSettings.engine", self.engine)
        object.__setattr__(self, "socket_options", tuple(self.socket_options))


def of_limits(limits: Any) -> tuple[int | None, int | None, float | None]:
    """An `httpx.Limits` as `max_connections`, `max_keepalive` and `keepalive_expiry`.

    What httpx serves means the same here: parts of a connection, infinities, a keep-alive below 0
    for none. Raises ConfigError for what is no number, and for no connections at all, with which
    each of its requests ends in a PoolTimeout.
    """
    some = "a number > 0, or None for no limit"
    connections = _limit("max_connections", limits.max_connections, some)
    if connections is not None and connections <= 0:
        raise check.fault("limits.max_connections", connections, some)
    keepalive = _limit("max_keepalive_connections", limits.max_keepalive_connections, "a number, or None for all")
    expiry = _limit("keepalive_expiry", limits.keepalive_expiry, "a number of seconds, or None for never")
    return (
        None if connections is None else ceil(connections),
        None if keepalive is None else max(0, floor(keepalive)),
        None if expiry is None else max(0.0, expiry),
    )


def _limit(name: str, value: object, expected: str) -> float | None:
    if value is None or value == inf:
        return None
    if not check.is_number(value):
        raise check.fault(f"limits.{name}", value, expected)
    assert isinstance(value, (int, float))
    return value


def check_engine(field: str, engine: str) -> None:
    """Refuse an engine that does not exist, or is not installed."""
    if engine not in get_args(Engine):
        raise check.fault(field, engine, " or ".join(map(repr, get_args(Engine))))
    if engine == "fast" and find_spec("httptools") is None:
        raise check.fault(field, engine, "'default', or `pip install resilient-mesh[fast]`")
