"""The concurrency limit and its queue."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from resilient import ConfigError, Limit
from resilient.policy.limit import LimitState
from tests.policy.waiters import Waiter


def test_a_place_goes_to_the_first_in_the_queue() -> None:
    state = Limit(max_in_flight=1).bind()
    assert state.acquire()
    first, second = Waiter(), Waiter()
    assert state.enqueue(first) is None
    assert state.enqueue(second) is None
    assert not state.acquire()
    state.release()
    assert (first.woken, second.woken) == (1, 0)
    assert state.in_flight == 1


def test_a_full_queue_refuses() -> None:
    state = Limit(max_in_flight=1, max_queue=1).bind()
    state.acquire()
    assert state.enqueue(Waiter()) is None
    assert state.enqueue(Waiter()) is False


def test_who_has_gone_is_passed_over() -> None:
    state = Limit(max_in_flight=1).bind()
    state.acquire()
    gone, there = Waiter(gone=True), Waiter()
    state.enqueue(gone)
    state.enqueue(there)
    state.release()
    assert there.woken == 1
    state.release()
    assert state.in_flight == 0


def test_a_place_given_at_the_last_moment_is_told_to_who_gives_up() -> None:
    state = Limit(max_in_flight=1).bind()
    state.acquire()
    waiter = Waiter()
    state.enqueue(waiter)
    assert state.abandon(waiter)
    state.enqueue(waiter)
    state.release()
    assert not state.abandon(waiter)


@pytest.mark.parametrize(
    "fields", [{"max_in_flight": 0}, {"max_queue": -1}, {"queue_timeout": 0}, {"max_in_flight": 1.5}]
)
def test_wrong_settings_are_named(fields: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"Limit.{next(iter(fields))}: "):
        Limit(**fields)  # type: ignore[arg-type]


class Collecting(deque[Waiter]):
    """A queue in one of whose methods a forgotten response is collected, which gives its place back."""

    def __init__(self, state: LimitState, method: str) -> None:
        super().__init__()
        self._state = state
        self._method = method

    def _collect(self, method: str) -> None:
        if method == self._method:
            self._method = ""
            self._state.release()

    def __len__(self) -> int:
        self._collect("len")
        return super().__len__()

    def popleft(self) -> Waiter:
        self._collect("popleft")
        return super().popleft()


def test_nobody_waits_for_a_place_that_is_given_back_meanwhile() -> None:
    state = Limit(max_in_flight=1).bind()
    assert state.acquire()
    state._queue = Collecting(state, "len")
    waiter = Waiter()
    assert state.enqueue(waiter) is None
    assert (waiter.woken, state.in_flight, state.waiting) == (1, 1, 0)


def test_two_places_that_are_given_back_at_once_do_not_both_go_to_one() -> None:
    state = Limit(max_in_flight=2).bind()
    state._queue = Collecting(state, "popleft")
    assert state.acquire()
    assert state.acquire()
    waiter = Waiter()
    assert state.enqueue(waiter) is None
    state.release()
    assert (waiter.woken, state.in_flight) == (1, 1)
    assert state.acquire()
    assert not state.acquire()


class LimitModel(RuleBasedStateMachine):
    """Against counting: who holds a place, and who waits, in the order in which they came."""

    def __init__(self) -> None:
        super().__init__()
        self.state = Limit(max_in_flight=3, max_queue=4).bind()
        self.holding = 0
        self.queue: list[Waiter] = []

    @rule()
    def ask(self) -> None:
        assert self.state.acquire() is self.is_free
        self.holding += self.is_free

    @rule(gone=st.booleans())
    def wait(self, gone: bool) -> None:
        waiter = Waiter(gone=gone)
        place = self.state.enqueue(waiter)
        if self.is_free:
            assert place is True
            self.holding += 1
        elif len(self.queue) < 4:
            assert place is None
            self.queue.append(waiter)
        else:
            assert place is False
        assert not waiter.woken

    @property
    def is_free(self) -> bool:
        return self.holding < 3 and not self.queue

    @precondition(lambda self: self.holding)
    @rule()
    def release(self) -> None:
        self.state.release()
        self.holding -= 1
        self.serve()

    def serve(self) -> None:
        """Who comes first gets the place; who has gone by then does not."""
        while self.queue and self.holding < 3:
            waiter = self.queue.pop(0)
            assert waiter.woken == 1
            self.holding += not waiter.gone

    @precondition(lambda self: self.queue)
    @rule(which=st.integers(0, 3))
    def give_up(self, which: int) -> None:
        waiter = self.queue.pop(which % len(self.queue))
        assert self.state.abandon(waiter)
        assert not self.state.abandon(waiter)

    @invariant()
    def counts_agree(self) -> None:
        assert self.state.in_flight == self.holding <= 3
        assert self.state.waiting == len(self.queue) <= 4
        assert not any(waiter.woken for waiter in self.queue)
        assert not self.queue or self.holding == 3, "somebody waits while a place is free"


LimitModel.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestLimitModel = LimitModel.TestCase
