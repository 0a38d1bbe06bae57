"""Breaker: stops calls to a service that fails, and lets a few through to see if it still does.

CLOSED passes, OPEN refuses, HALF-OPEN lets probes through: the terms of the field, and of
pybreaker.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass

from pybreaker import (
    STATE_CLOSED,
    CircuitBreaker,
    CircuitBreakerListener,
    CircuitBreakerStorage,
    CircuitMemoryStorage,
)

from resilient.core import check
from resilient.policy.breaker_state import BreakerState
from resilient.policy.circuit import Circuit, ErrorListener, storage_of
from resilient.policy.phases import Permit

__all__ = ["Breaker", "BreakerState", "Permit"]

_MIN_WINDOW = 0.1  # seconds; a bucket of less than 10 ms holds chance, not a rate


def ignore(_error: Exception) -> None:
    """Drop the error: nobody asked for it."""


@check.setting
@dataclass(frozen=True, slots=True)
class Breaker:
    """When a service is failing, and how long it is left alone.

    CLOSED: it opens on the failure that brings the share of failures among the results of
    the last `window` seconds to `failure_ratio`, once there are `minimum_throughput` results;
    or on `consecutive_failures` of them. None switches either of the two off.
    OPEN: refuses for `break_duration` seconds; with `max_break_duration` each failed probe
    doubles the break, up to that (Linkerd, Finagle); a recovery resets it.
    HALF-OPEN: `probes` successes close it, with an empty window, and one failure opens it.
    No more calls are let through than successes are missing. A probe without a result after
    `break_duration` seconds gives up its place, so that a lost one cannot block recovery; its
    result still counts if it comes.

    Only SUCCESS and FAILURE count. REFUSED and IGNORED are no evidence: cancellation does
    nothing, and a probe that ends this way makes room for another.

    Defaults: half of at least 20 results in 10 s, in ten buckets; 5 s; one probe. All are
    Hystrix's, and Polly and Linkerd have the same break or window. Like Polly, it can open
    only on a failure.

    `storage`: any pybreaker storage. One in memory is used in place; any other may do I/O,
    and is read and written off the request path, every `sync_interval` seconds, so that a
    breaker which opens or closes in one process does so in all. A storage holds one circuit:
    services with the same one open together. Give the client of a remote storage a timeout
    (Redis: `socket_timeout`): a thread waits for it. `listeners`: pybreaker listeners. They are
    called at once, on the thread or event loop of the call, with none of our locks held; what
    one raises does not reach the call.

    `Breaker(circuit_breaker)` takes everything from a ready `pybreaker.CircuitBreaker`, and
    accepts no other setting beside it: `fail_max` is `consecutive_failures`, `reset_timeout` is
    `break_duration`, `success_threshold` is `probes`, as they are now; listeners, exclusions,
    storage and `open()` / `close()` by hand are followed whenever they change. Excluded
    exceptions are no evidence. (To pybreaker they are successes, so failures that alternate
    with excluded ones never open it.)
    """

    circuit_breaker: CircuitBreaker | None = None
    _: KW_ONLY
    failure_ratio: float | None = 0.5
    minimum_throughput: int = 20
    window: check.Seconds = 10.0
    break_duration: check.Seconds = 5.0
    consecutive_failures: int | None = None
    probes: int = 1
    max_break_duration: check.Seconds | None = None
    storage: CircuitBreakerStorage | None = None
    listeners: Iterable[CircuitBreakerListener] = ()
    sync_interval: check.Seconds = 1.0

    def __post_init__(self) -> None:
        if self.circuit_breaker is not None:
            self._take_settings(self.circuit_breaker)
        self._check_trip()
        self._check_break()
        check.instance("Breaker.storage", self.storage, (CircuitBreakerStorage, type(None)), "a pybreaker storage")
        check.instance("Breaker.listeners", self.listeners, Iterable, "a list of pybreaker listeners")
        object.__setattr__(self, "listeners", tuple(self.listeners))
        for listener in self.listeners:
            check.instance("Breaker.listeners", listener, CircuitBreakerListener, "pybreaker listeners")
        check.seconds("Breaker.sync_interval", self.sync_interval)

    def _take_settings(self, ready: CircuitBreaker) -> None:
        check.instance("Breaker.circuit_breaker", ready, CircuitBreaker, "a pybreaker.CircuitBreaker")
        taken = {
            "failure_ratio": None,
            "consecutive_failures": ready.fail_max,
            "break_duration": ready.reset_timeout,
            "probes": ready.success_threshold,
            "storage": None,
            "listeners": (),
        }
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name, value in taken.items():
            given = getattr(self, name)
            if given not in (defaults[name], value):
                raise check.fault(f"Breaker.{name}", given, "nothing beside a CircuitBreaker, which brings its own")
            object.__setattr__(self, name, value)

    def _check_trip(self) -> None:
        if self.failure_ratio is None and self.consecutive_failures is None:
            raise check.fault("Breaker.failure_ratio", None, "a ratio, unless consecutive_failures is set")
        if self.failure_ratio is not None:
            check.ratio("Breaker.failure_ratio", self.failure_ratio)
            check.number("Breaker.failure_ratio", self.failure_ratio, above=True)
        if self.consecutive_failures is not None:
            check.count("Breaker.consecutive_failures", self.consecutive_failures)
        check.count("Breaker.minimum_throughput", self.minimum_throughput)
        check.seconds("Breaker.window", self.window)
        if self.window < _MIN_WINDOW:
            raise check.fault("Breaker.window", self.window, f"at least {_MIN_WINDOW} seconds")

    def _check_break(self) -> None:
        check.seconds("Breaker.break_duration", self.break_duration)
        check.count("Breaker.probes", self.probes)
        check.optional_seconds("Breaker.max_break_duration", self.max_break_duration)
        if self.max_break_duration is not None and self.max_break_duration < self.break_duration:
            raise check.fault("Breaker.max_break_duration", self.max_break_duration, "at least Breaker.break_duration")

    @classmethod
    def coerce(cls, value: Breaker | CircuitBreaker) -> Breaker:
        """`value` as a Breaker; raises ConfigError if it is neither that nor a CircuitBreaker."""
        if isinstance(value, CircuitBreaker):
            return cls(value)
        check.instance("breaker", value, Breaker, "a Breaker, or a pybreaker.CircuitBreaker")
        return value

    def bind(self, name: str, on_listener_error: ErrorListener = ignore) -> BreakerState:
        """A breaker for the service `name`; `on_listener_error` gets what listeners raise.

        CLOSED, unless the storage says otherwise.
        """
        ready = self.circuit_breaker
        storage = self.storage if ready is None else storage_of(ready)
        local = storage if isinstance(storage, CircuitMemoryStorage) else CircuitMemoryStorage(STATE_CLOSED)
        circuit = Circuit(name, ready or self._new_circuit_breaker(name, local), local, on_listener_error)
        return BreakerState(self, name, circuit, remote=None if storage is local else storage)

    def _new_circuit_breaker(self, name: str, storage: CircuitMemoryStorage) -> CircuitBreaker:
        """The breaker that listeners are given if the user brought none."""
        return CircuitBreaker(
            fail_max=self.consecutive_failures or sys.maxsize,
            reset_timeout=self.break_duration,
            success_threshold=self.probes,
            listeners=tuple(self.listeners),
            state_storage=storage,
            name=name,
        )
