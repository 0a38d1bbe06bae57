"""Virtual clocks."""

from __future__ import annotations

import asyncio

import httpx
import pytest

import resilient
from resilient.runtime.waiting import ThreadWaiter
from resilient.testing import VirtualClock, VirtualLoop
from resilient.testing import clock as clocks


def test_alone_a_sleeper_moves_the_time() -> None:
    clock = VirtualClock(5.0)
    clock.sleep(3600)
    clock.sleep(-1)
    clock.advance(1)
    assert clock() == 3606.0


def test_alone_a_wait_ends_at_once_by_news_or_by_time() -> None:
    clock = VirtualClock()
    woken, waiter = ThreadWaiter(), ThreadWaiter()
    woken.wake()
    assert clock.wait(woken, 5.0)
    assert clock() == 0.0
    assert not clock.wait(waiter, 5.0)
    assert clock() == 5.0


def test_threads_wake_in_the_order_of_their_times(no_leaks: None) -> None:
    clock = VirtualClock()
    order: list[tuple[str, float]] = []

    def sleeper(name: str, *naps: float) -> None:
        for nap in naps:
            clock.sleep(nap)
            order.append((name, clock()))

    results = clock.run(lambda: sleeper("a", 2, 2, 2), lambda: sleeper("b", 3, 2), lambda: 42)
    assert results == [None, None, 42]
    assert order == [("a", 2), ("b", 3), ("a", 4), ("b", 5), ("a", 6)]


def test_a_thread_wakes_another_before_its_time(no_leaks: None) -> None:
    clock, waiter = VirtualClock(), ThreadWaiter()

    def wait() -> tuple[bool, float]:
        return clock.wait(waiter, 10), clock()

    def wake() -> None:
        clock.sleep(4)
        waiter.wake()

    assert clock.run(wait, wake)[0] == (True, 4.0)


def test_what_a_thread_raises_is_raised(no_leaks: None) -> None:
    with pytest.raises(ZeroDivisionError):
        VirtualClock().run(lambda: 1 / 0)


def test_time_that_nobody_moves_is_told(monkeypatch: pytest.MonkeyPatch, no_leaks: None) -> None:
    monkeypatch.setattr(clocks, "_PATIENCE", 0.05)
    clock, waiter = VirtualClock(), ThreadWaiter()
    with pytest.raises(RuntimeError, match="1 of 1 threads wait by the clock"):
        clock.run(lambda: clock.wait(waiter, None))
    waiter.wake()


def test_a_client_pauses_and_hedges_by_the_clock_of_its_mesh(no_leaks: None) -> None:
    clock = VirtualClock()
    seconds = iter([1.0, 0.2])

    def slow_at_first(request: httpx.Request) -> httpx.Response:
        clock.sleep(next(seconds))
        return httpx.Response(200)

    policy = resilient.Policy(hedge=resilient.Hedge(delay=0.3, max_extra_ratio=1.0))
    services = {"orders": resilient.Service(["10.0.0.1:80", "10.0.0.2:80"], policy)}
    mesh = resilient.Mesh(services, clock=clock)
    with resilient.Client(mesh=mesh, transport=httpx.MockTransport(slow_at_first)) as client:
        [(ended, report)] = clock.run(lambda: (client.get("http://orders/").extensions["resilient"], clock())[::-1])
    assert ended == 0.5
    assert report.flags == ["hedged"]
    assert clock() == 1.0


def test_an_event_loop_jumps_from_timer_to_timer() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(7200))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await asyncio.Event().wait()
        return loop.time()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(main()) == pytest.approx(7260)
