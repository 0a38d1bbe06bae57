"""What a user's type checker must accept: checked by mypy --strict and pyright, never run."""

from __future__ import annotations

from typing import assert_type

import httpx
import pybreaker
import tenacity

import resilient

policy = resilient.Policy(
    timeout=2.0,
    attempt_timeout=0.5,
    retry=resilient.Retry(
        attempts=3,
        wait=tenacity.wait_random_exponential(0.025, max=0.25),
        stop=tenacity.stop_after_delay(1.0),
        retry=tenacity.retry_if_exception_type(httpx.TransportError),
        budget=resilient.RetryBudget(ratio=0.2, min_per_second=10),
    ),
    breaker=resilient.Breaker(failure_ratio=0.5, minimum_throughput=20, window=10.0, break_duration=5.0),
    balancer=resilient.PeakEwma(decay=10.0),
    outlier=resilient.OutlierDetection(consecutive_failures=5, base_ejection_time=30.0, max_ejection_ratio=0.34),
    limit=resilient.Limit(max_in_flight=1000),
)
assert_type(policy.replace(retry=None), resilient.Policy)
resilient.Policy(breaker=pybreaker.CircuitBreaker(fail_max=5))
for balancer in (
    resilient.LeastRequest(),
    resilient.RoundRobin(),
    resilient.Random(),
    resilient.RingHash(),
    resilient.Maglev(),
):
    resilient.Policy(balancer=balancer)

mesh = resilient.Mesh(
    {
        "orders": resilient.Service(resolver=resilient.dns("orders.prod.svc", 8080), policy=policy),
        "payments": resilient.Service(resolver="srv:///_http._tcp.payments.prod"),
        "users": resilient.Service(resolver=["10.0.0.1:80", "10.0.0.2:80"]),
        "stock": resilient.Service(resolver=resilient.static(["10.0.0.1:80"])),
        "mail": resilient.Service(resolver=resilient.srv("_http._tcp.mail.prod")),
        "search": resilient.Service(resolver=resilient.file("/etc/search.json")),
    },
    policy=resilient.Policy(),
)
assert_type(resilient.Mesh.from_file("mesh.yaml"), resilient.Mesh)
mesh.apply({"orders": resilient.Service(resolver=resilient.static(["10.0.0.1:80"]))})
assert_type(mesh.close(), None)


def takes_httpx(client: httpx.Client) -> None: ...


def takes_async_httpx(client: httpx.AsyncClient) -> None: ...


def sync_clients() -> None:
    with resilient.Client(mesh=mesh, headers={"a": "b"}, timeout=5.0) as client:
        assert_type(client, resilient.Client)
        assert_type(client.get("http://orders/v1/42"), httpx.Response)
    resilient.Client(timeuot=5.0)  # type: ignore[call-arg]
    resilient.Client(transport=httpx.AsyncHTTPTransport())  # type: ignore[arg-type]
    takes_httpx(resilient.Client(policy=policy))
    takes_httpx(httpx.Client(transport=resilient.MeshTransport(mesh)))


async def async_clients() -> None:
    async with resilient.AsyncClient(mesh=mesh, http2=True, verify=False) as client:
        assert_type(client, resilient.AsyncClient)
        assert_type(await client.get("http://orders/v1/42"), httpx.Response)
    takes_async_httpx(resilient.AsyncClient(policy=policy))
    takes_async_httpx(httpx.AsyncClient(transport=resilient.AsyncMeshTransport(mesh)))


@policy
def charge(order: int, *, note: str = "") -> str:
    return f"{order} {note}"


@policy.replace(retry=None)
async def refund(order: int) -> bool:
    return order > 0


async def call_sites() -> None:
    assert_type(charge(42, note="n"), str)
    assert_type(await refund(42), bool)


def errors(client: resilient.Client) -> None:
    try:
        client.get("http://orders/v1/42")
    except resilient.CircuitOpen as error:
        assert_type(error.retry_in, float | None)
    except resilient.MeshError as error:
        assert_type(error.report, resilient.CallReport)
