"""Event loops that were closed under their calls: what these hold is given back.

`loop.close()` drops its tasks as they are, and nothing runs in them any more. They may never be
garbage-collected either, since others hold references to them, as anyio does for tasks with a
timeout. So closed loops are looked for whenever a new loop is first seen.
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
    """Call `keeper.forget_closed` from time to time, for as long as the keeper lives."""
    _keepers.add(weakref.ref(keeper, _keepers.discard))


def forget_closed() -> None:
    """Make every keeper forget closed loops. It costs little if there are none."""
    for reference in list(_keepers):
        keeper = reference()
        if keeper is not None:
            keeper.forget_closed()


def is_closed(loop: object) -> bool:
    """True for an asyncio loop that will not run again; a trio run always ends in order."""
    return isinstance(loop, asyncio.AbstractEventLoop) and loop.is_closed()


def end_calls(loop: asyncio.AbstractEventLoop) -> None:
    """End the calls that a closed loop left behind; the code around them is left alone.

    Code that runs as they are closed must not take the loop that runs here for theirs.
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
            # First, and separately: on their way out of a coroutine, exceptions may turn into
            # others, which a journey would take for a failed attempt and retry.
            found = coroutine.cr_frame.f_locals
            with suppress(Exception):
                found["steps"].close()
                found["call"].cut_off(found["self"].clock())
    for coroutine in ours:
        with suppress(Exception):  # timeouts and transports complain that their loop is gone
            coroutine.close()


def _awaited(awaiting: Any) -> Iterator[Any]:
    """What a task awaits, from the outside in."""
    while awaiting is not None:
        yield awaiting
        name = _AWAITS.get(type(awaiting))
        awaiting = getattr(awaiting, name) if name is not None else _wrapped(awaiting)


def _wrapped(awaitable: Any) -> Any:
    """What is awaited by an awaitable with no attribute for it, such as `anext()` of an async generator."""
    return next((one for one in gc.get_referents(awaitable) if type(one) in _AWAITS), None)
