"""Asks endpoints for their health, in the loop of the control thread."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import NamedTuple

import httpx

from resilient.balance.endpoint import Endpoint, EndpointStats
from resilient.binding import HTTPX
from resilient.core import check
from resilient.core.bound import Bound
from resilient.core.classify import is_draining
from resilient.identity.tls import TLS
from resilient.policy.health import HealthCheck, HealthState
from resilient.runtime.wire import AsyncWire, WireSettings

log = logging.getLogger("resilient.health")

_AT_ONCE = 32  # checks of one service
_USER_AGENT = "resilient/health-check"
_SERVING = 1  # grpc.health.v1.HealthCheckResponse.ServingStatus


class Verdict(NamedTuple):
    """The result of one check. `at_once`: a failure that needs no confirmation."""

    ok: bool
    reason: str = ""
    at_once: bool = False


Ask = Callable[[Endpoint], Awaitable[Verdict]]


class HealthChecker:
    """Checks the endpoints of one service, each in a task of its own.

    All methods but `changed` are called in the control loop. Raises ConfigError if the protocol
    needs a package that is not installed.
    """

    def __init__(
        self, bound: Bound, setting: HealthCheck, clock: Callable[[], float], rng: Random, ask: Ask | None = None
    ) -> None:
        self._bound = bound
        self._setting = setting
        self._clock = clock
        self._rng = rng
        self._ask = ask or asker(setting, bound.name)
        self._tasks: dict[EndpointStats, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._follow_members()

    def changed(self) -> None:
        """The members are others now; may be called from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._follow_members)

    def cancel(self) -> None:
        """End, in the running loop."""
        self._loop = None
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    def _follow_members(self) -> None:
        if self._loop is None:
            return
        members = set(self._bound.members)
        for stats in self._tasks.keys() - members:
            self._tasks.pop(stats).cancel()
        for stats in members - self._tasks.keys():
            self._tasks[stats] = self._loop.create_task(self._follow(stats))

    async def _follow(self, stats: EndpointStats) -> None:
        """Check one endpoint when it is due, for as long as it is a member."""
        state = HealthState(self._setting, new=stats.unhealthy_until is not None)
        due = state.first_at(self._clock(), self._rng)
        while True:
            seen = stats.requests
            await asyncio.sleep(max(0.0, due - self._clock()))
            if stats.unhealthy_until is not None:
                state.fail()
            if self._concerns(stats, seen):
                async with self._places:
                    verdict = await self._check(stats.endpoint)
                self._learn(stats, state, verdict)
            traffic = any(member.requests for member in self._bound.members)
            due = state.next_at(self._clock(), self._rng, traffic=traffic)

    def _concerns(self, stats: EndpointStats, seen: int) -> bool:
        """True if the endpoint is to be asked; `seen`: its requests when it was looked at before."""
        if stats.unhealthy_until is not None or self._setting.only == "all":
            return True
        return self._setting.only == "idle" and (stats.ejected_until is not None or stats.requests == seen)

    async def _check(self, endpoint: Endpoint) -> Verdict:
        try:
            async with asyncio.timeout(self._setting.timeout):
                return await self._ask(endpoint)
        except TimeoutError:
            return Verdict(ok=False, reason=f"no answer in {self._setting.timeout:g} s")
        except Exception as error:
            return Verdict(ok=False, reason=str(error) or type(error).__name__)

    def _learn(self, stats: EndpointStats, state: HealthState, verdict: Verdict) -> None:
        now = self._clock()
        changed = state.observe(ok=verdict.ok, at_once=verdict.at_once)
        if not state.healthy:
            self._bound.mark_unhealthy(stats, now + self._setting.lease, now)
        else:
            self._bound.mark_healthy(stats, now)
        if stats.ejected_until is not None and state.recovers(ok=verdict.ok):
            log.info("%s: %s is well: its ejection ends", self._bound.name, stats.address)
            self._bound.restore(stats, now)
        if changed and state.healthy:
            log.info("%s: %s is healthy", self._bound.name, stats.address)
        elif changed:
            log.warning("%s: %s is unhealthy: %s", self._bound.name, stats.address, verdict.reason)


def asker(setting: HealthCheck, service: str) -> Ask:
    """The function that makes one check of an endpoint of `service`; it raises what goes wrong."""
    if setting.protocol == "tcp":
        return _connect
    if setting.protocol == "grpc":
        return _Grpc(setting, service).ask
    return _Http(setting, service).ask


async def _connect(endpoint: Endpoint) -> Verdict:
    if endpoint.is_unix:
        _, writer = await asyncio.open_unix_connection(endpoint.host)
    else:
        _, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return Verdict(ok=True)


class _Http:
    """One request over a connection of its own: that the endpoint takes new ones is tested too."""

    def __init__(self, setting: HealthCheck, service: str) -> None:
        self._setting = setting
        self._host = setting.host or service
        self._wire = WireSettings(tls=_tls(setting))

    async def ask(self, endpoint: Endpoint) -> Verdict:
        wire = AsyncWire(endpoint, self._wire, HTTPX)
        try:
            response = await wire.send(self._request(endpoint), resend=False)
            try:
                return await self._judge(response)
            finally:
                await response.aclose()
        finally:
            await wire.aclose()

    def _request(self, endpoint: Endpoint) -> httpx.Request:
        return httpx.Request(
            self._setting.method, self._url(endpoint, self._setting.path), headers={"user-agent": _USER_AGENT}
        )

    def _url(self, endpoint: Endpoint, path: str) -> str:
        # A host that is an IPv6 address is known without its brackets.
        host = endpoint.address if self._host.count(":") > 1 and not endpoint.is_unix else self._host
        return f"{self._setting.scheme}://{host}{path}"

    async def _judge(self, response: httpx.Response) -> Verdict:
        status = response.status_code
        if is_draining(response):
            return Verdict(ok=False, reason="it is draining", at_once=True)
        if status in self._setting.expected_statuses:
            return Verdict(ok=True)
        return Verdict(ok=False, reason=f"status {status}", at_once=status not in self._setting.retriable_statuses)


class _Grpc(_Http):
    """`grpc.health.v1.Health/Check`: one message there, one back, encoded by hand."""

    def __init__(self, setting: HealthCheck, service: str) -> None:
        if find_spec("h2") is None:
            raise check.fault("HealthCheck.protocol", "grpc", "the package h2: pip install 'resilient-mesh[http2]'")
        super().__init__(setting, service)
        self._wire = WireSettings(tls=_tls(setting), http1=False, http2=True)

    def _request(self, endpoint: Endpoint) -> httpx.Request:
        return httpx.Request(
            "POST",
            self._url(endpoint, "/grpc.health.v1.Health/Check"),
            headers={"content-type": "application/grpc", "te": "trailers", "user-agent": _USER_AGENT},
            content=grpc_frame(health_request(self._setting.grpc_service)),
        )

    async def _judge(self, response: httpx.Response) -> Verdict:
        if is_draining(response):
            return Verdict(ok=False, reason="it is draining", at_once=True)
        if serving_status(await response.aread()) == _SERVING:
            return Verdict(ok=True)
        status = response.headers.get("grpc-status", "0")
        return Verdict(ok=False, reason=f"not serving, grpc-status {status}", at_once=True)


def _tls(setting: HealthCheck) -> TLS:
    if isinstance(setting.verify, bool):
        return TLS(verify=setting.verify)
    path = Path(setting.verify)
    try:
        if path.is_dir():
            return TLS(verify=ssl.create_default_context(capath=path))
        return TLS(verify=ssl.create_default_context(cafile=path))
    except OSError as error:
        raise check.fault("HealthCheck.verify", setting.verify, f"certificate authorities: {error}") from error


def grpc_frame(message: bytes) -> bytes:
    """A message as it travels: not compressed, its length before it."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def health_request(service: str) -> bytes:
    """A HealthCheckRequest in protobuf: the string of field 1."""
    name = service.encode()
    return b"\x0a" + _varint(len(name)) + name if name else b""


def serving_status(body: bytes) -> int | None:
    """The number of field 1 of a HealthCheckResponse, 0 if it is not there; None without a message."""
    if len(body) < 5 or body[0] != 0:
        return None
    message = body[5 : 5 + int.from_bytes(body[1:5], "big")]
    if not message:
        return 0
    return message[1] if len(message) > 1 and message[0] == 0x08 else None


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])
