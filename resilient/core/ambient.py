"""What a call inherits from the code around it: one value in one context variable.

An inbound request, an outer policy or a `with resilient.deadline(...)` sets it; every call
made inside, in whatever task, reads it. Identity and trace will join it here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ambient:
    """The surroundings of a call.

    `deadline` is an instant of `clock`, not of the caller's: the two may differ under test.
    `attempt` is the ordinal of the attempt that an outer layer is making of the same work (1
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
