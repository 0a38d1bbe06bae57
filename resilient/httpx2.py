"""The clients and transports on httpx2, the maintained successor of httpx.

Needs the extra: `pip install resilient-mesh[httpx2]`. Everything is as in `resilient`, but for
the classes that callers see: `except httpx2.HTTPError` catches what is raised here, and
`except resilient.MeshError` too.
"""

from __future__ import annotations

from typing import Any

try:
    import httpx2
except ImportError as error:  # pragma: no cover - the message is the point
    raise ImportError("resilient.httpx2 needs httpx2: pip install 'resilient-mesh[httpx2]'") from error

from resilient import client, transport
from resilient.binding import bind
from resilient.mesh import Mesh
from resilient.policy.policy import Policy

__all__ = ["AsyncClient", "AsyncMeshTransport", "Client", "MeshTransport"]

HTTPX2 = bind(httpx2)


class MeshTransport(transport.SyncTransport, httpx2.BaseTransport):
    """`resilient.MeshTransport` for `httpx2.Client`."""

    _binding = HTTPX2


class AsyncMeshTransport(transport.AsyncTransport, httpx2.AsyncBaseTransport):
    """`resilient.AsyncMeshTransport` for `httpx2.AsyncClient`."""

    _binding = HTTPX2


class Client(client.SyncClient, httpx2.Client):
    """`resilient.Client` as an `httpx2.Client`."""

    _binding = HTTPX2
    _mesh_transport = MeshTransport
    _plain_transport = httpx2.HTTPTransport

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


class AsyncClient(client.AsyncClientBase, httpx2.AsyncClient):
    """`resilient.AsyncClient` as an `httpx2.AsyncClient`."""

    _binding = HTTPX2
    _mesh_transport = AsyncMeshTransport
    _plain_transport = httpx2.AsyncHTTPTransport

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
