"""Counts that threads change together, exact with the GIL and without.

Under the GIL `x += 1` on a plain attribute is whole: a thread gives way at calls and at jumps
backwards only. Without it, one of two additions at the same time is lost. A statistic bears
that; but what is in flight would never come down to 0 again, and balancing would follow the
error for as long as the process lives.
"""

from __future__ import annotations

import sys
from _thread import RLock  # re-entrant: a response that is collected gives its place back anywhere
from typing import Protocol

from resilient.core import forking

HAS_GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
"""As of the import: an extension module may bring the GIL back later, but nothing takes it away."""

_lock = RLock()


class Counted(Protocol):
    """Something with work in flight."""

    in_flight: int


def count(counted: Counted, change: int) -> None:
    """`in_flight += change`, for interpreters without the GIL; with it, write just that."""
    with _lock:
        counted.in_flight += change


def after_fork() -> None:
    """In a forked child: a lock that a thread of the parent held is never released."""
    global _lock  # noqa: PLW0603
    _lock = RLock()


if not HAS_GIL:
    forking.in_child(after_fork)
