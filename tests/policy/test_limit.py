"""The concurrency limit and its queue."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from resilient import ConfigError, Limit


class Waiter:
    def __init__(self, *, gone: bool = False) -> None:
        self.woken = 0
        self.gone = gone

    def wake(self) -> bool:
        self.woken += 1
        return not self.gone


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


class LimitModel(RuleBasedStateMachine):
    """Against counting: who holds a place, and who waits."""

    def __init__(self) -> None:
        super().__init__()
        self.state = Limit(max_in_flight=3, max_queue=4).bind()
        self.holding = 0
        self.queue: list[Waiter] = []

    @rule()
    def ask(self) -> None:
        waiter = Waiter()
        place = self.state.enqueue(waiter)
        if self.holding < 3 and not self.queue:
            assert place is True
            self.holding += 1
        elif len(self.queue) < 4:
            assert place is None
            self.queue.append(waiter)
        else:
            assert place is False

    @precondition(lambda self: self.holding)
    @rule()
    def release(self) -> None:
        self.state.release()
        if self.queue:
            assert self.queue.pop(0).woken == 1
        else:
            self.holding -= 1

    @precondition(lambda self: self.queue)
    @rule()
    def give_up(self) -> None:
        assert self.state.abandon(self.queue.pop())

    @invariant()
    def counts_agree(self) -> None:
        assert self.state.in_flight == self.holding <= 3
        assert self.state.waiting == len(self.queue) <= 4


LimitModel.TestCase.settings = settings(max_examples=50, stateful_step_count=40)
TestLimitModel = LimitModel.TestCase
