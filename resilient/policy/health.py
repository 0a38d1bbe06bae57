"""Active health checks: when an endpoint is checked, and what follows from its answers.

The defaults, the names and the rules are those of Envoy's health checker. One differs: traffic
is the better check, so endpoints that get any are not checked (`only`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random
from typing import Literal

from resilient.core import check

_LEASE = 3  # checks that may fail to come before a verdict lapses
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110 section 5.6.2
_HOST = re.compile(r"[^\s/?#@\\]+")


@check.setting
@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How the health of endpoints is checked, and how often. All times in seconds.

    `protocol`: "http" asks for `path` and expects one of `expected_statuses` (200);
    "tcp" is content with a connection; "grpc" calls `grpc.health.v1.Health/Check` for the
    service `grpc_service` ("" for the server as a whole) and needs the package h2.
    `scheme`: "https" for checks over TLS, since only requests name the scheme of a service;
    `verify`: True for the usual certificate authorities, a path for others, False for none.
    `host`: what checks call the endpoint (Host header, TLS name); None for the service's name.

    `only`: which endpoints are checked. "idle" (default): those that got no request since their
    last check, are ejected or are unhealthy; "new": those that join a set in use, until they
    first answer, so that none is picked before it listens; "all".
    `interval`: between checks of an endpoint (10), `unhealthy_interval` while it is unhealthy;
    `unhealthy_edge_interval`, `healthy_edge_interval`: the first interval after it became so;
    None for the one that applies afterwards. `no_traffic_interval`: while the service has never
    been called (60). `jitter_ratio`: up to this share of each is added at random (0.1), and the
    first check comes at a random moment of the first interval, so processes that start together
    do not check together.
    `timeout`: of one check (1). `unhealthy_threshold`: unanswered checks in a row after which an
    endpoint gets no requests (3); an unexpected status does that at once, except for
    `retriable_statuses`. `healthy_threshold`: good checks in a row after which it gets requests
    again (2); one is enough for an endpoint that is new.
    `restores_ejected`: the same number of good checks ends an ejection too (Envoy's
    `successful_active_health_check_uneject_host`).
    """

    path: str = "/healthz"
    protocol: Literal["http", "tcp", "grpc"] = "http"
    only: Literal["idle", "new", "all"] = "idle"
    interval: check.Seconds = 10.0
    timeout: check.Seconds = 1.0
    unhealthy_threshold: int = 3
    healthy_threshold: int = 2
    unhealthy_interval: check.Seconds | None = None
    unhealthy_edge_interval: check.Seconds | None = None
    healthy_edge_interval: check.Seconds | None = None
    no_traffic_interval: check.Seconds = 60.0
    jitter_ratio: float = 0.1
    expected_statuses: tuple[int, ...] = (200,)
    retriable_statuses: tuple[int, ...] = ()
    method: str = "GET"
    host: str | None = None
    scheme: Literal["http", "https"] = "http"
    verify: bool | str = True
    grpc_service: str = ""
    restores_ejected: bool = True

    def __post_init__(self) -> None:
        check.one_of("HealthCheck.protocol", self.protocol, ("http", "tcp", "grpc"))
        check.one_of("HealthCheck.only", self.only, ("idle", "new", "all"))
        check.one_of("HealthCheck.scheme", self.scheme, ("http", "https"))
        if not isinstance(self.path, str) or not self.path.startswith("/") or not self.path.isprintable():
            raise check.fault("HealthCheck.path", self.path, "a path such as '/healthz'")
        self._check_times()
        for name in ("expected_statuses", "retriable_statuses"):
            given = getattr(self, name)
            statuses = tuple(sorted(check.statuses(f"HealthCheck.{name}", given)))
            if name == "expected_statuses" and not statuses:
                raise check.fault("HealthCheck.expected_statuses", given, "at least one status")
            object.__setattr__(self, name, statuses)
        if not isinstance(self.method, str) or not _METHOD.fullmatch(self.method):
            raise check.fault("HealthCheck.method", self.method, "a method such as 'GET'")
        if self.host is not None:
            self._check_host(self.host)
        check.instance("HealthCheck.verify", self.verify, (bool, str), "True, False, or a path")
        check.instance("HealthCheck.grpc_service", self.grpc_service, str, "the full name of a gRPC service, or ''")
        check.flag("HealthCheck.restores_ejected", self.restores_ejected)

    def _check_host(self, host: object) -> None:
        if not isinstance(host, str) or not _HOST.fullmatch(host) or not host.isprintable():
            raise check.fault("HealthCheck.host", host, "a host name, or None for the service's")

    def _check_times(self) -> None:
        check.seconds("HealthCheck.interval", self.interval)
        check.seconds("HealthCheck.timeout", self.timeout)
        check.seconds("HealthCheck.no_traffic_interval", self.no_traffic_interval)
        for name in ("unhealthy_interval", "unhealthy_edge_interval", "healthy_edge_interval"):
            if getattr(self, name) is not None:
                check.seconds(f"HealthCheck.{name}", getattr(self, name))
        check.count("HealthCheck.unhealthy_threshold", self.unhealthy_threshold)
        check.count("HealthCheck.healthy_threshold", self.healthy_threshold)
        check.ratio("HealthCheck.jitter_ratio", self.jitter_ratio)

    @property
    def lease(self) -> float:
        """Seconds for which a verdict holds unless a check renews it.

        So no endpoint is kept out forever by a checker that is gone, as after a fork.
        """
        unhealthy = self.interval if self.unhealthy_interval is None else self.unhealthy_interval
        longest = max(unhealthy, self.unhealthy_edge_interval or 0.0)
        return _LEASE * (longest * (1.0 + self.jitter_ratio) + self.timeout)


class HealthState:
    """What checks have found out about one endpoint.

    It counts as healthy until they say otherwise, except one that is `new` to a set in use,
    which is unhealthy until its first good check.
    """

    __slots__ = ("_good", "_is_edge", "_needed", "_run", "_setting", "healthy")

    def __init__(self, setting: HealthCheck, *, new: bool = False) -> None:
        self._setting = setting
        self.healthy = not new
        self._needed = 1 if new else setting.healthy_threshold
        self._run = 0
        self._good = 0
        self._is_edge = False

    def observe(self, *, ok: bool, at_once: bool = False) -> bool:
        """Count the result of a check; True if the endpoint became healthy or unhealthy by it.

        `at_once`: a failure that needs no confirmation.
        """
        self._is_edge = False
        if ok == self.healthy:
            self._run = 0
            return False
        self._run += 1
        if self._run < (self._needed if ok else self._setting.unhealthy_threshold) and not at_once:
            return False
        self._turn(healthy=ok)
        return True

    def fail(self) -> None:
        """The endpoint was found to be unhealthy in some other way."""
        if self.healthy:
            self._turn(healthy=False)

    def recovers(self, *, ok: bool) -> bool:
        """Count a check of an ejected endpoint; True if it has proved healthy, and may come back."""
        self._good = self._good + 1 if ok else 0
        if not self._setting.restores_ejected or self._good < self._setting.healthy_threshold:
            return False
        self._good = 0
        return True

    def _turn(self, *, healthy: bool) -> None:
        self.healthy = healthy
        self._needed = self._setting.healthy_threshold
        self._run = 0
        self._is_edge = True

    def first_at(self, now: float, rng: Random) -> float:
        """When the first check is due: at once for a new endpoint, else some time in an interval."""
        return now + self._setting.interval * rng.random() if self.healthy else now

    def next_at(self, now: float, rng: Random, *, traffic: bool = True) -> float:
        """When the next check is due after one that ended at `now`.

        `traffic`: whether the service was ever called.
        """
        return now + self._interval(traffic) * (1.0 + self._setting.jitter_ratio * rng.random())

    def _interval(self, traffic: bool) -> float:
        setting = self._setting
        if self.healthy:
            edge, steady = setting.healthy_edge_interval, setting.interval
        else:
            edge, steady = setting.unhealthy_edge_interval, setting.unhealthy_interval or setting.interval
        if self._is_edge and edge is not None:
            return edge
        return steady if traffic or not self.healthy else max(steady, setting.no_traffic_interval)
