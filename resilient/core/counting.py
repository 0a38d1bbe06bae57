"""Counts that several threads change, exact with the GIL and without.

Under the GIL `x += 1` on a plain attribute is atomic: threads switch only at calls and at
backward jumps. Without it, one of two simultaneous additions is lost. A statistic can bear
that; but an in-flight count would never come back down to 0, and balancing would follow the
error for as long as the process lives.
"""

from __future__ import annotations

import sys
from _thread import RLock  # re-entrant: a garbage-collected response gives its place back at any point
from typing import Protocol

from resilient.core import forking

HAS_GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
"""As of import: an extension module may bring the GIL back later, but nothing takes it away."""

_lock = RLock()


class Counted(Protocol):
    """Something with work in flight."""

    in_flight: int


def count(counted: Counted, change: int) -> None:
    """`in_flight += change`, for interpreters without the GIL; with it, the plain statement is enough."""
    with _lock:
        counted.in_flight += change


def after_fork() -> None:
    """In a forked child: a lock that a thread of the parent held is never released."""
    global _lock  # noqa: PLW0603
    _lock = RLock()


if not HAS_GIL:
    forking.in_child(after_fork)
