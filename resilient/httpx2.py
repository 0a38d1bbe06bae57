"""The clients and transports on httpx2, the maintained successor of httpx.

Needs the extra: `pip install resilient-mesh[httpx2]`. Everything is as in `resilient`, but for
the classes that callers see: `except httpx2.HTTPError` catches what is raised here, and
`except resilient.MeshError` too.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import Any, Unpack

try:
    import httpx2
    from httpx2._types import AuthTypes, CertTypes, CookieTypes, HeaderTypes, ProxyTypes, QueryParamTypes, TimeoutTypes
except ImportError as error:  # pragma: no cover - the message is the point
    raise ImportError("resilient.httpx2 needs httpx2: pip install 'resilient-mesh[httpx2]'") from error

from resilient import client, transport
from resilient.binding import bind
from resilient.requests import known_requests

__all__ = ["AsyncClient", "AsyncMeshTransport", "Client", "MeshTransport"]

HTTPX2 = bind(httpx2)


class MeshTransport(transport.SyncTransport, httpx2.BaseTransport):
    """`resilient.MeshTransport` for `httpx2.Client`."""

    _binding = HTTPX2


class AsyncMeshTransport(transport.AsyncTransport, httpx2.AsyncBaseTransport):
    """`resilient.AsyncMeshTransport` for `httpx2.AsyncClient`."""

    _binding = HTTPX2


class _Options(client.MeshOptions, total=False):
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
    limits: httpx2.Limits
    max_redirects: int
    event_hooks: Mapping[str, list[Callable[..., Any]]] | None
    base_url: httpx2.URL | str
    default_encoding: str | Callable[[bytes], str | None]


class ClientOptions(_Options, total=False):
    """What the constructor of `httpx2.Client` takes."""

    mounts: Mapping[str, httpx2.BaseTransport | None] | None
    transport: httpx2.BaseTransport | None


class AsyncClientOptions(_Options, total=False):
    """What the constructor of `httpx2.AsyncClient` takes."""

    mounts: Mapping[str, httpx2.AsyncBaseTransport | None] | None
    transport: httpx2.AsyncBaseTransport | None


@known_requests(HTTPX2)
class Client(client.SyncClient, httpx2.Client):
    """`resilient.Client` as an `httpx2.Client`."""

    _binding = HTTPX2
    _mesh_transport = MeshTransport
    _plain_transport = httpx2.HTTPTransport

    @client.signed_like(httpx2.Client)
    def __init__(self, **options: Unpack[ClientOptions]) -> None:
        super().__init__(**options)


@known_requests(HTTPX2)
class AsyncClient(client.AsyncClientBase, httpx2.AsyncClient):
    """`resilient.AsyncClient` as an `httpx2.AsyncClient`."""

    _binding = HTTPX2
    _mesh_transport = AsyncMeshTransport
    _plain_transport = httpx2.AsyncHTTPTransport

    @client.signed_like(httpx2.AsyncClient)
    def __init__(self, **options: Unpack[AsyncClientOptions]) -> None:
        super().__init__(**options)
