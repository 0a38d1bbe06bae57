"""A mesh and its configuration: what is applied is applied as a whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from resilient import Breaker, Endpoint, HealthCheck, Mesh, OutlierDetection, Policy, Service
from resilient.core.check import ConfigError
from resilient.policy.limit import LimitState
from tests.runtime.test_breaker_mirror import SharedStorage


class Refused(Exception):
    """Raised by what a configuration brings with it."""


class Source:
    """A resolver that counts how many follow it."""

    def __init__(self) -> None:
        self.began = 0
        self.followed = 0

    async def watch(self) -> AsyncIterator[tuple[Endpoint, ...]]:
        self.began += 1
        self.followed += 1
        try:
            yield (Endpoint("10.0.0.9", 80),)
            await anyio.sleep_forever()
        finally:
            self.followed -= 1


class BrokenSource:
    def endpoints(self) -> tuple[Endpoint, ...]:
        raise Refused

    async def watch(self) -> AsyncIterator[tuple[Endpoint, ...]]:
        yield ()  # pragma: no cover


@dataclass(frozen=True)
class BrokenLimit:
    def bind(self) -> LimitState:
        raise Refused


@dataclass(frozen=True)
class BrokenBalancer:
    def picker(self, endpoints: Any) -> Any:
        raise Refused


ADDRESSES = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]
BROKEN = {
    "resolver": Service(BrokenSource()),
    "limit": Service(ADDRESSES, Policy(limit=BrokenLimit())),
    "balancer": Service(ADDRESSES, Policy(balancer=BrokenBalancer())),
    "health": Service(ADDRESSES, Policy(health=HealthCheck(scheme="https", verify="/nowhere.pem"))),
}


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    with Mesh({"orders": Service(ADDRESSES)}) as mesh:
        yield mesh


@pytest.mark.parametrize("broken", BROKEN)
def test_a_configuration_that_is_refused_changes_nothing(mesh: Mesh, broken: str) -> None:
    bound, before, source, storage = mesh.find("orders", 80), mesh.snapshot, Source(), SharedStorage()
    ejected = bound.members[0]
    ejected.ejected_until = mesh.clock() + 60.0
    services = {
        "orders": Service([*ADDRESSES, "10.0.0.4:80"], Policy(outlier=None, health=HealthCheck())),
        "followed": Service(source),
        "shared": Service(ADDRESSES, Policy(breaker=Breaker(storage=storage, sync_interval=0.01))),
        "last": BROKEN[broken],
    }
    with pytest.raises((Refused, ConfigError)):
        mesh.apply(services)
    assert mesh.snapshot is before
    assert ejected.ejected_until is not None
    assert set(bound._stats) == set(ADDRESSES)
    assert not mesh._control.running
    assert (source.began, storage.touched) == (0, 0)
    assert mesh.find("orders", 80) is bound


@pytest.mark.parametrize("broken", BROKEN)
def test_also_the_very_first_one(broken: str, no_leaks: None) -> None:
    with pytest.raises((Refused, ConfigError)):
        Mesh({"followed": Service(Source()), "last": BROKEN[broken]})


def test_what_had_begun_when_the_rest_could_not_begin_is_ended(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    def repeat(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(mesh._control, "repeat", repeat)
    before, source = mesh.snapshot, Source()
    shared = Policy(breaker=Breaker(storage=SharedStorage()))
    with pytest.raises(RuntimeError, match="can't start new thread"):
        mesh.apply({"followed": Service(source), "last": Service(ADDRESSES, shared)})
    assert mesh.snapshot is before
    mesh.close()
    assert source.followed == 0


def test_what_is_the_same_is_kept_with_all_that_is_known(mesh: Mesh) -> None:
    bound = mesh.find("orders", 80)
    mesh.apply({"orders": Service(ADDRESSES), "stock": Service(["10.0.0.9:80"])})
    assert mesh.find("orders", 80) is bound
    other = Policy(outlier=OutlierDetection(window=5.0))
    mesh.apply({"stock": Service(["10.0.0.9:80"]), "orders": Service(ADDRESSES, other)})
    assert mesh.find("orders", 80) is not bound
    assert mesh.find("orders", 80).members == bound.members
    assert list(mesh.status()) == ["stock", "orders"]


def test_one_host_on_two_ports_is_two_in_the_status(mesh: Mesh) -> None:
    for port in (80, 443, 8080):
        mesh.find("10.0.0.1", port)
    mesh.find("orders", 80, dials=False)
    assert list(mesh.status()) == ["orders", "10.0.0.1", "10.0.0.1:443", "10.0.0.1:8080"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clock": 5}, "Mesh.clock: 5 is not valid; expected a function that returns seconds"),
        ({"seed": []}, "Mesh.seed: [] is not valid; expected a whole number, or None"),
        ({"seed": "x"}, "Mesh.seed: 'x' is not valid; expected a whole number, or None"),
        ({"max_lag": 0}, "Mesh.max_lag: 0 is not valid; expected a number of seconds > 0"),
        ({"services": ()}, "MeshConfig.services: () is not valid; expected a mapping of names to Services"),
        ({"policy": 0}, "MeshConfig.policy: 0 is not valid; expected a Policy"),
        ({"strict": "no"}, "MeshConfig.strict: 'no' is not valid; expected True or False"),
    ],
)
def test_a_mesh_that_cannot_be_is_refused(options: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Mesh(**options)
    assert str(caught.value) == message


@dataclass(frozen=True)
class Interrupted:
    """A balancer during whose making a signal arrives."""

    def picker(self, endpoints: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return Policy().balancer.picker(endpoints)


@pytest.fixture
def on_signal() -> Iterator[list[Any]]:
    """The functions that a signal handler calls."""
    functions: list[Any] = []
    previous = signal.signal(signal.SIGTERM, lambda *_: [function() for function in functions])
    yield functions
    signal.signal(signal.SIGTERM, previous)


CALLS = {
    "apply": lambda mesh: mesh.apply({"stock": Service(ADDRESSES)}),
    "find": lambda mesh: mesh.find("elsewhere", 80),
    "close": lambda mesh: mesh.close(),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_signal_handler_that_comes_in_between_is_refused_and_does_not_wait_for_itself(
    mesh: Mesh, on_signal: list[Any], call: str
) -> None:
    refused: list[str] = []

    def handler() -> None:
        with pytest.raises(RuntimeError, match="signal handler") as caught:
            CALLS[call](mesh)
        refused.append(str(caught.value))

    on_signal.append(handler)
    mesh.apply({"orders": Service(ADDRESSES, Policy(balancer=Interrupted()))})
    assert refused
    assert list(mesh.snapshot.services) == ["orders"]
    on_signal.clear()
    CALLS[call](mesh)


def test_another_thread_does_it_for_the_handler_in_its_turn(mesh: Mesh, on_signal: list[Any]) -> None:
    threads: list[threading.Thread] = []

    def handler() -> None:
        on_signal.clear()
        threads.append(threading.Thread(target=CALLS["apply"], args=(mesh,)))
        threads[0].start()

    on_signal.append(handler)
    mesh.apply({"orders": Service(ADDRESSES, Policy(balancer=Interrupted()))})
    threads[0].join(10)
    assert list(mesh.snapshot.services) == ["stock"]
