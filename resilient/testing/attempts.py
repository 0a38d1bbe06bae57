"""When the attempt that runs here has to end, in the time of its mesh."""

from __future__ import annotations

import sys
from time import monotonic
from typing import Any

from resilient.runtime.streams import FollowedBody
from resilient.runtime.wire import attempt_deadline
from resilient.transport import SyncTransport

_ATTEMPT = SyncTransport._attempt.__code__  # noqa: SLF001
_BODY = FollowedBody.__iter__.__code__


def deadline_of_attempt() -> float | None:
    """The deadline of the attempt, or of the streamed body, that this thread is at; None without one.

    What blocking code is told is in real time (`attempt_deadline`), which is no use here: so it
    is read from who has told it.
    """
    if attempt_deadline.get() is None:
        return None
    frame = sys._getframe(1)  # noqa: SLF001
    while frame.f_back is not None:
        if frame.f_code is _ATTEMPT:
            return _end(frame.f_locals["effect"], frame.f_locals["exchange"].call.deadline)
        if frame.f_code is _BODY:
            deadline: float | None = frame.f_locals["self"]._deadline  # noqa: SLF001
            return deadline
        frame = frame.f_back
    return None


def _end(send: Any, deadline: float | None) -> float | None:
    if send.timeout is None:
        return None
    if deadline is not None and send.started + send.timeout >= deadline - 1e-9:
        return deadline  # exactly: a sum may be a little less, and would not be late
    end: float = send.started + send.timeout
    return end


def read_timeout(request: Any) -> float | None:
    """Seconds that the caller would wait for the peer's next bytes; None for ever.

    In threads what is left of the attempt, in real time, has been put in its place.
    """
    seconds: float | None = (request.extensions.get("timeout") or {}).get("read")
    real = attempt_deadline.get()
    return None if seconds is not None and real is not None and seconds >= real - monotonic() else seconds
