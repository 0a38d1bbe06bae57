"""A Policy as a decorator."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import CoroutineType
from typing import Any, TypeVar, cast

import anyio

from resilient.callsite.site import Site
from resilient.core import check
from resilient.core.bound import Bound
from resilient.core.effects import Send
from resilient.core.outcome import Kind, Outcome
from resilient.policy.policy import UNSET, Policy
from resilient.runtime.lag import Lags
from resilient.runtime.tasks import TaskDriver
from resilient.runtime.threads import ThreadDriver

F = TypeVar("F", bound=Callable[..., Any])

_THREADS = ThreadDriver()
_TASKS = TaskDriver(lags=Lags())


def decorate(policy: Policy, function: F, *, threads: ThreadDriver = _THREADS, tasks: TaskDriver = _TASKS) -> F:
    """`function` under `policy`, with a breaker, a budget and a limit of its own.

    Raises TypeError for what a policy cannot wrap: generator functions, classes,
    and descriptors such as classmethod. `threads` and `tasks` are arguments for tests.
    """
    name = _name(function)
    _check_kind(function, name)
    is_async = _is_async(function)
    if inspect.iscoroutinefunction(policy.fallback) and not is_async:
        raise check.fault("Policy.fallback", policy.fallback, f"a function that is not async, as {name} is not")
    site = Site(name, policy, (tasks if is_async else threads).clock)
    wrapper = _in_task(site, function, tasks) if is_async else _in_thread(site, function, threads)
    functools.update_wrapper(wrapper, function)
    wrapper.bound = site.bound  # type: ignore[attr-defined]
    return cast(F, wrapper)


def bound_of(function: Callable[..., Any]) -> Bound:
    """The state of a decorated function: `breaker`, `retry.budget`, `limit`, `in_flight`.

    Also `function.bound`, for callers that need no types. Raises TypeError if it is not decorated.
    """
    bound = getattr(function, "bound", None)
    if not isinstance(bound, Bound):
        raise TypeError(f"{_name(function)} is not decorated with a Policy")
    return bound


def _in_thread(site: Site, function: Callable[..., Any], driver: ThreadDriver) -> Callable[..., Any]:
    def under_policy(*args: Any, **kwargs: Any) -> Any:
        call = site.begin()

        def attempt(send: Send) -> Any:
            with site.attempt(call, send):
                return function(*args, **kwargs)

        outcome = driver.drive(call, attempt)
        if outcome.kind is Kind.SUCCESS:
            return _finished(outcome.response, site)
        error = site.error(call, outcome)
        if _replaceable(site, outcome):
            with _in_place_of(error):
                return _substitute(site, args, kwargs)
        if error is not None:
            raise error
        return outcome.response

    return under_policy


def _in_task(site: Site, function: Callable[..., Awaitable[Any]], driver: TaskDriver) -> Callable[..., Any]:
    async def under_policy(*args: Any, **kwargs: Any) -> Any:
        call = site.begin()

        async def attempt(send: Send) -> Any:
            with site.attempt(call, send):
                if send.timeout is None:
                    return await function(*args, **kwargs)
                with anyio.move_on_after(send.timeout):
                    return await function(*args, **kwargs)
                raise site.timed_out(send)

        outcome = await driver.drive(call, attempt)
        if outcome.kind is Kind.SUCCESS:
            return outcome.response
        error = site.error(call, outcome)
        if _replaceable(site, outcome):
            with _in_place_of(error):
                substitute = _substitute(site, args, kwargs)
                return await substitute if inspect.isawaitable(substitute) else substitute
        if error is not None:
            raise error
        return outcome.response

    return under_policy


def _replaceable(site: Site, outcome: Outcome) -> bool:
    """True if the fallback takes the place of the outcome. An ignored error is the caller's to see."""
    return site.bound.policy.fallback is not UNSET and outcome.kind is not Kind.IGNORED


def _substitute(site: Site, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    fallback = site.bound.policy.fallback
    return fallback(*args, **kwargs) if callable(fallback) else fallback


@contextmanager
def _in_place_of(error: BaseException | None) -> Iterator[None]:
    """A fallback that raises also shows, beside its own error, the one that it stands in for."""
    try:
        yield
    except Exception as broken:
        broken.__context__ = broken.__context__ or error
        raise


def _finished(result: Any, site: Site) -> Any:
    if type(result) is CoroutineType:
        result.close()
        raise TypeError(f"{site.bound.name} returned a coroutine that has yet to run: decorate the `async def` itself")
    return result


def _name(function: object) -> str:
    function = _innermost(function)
    if not hasattr(function, "__qualname__"):
        function = type(function)
    return f"{getattr(function, '__module__', None) or '?'}.{getattr(function, '__qualname__', '?')}"


def _innermost(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _runs(function: Callable[..., Any], test: Callable[[Any], bool]) -> bool:
    """True if `test` holds for the code that a call runs, through partials and callable objects."""
    function = _innermost(function)
    return test(function) or test(type(function).__call__)


def _is_async(function: Callable[..., Any]) -> bool:
    return _runs(function, inspect.iscoroutinefunction)


def _check_kind(function: object, name: str) -> None:
    if isinstance(function, (classmethod, staticmethod)):
        kind = type(function).__name__
        raise TypeError(f"{name} is a {kind} already: put @{kind} above the policy, not below")
    if isinstance(function, type):
        raise TypeError(f"{name} is a class: decorate its methods, or a function that makes one")
    if not callable(function):
        raise TypeError(f"a Policy decorates functions, not {function!r}")
    if _runs(function, inspect.isgeneratorfunction) or _runs(function, inspect.isasyncgenfunction):
        raise TypeError(
            f"{name} is a generator function: its body runs after the call has returned, where no policy reaches "
            "it; decorate a function that makes one step of it, or write `with policy:` around each request "
            "inside it, but not around a `yield`"
        )
