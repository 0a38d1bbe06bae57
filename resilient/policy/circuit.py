"""The pybreaker side of a breaker: its storage is written, its listeners are told.

pybreaker's own `open()`, `half_open()` and `close()` call the listeners inside its lock, and
when one of them raises, the storage is never written. So they are called on a second breaker
over the same storage, one without listeners, and the listeners are told afterwards, outside
all locks. The wall clock that pybreaker reads there (`opened_at`) is for other users of the
storage: nothing here is decided by it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pybreaker import (
    STATE_CLOSED,
    STATE_HALF_OPEN,
    STATE_OPEN,
    CircuitBreaker,
    CircuitBreakerState,
    CircuitBreakerStorage,
    CircuitClosedState,
    CircuitHalfOpenState,
    CircuitMemoryStorage,
    CircuitOpenState,
)

from resilient.core.outcome import Outcome

ErrorListener = Callable[[Exception], None]
"""Takes what a listener or an exclusion raised."""

Change = tuple[CircuitBreakerState, CircuitBreakerState]
"""The old and the new state, as listeners are given them."""

_STATES: dict[str, Callable[[CircuitBreaker, CircuitBreakerState], Any]] = {
    STATE_CLOSED: CircuitClosedState,
    STATE_OPEN: CircuitOpenState,
    STATE_HALF_OPEN: CircuitHalfOpenState,
}


class UnsuccessfulResponse(Exception):
    """What `listener.failure` gets when a call failed because of its response, which `outcome` has."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


def storage_of(breaker: CircuitBreaker) -> CircuitBreakerStorage:
    """The storage of a ready breaker, which has no public name for it."""
    storage: CircuitBreakerStorage = breaker._state_storage  # noqa: SLF001
    return storage


class Circuit:
    """One circuit: its CircuitBreaker, the storage that holds its state, and its listeners.

    `storage` is in memory: it is read on every call.
    """

    __slots__ = ("_call", "_on_listener_error", "_scribe", "breaker", "storage")

    def __init__(
        self, name: str, breaker: CircuitBreaker, storage: CircuitMemoryStorage, on_listener_error: ErrorListener
    ) -> None:
        self.breaker = breaker
        self.storage = storage
        self._scribe = CircuitBreaker(state_storage=storage)
        self._call = _named(name)
        self._on_listener_error = on_listener_error

    def after_fork(self) -> None:
        """In a forked child: the lock of the old one may be held forever."""
        self._scribe = CircuitBreaker(state_storage=self.storage)

    def turn(self, state: str) -> Change | None:
        """Write a new state as pybreaker would: its time, its counters."""
        if state == STATE_OPEN:
            self._scribe.open()
        elif state == STATE_HALF_OPEN:
            self._scribe.half_open()
        else:
            self._scribe.close()
        return self.show()

    def show(self) -> Change | None:
        """Let `breaker` show the state of the storage; None if it already did, and its listeners know."""
        old: CircuitBreakerState = self.breaker._state  # noqa: SLF001 - `state` would call listeners, or do I/O
        if old.name == self.storage.state:
            return None
        new: CircuitBreakerState = _STATES[self.storage.state](self.breaker, old)
        self.breaker._state = new  # type: ignore[assignment]  # noqa: SLF001
        return old, new

    def excludes(self, error: BaseException | None) -> bool:
        """True if the user excluded this error.

        It does not use `is_system_error`, which calls an exception class with a metaclass of its
        own as if it were a predicate, and so excludes everything.
        """
        return error is not None and any(self._matches(item, error) for item in self.breaker.excluded_exceptions)

    def _matches(self, exclusion: Any, error: BaseException) -> bool:
        if isinstance(exclusion, type):
            return isinstance(error, exclusion)
        try:
            return bool(exclusion(error))
        except Exception as failure:  # noqa: BLE001 - a user's predicate must not break the call
            self._on_listener_error(failure)
            return False

    def before_call(self) -> None:
        """Tell the listeners that a call was admitted."""
        self._tell("before_call", self._call)

    def success(self) -> None:
        """Tell the listeners of a success."""
        self._tell("success")

    def failure(self, outcome: Outcome) -> None:
        """Tell the listeners of a failure."""
        self._tell("failure", outcome.error or UnsuccessfulResponse(outcome))

    def changed(self, change: Change | None) -> None:
        """Tell the listeners of a new state, if there is one."""
        if change is not None:
            self._tell("state_change", *change)

    def _tell(self, event: str, *args: object) -> None:
        for listener in self.breaker.listeners:
            try:
                getattr(listener, event)(self.breaker, *args)
            except Exception as failure:  # noqa: BLE001 - a user's listener must not break the call
                self._on_listener_error(failure)


def _named(name: str) -> Callable[[], None]:
    """What `before_call` gets as the function: the call has none, but listeners print its name."""

    def call() -> None:
        """Stand for the call."""

    call.__name__ = call.__qualname__ = name
    return call
