"""What tracing costs a call: without an SDK, passing on what came, and with an SDK.

python benchmarks/tracing.py
"""

from __future__ import annotations

import timeit
from collections.abc import Callable

import httpx
from opentelemetry import baggage, context
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider, sampling

import resilient
from resilient.core.report import CallReport
from resilient.telemetry.tracing import tracing

ROUNDS, CALLS = 30, 200
PASSED_ON = baggage.set_baggage("tenant", "blue", Context())
VARIANTS: dict[str, tuple[TracerProvider | None, Context]] = {
    "without an SDK": (None, Context()),
    "passing on baggage": (None, PASSED_ON),
    "sampled out": (TracerProvider(sampler=sampling.ALWAYS_OFF), Context()),
    "two spans": (TracerProvider(), Context()),
}


def microseconds(work: Callable[[], object]) -> float:
    return timeit.timeit(work, number=CALLS) / CALLS * 1e6


def variant(work: Callable[[], object], provider: TracerProvider | None, surroundings: Context) -> float:
    tracing.provider = provider
    token = context.attach(surroundings)
    try:
        return microseconds(work)
    finally:
        context.detach(token)


def main() -> None:
    request, report = httpx.Request("GET", "http://10.0.0.1/v1"), CallReport("10.0.0.1")
    nothing = min(microseconds(lambda: tracing.start_call(request, report)) for _ in range(ROUNDS))
    print(f"{'nothing to do':20} {nothing:8.2f} µs")
    with resilient.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200))) as client:
        call = lambda: client.get("http://10.0.0.1/v1")
        # In turns, and the best of each: what disturbs a measurement only ever adds to it.
        rounds = [[variant(call, *settings) for settings in VARIANTS.values()] for _ in range(ROUNDS)]
    best = [min(column) for column in zip(*rounds, strict=True)]
    for name, taken in zip(VARIANTS, best, strict=True):
        print(f"{name:20} {taken:8.2f} µs {taken - best[0]:+8.2f}")


if __name__ == "__main__":
    main()
