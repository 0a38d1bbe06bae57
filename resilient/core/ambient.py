"""What a call inherits from the code around it: one value in one context variable.

An inbound request, an outer policy or a `with resilient.deadline(...)` sets it; every call
made inside, in whatever task, reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ambient:
    """The surroundings of a call.

    `deadline` is a time on `clock`, not on the caller's clock: the two may differ under test.
    `attempt` is the number of the attempt that an outer layer is making at the same work (1
    for the first), so that nested retries do not multiply.
    """

    deadline: float | None = None
    clock: Callable[[], float] | None = None
    attempt: int = 1

    def remaining(self) -> float | None:
        """Seconds until the deadline; None without one."""
        if self.deadline is None or self.clock is None:
            return None
        return self.deadline - self.clock()


ambient: ContextVar[Ambient | None] = ContextVar("resilient_ambient", default=None)
