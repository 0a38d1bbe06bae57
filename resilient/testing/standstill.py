"""Virtual time stands still while a call waits for the control thread, which works in real time.

Without this a deadline would pass, all at once, before a file has been read.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from resilient.core import forking

if TYPE_CHECKING:
    from resilient.mesh import Mesh
    from resilient.runtime.control import Watch

_CONTROL = "resilient-control"  # the names of the control threads, and of their workers, begin so
_PATIENCE = 10.0  # seconds of real time for which a source is waited for before time goes on


def is_control(thread: threading.Thread) -> bool:
    """True for a thread of a mesh, which never waits by a virtual clock."""
    return thread.name.startswith(_CONTROL)


class Standstill:
    """Whether the time of a clock has to stand still."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._settled: weakref.WeakSet[Watch] = weakref.WeakSet()
        self._began: float | None = None

    def holds(self) -> bool:
        """True if a call waits for its service to be resolved, or may have been woken just now."""
        if not any(is_control(thread) for thread in threading.enumerate()) or not self._is_awaited():
            self._began = None
            return False
        now = time.monotonic()
        if self._began is None:
            self._began = now
        return now < self._began + _PATIENCE

    def _is_awaited(self) -> bool:
        for mesh, watch in self._watches():
            if watch in self._settled:
                continue
            if watch.is_awaited:
                return True
            if watch.bound.picker is not None or watch.bound.failure is not None:
                self._let_finish(mesh)
                self._settled.add(watch)
                return True
        return False

    def _watches(self) -> Iterator[tuple[Mesh, Watch]]:
        """The sources of all meshes that go by this clock."""
        from resilient.mesh import Mesh  # there is one, and has been imported: simulations need none
        from resilient.runtime.control import Watch

        for mesh in list(forking._all):  # noqa: SLF001 - it knows every mesh that there is
            if isinstance(mesh, Mesh) and mesh.clock == self._clock:
                snapshot = mesh.snapshot
                for bound in [*snapshot.services.values(), *snapshot.hosts.values()]:
                    if isinstance(bound.watch, Watch):
                        yield mesh, bound.watch

    def _let_finish(self, mesh: Mesh) -> None:
        """Let the control thread wake all who wait, which it does last: it may be just at it."""
        done = threading.Event()
        try:
            mesh._control.spawn(done.set)  # noqa: SLF001
        except RuntimeError:  # closed: whoever waited is told so
            return
        done.wait(1.0)
