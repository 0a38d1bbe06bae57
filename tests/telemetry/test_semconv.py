from __future__ import annotations

import httpx
import pytest

from resilient.balance.endpoint import Endpoint
from resilient.telemetry import semconv


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://orders/v1?x=1", "http://orders/v1?x=1"),
        ("https://me:secret@orders/v1", "https://REDACTED:REDACTED@orders/v1"),
        ("https://token@orders:8443/", "https://REDACTED:REDACTED@orders:8443/"),
        ("http://orders/?a=1&sig=abc%2F&b=2", "http://orders/?a=1&sig=REDACTED&b=2"),
        ("http://orders/?X-Amz-Signature=abc", "http://orders/?X-Amz-Signature=REDACTED"),
        (
            "http://orders/?X-Goog-Signature=a&Signature=b#end",
            "http://orders/?X-Goog-Signature=REDACTED&Signature=REDACTED#end",
        ),
        ("http://orders/?Sig=kept&design=kept", "http://orders/?Sig=kept&design=kept"),
    ],
)
def test_secrets_of_a_url_are_not_shown(url: str, shown: str) -> None:
    assert semconv.redacted(httpx.URL(url)) == shown


def test_a_request_is_described() -> None:
    assert semconv.request_attributes(httpx.Request("GET", "https://orders/v1")) == {
        "http.request.method": "GET",
        "server.address": "orders",
        "server.port": 443,
        "url.full": "https://orders/v1",
    }


def test_a_port_of_its_own_is_told() -> None:
    assert semconv.request_attributes(httpx.Request("GET", "http://[::1]:8080/"))["server.port"] == 8080


def test_an_unknown_method_is_other() -> None:
    attributes = semconv.request_attributes(httpx.Request("PURGE", "http://orders/"))
    assert (attributes["http.request.method"], attributes["http.request.method_original"]) == ("_OTHER", "PURGE")
    assert semconv.span_name("PURGE") == "HTTP"
    assert semconv.span_name("QUERY") == "QUERY"


@pytest.mark.parametrize(
    ("endpoint", "peer"),
    [
        (Endpoint("10.0.0.1", 80), {"network.peer.address": "10.0.0.1", "network.peer.port": 80}),
        (Endpoint("::1", 80), {"network.peer.address": "::1", "network.peer.port": 80}),
        (Endpoint("/run/orders.sock"), {"network.peer.address": "/run/orders.sock"}),
        (Endpoint("orders-1", 80), {}),
    ],
)
def test_the_peer_is_an_address_or_unknown(endpoint: Endpoint, peer: dict[str, object]) -> None:
    assert semconv.endpoint_attributes(endpoint) == {"resilient.endpoint": endpoint.address, **peer}


@pytest.mark.parametrize(
    ("extensions", "version"),
    [({"http_version": b"HTTP/1.1"}, "1.1"), ({"http_version": b"HTTP/2"}, "2"), ({}, "")],
)
def test_the_protocol_is_told_if_it_is_known(extensions: dict[str, bytes], version: str) -> None:
    assert semconv.protocol_version(extensions) == version


@pytest.mark.parametrize(
    ("status", "is_error"), [(101, False), (204, False), (304, False), (404, True), (503, True), (0, True)]
)
def test_what_makes_a_client_span_an_error(status: int, is_error: bool) -> None:
    assert semconv.is_error(status) is is_error


def test_an_exception_is_called_by_its_full_name() -> None:
    assert semconv.error_type(httpx.ConnectTimeout("")) == "httpx.ConnectTimeout"
    assert semconv.error_type(TimeoutError()) == "TimeoutError"
