"""Client and AsyncClient: httpx's own, with a mesh below them."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from inspect import Parameter, Signature, signature
from typing import Any, ClassVar, TypedDict, TypeVar, Unpack

import httpx
from httpx._types import AuthTypes, CertTypes, CookieTypes, HeaderTypes, ProxyTypes, QueryParamTypes, TimeoutTypes

from resilient.binding import HTTPX, Binding
from resilient.cookies import cookie_store
from resilient.core import check
from resilient.identity.tls import TLS
from resilient.mesh import Mesh
from resilient.policy.policy import Policy
from resilient.requests import KnownHeaders, known_requests
from resilient.responses import taking
from resilient.runtime.carried import BUFFER
from resilient.runtime.wire import WireSettings
from resilient.runtime.wire.settings import Engine, check_engine, of_limits
from resilient.telemetry.spans import SENDS
from resilient.telemetry.tracing import tracing
from resilient.transport import AsyncMeshTransport, MeshTransport

_DEFAULT_LIMITS = (100, 20)

Constructor = TypeVar("Constructor", bound=Callable[..., None])


def signed_like(base: type[Any]) -> Callable[[Constructor], Constructor]:
    """Show the arguments of `base` in place of the `**options` of a constructor.

    Type checkers see them through the annotation; `help`, `inspect` and dependency
    injection see them through this.
    """

    def sign(constructor: Constructor) -> Constructor:
        joined = signature(_MeshClient.__init__).parameters.values()
        own = [one for one in joined if one.kind is not Parameter.VAR_KEYWORD]
        _, *taken = signature(base.__init__).parameters.values()
        constructor.__signature__ = Signature([*own, *taken], return_annotation="None")  # type: ignore[attr-defined]
        return constructor

    return sign


class _MeshClient:
    """What the clients of both libraries share.

    httpx makes the transport of a client, and one for each proxy, in two methods of its own;
    ours stand in their place, so that every argument of the constructor keeps its meaning.
    """

    _binding: ClassVar[Binding] = HTTPX
    _mesh_transport: ClassVar[type[Any]]
    _plain_transport: ClassVar[type[Any]]
    _is_instrumented_by_opentelemetry = False

    def __init__(
        self,
        *,
        mesh: Mesh | None = None,
        policy: Policy | None = None,
        max_connection_age: float | None = None,
        wire: Engine = "default",
        **options: Any,
    ) -> None:
        if mesh is not None and policy is not None:
            raise TypeError("give `mesh` or `policy`, not both: a Mesh has a policy of its own")
        check.instance("mesh", mesh, (Mesh, type(None)), "a resilient.Mesh")
        check.instance("policy", policy, (Policy, type(None)), "a resilient.Policy")
        check.optional_seconds("max_connection_age", max_connection_age)
        check_engine("wire", wire)
        self._owns_mesh = mesh is None
        self.mesh = mesh if mesh is not None else Mesh(policy=policy)
        self._max_connection_age = max_connection_age
        self._engine: Engine = wire
        self._known_headers = KnownHeaders(self._binding)
        self._take_body = taking(self._binding)
        mounts: Mapping[str, Any] = options.get("mounts") or {}
        carrying = {pattern: self._carrying(transport) for pattern, transport in mounts.items()}
        super().__init__(**{**options, "mounts": carrying})
        self.cookies = self._cookies

    def _carrying(self, transport: Any) -> Any:
        """A transport of the user's as what carries our attempts; one of ours as it is."""
        if transport is None or isinstance(transport, self._mesh_transport):
            return transport
        return self._mesh_transport(self.mesh, transport=transport)

    def _tls(self, options: dict[str, Any]) -> TLS:
        """Take what concerns TLS out of the options."""
        return TLS(
            options.pop("verify"),
            options.pop("cert"),
            options.pop("trust_env"),
            create=self._binding.create_ssl_context,
        )

    def _init_transport(self, *_: Any, **options: Any) -> Any:
        transport = options.pop("transport")
        if transport is not None:
            return self._carrying(transport)
        limits = options.pop("limits")
        connections, keepalive, expiry = of_limits(limits)
        tls = self._tls(options)
        # httpx's default of 20 idle connections makes a busy client reconnect all the time;
        # left at its default, each endpoint may keep as many as it may open.
        default = (limits.max_connections, limits.max_keepalive_connections) == _DEFAULT_LIMITS
        settings = WireSettings(
            tls=tls,
            max_connections=connections,
            max_keepalive=None if default else keepalive,
            keepalive_expiry=expiry,
            max_connection_age=self._max_connection_age,
            engine=self._engine,
            **options,
        )
        total = None if default or settings.http2 else connections
        return self._mesh_transport(self.mesh, settings=settings, max_connections=total)

    def _init_proxy_transport(self, *proxy: Any, **options: Any) -> Any:
        context = self._tls(options).context(http2=options["http2"])
        plain = self._plain_transport(proxy=proxy[0], verify=context, **options)
        return self._mesh_transport(self.mesh, transport=plain, through_proxy=True)

    def _mark(self, request: Any, stream: bool) -> None:
        """Tell the transport that the body will be read at once, so that it does so itself."""
        request.extensions.pop(SENDS, None)  # sent a second time by the user, it is sent anew
        request.extensions[BUFFER] = not stream

    @property
    def cookies(self) -> Any:
        """The cookies of the client, as httpx has them."""
        return self._cookies

    @cookies.setter
    def cookies(self, cookies: Any) -> None:
        self._cookies = cookie_store(self._binding)(cookies)

    def _leave(self) -> None:
        if self._owns_mesh:
            self.mesh.close()


class SyncClient(_MeshClient):
    """What the sync clients of both libraries share."""

    def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
        """As httpx's: a body that is not streamed is read within the attempt."""
        self._mark(request, stream)
        return super().send(request, stream=stream, **options)  # type: ignore[misc]

    def _send_handling_auth(self, request: Any, auth: Any, follow_redirects: Any, history: Any) -> Any:
        if type(auth) is self._binding.Auth:  # which does nothing to the request, nor looks at the response
            response = self._send_handling_redirects(request, follow_redirects, history)  # type: ignore[attr-defined]
        else:
            response = super()._send_handling_auth(request, auth, follow_redirects, history)  # type: ignore[misc]
        # All hooks have run, and what is next is that httpx reads it.
        if self._take_body(request, response):
            response.stream.close()
        return response

    def _send_single_request(self, request: Any) -> Any:
        if not self._is_instrumented_by_opentelemetry:
            return super()._send_single_request(request)  # type: ignore[misc]
        with tracing.instead_of_instrumentation(self):
            return super()._send_single_request(request)  # type: ignore[misc]

    def close(self) -> None:
        """Close connections, and the mesh if it is this client's own."""
        try:
            super().close()  # type: ignore[misc]
        finally:
            self._leave()

    def __exit__(self, *exc_info: object) -> None:
        try:
            super().__exit__(*exc_info)  # type: ignore[misc]
        finally:
            self._leave()


class AsyncClientBase(_MeshClient):
    """What the async clients of both libraries share."""

    async def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
        """As httpx's: a body that is not streamed is read within the attempt."""
        self._mark(request, stream)
        return await super().send(request, stream=stream, **options)  # type: ignore[misc]

    async def _send_handling_auth(self, request: Any, auth: Any, follow_redirects: Any, history: Any) -> Any:
        if type(auth) is self._binding.Auth:  # as in SyncClient
            response = await self._send_handling_redirects(request, follow_redirects, history)  # type: ignore[attr-defined]
        else:
            response = await super()._send_handling_auth(request, auth, follow_redirects, history)  # type: ignore[misc]
        if self._take_body(request, response):
            await response.stream.aclose()
        return response

    def _send_single_request(self, request: Any) -> Any:
        if not self._is_instrumented_by_opentelemetry:
            return super()._send_single_request(request)  # type: ignore[misc]
        return self._send_instead_of_instrumentation(request)

    async def _send_instead_of_instrumentation(self, request: Any) -> Any:
        with tracing.instead_of_instrumentation(self):
            return await super()._send_single_request(request)  # type: ignore[misc]

    async def aclose(self) -> None:
        """Close connections, and the mesh if it is this client's own."""
        try:
            await super().aclose()  # type: ignore[misc]
        finally:
            self._leave()

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            await super().__aexit__(*exc_info)  # type: ignore[misc]
        finally:
            self._leave()


class MeshOptions(TypedDict, total=False):
    """What our constructors take beside those of the HTTP library."""

    mesh: Mesh | None
    policy: Policy | None
    max_connection_age: float | None
    wire: Engine


class _Options(MeshOptions, total=False):
    auth: AuthTypes | None
    params: QueryParamTypes | None
    headers: HeaderTypes | None
    cookies: CookieTypes | None
    verify: ssl.SSLContext | str | bool
    cert: CertTypes | None
    trust_env: bool
    http1: bool
    http2: bool
    proxy: ProxyTypes | None
    timeout: TimeoutTypes
    follow_redirects: bool
    limits: httpx.Limits
    max_redirects: int
    event_hooks: Mapping[str, list[Callable[..., Any]]] | None
    base_url: httpx.URL | str
    default_encoding: str | Callable[[bytes], str]


class ClientOptions(_Options, total=False):
    """What the constructor of `httpx.Client` takes."""

    mounts: Mapping[str, httpx.BaseTransport | None] | None
    transport: httpx.BaseTransport | None


class AsyncClientOptions(_Options, total=False):
    """What the constructor of `httpx.AsyncClient` takes."""

    mounts: Mapping[str, httpx.AsyncBaseTransport | None] | None
    transport: httpx.AsyncBaseTransport | None


@known_requests(HTTPX)
class Client(SyncClient, httpx.Client):
    """An `httpx.Client` whose calls go through a mesh.

    Takes everything that `httpx.Client` takes, in the same meaning, and:

    `mesh`: a Mesh to share with other clients; `policy`: or a Policy for a mesh of its own,
    which is closed with the client. `max_connection_age`: seconds after which a connection
    takes no further request (None: no limit). `wire`: "fast" for connections that spend less time,
    with the extra `resilient-mesh[fast]`. `transport=` becomes what carries each attempt.
    """

    _mesh_transport = MeshTransport
    _plain_transport = httpx.HTTPTransport

    @signed_like(httpx.Client)
    def __init__(self, **options: Unpack[ClientOptions]) -> None:
        super().__init__(**options)


@known_requests(HTTPX)
class AsyncClient(AsyncClientBase, httpx.AsyncClient):
    """An `httpx.AsyncClient` whose calls go through a mesh; see Client. asyncio and trio."""

    _mesh_transport = AsyncMeshTransport
    _plain_transport = httpx.AsyncHTTPTransport

    @signed_like(httpx.AsyncClient)
    def __init__(self, **options: Unpack[AsyncClientOptions]) -> None:
        super().__init__(**options)
