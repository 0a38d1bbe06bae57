"""What a result tells: classified, cleared of what is our own doing, handed to all that learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilient.core.outcome import Kind, Outcome
from resilient.core.report import AttemptReport

if TYPE_CHECKING:
    from resilient.core.call import Call
    from resilient.core.effects import Send
    from resilient.core.lag import Lag


def learn(call: Call, send: Send, response: Any, error: Exception | None, now: float) -> Outcome:
    """Classify a result and hand it to everything that learns from results."""
    call.latest = response
    outcome = call.bound.classifier.classify(response, error)
    outcome.seconds = now - send.started
    if call.out_of_time(outcome, now) and not call.bound.had_its_time(outcome.seconds):
        # Cut off by what little the caller had left: says nothing about the endpoint.
        outcome.kind = Kind.IGNORED
    address = send.pick.stats.address
    call.report.attempts.append(
        AttemptReport(address, outcome.kind, outcome.seconds, outcome.reason, outcome.status, send.number, send.hedge)
    )
    evidence, lag = outcome, call.lag
    if lag is not None and (lag.late or now > lag.due or outcome.kind is Kind.FAILURE):
        evidence = _without_lag(call, lag, send, outcome, now)
    call.bound.feedback(send, evidence, now, call.route)
    return outcome


def _without_lag(call: Call, lag: Lag, send: Send, outcome: Outcome, now: float) -> Outcome:
    """What the result tells about the peer, if our event loop is late itself.

    The time by which it is late comes off the attempt's, down to what is usual. A timeout
    tells nothing then: the answer may have lain there unread.
    """
    late = lag.seconds(now)
    if late:
        usual = call.bound.typical or 0.0
        outcome.seconds = max(outcome.seconds - late, min(outcome.seconds, usual))
    if outcome.kind is Kind.FAILURE and outcome.is_timeout and lag.was_high(send.started, now):
        call.report.flags.append("lag")
        return Outcome(Kind.IGNORED, "local")
    return outcome
