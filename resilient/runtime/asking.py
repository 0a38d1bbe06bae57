"""One check of an endpoint's health: over HTTP, TCP or gRPC."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import httpx

from resilient.balance.endpoint import Endpoint
from resilient.binding import HTTPX
from resilient.core import check, forking
from resilient.core.classify import is_draining
from resilient.identity.tls import TLS
from resilient.policy.health import HealthCheck
from resilient.runtime.wire import AsyncWire, WireSettings

_USER_AGENT = "resilient/health-check"
_SERVING = 1  # grpc.health.v1.HealthCheckResponse.ServingStatus


class Verdict(NamedTuple):
    """The result of one check. `at_once`: a failure that needs no confirmation."""

    ok: bool
    reason: str = ""
    at_once: bool = False


Ask = Callable[[Endpoint], Awaitable[Verdict]]


def asker(setting: HealthCheck, service: str) -> Ask:
    """The function that makes one check of an endpoint of `service`; it raises whatever goes wrong."""
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
    """One request over its own connection, which also tests that the endpoint accepts new ones."""

    def __init__(self, setting: HealthCheck, service: str) -> None:
        self._setting = setting
        self._host = setting.host or service
        self._wire = WireSettings(tls=_tls(setting))

    async def ask(self, endpoint: Endpoint) -> Verdict:
        wire = AsyncWire(endpoint, self._wire, HTTPX)
        _open.add(wire)
        try:
            response = await wire.send(self._request(endpoint), resend=False)
            try:
                return await self._judge(response)
            finally:
                await response.aclose()
        finally:
            _open.discard(wire)
            await wire.aclose()

    def _request(self, endpoint: Endpoint) -> httpx.Request:
        return httpx.Request(
            self._setting.method, self._url(endpoint, self._setting.path), headers={"user-agent": _USER_AGENT}
        )

    def _url(self, endpoint: Endpoint, path: str) -> str:
        # A host that is an IPv6 address is held without its brackets.
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
    """`grpc.health.v1.Health/Check`: one message out, one back, encoded by hand."""

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
    """A message as it is sent: uncompressed, prefixed with its length."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def health_request(service: str) -> bytes:
    """A HealthCheckRequest in protobuf: the string of field 1."""
    name = service.encode()
    return b"\x0a" + _varint(len(name)) + name if name else b""


def serving_status(body: bytes) -> int | None:
    """The number in field 1 of a HealthCheckResponse, 0 if it is absent; None without a message."""
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


_open: set[AsyncWire] = set()
"""The wires of checks under way. In a forked child they stay here, and are never garbage-collected."""


def _after_fork() -> None:
    for wire in _open:
        wire.after_fork()


forking.in_child(_after_fork)
