"""Client and AsyncClient: httpx's own, with a mesh below them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import httpx

from resilient.binding import HTTPX, Binding
from resilient.cookies import cookie_store
from resilient.core import check
from resilient.exchange import BUFFER
from resilient.identity.tls import TLS
from resilient.mesh import Mesh
from resilient.policy.policy import Policy
from resilient.runtime.wire import WireSettings
from resilient.telemetry.spans import SENDS
from resilient.telemetry.tracing import tracing
from resilient.transport import AsyncMeshTransport, MeshTransport

_DEFAULT_LIMITS = (100, 20)


class _MeshClient:
    """What the clients of both libraries share.

    httpx makes the transport of a client, and one for each proxy, in two methods of its own;
    ours stand in their place, so that every argument of the constructor keeps its meaning.
    """

    _binding: ClassVar[Binding] = HTTPX
    _mesh_transport: ClassVar[type[Any]]
    _plain_transport: ClassVar[type[Any]]
    _is_instrumented_by_opentelemetry = False

    def _join(self, mesh: Mesh | None, policy: Policy | None, max_connection_age: float | None) -> None:
        if mesh is not None and policy is not None:
            raise TypeError("give `mesh` or `policy`, not both: a Mesh has a policy of its own")
        check.instance("mesh", mesh, (Mesh, type(None)), "a resilient.Mesh")
        check.instance("policy", policy, (Policy, type(None)), "a resilient.Policy")
        check.optional_seconds("max_connection_age", max_connection_age)
        self._owns_mesh = mesh is None
        self.mesh = mesh if mesh is not None else Mesh(policy=policy)
        self._max_connection_age = max_connection_age

    def _carrying(self, transport: Any) -> Any:
        """A transport of the user's as what carries our attempts; one of ours as it is."""
        if transport is None or isinstance(transport, self._mesh_transport):
            return transport
        return self._mesh_transport(self.mesh, transport=transport)

    def _with_mounts(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options of the constructor, mounted transports made to carry attempts too."""
        mounts: Mapping[str, Any] | None = options.get("mounts")
        if mounts:
            options["mounts"] = {pattern: self._carrying(transport) for pattern, transport in mounts.items()}
        return options

    def _init_transport(self, transport: Any = None, **options: Any) -> Any:
        if transport is not None:
            return self._carrying(transport)
        limits = options.pop("limits")
        tls = TLS(
            options.pop("verify"), options.pop("cert"), options.pop("trust_env"), create=self._binding.create_ssl_context
        )
        # httpx's default of 20 idle connections makes a busy client reconnect all the time;
        # left at its default, each endpoint may keep as many as it may open.
        default = (limits.max_connections, limits.max_keepalive_connections) == _DEFAULT_LIMITS
        settings = WireSettings(
            tls=tls,
            max_connections=limits.max_connections,
            max_keepalive=None if default else limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            max_connection_age=self._max_connection_age,
            **options,
        )
        total = None if default or settings.http2 else limits.max_connections
        return self._mesh_transport(self.mesh, settings=settings, max_connections=total)

    def _init_proxy_transport(self, proxy: Any, **options: Any) -> Any:
        tls = TLS(
            options.pop("verify"), options.pop("cert"), options.pop("trust_env"), create=self._binding.create_ssl_context
        )
        context = tls.context(http2=options["http2"])
        plain = self._plain_transport(proxy=proxy, verify=context, **options)
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
    def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
        """As httpx's: a body that is not streamed is read within the attempt."""
        self._mark(request, stream)
        return super().send(request, stream=stream, **options)  # type: ignore[misc]

    def _send_single_request(self, request: Any) -> Any:
        if not self._is_instrumented_by_opentelemetry:
            return super()._send_single_request(request)  # type: ignore[misc]
        with tracing.instead_of_instrumentation(self):
            return super()._send_single_request(request)  # type: ignore[misc]

    def close(self) -> None:
        """Close connections, and the mesh if it is this client's own."""
        super().close()  # type: ignore[misc]
        self._leave()

    def __exit__(self, *exc_info: Any) -> None:
        super().__exit__(*exc_info)  # type: ignore[misc]
        self._leave()


class AsyncClientBase(_MeshClient):
    async def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
        """As httpx's: a body that is not streamed is read within the attempt."""
        self._mark(request, stream)
        return await super().send(request, stream=stream, **options)  # type: ignore[misc]

    def _send_single_request(self, request: Any) -> Any:
        if not self._is_instrumented_by_opentelemetry:
            return super()._send_single_request(request)  # type: ignore[misc]
        return self._send_instead_of_instrumentation(request)

    async def _send_instead_of_instrumentation(self, request: Any) -> Any:
        with tracing.instead_of_instrumentation(self):
            return await super()._send_single_request(request)  # type: ignore[misc]

    async def aclose(self) -> None:
        """Close connections, and the mesh if it is this client's own."""
        await super().aclose()  # type: ignore[misc]
        self._leave()

    async def __aexit__(self, *exc_info: Any) -> None:
        await super().__aexit__(*exc_info)  # type: ignore[misc]
        self._leave()


class Client(SyncClient, httpx.Client):
    """An `httpx.Client` whose calls go through a mesh.

    Takes everything that `httpx.Client` takes, in the same meaning, and:

    `mesh`: a Mesh to share with other clients; `policy`: or a Policy for a mesh of its own,
    which is closed with the client. `max_connection_age`: seconds after which a connection
    takes no further request (None: no limit). `transport=` becomes what carries each attempt.
    """

    _mesh_transport = MeshTransport
    _plain_transport = httpx.HTTPTransport

    def __init__(
        self,
        *,
        mesh: Mesh | None = None,
        policy: Policy | None = None,
        max_connection_age: float | None = None,
        **options: Any,
    ) -> None:
        self._join(mesh, policy, max_connection_age)
        super().__init__(**self._with_mounts(options))
        self.cookies = self._cookies


class AsyncClient(AsyncClientBase, httpx.AsyncClient):
    """An `httpx.AsyncClient` whose calls go through a mesh; see Client. asyncio and trio."""

    _mesh_transport = AsyncMeshTransport
    _plain_transport = httpx.AsyncHTTPTransport

    def __init__(
        self,
        *,
        mesh: Mesh | None = None,
        policy: Policy | None = None,
        max_connection_age: float | None = None,
        **options: Any,
    ) -> None:
        self._join(mesh, policy, max_connection_age)
        super().__init__(**self._with_mounts(options))
        self.cookies = self._cookies
