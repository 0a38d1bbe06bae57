"""The HTTP library whose classes our callers see: httpx, or its successor httpx2.

Both have the same shape and no class in common, so what builds a response or raises an
exception is told by a Binding which classes to use.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import httpx


@dataclass(frozen=True, slots=True, eq=False)
class Binding:
    """The classes of one HTTP library. Compared by identity: there is one for each library.

    `errors` holds TransportError and everything below it by name, so that
    `errors["ReadTimeout"]` is what the library itself would raise.
    """

    name: str
    Request: type[Any]
    Response: type[Any]
    URL: type[Any]
    Headers: type[Any]
    Timeout: type[Any]
    Auth: type[Any]
    ByteStream: type[Any]
    SyncByteStream: type[Any]
    AsyncByteStream: type[Any]
    bound_streams: tuple[type[Any], ...]
    """What a client wraps the stream of a response in, to measure how long it took."""
    Cookies: type[Any]
    errors: Mapping[str, type[Any]]
    create_ssl_context: Callable[..., ssl.SSLContext]
    HTTPTransport: type[Any]
    AsyncHTTPTransport: type[Any]
    in_memory: tuple[type[Any], ...]
    """Transports that dial nobody."""
    UseClientDefault: type[Any]
    """Of what stands for an argument that was not given."""


def bind(library: ModuleType) -> Binding:
    """The Binding of `httpx` or of a module of the same shape."""
    return Binding(
        name=library.__name__,
        Request=library.Request,
        Response=library.Response,
        URL=library.URL,
        Headers=library.Headers,
        Timeout=library.Timeout,
        Auth=library.Auth,
        ByteStream=library.ByteStream,
        SyncByteStream=library.SyncByteStream,
        AsyncByteStream=library.AsyncByteStream,
        bound_streams=_bound_streams(library),
        Cookies=library.Cookies,
        errors={name: value for name, value in vars(library).items() if _is_transport_error(value, library)},
        create_ssl_context=library.create_ssl_context,
        HTTPTransport=library.HTTPTransport,
        AsyncHTTPTransport=library.AsyncHTTPTransport,
        in_memory=(library.MockTransport, library.ASGITransport, library.WSGITransport),
        UseClientDefault=type(library.USE_CLIENT_DEFAULT),
    )


def _is_transport_error(value: object, library: ModuleType) -> bool:
    return isinstance(value, type) and issubclass(value, library.TransportError)


def _bound_streams(library: ModuleType) -> tuple[type[Any], ...]:
    # They are private; of a library that has others, no more is known, and nothing is made of them.
    client = getattr(library, "_client", None)
    named = (getattr(client, name, None) for name in ("BoundSyncStream", "BoundAsyncStream"))
    return tuple(kind for kind in named if kind is not None)


HTTPX = bind(httpx)
"""The Binding of httpx."""


def copied(request: Any, **changes: Any) -> Any:
    """A copy of a request with some attributes replaced; it shares all others, the body included.

    The constructor would not do: it forgets a body that has been read, and a transport that
    looks at `request.content` would fail.
    """
    copy = object.__new__(type(request))
    vars(copy).update(vars(request), **changes)
    return copy
