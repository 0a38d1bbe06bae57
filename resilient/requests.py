"""Requests as httpx makes them, of parts that an earlier request has shown to be right.

A service asks the same hosts again and again, with the same headers. httpx parses the URL of
each request, and copies its headers four times over, together a third of the cost of a small
request with the fast wire. Here URLs are kept after they have been parsed, and headers
after they have been made; only classes and arguments are used that the library documents.

It is done for requests to which the arguments add nothing: a plain `get(url)`, with whatever
headers and timeout the client has. The rest is httpx's, but for the parsing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache, wraps
from typing import Any, TypeVar

from resilient.binding import Binding

Client = TypeVar("Client", bound=type[Any])
Raw = list[tuple[bytes, bytes]]

_KEPT = 1000
"""URLs of all clients, and hosts of one: about 1 KB each."""
_LONGEST = 500
"""Characters. Longer URLs are mostly unlike all others."""
_BODILESS = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
"""Methods that httpx sends without Content-Length if there is no body."""
_DECISIVE = frozenset({b"host", b"content-length", b"transfer-encoding"})
"""What httpx looks for among the headers of the client, to add its own or not."""


class KnownHeaders:
    """The headers of one client's requests, by host. They hold while those of the client stay the same."""

    __slots__ = ("_headers", "_known")

    def __init__(self, binding: Binding) -> None:
        self._headers = binding.Headers
        self._known: tuple[Raw, dict[bytes, Any] | None] = ([], {})
        """The client's, and what was made of them; None if nothing is. One reference, for threads."""

    def find(self, ours: Raw, netloc: bytes) -> Any:
        """Headers for a request to this host, to be copied; None if httpx has to make them.

        `ours` are the client's as bytes, and so are those that come of it: to ask for a header by
        name would decide on an encoding, which users can see, and which refuses some later values.
        """
        basis, known = self._known
        if basis != ours:
            known = None if any(name.lower() in _DECISIVE for name, _ in ours) else {}
            self._known = (ours, known)
        if known is None:
            return None
        made = known.get(netloc)
        if made is None:
            if len(known) >= _KEPT:
                known = {}
                self._known = (ours, known)
            made = known[netloc] = self._headers([(b"Host", netloc), *ours])
        return made


def known_requests(binding: Binding) -> Callable[[Client], Client]:
    """Let a class of clients, which keeps KnownHeaders, build its requests of known parts.

    A decorator, so that each library's signature and types stay those of its own `build_request`.
    """

    def with_known_requests(client: Client) -> Client:
        client.build_request = _known_or_plain(client, binding)
        return client

    return with_known_requests


def _known_or_plain(client: type[Any], binding: Binding) -> Callable[..., Any]:
    plain = super(client, client).build_request
    default = binding.UseClientDefault()
    find = _urls(binding)

    @wraps(plain)
    def build_request(
        self: Any, method: Any, url: Any, *, timeout: Any = default, extensions: Any = None, **parts: Any
    ) -> Any:
        build = super(client, self).build_request
        # A class in between may have a `build_request` of its own, which gets what was given.
        is_next = getattr(build, "__func__", None) is plain
        if is_next and type(url) is str and len(url) <= _LONGEST and "@" not in url:  # no passwords are kept
            url, netloc = find(url)
            if netloc is not None and _adds_nothing(self, method, parts):
                headers = self._known_headers.find(self.headers.raw, netloc)
                if headers is not None:
                    return made(self, method, url, headers, timeout, extensions)
        return build(method, url, timeout=timeout, extensions=extensions, **parts)

    def made(self: Any, method: str, url: Any, headers: Any, timeout: Any, extensions: Any) -> Any:
        extensions = {} if extensions is None else extensions
        if "timeout" not in extensions:
            timeout = self.timeout if isinstance(timeout, binding.UseClientDefault) else binding.Timeout(timeout)
            extensions = dict(**extensions, timeout=timeout.as_dict())
        # With a stream, no headers are added to those that are given; they are copied.
        stream = binding.ByteStream(b"")
        request = binding.Request(method, url, headers=headers, stream=stream, extensions=extensions)
        request.read()
        return request

    build_request.__doc__ = "As httpx's, of what is known from earlier requests where that makes no difference."
    return build_request


def _adds_nothing(client: Any, method: Any, parts: dict[str, Any]) -> bool:
    """True if there is nothing but the URL and the client's headers to make a request of."""
    if type(method) is not str or method not in _BODILESS or client.params or client.cookies:
        return False
    for part in parts.values():  # noqa: SIM110 - a generator costs more than all of them
        if part is not None:  # even if empty: `params={}` takes the query off the URL
            return False
    return True


@cache
def _urls(binding: Binding) -> Callable[[str], tuple[Any, bytes | None]]:
    """Finds a URL of the library, and its host as headers name it; None if it depends on a base URL."""

    @lru_cache(_KEPT)
    def parse(url: str) -> tuple[Any, bytes | None]:
        parsed = binding.URL(url)
        return parsed, parsed.netloc if parsed.is_absolute_url else None

    return parse
