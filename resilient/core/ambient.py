"""What a call inherits from the code around it: one value in one context variable.

An inbound request, an outer policy or a `with resilient.deadline(...)` sets it; every call
made inside, in whatever task, reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Ambient:
    """The surroundings of a call: what code has entered, inside what was entered before (`outer`).

    `deadline` is a time on `clock`, not on the caller's clock: the two may differ under test.
    `number` is that of the attempt that an outer layer is making at the same work (1 for the
    first), so that nested retries do not multiply; None: as outside. `is_over`: they were left,
    and say nothing any more. They may stay in a context even so, since a generator enters them
    in that of its consumer and may be closed in another.
    """

    deadline: float | None = None
    clock: Callable[[], float] | None = None
    number: int | None = None
    outer: Ambient | None = None
    is_over: bool = False

    def remaining(self) -> float | None:
        """Seconds until the earliest deadline; None without one."""
        least: float | None = None
        each = in_force(self)
        while each is not None:
            if each.deadline is not None and each.clock is not None:
                left = each.deadline - each.clock()
                least = left if least is None else min(least, left)
            each = in_force(each.outer)
        return least

    @property
    def attempt(self) -> int:
        """The number of the outer attempt."""
        each = in_force(self)
        while each is not None and each.number is None:
            each = in_force(each.outer)
        return 1 if each is None or each.number is None else each.number

    def leave(self) -> None:
        """Restore the outer surroundings if these are current: whoever closes a generator keeps their own."""
        self.is_over = True
        if ambient.get() is self:
            ambient.set(in_force(self.outer))


def in_force(found: Ambient | None) -> Ambient | None:
    """The innermost surroundings that have not been left."""
    while found is not None and found.is_over:
        found = found.outer
    return found


def enter(deadline: float | None, clock: Callable[[], float] | None, number: int | None) -> Ambient:
    """Set surroundings inside the present ones."""
    outer = in_force(ambient.get())
    if outer is not None:
        outer.outer = in_force(outer.outer)  # generators that overlap for ever make no chain
    inside = Ambient(deadline, clock, number, outer)
    ambient.set(inside)
    return inside


ambient: ContextVar[Ambient | None] = ContextVar("resilient_ambient", default=None)
