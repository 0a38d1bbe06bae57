"""Ramp: how an endpoint that is new, or was ejected, comes into use.

One request goes first. If it fails, the endpoint is ejected again at once; if it succeeds,
the endpoint's share grows from a tenth to the whole. An endpoint that begins with its full
share meets full load with cold caches, and fails (the minimum of 10 % and the linear
growth are those of Envoy's slow start; Finagle and Linkerd send one probe).

Time alone does not warm a cache: requests that take unusually long do not count as time.
"""

from __future__ import annotations

from resilient.core.outcome import Kind

MINIMUM_SHARE = 0.1
_MOST_DELAYS = 2  # lengths of the ramp; a peer that stays slow must get its share too


class Ramp:
    """The state of one ramp: a probe, then `length` seconds of a growing share.

    A probe without a result keeps its place for `patience` seconds, so that one that hangs
    does not keep the endpoint out forever.
    """

    __slots__ = ("_latest_start", "_length", "_patience", "_probed_at", "_started", "failed")

    def __init__(self, length: float, patience: float) -> None:
        self._length = length
        self._patience = patience
        self._probed_at: float | None = None
        self._started: float | None = None
        self._latest_start = 0.0
        self.failed = False
        """True once the probe has failed: the detector ejects the endpoint again."""

    def share_at(self, now: float) -> float:
        """The part of its usual picks that the endpoint may get at `now`, 0 to 1."""
        if self._started is None:
            return 0.0 if self._is_probing(now) else 1.0
        passed = now - self._started
        return 1.0 if passed >= self._length else max(MINIMUM_SHARE, passed / self._length)

    def _is_probing(self, now: float) -> bool:
        return self._probed_at is not None and now - self._probed_at < self._patience

    def is_complete(self, now: float) -> bool:
        """True once the endpoint has its full share again."""
        return self._started is not None and now - self._started >= self._length

    def picked(self, now: float) -> None:
        """Note a pick: the first becomes the probe."""
        if self._started is None and not self._is_probing(now):
            self._probed_at = now

    def observe(self, kind: Kind, started: float, now: float) -> None:
        """Learn from the result of the attempt that was picked at `started`.

        Only the probe's result counts: requests from before the ejection may still end.
        """
        if self._started is not None or started != self._probed_at:
            return
        if kind is Kind.SUCCESS:
            self._started = now
            self._latest_start = now + _MOST_DELAYS * self._length
        elif kind is Kind.FAILURE:
            self.failed = True
        else:
            self.probe_again()

    def delay(self, seconds: float, now: float) -> None:
        """A success took unusually long: its `seconds` do not count as time of the ramp."""
        if self._started is not None:
            self._started = min(self._started + seconds, now, self._latest_start)

    def probe_again(self) -> None:
        """The probe said nothing: another may go at once."""
        self._probed_at = None
        self.failed = False
