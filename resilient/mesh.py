"""Mesh: the services and their state, shared by any number of clients."""

from __future__ import annotations

import difflib
import os
import time
import weakref
from _thread import RLock  # one that knows its owner; nobody enters it twice
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, Self

from resilient.balance.endpoint import Endpoint, Locality, is_ip
from resilient.balance.subset import Subset
from resilient.config import MeshConfig, as_config, load
from resilient.core import check, forking
from resilient.core.bound import Bound
from resilient.core.classify import HttpClassifier
from resilient.discovery.dns import dns
from resilient.discovery.entries import locality_of
from resilient.discovery.static import StaticResolver
from resilient.policy.policy import Policy
from resilient.runtime.control import Control
from resilient.runtime.hosts import Hosts
from resilient.runtime.lag import Lags
from resilient.runtime.upkeep import Upkeep, end_upkeep, renew_upkeep
from resilient.service import Service
from resilient.telemetry.logs import log_listener
from resilient.telemetry.status import status

_CLASSIFIER = HttpClassifier(time.time)


@dataclass(frozen=True)
class Snapshot:
    """What requests read. Replaced as a whole and never modified, except that hosts are added on first use."""

    config: MeshConfig
    services: Mapping[str, Bound]
    hosts: Hosts = field(default_factory=Hosts)
    """Hosts that are not configured."""


class Mesh:
    """Services, and all that is known about their endpoints.

    `services`: name to Service; the name is the host of the URLs (`http://orders/...`).
    `policy`: for services without one, and for every other host. `strict`: refuse hosts that
    are not services. `locality`: where this process runs, as a Locality or "region/zone/subzone";
    default: the environment variable RESILIENT_LOCALITY. `seed`: makes the choices of this mesh
    repeatable. `max_lag`: seconds by which an event loop that makes calls may be late (0.05);
    while it is later than that, timeouts are not held against endpoints, and nothing is hedged.

    A Mesh may be shared by clients of any kind, threads and event loops. It starts at most one
    thread, once a source has to be watched or endpoints health-checked, plus short-lived ones for
    breakers with shared storage; `close()` ends it, and so does the end of the program.
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
        check.instance("Mesh.seed", seed, (int, type(None)), "a whole number, or None")
        if not callable(clock):
            raise check.fault("Mesh.clock", clock, "a function that returns seconds")
        self.clock = clock
        self.lags = Lags(max_lag, clock)
        self.rng = Random(seed)
        self.locality = locality_of(os.environ.get("RESILIENT_LOCALITY", "") if locality is None else locality)
        self._control = Control(clock, Random(self.rng.random()))
        self._lock = RLock()
        self._is_forked = False
        self.closed = False
        self.snapshot = Snapshot(MeshConfig({}, Policy(), False), {})
        weakref.finalize(self, self._control.close, 0.0).atexit = False  # exit waits, a collection must not
        self.apply(MeshConfig({} if services is None else services, Policy() if policy is None else policy, strict))
        forking.register(self)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **options: Any) -> Self:
        """A mesh from a YAML, TOML or JSON file; raises a ConfigError that lists every fault."""
        config = load(Path(path))
        mesh = cls(**options)
        mesh.apply(config)
        return mesh

    def apply(self, config: MeshConfig | Mapping[str, Any]) -> None:
        """Replace the configuration; calls in flight end under the old one.

        Takes a MeshConfig, a mapping of names to Services (the rest stays as it is), or plain
        data as in a configuration file. Statistics, and the state of every policy that did
        not change, are kept. Raises ConfigError, and changes nothing, if something is wrong.
        May be called from any thread, but not from a Python signal handler, which may have
        interrupted a change to the mesh: it then raises RuntimeError.
        """
        self._refuse_within()
        with self._lock:
            self._refuse_if_closed()
            self._begin_anew()
            old = self.snapshot
            new = as_config(config, old.config)
            kept = {name: bound for name, bound in old.services.items() if _is_same(name, old.config, new)}
            made = {name: self._make(name, new, old) for name in new.services if name not in kept}
            self._begin(list(made.values()))
            services = {name: kept[name] if name in kept else made[name].bound for name in new.services}
            keeps_hosts = new.policy == old.config.policy and not new.strict
            hosts = old.hosts.only(lambda host: keeps_hosts and host[0] not in services)
            self.snapshot = Snapshot(new, services, hosts)
            in_use = {id(bound) for bound in [*services.values(), *hosts.values()]}
            for bound in [*old.services.values(), *old.hosts.values()]:
                if id(bound) not in in_use:
                    end_upkeep(self._control, bound)

    def _make(self, name: str, new: MeshConfig, old: Snapshot) -> Upkeep:
        """A service as it will be; raises ConfigError, and changes nothing, if it cannot be made."""
        service = new.services[name]
        bound = self._new_bound(name, service.policy or new.policy, service.chosen)
        return Upkeep(self._control, bound, service.source, self.clock(), previous=old.services.get(name))

    def _begin(self, made: list[Upkeep]) -> None:
        try:
            for upkeep in made:
                upkeep.begin()
        except BaseException:  # no thread can be started, or a KeyboardInterrupt
            for upkeep in made:
                end_upkeep(self._control, upkeep.bound)
            raise

    def _new_bound(self, name: str, policy: Policy, subset: Subset | None = None) -> Bound:
        return Bound(name, policy, self.rng, _CLASSIFIER, log_listener, locality=self.locality, subset=subset)

    def find(self, host: str, port: int, *, dials: bool = True, resolve: bool = True) -> Bound:
        """The service for a host: a configured one, or one made for it on its first use.

        `dials` is False when somebody else chooses the address (a proxy, a user-supplied
        transport): then a host that is not configured is itself the only endpoint. `resolve` is
        False when not even the endpoints of services are dialled (a proxy, a test double):
        then the same goes for services whose endpoints would have to be looked up. Raises
        RuntimeError once the mesh is closed, and ConfigError for an unknown host if it is strict.
        """
        self._refuse_if_closed()
        if self._is_forked:
            self._refuse_within()
            with self._lock:
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
        self._refuse_within()
        with self._lock:
            return self._meet(host, port, dials, self.snapshot)

    def _refuse_if_closed(self) -> None:
        if self.closed:
            raise RuntimeError("the mesh is closed")

    def _refuse_within(self) -> None:
        """Raise RuntimeError where the thread would wait for itself: in code that interrupted it.

        The interrupted change cannot end before that code does, nor can another begin halfway.
        """
        if self._lock._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001  as threading.Condition asks it
            raise RuntimeError(
                "this thread is changing the mesh already: a signal handler, which may come in between, "
                "has to hand its call to another thread, threading.Thread(target=...).start()"
            )

    def _meet(self, host: str, port: int, dials: bool, snapshot: Snapshot) -> Bound:
        key = (host, port, dials)
        known = snapshot.hosts.get(key)
        if known is not None:
            return known
        self._make_room(snapshot)
        name = host if port in (80, 443) else f"{host}:{port}"
        service = snapshot.services.get(host)
        bound = self._new_bound(name, snapshot.config.policy if service is None else service.policy)
        is_endpoint = not dials or is_ip(host)
        resolver = StaticResolver((Endpoint(host, port),)) if is_endpoint else dns(host, port)
        self._begin([Upkeep(self._control, bound, resolver, self.clock(), checks=dials)])
        snapshot.hosts.add(key, bound)
        return bound

    def _make_room(self, snapshot: Snapshot) -> None:
        forgotten = snapshot.hosts.make_room()
        for bound in forgotten:
            end_upkeep(self._control, bound)
        if forgotten:
            self.snapshot = replace(snapshot)  # a new one, so that clients forget them too

    @property
    def lag(self) -> float:
        """Seconds by which our event loops are late at present: the most of any.

        0 for threads, and while no call is under way: it is measured only during calls.
        """
        return self.lags.seconds(self.clock())

    def status(self) -> dict[str, dict[str, Any]]:
        """What is known now, as plain data: for each service its endpoints, breaker and limit.

        Hosts that are not configured are told apart by their ports where their names are the same.
        `lag` is that of the mesh.
        """
        now, lag = self.clock(), self.lag
        known = dict(self.snapshot.services)
        for (host, port, _), bound in self.snapshot.hosts.items():
            known[bound.name if bound.name not in known else f"{host}:{port}"] = bound
        return {name: {"lag": lag, **status(bound, now)} for name, bound in known.items()}

    def close(self) -> None:
        """Stop watching and end the thread; may be called again, and from any thread.

        Calls in flight end as they would have, retries included; those that still wait for
        endpoints fail with ResolveError. Later calls raise RuntimeError, as those of a closed
        client do. Clients close their own connections.
        """
        self._refuse_within()
        with self._lock:
            self.closed = True
            self.snapshot = replace(self.snapshot)  # a new one, so that clients ask `find`, which refuses
        self._control.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def after_fork(self) -> None:
        """In a forked child: begin anew, but only with the next call; most children never make one."""
        self._lock = RLock()
        self.lags.after_fork()
        self._is_forked = True
        self.snapshot = replace(self.snapshot)

    def _begin_anew(self) -> None:
        """What a forked child has to do once: new random numbers, its own jobs, nothing in flight."""
        if not self._is_forked:
            return
        self.rng.seed()
        for bound in self._bounds():
            renew_upkeep(self._control, bound, self.clock())
        self._is_forked = False

    def _bounds(self) -> list[Bound]:
        return [*self.snapshot.services.values(), *self.snapshot.hosts.values()]


def _is_same(name: str, old: MeshConfig, new: MeshConfig) -> bool:
    """True if nothing has changed for a service."""
    before, now = old.services[name], new.services.get(name)
    same_policy = now is not None and (now.policy or new.policy) == (before.policy or old.policy)
    return now is not None and same_policy and now.same_endpoints(before)


def _unknown(host: str, services: Mapping[str, Bound]) -> str:
    near = difflib.get_close_matches(host, services, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    known = ", ".join(sorted(services)) or "(none)"
    return f"service: {host!r} is not known to this strict mesh; expected one of {known}{hint}"
