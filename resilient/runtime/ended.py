"""Event loops that were closed under their calls: what these hold is given back.

`loop.close()` drops its tasks as they are, and nothing runs in them any more. They may never be
collected either: who knows them for their own reasons, as anyio knows tasks with a timeout,
keeps them. So whoever meets a new loop looks for closed ones.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from asyncio.events import _get_running_loop, _set_running_loop
from collections.abc import Iterator
from contextlib import suppress
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Protocol

_AWAITS = {CoroutineType: "cr_await", AsyncGeneratorType: "ag_await", GeneratorType: "gi_yieldfrom"}


class Keeper(Protocol):
    """Something that keeps what belongs to event loops."""

    def forget_closed(self) -> None:
        """Let go of what belongs to loops that are closed."""
        ...


_keepers: set[weakref.ref[Keeper]] = set()


def watch(keeper: Keeper) -> None:
    """Call `keeper.forget_closed` from time to time, as long as it lives."""
    _keepers.add(weakref.ref(keeper, _keepers.discard))


def forget_closed() -> None:
    """Let everybody forget the closed loops. It costs little if there are none."""
    for reference in list(_keepers):
        keeper = reference()
        if keeper is not None:
            keeper.forget_closed()


def is_closed(loop: object) -> bool:
    """True for a loop of asyncio that will not run again; a run of trio always ends in order."""
    return isinstance(loop, asyncio.AbstractEventLoop) and loop.is_closed()


def end_calls(loop: asyncio.AbstractEventLoop) -> None:
    """End the calls that a closed loop has left; the code around them is left alone.

    What closes them must not take the loop that runs here for theirs.
    """
    running = _get_running_loop()
    _set_running_loop(None)
    try:
        for task in asyncio.all_tasks(loop):
            _end(list(_awaited(task.get_coro())))
    finally:
        _set_running_loop(running)


def _end(chain: list[Any]) -> None:
    from resilient.runtime.tasks import ENDED_WITH_LOOP, TaskDriver

    ours = [one for one in chain if getattr(one, "cr_code", None) in ENDED_WITH_LOOP and one.cr_frame]
    for coroutine in ours:
        if coroutine.cr_code is TaskDriver.drive.__code__:
            # First, and by themselves: on their way out of a coroutine, exceptions may become
            # others, which a journey would take for a failed attempt and try again.
            found = coroutine.cr_frame.f_locals
            with suppress(Exception):
                found["steps"].close()
                found["call"].cut_off(found["self"].clock())
    for coroutine in ours:
        with suppress(Exception):  # timeouts and transports miss their loop, and say so
            coroutine.close()


def _awaited(awaiting: Any) -> Iterator[Any]:
    """What a task awaits, from outside to inside."""
    while awaiting is not None:
        yield awaiting
        name = _AWAITS.get(type(awaiting))
        awaiting = getattr(awaiting, name) if name is not None else _wrapped(awaiting)


def _wrapped(awaitable: Any) -> Any:
    """What an awaitable without a name for it leads to, such as `anext()` of an asynchronous generator."""
    return next((one for one in gc.get_referents(awaitable) if type(one) in _AWAITS), None)
