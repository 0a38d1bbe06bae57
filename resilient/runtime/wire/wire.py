"""Wire and AsyncWire: send a request to one endpoint."""

from __future__ import annotations

from contextlib import suppress
from time import monotonic
from typing import Any, Protocol

from anyio.lowlevel import checkpoint

from resilient.balance.endpoint import Endpoint
from resilient.binding import Binding
from resilient.core.classify import FROM_BODY
from resilient.core.counting import HAS_GIL, count
from resilient.runtime.wire.body import async_body_type, body_type, loaded_body_type
from resilient.runtime.wire.deadline import AttemptOver
from resilient.runtime.wire.exchange import Exchange, within_pool_deadline
from resilient.runtime.wire.faults import translate
from resilient.runtime.wire.link import Generation
from resilient.runtime.wire.pool import async_pool_for, pool_for
from resilient.runtime.wire.settings import WireSettings

RESENT = "resilient.resent"
"""The response extension that is True if the request was sent again on a fresh connection."""


class Attempt(Protocol):
    """Whoever wants to know how far a request had come when it was cut off."""

    stage: str


_FORGOTTEN = 600.0  # seconds; a wire unused for so long is closed though its connections never expire


class _Common:
    """What does not depend on how one waits."""

    __slots__ = (
        "_binding",
        "_body",
        "_cap",
        "_generation",
        "_loaded",
        "_lost",
        "_pool",
        "_settings",
        "_used",
        "endpoint",
        "in_flight",
    )
    _body: Any
    _pool: Any

    def __init__(self, endpoint: Endpoint, settings: WireSettings, binding: Binding, cap: Any = None) -> None:
        self.endpoint = endpoint
        self.in_flight = 0
        """Requests under way, until their response bodies are closed."""
        self._settings = settings
        self._binding = binding
        self._loaded = loaded_body_type(binding)
        self._generation = Generation()
        self._used = 0.0
        self._lost: list[tuple[Any, Any]] = []
        self._cap = cap
        """The Cap that all wires of a client share, if there is one."""

    def unused(self, now: float) -> bool:
        """True if nothing is in flight and every connection has outlived its keep-alive.

        `now` in seconds of `time.monotonic()`: closing the wire then costs nobody a warm
        connection.
        """
        expiry = self._settings.keepalive_expiry
        return not self.in_flight and now - self._used >= (_FORGOTTEN if expiry is None else expiry)

    def after_fork(self) -> None:
        """In a forked child: the connections are the parent's."""
        for connection in self._pool.connections:
            connection.link.after_fork()
        self._cap = None  # its lock may have been held

    def end(self) -> None:
        """A body was closed, or there will be none."""
        self._leave()
        if self._cap is not None:
            self._cap.leave()

    def _enter(self) -> None:
        if HAS_GIL:
            self.in_flight += 1
        else:
            count(self, 1)

    def _leave(self) -> None:
        if HAS_GIL:
            self.in_flight -= 1
        else:
            count(self, -1)
        self._used = monotonic()

    def lose(self, stream: Any, parts: Any) -> None:
        """A body was collected without being closed: the next request closes it.

        Not at once: what the collector has interrupted may be the pool's own work. The
        iterator is kept too, or it would be closed by the collector.
        """
        self._lost.append((stream, parts))
        self.end()

    def fault(self, error: BaseException, exchange: Exchange, *, fresh: bool = True) -> BaseException:
        """What to raise for an error of httpcore's; others as they are."""
        return translate(error, exchange, self._binding, fresh=fresh) or error

    def _response(self, exchange: Exchange, response: Any) -> Any:
        if exchange.resent:
            response.extensions[RESENT] = True
        if response.status == 101 or (exchange.request.method == "CONNECT" and 200 <= response.status < 300):
            _hand_over(response, self._binding)
        if type(response.stream) is list:
            self.end()
            body = self._loaded(response.stream)
        else:
            body = self._body(self, exchange, response.stream)
        return self._binding.Response(
            response.status, headers=response.headers, stream=body, extensions=response.extensions
        )

    def _may_resend(self, error: BaseException, exchange: Exchange, resend: bool) -> bool:
        """True for the keep-alive race: the peer closed an idle connection as we took it.

        Any method may be sent again if nothing has left; with `resend` also when something
        has. Connections as old as this one are likely to be as dead.
        """
        race = type(error).__name__ in _HANG_UPS and exchange.stale and not hasattr(error, FROM_BODY)
        if not race or not (exchange.unsent or (resend and exchange.replayable(default=True))):
            return False
        self._generation.renew()
        return True


_HANG_UPS = frozenset({"ReadError", "WriteError", "RemoteProtocolError"})


class Wire(_Common):
    """The connections to one endpoint, for threads."""

    __slots__ = ()

    def __init__(self, endpoint: Endpoint, settings: WireSettings, binding: Binding, cap: Any = None) -> None:
        super().__init__(endpoint, settings, binding, cap)
        self._pool: Any = pool_for(endpoint, settings, self._generation)
        self._body = body_type(binding)

    def send(self, request: Any, *, resend: bool) -> Any:
        """The response to `request`, with its body still to be read.

        `resend` says that the request is idempotent and its body can be read again: it may
        then be sent a second time, on a fresh connection, if the one it was sent on turns
        out to have been closed before. Raises the TransportErrors of the HTTP library, each
        with `unsent`, `refused` and `resent`. Keeps to `attempt_deadline`.
        """
        if self._lost:
            self._close_lost()
        exchange = first = self._exchange(request)
        self._enter()  # also while it waits for its turn, or the wire might be taken for unused
        if self._cap is not None:
            self._wait_for_turn(request)
        while True:
            try:
                response = self._pool.handle_request(exchange)
                break
            except (Exception, AttemptOver) as error:
                if exchange is first and self._may_resend(error, first, resend):
                    exchange = self._exchange(request)
                    exchange.resent = True
                    continue
                self.end()
                raise self.fault(error, exchange, fresh=exchange is first or first.unsent) from error
            except BaseException:
                self.end()
                raise
        return self._response(exchange, response)

    def _wait_for_turn(self, request: Any) -> None:
        try:
            self._cap.enter(request)
        except BaseException:
            self._leave()
            raise

    def _exchange(self, request: Any) -> Exchange:
        exchange = Exchange(request, within_pool_deadline(request.extensions))
        if self._settings.http2:
            exchange.watch(exchange.note)
        return exchange

    def _close_lost(self) -> None:
        while self._lost:
            with suppress(Exception):  # IndexError: another thread was faster
                self._lost.pop()[0].close()

    def close(self) -> None:
        """Close all connections; what is under way on them fails."""
        self._pool.close()


class AsyncWire(_Common):
    """The connections to one endpoint, for tasks of asyncio or trio."""

    __slots__ = ()

    def __init__(self, endpoint: Endpoint, settings: WireSettings, binding: Binding, cap: Any = None) -> None:
        super().__init__(endpoint, settings, binding, cap)
        self._pool: Any = async_pool_for(endpoint, settings, self._generation)
        self._body = async_body_type(binding)

    async def send(self, request: Any, *, resend: bool, attempt: Attempt | None = None) -> Any:
        """As Wire.send. May be cancelled at any moment, which is its only deadline.

        `attempt` is then told what the request was waiting for.
        """
        if self._lost:
            await self._close_lost()
        exchange = first = self._exchange(request)
        self._enter()  # as in Wire
        if self._cap is not None:
            await self._wait_for_turn(request, attempt)
        while True:
            try:
                response = await self._pool.handle_async_request(exchange)
                break
            except Exception as error:
                if exchange is first and self._may_resend(error, first, resend):
                    exchange = self._exchange(request)
                    exchange.resent = True
                    continue
                self.end()
                raise self.fault(error, exchange, fresh=exchange is first or first.unsent) from error
            except BaseException:
                self.end()
                if attempt is not None and exchange is first:
                    attempt.stage = exchange.stage
                raise
        return self._response(exchange, response)

    async def _wait_for_turn(self, request: Any, attempt: Attempt | None) -> None:
        if attempt is not None:
            attempt.stage = "pool"
        try:
            await self._cap.enter_async(request)
        except BaseException:
            self._leave()
            raise
        if attempt is not None:
            attempt.stage = ""

    def _exchange(self, request: Any) -> Exchange:
        exchange = Exchange(request, request.extensions)
        if self._settings.http2:
            exchange.watch(exchange.anote)
        return exchange

    async def _close_lost(self) -> None:
        while self._lost:
            with suppress(Exception):
                await self._lost.pop()[0].aclose()

    async def aclose(self) -> None:
        """Close all connections; what is under way on them fails."""
        await self._pool.aclose()
        await checkpoint()  # asyncio closes sockets in its next turn


def _hand_over(response: Any, binding: Binding) -> None:
    """Make the stream of an upgraded response fit for its reader; loads httpcore, which is rarely needed."""
    from resilient.runtime.wire.upgraded import hand_over

    hand_over(response, binding)
