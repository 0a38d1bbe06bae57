"""OpenTelemetry's semantic conventions for HTTP clients: what a span may say, and in which words."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from opentelemetry.util.types import AttributeValue

from resilient.balance.endpoint import Endpoint, is_ip

Attributes = dict[str, AttributeValue]

SCHEMA_URL = "https://opentelemetry.io/schemas/1.23.1"
"""A version in which the conventions for HTTP are stable."""

REQUEST_METHOD = "http.request.method"
METHOD_ORIGINAL = "http.request.method_original"
RESEND_COUNT = "http.request.resend_count"
STATUS_CODE = "http.response.status_code"
ERROR_TYPE = "error.type"
URL_FULL = "url.full"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
PEER_ADDRESS = "network.peer.address"
PEER_PORT = "network.peer.port"
PROTOCOL_VERSION = "network.protocol.version"

# RFC 9110, PATCH (RFC 5789) and QUERY. The conventions want the list to be replaceable.
_METHODS = "GET,HEAD,POST,PUT,DELETE,CONNECT,OPTIONS,TRACE,PATCH,QUERY"
_KNOWN_METHODS = frozenset(
    name.strip() for name in os.environ.get("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", _METHODS).split(",")
)

_REDACTED = "REDACTED"
# The conventions' present list, and two names from an earlier one.
_SECRET = re.compile(
    r"([?&](?:X-Amz-Signature|X-Amz-Credential|X-Amz-Security-Token|sig|X-Goog-Signature|AWSAccessKeyId|Signature)=)"
    r"[^&#]*"
)


def span_name(method: str) -> str:
    """The `{method}` of a span's name: `HTTP` for one that is not known."""
    return method if method in _KNOWN_METHODS else "HTTP"


def request_attributes(request: Any) -> Attributes:
    """What is known before the first attempt, and needed by samplers."""
    url = request.url
    attributes: Attributes = {
        REQUEST_METHOD: request.method,
        SERVER_ADDRESS: url.host,
        SERVER_PORT: url.port or (80 if url.scheme in ("http", "ws") else 443),
        URL_FULL: redacted(url),
    }
    if request.method not in _KNOWN_METHODS:
        attributes[REQUEST_METHOD] = "_OTHER"
        attributes[METHOD_ORIGINAL] = request.method
    return attributes


def redacted(url: Any) -> str:
    """The URL as text, without its credentials and the values of signatures in its query."""
    if url.userinfo:
        url = url.copy_with(username=_REDACTED, password=_REDACTED)
    return _SECRET.sub(rf"\1{_REDACTED}", str(url)) if url.query else str(url)


def endpoint_attributes(endpoint: Endpoint) -> Attributes:
    """Where an attempt goes. An endpoint that has only a name has no peer address to report."""
    attributes: Attributes = {"resilient.endpoint": endpoint.address}
    if endpoint.is_unix:
        attributes[PEER_ADDRESS] = endpoint.host
    elif _is_ip(endpoint.host):
        attributes[PEER_ADDRESS] = endpoint.host
        attributes[PEER_PORT] = endpoint.port
    return attributes


_is_ip = lru_cache(maxsize=1024)(is_ip)


def response_attributes(response: Any) -> Attributes:
    """Status and protocol of a response; the version only if the wire reported it."""
    attributes: Attributes = {STATUS_CODE: response.status_code}
    version = protocol_version(response.extensions)
    if version:
        attributes[PROTOCOL_VERSION] = version
    return attributes


def protocol_version(extensions: Mapping[str, Any]) -> str:
    """`1.1` or `2`, from the `http_version` that httpcore reports; "" if it is not known."""
    version = extensions.get("http_version", b"")
    text = version.decode("ascii", "replace") if isinstance(version, bytes) else str(version)
    return text.removeprefix("HTTP/")


def is_error(status: int) -> bool:
    """True if the status makes the span of a client an error: 4xx, 5xx, or outside 100 to 599."""
    return not 100 <= status < 400


def error_type(error: BaseException) -> str:
    """The full name of the exception's class: `httpx.ConnectTimeout`."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
