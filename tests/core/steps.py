"""Stepping the journey by hand: no loop, no clock, no chance but a seeded one."""

from __future__ import annotations

from random import Random
from typing import Any

from resilient.balance.endpoint import parse_endpoint
from resilient.balance.round_robin import RoundRobin
from resilient.core.bound import Bound
from resilient.core.call import Call, journey
from resilient.core.classify import HttpClassifier
from resilient.core.effects import Effect
from resilient.core.outcome import Outcome
from resilient.policy.policy import Policy


class Answer:
    """A response as the classifier sees one."""

    def __init__(self, status: int, headers: dict[str, str] | None = None, *, is_open: bool = False) -> None:
        self.status_code = status
        self.headers = headers or {}
        self.is_open = is_open


class ReadTimeout(Exception):
    """Named as httpx's: the classifier goes by names."""


class ConnectError(Exception):
    """Named as httpx's."""


def bound(policy: Policy | None = None, *addresses: str, resolved: bool = True) -> Bound:
    service = Bound("orders", policy or Policy(balancer=RoundRobin()), Random(7), HttpClassifier())
    if resolved:
        service.update([parse_endpoint(text) for text in addresses or ("10.0.0.1:80", "10.0.0.2:80")], 0.0)
    return service


class Steps:
    """One journey; `send` resumes it and returns the next effect, or keeps the outcome."""

    def __init__(self, service: Bound, now: float = 0.0, **options: Any) -> None:
        self.call = Call(service, is_open=lambda answer: answer.is_open, **options)
        self.outcome: Outcome | None = None
        self._steps = journey(self.call, now)
        self.effect: Effect | None = self._advance(None)

    def _advance(self, reply: Any) -> Effect | None:
        try:
            return self._steps.send(reply)
        except StopIteration as stop:
            self.outcome = stop.value
            return None

    def reply(self, value: Any = None, error: Exception | None = None, now: float = 0.0) -> Effect | None:
        self.effect = self._advance((value, error, now))
        return self.effect

    def cancel(self) -> None:
        self._steps.close()
