"""The control thread: what is repeated in it."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from resilient.balance.endpoint import Endpoint
from resilient.core.bound import Bound
from resilient.core.classify import HttpClassifier
from resilient.policy.policy import Policy
from resilient.runtime.control import Control, Watch
from resilient.testing import VirtualLoop
from tests.runtime.test_life import wait_for


def test_what_is_repeated_goes_on_after_a_failure(no_leaks: None, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[str] = []

    def work() -> None:
        calls.append(threading.current_thread().name)
        if len(calls) < 4:
            raise ValueError("odd")

    control = Control()
    control.repeat(work, 0.001)
    wait_for(lambda: len(calls) > 5)
    control.close()
    assert [record.levelno for record in caplog.records if record.name == "resilient.discovery"] == [logging.ERROR]


def test_what_begins_while_it_ends_is_ended_too(no_leaks: None, caplog: pytest.LogCaptureFixture) -> None:
    """As by a timer that is due just then; asyncio tells of a task that is left behind."""
    control, began, ended = Control(), threading.Event(), threading.Event()

    async def first() -> None:
        began.set()
        try:
            await asyncio.sleep(1000)
        finally:
            asyncio.get_running_loop().call_soon(begin, asyncio.sleep(1000))
            ended.set()

    def begin(work: Coroutine[Any, Any, None]) -> None:
        asyncio.get_running_loop().create_task(work)

    control.spawn(lambda: begin(first()))
    assert began.wait(10)
    control.close()
    assert ended.is_set()
    gc.collect()
    assert caplog.messages == []


def test_few_block_at_a_time(no_leaks: None) -> None:
    control, lock, go_on = Control(), threading.Lock(), threading.Event()
    running = most = 0

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        go_on.wait(10)
        with lock:
            running -= 1

    for _ in range(30):
        control.repeat(work, 1000.0)
    wait_for(lambda: running == 8)
    go_on.set()
    wait_for(lambda: running == 0)
    control.close()
    assert most == 8


@dataclass(frozen=True)
class Picky:
    """A balancer of the user's that is content with nothing."""

    def picker(self, endpoints: Any) -> Any:
        raise ZeroDivisionError


class Source:
    def __init__(self) -> None:
        self.asked: list[float] = []

    async def watch(self) -> AsyncIterator[tuple[Endpoint, ...]]:
        self.asked.append(asyncio.get_running_loop().time())
        yield (Endpoint("10.0.0.1", 80),)
        await asyncio.sleep(1e9)


def test_what_a_balancer_raises_is_told_once_and_tried_ever_more_rarely(caplog: pytest.LogCaptureFixture) -> None:
    bound, source = Bound("orders", Policy(balancer=Picky()), Random(1), HttpClassifier()), Source()

    async def main() -> None:
        watch = Watch(bound, source, asyncio.get_running_loop().time)
        watch.start(Random(1))
        await asyncio.sleep(100.0)
        assert isinstance(bound.failure, ZeroDivisionError)
        watch.cancel()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    assert 5 <= len(source.asked) <= 9
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]


def test_a_thread_that_cannot_be_started_leaves_nothing_open(no_leaks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    control = Control()

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            control.spawn(lambda: None)
    assert not control.running
    done = threading.Event()
    control.spawn(done.set)
    assert done.wait(10)
    control.close()
