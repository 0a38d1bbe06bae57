"""One request on its way through a transport: what sync and async have in common."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NoReturn

from resilient import errors
from resilient.binding import Binding, copied
from resilient.core import check
from resilient.core.ambient import ambient
from resilient.core.bound import Bound
from resilient.core.call import Call
from resilient.core.classify import FROM_BODY
from resilient.core.outcome import Outcome
from resilient.core.report import CallReport
from resilient.core.route import route_group
from resilient.mesh import Mesh, Snapshot
from resilient.policy.retry import IDEMPOTENT_METHODS
from resilient.runtime.body import RepeatedBody, always_replayable, repeated_body_class
from resilient.runtime.carried import BUFFER, DEFAULT_PORTS
from resilient.runtime.carrier import AsyncCarrier, Carrier
from resilient.runtime.streams import streams
from resilient.runtime.wire import RESENT
from resilient.telemetry.logs import log_call

OPTIONS = "resilient"
"""The key of a request's extensions under which one call is told apart from the rest."""

Key = tuple[str, bytes, int | None, bool]
"""Scheme, host, port, and whether we choose the address."""

_REFUSALS: dict[str, type[errors.MeshError]] = {
    "deadline": errors.DeadlineExceeded,
    "resolve": errors.ResolveError,
    "no-endpoint": errors.NoEndpoint,
    "circuit-open": errors.CircuitOpen,
    "overflow": errors.LimitExceeded,
    "throttled": errors.RateLimited,
}


class Exchange:
    """A request, its call, and the body in the form in which it can be sent again."""

    __slots__ = ("buffer", "call", "original", "request")

    def __init__(self, original: Any, request: Any, call: Call, buffer: bool) -> None:
        self.original = original
        """As the client made it: errors and responses refer to it."""
        self.request = request
        """As it is sent."""
        self.call = call
        self.buffer = buffer
        """True if the response body is to be read within the attempt."""


class Exchanges:
    """Makes exchanges of requests, and results of their outcomes, for one transport."""

    def __init__(self, mesh: Mesh, binding: Binding, carrier: Carrier | AsyncCarrier) -> None:
        self.mesh = mesh
        self.binding = binding
        self.streams = streams(binding)
        self._carrier = carrier
        self._routes: tuple[Snapshot | None, dict[Key, Bound]] = (None, {})
        """What `find` has answered, and the snapshot from which on: one reference, for threads."""

    def begin(self, request: Any) -> Exchange:
        """The exchange of a request; raises UnknownService in a strict mesh."""
        bound = self._route(request)
        extensions = request.extensions
        options = extensions.get(OPTIONS)
        idempotent = request.method in IDEMPOTENT_METHODS or "idempotency-key" in request.headers
        deadline = None
        surroundings = ambient.get()
        if bound.policy.timeout is not None or surroundings is not None or options is not None:
            idempotent, deadline = self._surroundings(bound, idempotent, options)
        replayable = always_replayable(request.stream, self.binding)
        call = Call(
            bound,
            deadline=deadline,
            idempotent=idempotent,
            shareable=replayable,
            is_open=self.is_open,
            key=None if bound.hash_on is None else bound.hash_on.key(request),
            route=lambda: route_group(request.method, request.url.path),
            outer_attempt=1 if surroundings is None else surroundings.attempt,
        )
        sent = request
        if not replayable:
            # Also without retries: the wire must know that it cannot send such a body again.
            limit = bound.retry.setting.buffer_limit if bound.retry is not None else 0
            sent = self._repeatable(request, call, limit)
        return Exchange(request, sent, call, extensions.get(BUFFER, False))

    def _route(self, request: Any) -> Bound:
        url = request.url
        snapshot, routes = self._routes
        if self.mesh.snapshot is not snapshot:
            routes = {}
            self._routes = (self.mesh.snapshot, routes)
        key = (url.scheme, url.raw_host, url.port, self._carrier.dials)
        bound = routes.get(key)
        if bound is None:
            bound = routes[key] = self._find(request, key)
        return bound

    def _find(self, request: Any, key: Key) -> Bound:
        scheme, raw_host, port, dials = key
        if dials and scheme not in DEFAULT_PORTS:
            self._fail("UnsupportedProtocol", f"the URL {str(request.url)!r} needs http:// or https://", request)
        if dials and not raw_host:
            self._fail("UnsupportedProtocol", f"the URL {str(request.url)!r} has no host", request)
        # A transport of the user's may make of a URL what it likes, as of file:///etc/motd.
        host = raw_host.decode("ascii") or scheme or "localhost"
        port = port or DEFAULT_PORTS.get(scheme, 80)
        try:
            return self.mesh.find(host, port, dials=dials, resolve=self._carrier.follows_picks)
        except check.ConfigError as unknown:
            raise errors.for_library(errors.UnknownService, self.binding)(str(unknown), request=request) from None

    def _fail(self, error: str, message: str, request: Any) -> NoReturn:
        raise self.binding.errors[error](message, request=request)

    def _surroundings(self, bound: Bound, idempotent: bool, options: Any) -> tuple[bool, float | None]:
        """What the policy, the code around the call, and the caller make of it."""
        limits = [bound.policy.timeout]
        surroundings = ambient.get()
        if surroundings is not None:
            limits.append(surroundings.remaining())
        if options is not None:
            idempotent, timeout = _call_options(options, idempotent)
            limits.append(timeout)
        seconds = min((limit for limit in limits if limit is not None), default=None)
        return idempotent, None if seconds is None else self.mesh.clock() + seconds

    def is_open(self, response: Any) -> bool:
        """True if the body is still to be read: neither in memory, nor read by a transport of the user's."""
        return not (response.is_closed or isinstance(response.stream, self.streams.loaded))

    def _repeatable(self, request: Any, call: Call, limit: int) -> Any:
        body: RepeatedBody = repeated_body_class(self.binding)(request.stream, limit)
        call.replayable = body.replayable
        return copied(request, stream=body)

    def finish(self, exchange: Exchange, outcome: Outcome) -> Any:
        """The response, or the exception, that the caller gets."""
        response = outcome.response
        call = exchange.call
        log_call(exchange.original, call.report, outcome)
        if response is None:
            self._raise(exchange, outcome)
        if call.watches_successes and response.is_closed:
            # httpx measures it when a body is closed, and this one has been.
            response.elapsed = timedelta(seconds=self.mesh.clock() - call.started)
        if RESENT in response.extensions:
            call.report.flags.append("resent")
        response.extensions["resilient"] = call.report
        if call.held is not None:
            response.stream = self.streams.Followed(
                response.stream, call.held, call.deadline, self.mesh.clock, lambda: self._expired(exchange)
            )
        return response

    def _raise(self, exchange: Exchange, outcome: Outcome) -> NoReturn:
        cause = outcome.error
        refusal = _REFUSALS.get(outcome.reason)
        if refusal is None or (cause is not None and outcome.reason == "overflow"):
            assert cause is not None
            raise self._as_library_error(cause, exchange)
        error = self._refusal(refusal, exchange, outcome)
        if cause is not None:
            raise error from cause
        raise error

    def _as_library_error(self, error: BaseException, exchange: Exchange) -> BaseException:
        """The last error as plain httpx would give it, with the report.

        What the caller's own body raised stays as it was; it may be another call's, with its report.
        """
        own = hasattr(error, FROM_BODY)
        if own and hasattr(error, "report"):
            return error
        if type(error) is TimeoutError and not own:
            # Ours: `attempt_timeout` passed, or a deadline that httpx knows nothing of.
            report = exchange.call.report
            error = self.binding.errors["ReadTimeout"](
                f"attempt timed out after {report.attempts[-1].seconds:.3f} s", request=exchange.original
            )
        if getattr(error, "resent", False):
            exchange.call.report.flags.append("resent")
        error.report = exchange.call.report  # type: ignore[attr-defined]
        return error

    def _refusal(self, kind: type[errors.MeshError], exchange: Exchange, outcome: Outcome) -> errors.MeshError:
        report = exchange.call.report
        error = errors.for_library(kind, self.binding)(
            _message(outcome, exchange.call), request=exchange.original, report=report
        )
        if isinstance(error, errors.CircuitOpen) and exchange.call.bound.breaker is not None:
            error.retry_in = exchange.call.bound.breaker.remaining(self.mesh.clock())
        return error

    def _expired(self, exchange: Exchange) -> errors.MeshError:
        exchange.call.report.flags.append("deadline")
        kind = errors.for_library(errors.DeadlineExceeded, self.binding)
        return kind(
            f"{exchange.call.report.service}: the deadline passed while the response body was read",
            request=exchange.original,
            report=exchange.call.report,
        )


def _message(outcome: Outcome, call: Call) -> str:
    report: CallReport = call.report
    limit = call.bound.policy.limit
    subset = call.bound.subset
    text = {
        "deadline": "the deadline passed",
        "resolve": f"no endpoints: {outcome.error or 'no answer in time'}",
        "no-endpoint": "no endpoint" + (f" of the subset {subset}" if subset is not None else ""),
        "circuit-open": "the circuit is open",
        "overflow": f"too many calls in flight: {limit}",
        "throttled": "overloaded, and throttled on our side",
    }[outcome.reason]
    tries = f" ({report})" if report.attempts else ""
    return f"{report.service}: {text}{tries}"


def _call_options(options: Any, idempotent: bool) -> tuple[bool, float | None]:
    """What a caller says of one call: `extensions={"resilient": {"idempotent": True, "timeout": 1.5}}`."""
    if not isinstance(options, dict):
        raise check.fault('extensions["resilient"]', options, "a dict with `idempotent` and `timeout`")
    for name in options:
        if name not in ("idempotent", "timeout"):
            raise check.fault(f'extensions["resilient"]["{name}"]', options[name], "one of `idempotent`, `timeout`")
    timeout = options.get("timeout")
    check.optional_seconds('extensions["resilient"]["timeout"]', timeout)
    idempotent = options.get("idempotent", idempotent)
    check.flag('extensions["resilient"]["idempotent"]', idempotent)
    return idempotent, timeout
