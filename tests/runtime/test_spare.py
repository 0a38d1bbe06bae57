"""Threads that are kept for the next hedged call."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from random import Random

import pytest

from resilient import Hedge, Policy
from resilient.balance.endpoint import parse_endpoint
from resilient.core.bound import Bound
from resilient.core.call import Call
from resilient.core.classify import HttpClassifier
from resilient.core.effects import Send
from resilient.runtime import spare
from resilient.runtime.threads import ThreadDriver
from resilient.testing import FakeResponse


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[threading.Thread]]:
    """The threads that a test has started through `spare`; they have ended after it."""
    monkeypatch.setattr(spare, "IDLE", 0.05)
    threads: list[threading.Thread] = []
    original = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        threads.append(thread)
        original(thread)

    spare._spare.clear()  # those of other tests end by themselves
    monkeypatch.setattr(threading.Thread, "start", start)
    yield threads
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert not spare._spare


def until(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.001)


def test_calls_one_after_the_other_share_a_thread(started: list[threading.Thread], monkeypatch) -> None:
    monkeypatch.setattr(spare, "IDLE", 5.0)
    service = Bound("orders", Policy(hedge=Hedge(delay=1.0)), Random(1), HttpClassifier())
    service.update([parse_endpoint("10.0.0.1:80"), parse_endpoint("10.0.0.2:80")], 0.0)
    names = set()

    def attempt(send: Send) -> FakeResponse:
        names.add(threading.get_ident())
        return FakeResponse(200, {})

    for _ in range(20):
        assert ThreadDriver().drive(Call(service), attempt).ok
        until(lambda: spare._spare)
    assert len(started) == len(names) == 1
    assert threading.get_ident() not in names
    # Its last job: from now on it waits less long.
    spare._spare.pop().give(lambda: monkeypatch.setattr(spare, "IDLE", 0.01))


def test_those_at_the_same_time_have_one_each(started: list[threading.Thread]) -> None:
    both = threading.Barrier(2, timeout=5)
    for _ in range(2):
        spare.run_soon(both.wait)
    until(lambda: len(spare._spare) == 2 or not any(thread.is_alive() for thread in started))
    assert len(started) == 2


def test_many_jobs_from_many_threads_are_each_run_once(started: list[threading.Thread], monkeypatch) -> None:
    monkeypatch.setattr(spare, "IDLE", 0.0005)  # so that some retire while they are taken
    done: list[int] = []

    def give(first: int) -> None:
        for number in range(first, first + 100):
            spare.run_soon(lambda number=number: done.append(number))
            time.sleep(0.0005 * (number % 3))

    givers = [threading.Thread(target=give, args=(100 * giver,)) for giver in range(4)]
    for giver in givers:
        giver.start()
    for giver in givers:
        giver.join(30)
    until(lambda: len(done) == 400)
    assert sorted(done) == list(range(400))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_starts_its_own(started: list[threading.Thread], monkeypatch) -> None:
    monkeypatch.setattr(spare, "IDLE", 1.0)
    spare.run_soon(lambda: None)
    until(lambda: spare._spare)
    child = os.fork()
    if not child:
        ran = threading.Event()
        spare.run_soon(ran.set)
        os._exit(0 if ran.wait(5) else 1)
    assert os.waitpid(child, 0)[1] == 0
