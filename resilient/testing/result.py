"""What a simulation saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from resilient.core.report import CallReport


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One simulated call: when it began, how long it took, how it ended.

    `reason` is "" for a success, else a word as in `AttemptReport.reason`, "cancelled", or
    "unfinished": the call had no timeout, and would have waited for ever (`seconds` is infinite).
    `sent`: the endpoint of each attempt, in their order; the report leaves out those that were
    given up, as the losers of hedges are. `key` and `route`: those drawn for it; "" for none.
    """

    start: float
    seconds: float
    ok: bool
    client: int
    report: CallReport
    cancelled: bool = False
    reason: str = ""
    sent: tuple[str, ...] = ()
    key: str = ""
    route: str = ""


@dataclass
class Result:
    """What a simulation saw. Times are relative to its start."""

    calls: list[CallRecord] = field(default_factory=list)

    def between(self, start: float, end: float) -> Result:
        """The calls that began in [start, end)."""
        return Result([call for call in self.calls if start <= call.start < end])

    def where(self, is_meant: Callable[[CallRecord], bool]) -> Result:
        """The calls for which the function returns True: `lambda call: call.route == "GET /orders"`."""
        return Result([call for call in self.calls if is_meant(call)])

    @property
    def success_ratio(self) -> float:
        """The share of calls that succeeded, of those that were not cancelled."""
        ended = [call for call in self.calls if not call.cancelled]
        return sum(call.ok for call in ended) / len(ended) if ended else 1.0

    @property
    def attempts(self) -> int:
        """All attempts made, those that were given up included."""
        return sum(len(call.sent) for call in self.calls)

    @property
    def amplification(self) -> float:
        """Attempts per call."""
        return self.attempts / len(self.calls) if self.calls else 0.0

    def share(self, address: str) -> float:
        """The share of attempts that went to one endpoint."""
        hits = sum(call.sent.count(address) for call in self.calls)
        return hits / self.attempts if self.attempts else 0.0

    def percentile(self, p: float) -> float:
        """Seconds within which the fraction `p` of successful calls ended (nearest rank)."""
        times = sorted(call.seconds for call in self.calls if call.ok)
        return times[min(len(times) - 1, int(p * len(times)))] if times else float("nan")

    def trace(self) -> list[str]:
        """One line for each call: two runs with one seed give the same."""
        return [f"{call.start:.6f} {call.seconds:.6f} {call.ok} {call.report}" for call in self.calls]
