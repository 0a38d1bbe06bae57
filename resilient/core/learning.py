"""What a result tells: classified, cleared of what is our own doing, handed to all that learn."""

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
        # Cut off by what little the caller had left: says nothing about the endpoint.
        outcome.kind = Kind.IGNORED
    address = send.pick.stats.address
    call.report.attempts.append(
        AttemptReport(address, outcome.kind, outcome.seconds, outcome.reason, outcome.status, send.number, send.hedge)
    )
    evidence, lag = outcome, call.lag
    if lag is not None and (lag.late or now > lag.due or outcome.kind is Kind.FAILURE):
        evidence = _without_lag(call, lag, send, outcome, now)
    if evidence is outcome and outcome.error is not None and outcome.is_timeout:
        evidence = _of_timeout(call, send, outcome)
    call.bound.feedback(send, evidence, now, call.about)
    return outcome


def _without_lag(call: Call, lag: Lag, send: Send, outcome: Outcome, now: float) -> Outcome:
    """What the result tells about the peer, if our event loop is late itself.

    The time by which it is late comes off the attempt's, down to what is usual. A timeout or a
    reset tells nothing then: the answer may have lain there unread, or the peer have given us up.
    """
    late = lag.seconds(now)
    if late:
        usual = call.bound.typical or 0.0
        outcome.seconds = max(outcome.seconds - late, min(outcome.seconds, usual))
    is_ours = outcome.is_timeout or outcome.reason == "reset"
    if outcome.kind is Kind.FAILURE and is_ours and lag.was_high(send.started, now):
        call.report.flags.append("lag")
        return Outcome(Kind.IGNORED, "local")
    return outcome


def _of_timeout(call: Call, send: Send, outcome: Outcome) -> Outcome:
    """What it tells about the peer that an answer did not come in time: nothing, if the time was short.

    That is: shorter than successes usually take, whoever set it; or noticed so late that the answer
    may have lain there unread, as in a thread that waits for the others.
    """
    usual = call.bound.typical
    is_short = usual is not None and outcome.seconds < usual
    is_late = call.lag is None and send.timeout is not None and outcome.seconds > send.timeout + THRESHOLD
    if is_short or is_late:
        if is_late:
            call.report.flags.append("lag")
        return Outcome(Kind.IGNORED, "local")
    return outcome
