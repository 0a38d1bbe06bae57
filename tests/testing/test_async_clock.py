"""The virtual clock of tasks, and how virtual time goes along with the control thread, which has the real one."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import trio

import resilient
from resilient.testing import AsyncVirtualClock, FakeTransport, VirtualClock, VirtualLoop, fleet, standstill

BACKENDS = ["asyncio", "trio"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_time_jumps_from_timer_to_timer(backend: Any, no_leaks: None) -> None:
    clock = AsyncVirtualClock()

    async def main(start: float) -> str:
        assert clock() == start == anyio.current_time()
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 3600)
            group.start_soon(anyio.sleep, 7200)
        with pytest.raises(TimeoutError), anyio.fail_after(60):
            await anyio.sleep_forever()
        return "ended"

    assert clock() == 0.0
    assert clock.run(main, 0.0, backend=backend) == "ended"
    assert clock() == 7260.0
    assert clock.run(main, 7260.0, backend=backend) == "ended"
    assert clock() == 14520.0


def test_runs_of_either_kind_go_on_where_the_one_before_has_ended() -> None:
    clock = AsyncVirtualClock(100.0)
    clock.run(asyncio.sleep, 5, backend="asyncio")
    clock.run(trio.sleep, 5, backend="trio")
    with asyncio.Runner(loop_factory=clock.loop) as runner:
        runner.run(asyncio.sleep(5))
    trio.run(trio.sleep, 5, clock=clock.trio_clock())
    assert clock() == 120.0


def test_what_a_run_raises_is_raised_and_unknown_backends_are_refused() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        AsyncVirtualClock().run(fail)
    with pytest.raises(resilient.ConfigError, match="expected one of 'asyncio', 'trio'"):
        AsyncVirtualClock().run(fail, backend="curio")  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_thread_may_ask_for_the_time(backend: Any) -> None:
    clock = AsyncVirtualClock()
    seen: list[float] = []

    async def main() -> None:
        await anyio.sleep(3)
        thread = threading.Thread(target=lambda: seen.append(clock()))
        thread.start()
        thread.join()

    clock.run(main, backend=backend)
    assert seen == [3.0]


def in_tasks(backend: Any) -> Callable[..., tuple[str, float]]:
    def ask(services: dict[str, resilient.Service]) -> tuple[str, float]:
        clock = AsyncVirtualClock()
        transport = FakeTransport(fleet(1), clock)

        async def main() -> str:
            async with resilient.AsyncClient(mesh=mesh, transport=transport) as client:
                return await _told(client.get("http://orders/"))

        with resilient.Mesh(services, clock=clock) as mesh:
            return clock.run(main, backend=backend), clock()

    return ask


async def _told(request: Any) -> str:
    try:
        return str((await request).status_code)
    except resilient.MeshError as error:
        return type(error).__name__


def in_a_virtual_loop(services: dict[str, resilient.Service]) -> tuple[str, float]:
    async def main() -> tuple[str, float]:
        clock = asyncio.get_running_loop().time
        transport = FakeTransport(fleet(1), clock)
        with resilient.Mesh(services, clock=clock) as mesh:
            async with resilient.AsyncClient(mesh=mesh, transport=transport) as client:
                return await _told(client.get("http://orders/")), clock()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())


def in_a_thread(services: dict[str, resilient.Service]) -> tuple[str, float]:
    clock = VirtualClock()
    transport = FakeTransport(fleet(1), clock)
    with (
        resilient.Mesh(services, clock=clock) as mesh,
        resilient.Client(mesh=mesh, transport=transport) as client,
    ):
        try:
            return str(client.get("http://orders/").status_code), clock()
        except resilient.MeshError as error:
            return type(error).__name__, clock()


def in_a_run_of_threads(services: dict[str, resilient.Service]) -> tuple[str, float]:
    clock = VirtualClock()
    transport = FakeTransport(fleet(1), clock)

    def main() -> tuple[str, float]:
        with resilient.Client(mesh=mesh, transport=transport) as client:
            try:
                return str(client.get("http://orders/").status_code), clock()
            except resilient.MeshError as error:
                return type(error).__name__, clock()

    with resilient.Mesh(services, clock=clock) as mesh:
        return clock.run(main)[0]  # type: ignore[no-any-return]


worlds = pytest.mark.parametrize(
    "ask",
    [in_tasks("asyncio"), in_tasks("trio"), in_a_virtual_loop, in_a_thread, in_a_run_of_threads],
    ids=["asyncio", "trio", "loop", "thread", "threads"],
)


@worlds
def test_time_stands_still_until_a_file_has_been_read(ask: Any, tmp_path: Path, no_leaks: None) -> None:
    (tmp_path / "orders.json").write_text(json.dumps([fleet(1)[0].address]))
    for _ in range(5):
        services = {"orders": resilient.Service(f"file://{tmp_path}/orders.json", resilient.Policy(timeout=5))}
        status, now = ask(services)
        assert (status, now < 0.1) == ("200", True)


@worlds
def test_time_stands_still_until_it_is_known_that_there_are_no_endpoints(ask: Any, tmp_path: Path) -> None:
    services = {"orders": resilient.Service(f"file://{tmp_path}/missing.json", resilient.Policy(timeout=5))}
    assert ask(services) == ("ResolveError", 0.0)


class Silent:
    """A source that never tells anything."""

    async def watch(self) -> AsyncIterator[tuple[resilient.Endpoint, ...]]:
        await asyncio.Event().wait()
        yield ()


@worlds
def test_time_goes_on_if_a_source_is_silent(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standstill, "_PATIENCE", 0.05)
    assert ask({"orders": resilient.Service(Silent(), resilient.Policy(timeout=5))}) == ("DeadlineExceeded", 5.0)


def test_health_is_checked_by_the_clock_of_tasks() -> None:
    check = resilient.HealthCheck(interval=0.02, no_traffic_interval=0.02, unhealthy_threshold=1, only="all")
    services = {"orders": resilient.Service(["127.0.0.1:1", "127.0.0.1:2"], resilient.Policy(health=check))}
    clock = AsyncVirtualClock(50.0)
    with resilient.Mesh(services, clock=clock) as mesh:
        members = mesh.snapshot.services["orders"].members
        give_up = time.monotonic() + 10
        while any(stats.unhealthy_until is None for stats in members) and time.monotonic() < give_up:
            time.sleep(0.01)
        assert [stats.unhealthy_until for stats in members] == [pytest.approx(50.0 + check.lease)] * 2


def test_a_limit_is_waited_for_in_virtual_time_also_beside_a_control_thread(tmp_path: Path) -> None:
    (tmp_path / "orders.json").write_text(json.dumps([fleet(1)[0].address]))
    policy = resilient.Policy(limit=resilient.Limit(1, max_queue=5))
    services = {"orders": resilient.Service(f"file://{tmp_path}/orders.json", policy)}
    clock = AsyncVirtualClock()

    async def slow(request: httpx.Request) -> httpx.Response:
        await anyio.sleep(2)
        return httpx.Response(200)

    async def main() -> None:
        async with resilient.AsyncClient(mesh=mesh, transport=httpx.MockTransport(slow)) as client:
            await client.get("http://orders/")
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(client.get, "http://orders/")

    with resilient.Mesh(services, clock=clock) as mesh:
        clock.run(main)
    assert clock() == pytest.approx(8.0)
