"""Hosts that are not configured: which of them are forgotten when there are many."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

import resilient
from resilient import Mesh
from resilient.core.bound import Bound
from tests.runtime.test_life import wait_for


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resilient.runtime.hosts.MAX_HOSTS", 4)


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    answer = httpx.MockTransport(lambda request: httpx.Response(200))
    with Mesh() as mesh, resilient.Client(mesh=mesh, transport=answer) as client:
        yield client


def call(client: httpx.Client, *hosts: str) -> None:
    for host in hosts:
        client.get(f"http://{host}/")


def known(client: httpx.Client) -> set[str]:
    return set(client.mesh.status())  # type: ignore[attr-defined]


def test_hosts_in_use_stay_and_those_that_were_met_by_the_way_go(client: httpx.Client) -> None:
    call(client, "often")
    for number in range(50):
        call(client, f"once-{number}", "often", "often")
        assert "often" in known(client)
        assert len(known(client)) <= 4
    assert client.mesh.find("often", 80, dials=False).members[0].requests == 101  # type: ignore[attr-defined]


def test_one_that_is_not_used_any_more_goes(client: httpx.Client) -> None:
    call(client, "once-often", *["once-often"] * 20)
    call(client, *[f"other-{number}" for number in range(8)])
    assert "once-often" not in known(client)


def test_if_all_are_in_use_one_goes_all_the_same(client: httpx.Client) -> None:
    names = ["a", "b", "c", "d"]
    call(client, *names)
    for number in range(20):
        call(client, f"new-{number}", *names)
        assert len(known(client)) == 4


def test_one_with_a_call_under_way_stays(client: httpx.Client) -> None:
    mesh: Mesh = client.mesh  # type: ignore[attr-defined]
    bound = mesh.find("slow", 80, dials=False)
    pick = bound.pick(mesh.clock(), (), None)
    assert pick is not None
    call(client, *[f"once-{number}" for number in range(20)])
    assert mesh.find("slow", 80, dials=False) is bound
    pick.release()
    call(client, *[f"once-{number}" for number in range(20)])
    assert "slow" not in known(client)


def test_if_all_are_busy_there_are_more_for_the_time_being() -> None:
    with Mesh() as mesh:
        picks = [mesh.find(f"10.0.0.{number}", 80).pick(0.0, (), None) for number in range(1, 9)]
        assert len(mesh.status()) == 8
        for pick in picks:
            assert pick is not None
            pick.release()
        mesh.find("10.0.0.9", 80)
        mesh.find("10.0.0.10", 80)
        assert len(mesh.status()) <= 4


def test_one_that_is_being_resolved_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    with Mesh() as mesh, resilient.Client(mesh=mesh) as client, ThreadPoolExecutor(1) as thread:
        monkeypatch.setattr("resilient.runtime.control.Watch.run", _never)
        waiting = thread.submit(client.get, "http://far.invalid/")
        wait_for(lambda: bool(mesh.status()) and mesh.find("far.invalid", 80).watch.is_awaited)  # type: ignore[union-attr]
        for number in range(1, 20):
            mesh.find(f"10.0.0.{number}", 80)
        assert "far.invalid" in mesh.status()
        assert not waiting.done()
        mesh.close()
        assert isinstance(waiting.exception(), resilient.ResolveError)


async def _never(*_: object) -> None:
    import anyio

    await anyio.sleep_forever()


def test_clients_forget_them_as_the_mesh_does(client: httpx.Client) -> None:
    call(client, *[f"host-{number}" for number in range(6)], "host-5")
    gc.collect()
    alive = {thing.name for thing in gc.get_objects() if isinstance(thing, Bound)}
    assert {name for name in alive if name.startswith("host-")} == known(client)
