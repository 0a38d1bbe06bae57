"""What a Policy can be put around, what it leaves as it was, and what it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import inspect
import pickle
from collections.abc import AsyncIterator, Iterator
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from resilient.callsite import bound_of
from resilient.policy.breaker import Breaker
from resilient.policy.limit import Limit
from resilient.policy.policy import UNSET, Policy
from resilient.policy.retry import Retry

policy = Policy(retry=Retry(attempts=2, wait=0, budget=None))


def rows() -> Iterator[int]:
    yield 1


async def arows() -> AsyncIterator[int]:
    yield 1


class Rows:
    def __call__(self) -> Iterator[int]:
        yield 1

    def method(self) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize(
    "function",
    [rows, arows, Rows(), Rows().method, functools.partial(rows), functools.partial(functools.partial(arows))],
    ids=["def", "async def", "callable", "method", "partial", "partial of partial"],
)
def test_generator_functions_are_refused(function: Any) -> None:
    with pytest.raises(TypeError, match=r"tests\.callsite\.test_kinds\.\w+.* is a generator function: .*with policy:"):
        policy(function)


@pytest.mark.parametrize("kind", [classmethod, staticmethod])
def test_descriptors_go_above_the_policy(kind: Any) -> None:
    with pytest.raises(TypeError, match=f"put @{kind.__name__} above the policy"):
        policy(kind(lambda: None))


def test_classes_and_other_things_are_refused() -> None:
    with pytest.raises(TypeError, match="Rows is a class"):
        policy(Rows)
    with pytest.raises(TypeError, match="decorates functions, not 42"):
        policy(42)  # type: ignore[type-var]


def test_a_forgotten_await_is_told() -> None:
    async def charge() -> None: ...

    @policy
    def forgets() -> Any:
        return charge()

    with pytest.raises(TypeError, match="forgets returned a coroutine"):
        forgets()


def test_metadata_stays() -> None:
    @policy
    def charge(order: int, *, note: str = "") -> str:
        """Charge an order."""
        return f"{order}{note}"

    assert charge.__name__ == "charge"
    assert charge.__doc__ == "Charge an order."
    assert list(inspect.signature(charge).parameters) == ["order", "note"]
    assert charge(4, note="2") == "42"
    assert not inspect.iscoroutinefunction(charge)
    assert bound_of(charge).name == f"{__name__}.test_metadata_stays.<locals>.charge"


def test_a_coroutine_function_stays_one() -> None:
    @policy
    async def charge() -> str:
        return "charged"

    assert inspect.iscoroutinefunction(charge)
    assert asyncio.run(charge()) == "charged"


@pytest.mark.parametrize("wrap", [lambda f: f, functools.partial], ids=["itself", "partial"])
def test_async_callables_are_awaited(wrap: Any) -> None:
    class Charge:
        calls = 0

        async def __call__(self) -> str:
            self.calls += 1
            if self.calls == 1:
                raise ConnectionError
            return "charged"

    decorated = policy(wrap(Charge()))
    assert inspect.iscoroutinefunction(decorated)
    assert asyncio.run(decorated()) == "charged"


def test_mocks_can_be_decorated() -> None:
    mock = Mock(side_effect=[ConnectionError, "charged"])
    assert policy(mock)(42, note="n") == "charged"
    mock.assert_called_with(42, note="n")
    assert asyncio.run(policy(AsyncMock(side_effect=[ConnectionError, "charged"]))()) == "charged"


class Shop:
    def __init__(self) -> None:
        self.calls = 0

    @policy
    def charge(self) -> Shop:
        self.calls += 1
        if self.calls == 1:
            raise ConnectionError
        return self

    @classmethod
    @policy
    def make(cls) -> Shop:
        return cls()

    @staticmethod
    @policy
    def price(order: int) -> int:
        return order

    @property
    @policy
    def size(self) -> int:
        return 3

    @policy
    async def refund(self) -> Shop:
        return self


def test_methods_work() -> None:
    shop = Shop()
    assert shop.charge() is shop
    assert shop.calls == 2
    assert isinstance(Shop.make(), Shop)
    assert Shop.price(42) == 42
    assert shop.size == 3
    assert asyncio.run(shop.refund()) is shop


def test_the_state_of_a_method_is_that_of_all_instances() -> None:
    assert bound_of(Shop().charge) is bound_of(Shop.charge)


def test_undecorated_functions_have_no_state() -> None:
    with pytest.raises(TypeError, match="rows is not decorated"):
        bound_of(rows)


def test_a_function_that_raises_stop_iteration_raises_it() -> None:
    @policy
    def last() -> int:
        raise StopIteration

    with pytest.raises(StopIteration):
        last()


def test_a_context_manager_function_is_not_a_generator_function() -> None:
    opened = policy(contextlib.contextmanager(rows))
    with opened() as row:
        assert row == 1


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_copy_of_a_policy_is_a_value_without_state(twin: Any) -> None:
    used = Policy(breaker=Breaker(), limit=Limit(max_in_flight=1, max_queue=0))
    with used:
        other = twin(used)
        assert other == used
        assert other.fallback is UNSET
        with other:
            pass
