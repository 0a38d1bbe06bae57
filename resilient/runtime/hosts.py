"""Hosts that are not configured: added on first use, evicted when there are too many."""

from __future__ import annotations

from collections.abc import Callable, ValuesView

from resilient.core.bound import Bound
from resilient.runtime.control import Watch

MAX_HOSTS = 1024
"""Kept at a time; a crawler must not fill the memory with statistics."""
_LOOKS = 32  # hosts examined for one that can make room

Host = tuple[str, int, bool]
"""Name, port, and whether we choose the address."""


class Hosts:
    """Services by host; those that have gone unused for longest make room for new ones.

    Clients cache what they have found, so lookups do not show use. The attempts counted since
    a host was last examined do: second chance, which is nearly least recently used and costs
    calls nothing. A host with a call under way stays, so there may be more than MAX_HOSTS, by
    as many as are busy. The caller holds the mesh's lock to change it.
    """

    __slots__ = ("_bounds", "_requests")

    def __init__(self) -> None:
        self._bounds: dict[Host, Bound] = {}
        self._requests: dict[Host, int] = {}
        """The attempts of each host when it was last examined."""

    def get(self, host: Host) -> Bound | None:
        """The service of a host, if it is known."""
        return self._bounds.get(host)

    def values(self) -> ValuesView[Bound]:
        """The services."""
        return self._bounds.values()

    def items(self) -> list[tuple[Host, Bound]]:
        """The hosts and their services, as they are now."""
        return list(self._bounds.items())

    def add(self, host: Host, bound: Bound) -> None:
        """Remember a host."""
        self._bounds[host] = bound

    def only(self, wanted: Callable[[Host], bool]) -> Hosts:
        """Only the hosts that are wanted."""
        hosts = Hosts()
        hosts._bounds = {host: bound for host, bound in self._bounds.items() if wanted(host)}
        return hosts

    def make_room(self) -> list[Bound]:
        """Forget hosts until there is room for another one; returns the services forgotten."""
        forgotten: list[Bound] = []
        used: Host | None = None
        for _ in range(min(_LOOKS, len(self._bounds))):
            if len(self._bounds) < MAX_HOSTS:
                return forgotten
            host, bound = next(iter(self._bounds.items()))
            if _is_busy(bound):
                self._put_last(host)
            elif self._was_used(host, bound):
                self._put_last(host)
                used = used or host
            else:
                forgotten.append(self._forget(host))
        if used is not None and len(self._bounds) >= MAX_HOSTS:
            forgotten.append(self._forget(used))
        return forgotten

    def _was_used(self, host: Host, bound: Bound) -> bool:
        """True if it was called since it was last examined; the call that added it does not count."""
        requests = sum(stats.requests for stats in bound.members)
        known, self._requests[host] = self._requests.get(host, 1), requests
        return requests > known

    def _put_last(self, host: Host) -> None:
        self._bounds[host] = self._bounds.pop(host)

    def _forget(self, host: Host) -> Bound:
        self._requests.pop(host, None)
        return self._bounds.pop(host)


def _is_busy(bound: Bound) -> bool:
    """True if a call is under way, or waits for the host to be resolved."""
    return bound.in_flight > 0 or (isinstance(bound.watch, Watch) and bound.watch.is_awaited)
