"""Mesh: the services and their state, shared by any number of clients."""

from __future__ import annotations

import difflib
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from random import Random
from typing import Any, Self

from resilient.balance.endpoint import Endpoint, Locality
from resilient.balance.subset import Subset
from resilient.config import MeshConfig, as_config, load
from resilient.core import check
from resilient.core.bound import Bound
from resilient.core.classify import HttpClassifier
from resilient.discovery.dns import dns
from resilient.discovery.entries import locality_of
from resilient.policy.limit import LimitState
from resilient.policy.policy import Policy
from resilient.runtime.breaker_mirror import BreakerMirror
from resilient.runtime.control import Control, Repeated, Watch
from resilient.runtime.health import HealthChecker
from resilient.runtime.lag import Lags
from resilient.service import Service

log = logging.getLogger("resilient.breaker")
_CLASSIFIER = HttpClassifier(time.time)
_MAX_UNCONFIGURED = 1024  # hosts; a crawler must not fill the memory with statistics


@dataclass(frozen=True)
class Snapshot:
    """What requests read: replaced as a whole, never changed (but for hosts met by the way)."""

    config: MeshConfig
    services: Mapping[str, Bound]
    hosts: dict[tuple[str, int, bool], Bound] = field(default_factory=dict)
    """Hosts that are not configured, by name, port, and whether we choose the address."""


class Mesh:
    """Services, and all that is known about their endpoints.

    `services`: name to Service; the name is the host of the URLs (`http://orders/...`).
    `policy`: for services without one, and for every other host. `strict`: refuse hosts that
    are not services. `locality`: where this process runs, as a Locality or "region/zone/subzone";
    default: the environment variable RESILIENT_LOCALITY. `seed`: makes the choices of this mesh
    repeatable. `max_lag`: seconds by which an event loop of ours may be late (0.05); while it is
    later than that, timeouts are not held against endpoints, and nothing is hedged.

    A Mesh may be shared by clients of any kind, threads and event loops. It starts at most
    one thread, when a source has to be watched or health be checked; `close()` ends it, and so does the end of
    the program.
    """

    def __init__(
        self,
        services: Mapping[str, Service] | None = None,
        *,
        policy: Policy | None = None,
        strict: bool = False,
        locality: Locality | str | None = None,
        seed: int | None = None,
        max_lag: float = 0.05,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check.seconds("Mesh.max_lag", max_lag)
        self.clock = clock
        self.lags = Lags(max_lag, clock)
        self.rng = Random(seed)
        self.locality = locality_of(os.environ.get("RESILIENT_LOCALITY", "") if locality is None else locality)
        self._control = Control(clock, Random(self.rng.random()))
        self._lock = threading.Lock()
        self._is_forked = False
        self.closed = False
        self.snapshot = Snapshot(MeshConfig({}, Policy(), False), {})
        self.apply(MeshConfig(services or {}, policy or Policy(), strict))
        _meshes.add(self)
        weakref.finalize(self, self._control.close, 0.0)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **options: Any) -> Self:
        """A mesh from a YAML, TOML or JSON file; raises ConfigError that lists every fault."""
        mesh = cls(**options)
        mesh.apply(load(Path(path)))
        return mesh

    def apply(self, config: MeshConfig | Mapping[str, Any]) -> None:
        """Replace the configuration; calls in flight end under the old one.

        Takes a MeshConfig, a mapping of names to Services (the rest stays as it is), or plain
        data as a configuration file holds. Statistics, and the state of every policy that did
        not change, are kept. Raises ConfigError, and changes nothing, if something is wrong.
        """
        with self._lock:
            self._refuse_if_closed()
            old = self.snapshot
            new = as_config(config, old.config)
            services = {name: self._bind(name, service, new.policy, old) for name, service in new.services.items()}
            hosts = old.hosts if new.policy == old.config.policy and not new.strict else {}
            hosts = {key: bound for key, bound in hosts.items() if key[0] not in services}
            self.snapshot = Snapshot(new, services, hosts)
        kept = {id(bound) for bound in [*services.values(), *hosts.values()]}
        for bound in [*old.services.values(), *old.hosts.values()]:
            if id(bound) not in kept:
                self._release(bound)

    def _bind(self, name: str, service: Service, policy: Policy, old: Snapshot) -> Bound:
        policy = service.policy or policy
        previous = old.services.get(name)
        if previous is not None and previous.policy == policy and service.same_endpoints(old.config.services[name]):
            return previous
        bound = self._new_bound(name, policy, service.chosen)
        if previous is not None:
            bound.adopt(previous)
            if previous.endpoints:
                bound.update(previous.endpoints, self.clock())
        self._mirror(bound)  # not before: its breaker may be that of `previous`
        bound.watch = self._control.watch(bound, service.source)
        self._check_health(bound)
        return bound

    def _new_bound(self, name: str, policy: Policy, subset: Subset | None = None) -> Bound:
        return Bound(name, policy, self.rng, _CLASSIFIER, _log_listener, locality=self.locality, subset=subset)

    def _check_health(self, bound: Bound) -> None:
        if bound.policy.health is not None:
            bound.checker = self._control.check(bound)

    def _mirror(self, bound: Bound) -> None:
        if bound.breaker is not None and bound.breaker.remote is not None:
            mirror = BreakerMirror(bound.breaker)
            bound.mirror = self._control.repeat(mirror.sync_once, mirror.interval)

    def _release(self, bound: Bound) -> None:
        """Nothing keeps a service up to date that is not in use any more."""
        if isinstance(bound.watch, Watch):
            self._control.unwatch(bound.watch)
        if isinstance(bound.mirror, Repeated):
            self._control.stop(bound.mirror)
        if isinstance(bound.checker, HealthChecker):
            self._control.stop(bound.checker)

    def find(self, host: str, port: int, *, dials: bool = True, resolve: bool = True) -> Bound:
        """The service for a host: a configured one, or one made for it on its first use.

        `dials` is False when somebody else chooses the address (a proxy, a transport of
        yours): then a host that is not configured is itself the only endpoint. `resolve` is
        False when not even the endpoints of services are dialled (a proxy, a test double):
        then the same goes for services whose endpoints would have to be looked up. Raises
        RuntimeError once the mesh is closed, and ConfigError for an unknown host if it is strict.
        """
        self._refuse_if_closed()
        if self._is_forked:
            self._begin_anew()
        snapshot = self.snapshot
        service = snapshot.services.get(host)
        if service is not None and (resolve or service.watch is None):
            return service
        bound = snapshot.hosts.get((host, port, dials))
        if bound is not None:
            return bound
        if service is None and snapshot.config.strict:
            raise check.ConfigError(_unknown(host, snapshot.services))
        with self._lock:
            return self._meet(host, port, dials, self.snapshot)

    def _refuse_if_closed(self) -> None:
        if self.closed:
            raise RuntimeError("the mesh is closed")

    def _meet(self, host: str, port: int, dials: bool, snapshot: Snapshot) -> Bound:
        key = (host, port, dials)
        if key in snapshot.hosts:
            return snapshot.hosts[key]
        while len(snapshot.hosts) >= _MAX_UNCONFIGURED:
            self._drop_idle_host(snapshot)
        name = host if port in (80, 443) else f"{host}:{port}"
        service = snapshot.services.get(host)
        policy = snapshot.config.policy if service is None else service.policy
        bound = self._new_bound(name, policy)
        self._mirror(bound)
        if not dials or _is_address(host):
            bound.update((Endpoint(host, port),), self.clock())
        else:
            bound.watch = self._control.watch(bound, dns(host, port))
        if dials:
            self._check_health(bound)
        snapshot.hosts[key] = bound
        return bound

    def _drop_idle_host(self, snapshot: Snapshot) -> None:
        key = next((key for key, bound in snapshot.hosts.items() if not bound.in_flight), next(iter(snapshot.hosts)))
        self._release(snapshot.hosts.pop(key))
        self.snapshot = replace(snapshot)  # another one: so clients forget it too

    @property
    def lag(self) -> float:
        """Seconds by which our event loops are late at present, the latest of them.

        0 for threads, and while no call is under way: it is measured with the calls alone.
        """
        return self.lags.seconds(self.clock())

    def status(self) -> dict[str, dict[str, Any]]:
        """What is known now, as plain data: for each service its endpoints, breaker and limit.

        `lag` is that of the mesh.
        """
        now, lag = self.clock(), self.lag
        return {bound.name: {"lag": lag, **_status(bound, now)} for bound in self._bounds()}

    def close(self) -> None:
        """End the watching and its thread; may be called again, and from any thread.

        Calls in flight end as they would have, retries included; those that still wait for
        endpoints fail with ResolveError. Later calls raise RuntimeError, as those of a closed
        client do. Clients close their own connections.
        """
        with self._lock:
            self.closed = True
            self.snapshot = replace(self.snapshot)  # another one: so clients ask `find`, which refuses
        self._control.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def after_fork(self) -> None:
        """In a forked child: begin anew, but with the next call; most children never make one."""
        self._lock = threading.Lock()
        self._control.forget()
        self.lags.after_fork()
        self._is_forked = True
        self.snapshot = replace(self.snapshot)

    def _begin_anew(self) -> None:
        """What a forked child has to do once: other random numbers, own jobs, nothing in flight."""
        with self._lock:
            if not self._is_forked:
                return
            self.rng.seed()
            for bound in self._bounds():
                watch, checker = bound.watch, bound.checker
                bound.after_fork(self.clock())
                if isinstance(watch, Watch):
                    bound.watch = self._control.watch(bound, watch.resolver)
                if checker is not None:
                    self._check_health(bound)
                self._mirror(bound)
            self._is_forked = False

    def _bounds(self) -> list[Bound]:
        return [*self.snapshot.services.values(), *self.snapshot.hosts.values()]


def _log_listener(error: Exception) -> None:
    log.error("a listener of a breaker failed: %r", error)


def _limit_status(limit: LimitState) -> dict[str, int]:
    return {"max_in_flight": limit.max_in_flight, "in_flight": limit.in_flight, "waiting": limit.waiting}


def _status(bound: Bound, now: float) -> dict[str, Any]:
    return {
        "breaker": bound.breaker.state if bound.breaker is not None else None,
        "limit": _limit_status(bound.limit) if bound.limit is not None else None,
        "refusal_ratio": bound.throttle.refusal_ratio(now) if bound.throttle is not None else 0.0,
        "resolved": bound.picker is not None,
        "error": str(bound.failure) if bound.failure is not None else None,
        "endpoints": [
            {
                "address": stats.address,
                "requests": stats.requests,
                "failures": stats.failures,
                "in_flight": stats.in_flight,
                "latency": stats.cost,
                "unhealthy": stats.unhealthy_until is not None,
                "ejected_for": max(0.0, stats.ejected_until - now) if stats.ejected_until is not None else None,
            }
            for stats in bound.members
        ],
    }


def _unknown(host: str, services: Mapping[str, Bound]) -> str:
    near = difflib.get_close_matches(host, services, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    known = ", ".join(sorted(services)) or "(none)"
    return f"service: {host!r} is not known to this strict mesh; expected one of {known}{hint}"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


_meshes: weakref.WeakSet[Mesh] = weakref.WeakSet()


def _after_fork() -> None:
    for mesh in list(_meshes):
        mesh.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
