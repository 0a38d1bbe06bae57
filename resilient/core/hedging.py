"""A hedged attempt: one beside a slow one, on another endpoint; the first success wins."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from resilient.core.effects import Discard, Effect, Reply, Send, Start, Stop, Wait
from resilient.core.outcome import Outcome

if TYPE_CHECKING:
    from resilient.core.call import Call

Race = Generator[Effect, Reply, tuple[Send, Outcome, float]]


def race(call: Call, first: Send, patience: float) -> Race:
    """Run `first`, and a rival beside it once it has taken `patience` seconds.

    Returns the attempt that decides, its outcome, and the time. A failure decides only when
    nothing else is under way: it never beats a success that is still to come.
    """
    yield Start(first)
    running = [first]
    ended, error, now = yield Wait(patience)
    if ended is None:
        rival = _rival(call, first, now)
        if rival is not None:
            running.append(rival)
            yield Start(rival)
    while True:
        if ended is None:
            ended, error, now = yield Wait(None)
        send, response = ended
        ended = None
        running.remove(send)
        outcome = call.learn(send, response, error, now)
        if outcome.ok or not running:
            for loser in running:
                yield Stop(loser)
                call.give_up(loser, "superseded", now)
            return send, outcome, now
        call.tried = (*call.tried, send.pick.stats)
        call.let_go(send)
        if response is not None:
            yield Discard(response)


def _rival(call: Call, first: Send, now: float) -> Send | None:
    """The second attempt; None if it is not allowed, or there is no other endpoint."""
    if not call.bound.has_other(first.pick.stats) or not call.afford_hedge(now):
        return None
    rival = call.attempt(now, call.number + 2)
    if isinstance(rival, Outcome):
        call.report.flags.pop()  # that a hedge was refused is not what became of the call
        return None
    call.report.flags.append("hedged")
    return rival
