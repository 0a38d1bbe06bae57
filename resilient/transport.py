"""MeshTransport and AsyncMeshTransport: a request becomes a call, an outcome a response."""

from __future__ import annotations

import time
from typing import Any, ClassVar, Self

import anyio
import httpx

from resilient.binding import HTTPX, Binding
from resilient.core.effects import Send
from resilient.exchange import Exchange, Exchanges
from resilient.mesh import Mesh
from resilient.policy.policy import Policy
from resilient.runtime.carrier import AsyncCarrier, Carrier, async_carrier, carrier
from resilient.runtime.tasks import TaskDriver
from resilient.runtime.threads import ThreadDriver
from resilient.runtime.wire import TIMEOUTS, WireSettings, attempt_deadline
from resilient.runtime.wire.deadline import is_over
from resilient.telemetry.tracing import CallTrace, tracing


class _MeshTransport:
    """What the transports of both libraries share, sync and async."""

    _binding: ClassVar[Binding] = HTTPX

    def _join(self, mesh: Mesh | None, policy: Policy | None) -> None:
        if mesh is not None and policy is not None:
            raise TypeError("give `mesh` or `policy`, not both: a Mesh has a policy of its own")
        self._owns_mesh = mesh is None
        self.mesh = mesh if mesh is not None else Mesh(policy=policy)

    def _leave(self) -> None:
        if self._owns_mesh:
            self.mesh.close()

    def _is_instrumentable(self, transport: Any) -> bool:
        """True if OpenTelemetry may have instrumented what carries our attempts, since it dials.

        A transport that stays in memory runs user code, whose spans are its own.
        """
        return not isinstance(transport, self._binding.in_memory)

    def _timed_out(self, exchange: Exchange, effect: Send) -> Exception:
        """The exception a blocking socket would have raised, so that what was not sent may be retried elsewhere."""
        message = f"{exchange.call.report.service}: the attempt took too long"
        if not effect.stage:
            return TimeoutError(message)
        error: Exception = self._binding.errors[TIMEOUTS[effect.stage]](message, request=exchange.original)
        return error


class SyncTransport(_MeshTransport):
    """The sync transport, for either library.

    `mesh`: shared with others; or `policy` for a mesh of its own, which is closed with the
    transport. `transport`: what carries each attempt instead of our own connections.
    `settings`: for those connections; `max_connections`: in use at once, over all endpoints.
    `through_proxy`: the transport goes through a proxy, which then chooses the address.
    """

    def __init__(
        self,
        mesh: Mesh | None = None,
        *,
        policy: Policy | None = None,
        transport: Any = None,
        settings: WireSettings | None = None,
        max_connections: int | None = None,
        through_proxy: bool = False,
    ) -> None:
        self._join(mesh, policy)
        self._carrier: Carrier = carrier(transport, settings, self._binding, through_proxy, max_connections)
        self._suppress = self._is_instrumentable(transport)
        self._driver = ThreadDriver(self.mesh.clock)
        self._exchanges = Exchanges(self.mesh, self._binding, self._carrier)

    def handle_request(self, request: Any) -> Any:
        """Make the call that the request asks for."""
        exchange = self._exchanges.begin(request)
        call = tracing.start_call(request, exchange.call.report)
        if call is not None:
            return self._traced(exchange, call)
        outcome = self._driver.drive(exchange.call, lambda effect: self._attempt(exchange, effect, exchange.request))
        return self._exchanges.finish(exchange, outcome)

    def _traced(self, exchange: Exchange, call: CallTrace) -> Any:
        def traced_attempt(effect: Send) -> Any:
            suppress = self._suppress and not self._carrier.dials
            with call.attempt(effect.pick.stats.endpoint, hedge=effect.hedge, suppress=suppress) as attempt:
                response = self._attempt(exchange, effect, attempt.request(exchange.request))
                attempt.responded(response)
                return response

        with call:
            response = self._exchanges.finish(exchange, self._driver.drive(exchange.call, traced_attempt))
            call.responded(response)
            return response

    def _attempt(self, exchange: Exchange, effect: Send, request: Any) -> Any:
        if effect.timeout is None:
            return self._send(exchange, effect, request)
        token = attempt_deadline.set(time.monotonic() + effect.timeout)
        try:
            return self._send(exchange, effect, request)
        finally:
            attempt_deadline.reset(token)

    def _send(self, exchange: Exchange, effect: Send, request: Any) -> Any:
        response = self._carrier.send(request, effect)
        if exchange.buffer:
            if self._exchanges.is_open(response):
                self._load(response)
            if exchange.call.watches_successes:
                response.read()  # the user's predicate may look at the text
        return response

    def _load(self, response: Any) -> None:
        chunks = []
        try:
            for chunk in response.stream:
                if is_over():  # our own wire checks at each operation, a user-supplied transport at none
                    raise TimeoutError("the deadline of the attempt has passed")
                chunks.append(chunk)
        finally:
            response.stream.close()
        response.stream = self._exchanges.streams.Loaded(chunks)

    def close(self) -> None:
        """Close the connections, and the mesh if it is this transport's own."""
        try:
            self._carrier.close()
        finally:
            self._leave()

    def __enter__(self) -> Self:
        self._carrier.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self._carrier.__exit__(*exc_info)
        finally:
            self._leave()


class AsyncTransport(_MeshTransport):
    """The async transport, for either library; asyncio and trio."""

    def __init__(
        self,
        mesh: Mesh | None = None,
        *,
        policy: Policy | None = None,
        transport: Any = None,
        settings: WireSettings | None = None,
        max_connections: int | None = None,
        through_proxy: bool = False,
    ) -> None:
        self._join(mesh, policy)
        self._carrier: AsyncCarrier = async_carrier(transport, settings, self._binding, through_proxy, max_connections)
        self._suppress = self._is_instrumentable(transport)
        self._driver = TaskDriver(self.mesh.clock, lags=self.mesh.lags)
        self._exchanges = Exchanges(self.mesh, self._binding, self._carrier)

    async def handle_async_request(self, request: Any) -> Any:
        """Make the call that the request asks for."""
        exchange = self._exchanges.begin(request)
        call = tracing.start_call(request, exchange.call.report)
        if call is not None:
            return await self._traced(exchange, call)
        outcome = await self._driver.drive(
            exchange.call, lambda effect: self._attempt(exchange, effect, exchange.request)
        )
        return self._exchanges.finish(exchange, outcome)

    async def _traced(self, exchange: Exchange, call: CallTrace) -> Any:
        async def traced_attempt(effect: Send) -> Any:
            suppress = self._suppress and not self._carrier.dials
            with call.attempt(effect.pick.stats.endpoint, hedge=effect.hedge, suppress=suppress) as attempt:
                response = await self._attempt(exchange, effect, attempt.request(exchange.request))
                attempt.responded(response)
                return response

        with call:
            response = self._exchanges.finish(exchange, await self._driver.drive(exchange.call, traced_attempt))
            call.responded(response)
            return response

    async def _attempt(self, exchange: Exchange, effect: Send, request: Any) -> Any:
        if effect.timeout is None:
            return await self._send(exchange, effect, request)
        with anyio.move_on_after(effect.timeout):
            return await self._send(exchange, effect, request)
        raise self._timed_out(exchange, effect)

    async def _send(self, exchange: Exchange, effect: Send, request: Any) -> Any:
        response = await self._carrier.send(request, effect)
        if exchange.buffer:
            if self._exchanges.is_open(response):
                await self._load(response)
            if exchange.call.watches_successes:
                await response.aread()
        return response

    async def _load(self, response: Any) -> None:
        try:
            chunks = [chunk async for chunk in response.stream]
        finally:
            with anyio.CancelScope(shield=True):
                await response.stream.aclose()
        response.stream = self._exchanges.streams.Loaded(chunks)

    async def aclose(self) -> None:
        """Close the connections, and the mesh if it is this transport's own."""
        try:
            await self._carrier.aclose()
        finally:
            self._leave()

    async def __aenter__(self) -> Self:
        await self._carrier.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            await self._carrier.__aexit__(*exc_info)
        finally:
            self._leave()


class MeshTransport(SyncTransport, httpx.BaseTransport):
    """An httpx transport that resolves, balances, retries and breaks.

    For code that makes its own client: `httpx.Client(transport=resilient.MeshTransport(mesh))`.
    """


class AsyncMeshTransport(AsyncTransport, httpx.AsyncBaseTransport):
    """As MeshTransport, for `httpx.AsyncClient`, on asyncio and trio."""
