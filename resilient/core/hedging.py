"""A hedge: a second attempt beside a slow one, on another endpoint; the first success wins."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from resilient.core.effects import Discard, Effect, Reply, Send, Start, Stop, Wait
from resilient.core.learning import learn
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
        outcome = learn(call, send, response, error, now)
        if outcome.ok or not running:
            for loser in running:
                yield Stop(loser)
                call.give_up(loser, "superseded", now)
            return send, outcome, now
        call.tried = (*call.tried, send.pick.stats)
        call.let_go(send)
        if response is not None:
            yield Discard(response)


def hedge_after(call: Call, now: float) -> float | None:
    """Seconds after which the attempt that begins now may get a rival; None if never."""
    hedge = call.bound.hedge
    if hedge is None or call.number > 1:
        return None
    patience = hedge.begin(now, call.about)
    if call.lag is not None and call.lag.is_high(now):
        return None  # it would hedge our own slowness
    if not call.is_repeatable or not call.shareable or "queued" in call.report.flags:
        return None  # a call that had to queue is one of too many already
    return patience


def _rival(call: Call, first: Send, now: float) -> Send | None:
    """The second attempt; None if it is not allowed, or there is no other endpoint."""
    if not _has_room(call, first, now) or not _pay(call, now):
        return None
    rival = call.attempt(now, call.number + 2)
    if isinstance(rival, Outcome):
        call.report.flags.pop()  # a refused hedge is not the outcome of the call
        _take_back(call, now)
        return None
    call.report.flags.append("hedged")
    return rival


def _has_room(call: Call, first: Send, now: float) -> bool:
    """True if a hedge may help: the slowness is neither our own nor everybody's."""
    if call.lag is not None and call.lag.is_high(now):
        return False
    # Under a full limit everything is slow for the same reason, and a hedge adds to it: simulated at
    # 150 % of capacity, hedges of at most one call in ten cost a fourteenth of the goodput.
    limit = call.limit
    if limit is not None and limit.in_flight >= limit.max_in_flight:
        return False
    return call.bound.has_other(first.pick.stats)


def _pay(call: Call, now: float) -> bool:
    """Pay for a hedge: from the share of hedges, and from the retry budget."""
    hedge, retry = call.bound.hedge, call.bound.retry
    if hedge is None or not hedge.withdraw(now):
        return False
    if retry is None or retry.budget is None or retry.budget.withdraw(now):
        return True
    hedge.give_back(now)
    return False


def _take_back(call: Call, now: float) -> None:
    """The hedge that was paid for was not made."""
    hedge, retry = call.bound.hedge, call.bound.retry
    if hedge is not None:
        hedge.give_back(now)
    if retry is not None and retry.budget is not None:
        retry.budget.give_back(now)
