"""What tracing costs a call: without an SDK, passing on what came, and with an SDK.

python benchmarks/tracing.py
"""

from __future__ import annotations

import timeit
from collections.abc import Callable

import httpx
from opentelemetry import baggage, context
from opentelemetry.sdk.trace import TracerProvider, sampling

import resilient
from resilient.core.report import CallReport
from resilient.telemetry.tracing import tracing

ROUNDS, CALLS = 7, 1000


def microseconds(work: Callable[[], object]) -> float:
    """The best round, in µs a call: what disturbs a measurement only ever adds to it."""
    return min(timeit.repeat(work, number=CALLS, repeat=ROUNDS)) / CALLS * 1e6


def main() -> None:
    request, report = httpx.Request("GET", "http://10.0.0.1/v1"), CallReport("10.0.0.1")
    print(f"start_call with nothing to do  {microseconds(lambda: tracing.start_call(request, report)):8.2f} µs")
    with resilient.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200))) as client:
        call = lambda: client.get("http://10.0.0.1/v1")
        bare = microseconds(call)
        print(f"a call without an SDK          {bare:8.2f} µs")
        token = context.attach(baggage.set_baggage("tenant", "blue"))
        print(f"  passing on baggage          {microseconds(call) - bare:+9.2f} µs")
        context.detach(token)
        for name, sampler in (("sampled out", sampling.ALWAYS_OFF), ("two spans  ", sampling.ALWAYS_ON)):
            tracing.provider = TracerProvider(sampler=sampler)
            print(f"  with an SDK, {name}    {microseconds(call) - bare:+9.2f} µs")


if __name__ == "__main__":
    main()
