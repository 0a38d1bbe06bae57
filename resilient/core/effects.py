"""What a call asks of its driver: the only ways in which the journey touches the world.

The journey yields an effect and is resumed with a Reply: `(value, error, now)`. What value and
error mean depends on the effect; `now` is the driver's clock after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resilient.balance.picker import Pick
    from resilient.core.bound import Bound
    from resilient.policy.breaker import Permit
    from resilient.policy.limit import LimitState

Reply = tuple[Any, Exception | None, float]


class Effect:
    """The base of all effects."""

    __slots__ = ()


class Resolve(Effect):
    """Wait until the service has endpoints or has failed to get any; at most `timeout` s."""

    __slots__ = ("bound", "timeout")

    def __init__(self, bound: Bound, timeout: float | None) -> None:
        self.bound = bound
        self.timeout = timeout


class Admit(Effect):
    """Wait for a place under a concurrency limit; at most `timeout` s. The value is a bool."""

    __slots__ = ("limit", "timeout")

    def __init__(self, limit: LimitState, timeout: float | None) -> None:
        self.limit = limit
        self.timeout = timeout


class Send(Effect):
    """Make one attempt on one endpoint; at most `timeout` s. The value is the response.

    `number` is 1 for the first attempt of the call. `resend`: the wire may send it again by
    itself on finding its connection stale. `hedge`: it runs beside another one.
    """

    __slots__ = ("hedge", "number", "permit", "pick", "resend", "stage", "started", "timeout")

    def __init__(
        self,
        pick: Pick,
        permit: Permit | None,
        started: float,
        number: int,
        timeout: float | None,
        *,
        resend: bool,
        hedge: bool = False,
    ) -> None:
        self.pick = pick
        self.permit = permit
        self.started = started
        self.number = number
        self.timeout = timeout
        self.resend = resend
        self.hedge = hedge
        self.stage = ""
        """Where our own wire was cut off: `pool`, `connect`, or "" if a byte may have left."""


class Start(Effect):
    """Begin an attempt and go on at once; a later Wait reports how it ended."""

    __slots__ = ("send",)

    def __init__(self, send: Send) -> None:
        self.send = send


class Wait(Effect):
    """Wait until one of the started attempts ends, at most `timeout` s.

    The value is `(send, response)` of the one that ended, with its error beside it; or None
    if none ended in time.
    """

    __slots__ = ("timeout",)

    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout


class Stop(Effect):
    """Give up a started attempt: cancel it, or close its response when that comes."""

    __slots__ = ("send",)

    def __init__(self, send: Send) -> None:
        self.send = send


class Sleep(Effect):
    """Do nothing for `seconds`."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Discard(Effect):
    """Close a response that nobody will read, so that its connection is free again."""

    __slots__ = ("response",)

    def __init__(self, response: Any) -> None:
        self.response = response
