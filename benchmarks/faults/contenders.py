"""The contenders, each with one configuration for all scenarios.

Where two can be told the same, they are: three attempts, 250 ms for each, a retry budget of
25 %, ejection for 5 s after five failures in a row or half of at least 20, of a third of the
endpoints at most, and 20 requests at the endpoints with 6 more waiting. What one of them
has and another has not (hedging, latency-aware balancing; health checks) is used.
"""

from __future__ import annotations

import asyncio
import csv
import importlib.util
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Protocol

import httpx
import tenacity

import resilient
from benchmarks import proxies
from benchmarks.children import cpu_seconds
from benchmarks.faults.scenarios import BAD

ATTEMPT_TIMEOUT = 0.25
AT_ONCE, WAITING = 20, 6
RETRIED = 0.25
"""Retries, of the calls: what keeps to 1.3 requests for each, at 80 calls a second where 30 % fail
and at 200 where 90 % do."""

POLICY = resilient.Policy(
    attempt_timeout=ATTEMPT_TIMEOUT,
    retry=resilient.Retry(budget=resilient.RetryBudget(ratio=RETRIED)),
    outlier=resilient.OutlierDetection(base_ejection_time=5.0),
    hedge=resilient.Hedge(delay="p95", max_extra_ratio=0.1),
    limit=resilient.Limit(max_in_flight=AT_ONCE, max_queue=WAITING),
)

ENVOY_CLUSTER = {
    "lb_policy": "LEAST_REQUEST",
    "connect_timeout": "0.25s",
    "outlier_detection": {
        "consecutive_5xx": 5,
        "failure_percentage_threshold": 50,
        "failure_percentage_request_volume": 20,
        "enforcing_failure_percentage": 100,
        "interval": "1s",
        "base_ejection_time": "5s",
        "max_ejection_percent": 34,
    },
    "circuit_breakers": {
        "thresholds": [
            {
                "max_connections": AT_ONCE,
                "max_pending_requests": WAITING,
                "retry_budget": {"budget_percent": {"value": 100 * RETRIED}, "min_retry_concurrency": 3},
            }
        ]
    },
}
ENVOY_ROUTE = {
    "timeout": "1s",
    "retry_policy": {
        "retry_on": "gateway-error,reset,connect-failure,refused-stream",
        "num_retries": 2,
        "per_try_timeout": f"{ATTEMPT_TIMEOUT}s",
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                },
            }
        ],
        "host_selection_retry_max_attempts": 3,
    },
}

HAPROXY_BACKEND = (
    "balance leastconn",
    "retries 2",
    "option redispatch 1",
    "retry-on conn-failure empty-response response-timeout 502 503 504",
    f"timeout server {ATTEMPT_TIMEOUT * 1000:.0f}ms",
    "timeout queue 100ms",
    "timeout check 250ms",
    "option httpchk GET /health",
)
HAPROXY_SERVER = "maxconn 2 check inter 1s fall 2 rise 2 observe layer7 error-limit 5 on-error mark-down"


class Client(Protocol):
    """The client of one contender, in the process of the traffic."""

    refused: list[float]
    """When (monotonic) a connection to the bad endpoint was refused, as far as it knows."""

    async def get(self, deadline: float) -> bool:
        """One call; True if it was answered well within `deadline` seconds."""
        ...

    async def aclose(self) -> None: ...


class Httpx:
    """Bare httpx with one pool: round robin over `urls`, which may be just a proxy's."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._client = httpx.AsyncClient(trust_env=False)
        self._urls = cycle(urls)
        self._bad = urls[BAD] if len(urls) > 1 else None
        self.refused: list[float] = []

    async def get(self, deadline: float) -> bool:
        try:
            async with asyncio.timeout(deadline):
                return await self._attempt()
        except (httpx.HTTPError, TimeoutError):
            return False

    async def _attempt(self) -> bool:
        url = next(self._urls)
        try:
            return (await self._client.get(url)).is_success
        except httpx.ConnectError:
            if url == self._bad:
                self.refused.append(time.monotonic())
            raise

    async def aclose(self) -> None:
        await self._client.aclose()


class Aiohttp:
    """aiohttp, which needs little CPU: behind a proxy it shows what is the proxy's own doing."""

    def __init__(self, urls: Sequence[str]) -> None:
        import aiohttp

        self._session = aiohttp.ClientSession()
        self._errors = (aiohttp.ClientError, TimeoutError)
        self._urls = cycle(urls)
        self.refused: list[float] = []

    async def get(self, deadline: float) -> bool:
        try:
            async with asyncio.timeout(deadline):
                return await self._attempt()
        except self._errors:
            return False

    async def _attempt(self) -> bool:
        async with self._session.get(next(self._urls)) as response:
            await response.read()
            return response.ok

    async def aclose(self) -> None:
        await self._session.close()


class NaiveRetries(Aiohttp):
    """Three attempts for each call, as a loop around the call gives."""

    async def _attempt(self) -> bool:
        attempts = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(3),
            wait=tenacity.wait_random_exponential(0.025, max=0.25),
            retry=tenacity.retry_if_result(lambda ok: not ok) | tenacity.retry_if_exception_type(self._errors),
            retry_error_callback=lambda _: False,
        )
        return await attempts(super()._attempt)


class Resilient:
    def __init__(self, urls: Sequence[str]) -> None:
        addresses = [url.removeprefix("http://").rstrip("/") for url in urls]
        service = resilient.Service(resolver=resilient.static(addresses), policy=POLICY)
        self._mesh = resilient.Mesh({"orders": service}, seed=1)
        self._client = resilient.AsyncClient(mesh=self._mesh, trust_env=False)
        self._bad = addresses[BAD]
        self.refused: list[float] = []

    async def get(self, deadline: float) -> bool:
        try:
            response = await self._client.get("http://orders/", extensions={"resilient": {"timeout": deadline}})
        except httpx.HTTPError as error:
            self._note(error.report)
            return False
        self._note(response.extensions["resilient"])
        return response.is_success

    def _note(self, call: resilient.CallReport) -> None:
        for attempt in call.attempts:
            if attempt.endpoint == self._bad and attempt.reason == "connect-failure":
                self.refused.append(time.monotonic())

    async def aclose(self) -> None:
        await self._client.aclose()
        self._mesh.close()


CLIENTS: dict[str, type[Client]] = {
    "httpx": Httpx,
    "httpx, HAProxy": Httpx,
    "httpx, Envoy": Httpx,
    "aiohttp, Envoy": Aiohttp,
    "resilient": Resilient,
    "aiohttp, 3 attempts": NaiveRetries,
}
"""The last one is there for the storm alone."""


@dataclass(frozen=True)
class Target:
    """Where a contender sends its requests: the endpoints, or a proxy in front of them."""

    ports: list[int]
    proxy: proxies.Proxy | None = None

    @property
    def urls(self) -> list[str]:
        ports = [self.proxy.port] if self.proxy else self.ports
        return [f"http://{proxies.HOST}:{port}/" for port in ports]

    def refused(self, endpoint: int) -> int:
        """How many connections to an endpoint the proxy was refused, so far."""
        return 0

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.proxy.pid) if self.proxy else 0.0


class EnvoyTarget(Target):
    def refused(self, endpoint: int) -> int:
        [cluster] = json.loads(self.proxy.admin("/clusters?format=json"))["cluster_statuses"]
        [host] = [host for host in cluster["host_statuses"] if _port(host) == self.ports[endpoint]]
        return sum(int(stat.get("value", 0)) for stat in host["stats"] if stat["name"] == "cx_connect_fail")


def _port(host: dict[str, Any]) -> int:
    return host["address"]["socket_address"]["port_value"]


class HaproxyTarget(Target):
    def refused(self, endpoint: int) -> int:
        rows = csv.DictReader(self.proxy.admin("/;csv").splitlines())
        [row] = [row for row in rows if row["svname"] == f"s{endpoint}"]
        return int(row["econ"]) + int(row["wretr"])


@contextmanager
def target(name: str, ports: list[int]) -> Iterator[Target]:
    """What stands between a contender and the endpoints, started and stopped."""
    if "Envoy" in name:
        with proxies.envoy(ports, ENVOY_CLUSTER, ENVOY_ROUTE) as proxy:
            yield EnvoyTarget(ports, proxy)
    elif "HAProxy" in name:
        with proxies.haproxy(ports, HAPROXY_BACKEND, HAPROXY_SERVER) as proxy:
            yield HaproxyTarget(ports, proxy)
    else:
        yield Target(ports)


def available() -> list[str]:
    """The contenders whose parts are installed."""
    missing = {
        "HAProxy": proxies.haproxy_binary() is None,
        "Envoy": proxies.envoy_binary() is None,
        "aiohttp": importlib.util.find_spec("aiohttp") is None,
        "3 attempts": True,
    }
    return [name for name in CLIENTS if not any(part in name and gone for part, gone in missing.items())]
