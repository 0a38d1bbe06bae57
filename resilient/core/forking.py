"""What is put right in a forked child: locks that were held, threads and connections that stayed behind."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Protocol


class Forkable(Protocol):
    """Something with a lock, a thread or a connection of the parent's."""

    def after_fork(self) -> None:
        """Start afresh, in the child."""
        ...


_all: weakref.WeakSet[Forkable] = weakref.WeakSet()

register = _all.add
"""Have `after_fork` called in forked children for as long as the object lives."""

inherited: list[object] = []
"""What is the parent's: never garbage-collected in the child, since that could affect what the two share."""


def in_child(function: Callable[[], object]) -> None:
    """Call `function` in each forked child; nothing where there is no fork, as on Windows."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def _after_fork() -> None:
    for one in list(_all):
        one.after_fork()


in_child(_after_fork)
