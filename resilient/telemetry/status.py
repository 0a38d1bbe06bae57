"""What is known about a service now, as plain data."""

from __future__ import annotations

from typing import Any

from resilient.balance.endpoint import EndpointStats
from resilient.core.bound import Bound
from resilient.policy.limit import LimitState


def status(bound: Bound, now: float) -> dict[str, Any]:
    """Endpoints, breaker and limit of one service."""
    failure = bound.failure
    return {
        "breaker": bound.breaker.state if bound.breaker is not None else None,
        "limit": _limit(bound.limit) if bound.limit is not None else None,
        "refusal_ratio": bound.throttle.refusal_ratio(now) if bound.throttle is not None else 0.0,
        "resolved": bound.picker is not None,
        "error": (str(failure) or repr(failure)) if failure is not None else None,
        "endpoints": [_endpoint(stats, now) for stats in bound.members],
    }


def _limit(limit: LimitState) -> dict[str, int]:
    return {"max_in_flight": limit.max_in_flight, "in_flight": limit.in_flight, "waiting": limit.waiting}


def _endpoint(stats: EndpointStats, now: float) -> dict[str, Any]:
    ejected_until = stats.ejected_until  # once: another thread may end the ejection
    return {
        "address": stats.address,
        "requests": stats.requests,
        "failures": stats.failures,
        "in_flight": stats.in_flight,
        "latency": stats.cost,
        "unhealthy": stats.unhealthy_until is not None,
        "ejected_for": max(0.0, ejected_until - now) if ejected_until is not None else None,
    }
