"""The steps before the first attempt that may have to wait, or refuse the call."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from resilient.core.effects import Admit, Effect, Reply, Resolve
from resilient.core.outcome import Kind, Outcome

if TYPE_CHECKING:
    from resilient.core.call import Call
    from resilient.policy.pacing import PacingState


def pause(call: Call, pacing: PacingState, now: float) -> float:
    """Seconds to wait for a turn under the peer's rate limit."""
    left = None if call.deadline is None else call.deadline - now
    seconds = pacing.delay(call.bound.in_flight, left, now, call.bound.rng)
    if seconds > 0:
        call.report.flags.append("paced")
    return seconds


def enter(call: Call, now: float) -> Generator[Effect, Reply, tuple[Outcome | None, float]]:
    """Get a place under the limit, then endpoints: the steps that may have to wait.

    The limit comes first because it counts calls, including those that wait for a resolution.
    """
    bound = call.bound
    limit = bound.limit
    if limit is not None and not limit.acquire():
        call.report.flags.append("queued")
        patience = limit.patience(call.at_most(None, now))
        admitted = False
        if patience > 0:
            admitted, _, now = yield Admit(limit, patience)
        if not admitted:
            return call.refuse("deadline" if call.is_late(now) else "overflow"), now
    call.limit = limit
    if bound.picker is None:
        call.report.flags.append("resolved")
        _, error, now = yield Resolve(bound, call.at_most(None, now))
        if bound.picker is None:
            return call.refuse("deadline" if call.is_late(now) else "resolve", error, Kind.FAILURE), now
    return None, now
