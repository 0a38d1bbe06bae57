"""Who waits under a limit, as its tests see it."""

from __future__ import annotations


class Waiter:
    def __init__(self, *, gone: bool = False) -> None:
        self.woken = 0
        self.gone = gone

    def wake(self) -> bool:
        self.woken += 1
        return not self.gone
