"""What a result says: classified, cleared of what our own side caused, handed to all that learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilient.core.lag import THRESHOLD
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
    if not isinstance(outcome, Outcome):
        raise TypeError(f"Policy.classifier: {call.bound.classifier!r} returned {outcome!r}; expected an Outcome")
    outcome.seconds = now - send.started
    if call.out_of_time(outcome, now) and not call.bound.had_its_time(outcome.seconds):
        # Cut off because the caller had little time left: says nothing about the endpoint.
        outcome.kind = Kind.IGNORED
    address = send.pick.stats.address
    call.report.attempts.append(
        AttemptReport(address, outcome.kind, outcome.seconds, outcome.reason, outcome.status, send.number, send.hedge)
    )
    evidence, lag = outcome, call.lag
    if lag is not None and (lag.late or now > lag.due or outcome.kind is Kind.FAILURE):
        evidence = _without_lag(call, lag, send, outcome, now)
    if evidence is outcome and outcome.reason == "timeout":
        evidence = _of_timeout(call, send, outcome)
    # The end of a body that is still open decides about its endpoint (`core/held.py`).
    is_decided = outcome.kind is not Kind.SUCCESS or not call.has_open_body(response)
    call.bound.feedback(send, evidence, now, call.about, judges=is_decided)
    return outcome


def _without_lag(call: Call, lag: Lag, send: Send, outcome: Outcome, now: float) -> Outcome:
    """What the result says about the peer, if our own event loop is late.

    The lag is subtracted from the attempt's time, down to what is usual. A timeout or a reset says
    nothing then: the answer may have been there unread, or the peer may have given up on us.
    """
    late = lag.seconds(now)
    if late:
        usual = call.bound.typical or 0.0
        outcome.seconds = max(outcome.seconds - late, min(outcome.seconds, usual))
    if outcome.kind is not Kind.FAILURE or not lag.was_high(send.started, now):
        return outcome
    if outcome.is_timeout or outcome.reason == "reset":
        call.report.flags.append("lag")
        return Outcome(Kind.IGNORED, "local")
    return outcome


def _of_timeout(call: Call, send: Send, outcome: Outcome) -> Outcome:
    """What a timeout says about the peer: nothing if it was short, or noticed late.

    Short is less than successes usually take, whoever set it. Late is so late that the answer may
    have been there unread, as in a thread that waits for the others; known of our own wire alone,
    since a function or a transport of the user's cannot be cut off, and ends when it likes.
    """
    usual = call.bound.typical
    is_late = call.lag is None and send.timeout is not None and outcome.seconds > send.timeout + THRESHOLD
    if is_late and hasattr(outcome.error, "unsent"):
        call.report.flags.append("lag")
        return Outcome(Kind.IGNORED, "local")
    return Outcome(Kind.IGNORED, "local") if usual is not None and outcome.seconds < usual else outcome
