"""What a response or an error means."""

from __future__ import annotations

from typing import Any

import httpx
import httpx2
import pytest

from resilient.core.classify import FunctionClassifier, HttpClassifier, retry_after
from resilient.core.outcome import Kind, Outcome, Safety

HTTP = HttpClassifier()


def classify(status: int, **headers: str) -> Outcome:
    return HTTP.classify(httpx.Response(status, headers={k.replace("_", "-"): v for k, v in headers.items()}), None)


@pytest.mark.parametrize(
    ("status", "kind", "reason", "safety"),
    [
        (200, Kind.SUCCESS, "", Safety.PROCESSED),
        (404, Kind.SUCCESS, "", Safety.PROCESSED),
        (429, Kind.REFUSED, "rate-limited", Safety.PROCESSED),
        (500, Kind.FAILURE, "5xx", Safety.PROCESSED),
        (502, Kind.FAILURE, "gateway-error", Safety.UNKNOWN),
        (503, Kind.FAILURE, "gateway-error", Safety.PROCESSED),
        (504, Kind.FAILURE, "gateway-error", Safety.UNKNOWN),
    ],
)
def test_statuses(status: int, kind: Kind, reason: str, safety: Safety) -> None:
    outcome = classify(status)
    assert (outcome.kind, outcome.reason, outcome.safety) == (kind, reason, safety)


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize(
    ("name", "kind", "reason", "safety"),
    [
        ("ConnectError", Kind.FAILURE, "connect-failure", Safety.UNSENT),
        ("ConnectTimeout", Kind.FAILURE, "connect-failure", Safety.UNSENT),
        ("PoolTimeout", Kind.REFUSED, "overflow", Safety.UNSENT),
        ("ReadTimeout", Kind.FAILURE, "timeout", Safety.UNKNOWN),
        ("ReadError", Kind.FAILURE, "reset", Safety.UNKNOWN),
        ("RemoteProtocolError", Kind.FAILURE, "reset", Safety.UNKNOWN),
        ("CloseError", Kind.FAILURE, "reset", Safety.UNKNOWN),
        ("LocalProtocolError", Kind.IGNORED, "local", Safety.UNSENT),
        ("UnsupportedProtocol", Kind.IGNORED, "local", Safety.UNSENT),
    ],
)
def test_errors_of_both_libraries(library: object, name: str, kind: Kind, reason: str, safety: Safety) -> None:
    outcome = HTTP.classify(None, getattr(library, name)("no"))
    assert (outcome.kind, outcome.reason, outcome.safety) == (kind, reason, safety)


def test_what_the_wire_knows_beats_the_class_of_the_error() -> None:
    error = httpx.WriteError("broken pipe")
    error.unsent = True  # type: ignore[attr-defined]
    assert HTTP.classify(None, error).safety is Safety.UNSENT
    error = httpx.RemoteProtocolError("REFUSED_STREAM")
    error.refused = True  # type: ignore[attr-defined]
    assert HTTP.classify(None, error).safety is Safety.UNPROCESSED


def test_a_bug_of_the_caller_is_no_evidence() -> None:
    assert HTTP.classify(None, ValueError("in a body iterator")).kind is Kind.IGNORED


def test_retry_after_in_seconds() -> None:
    assert classify(503, retry_after="7").retry_after == 7
    assert classify(429, retry_after=" 0 ").retry_after == 0
    assert classify(500, retry_after="7").retry_after is None


@pytest.mark.parametrize("text", ["", "soon", "-3", "1.5", "Fri, 99 Dec 1999 23:59:59 GMT"])
def test_a_retry_after_that_cannot_be_read_is_ignored(text: str) -> None:
    assert classify(503, retry_after=text).retry_after is None


def test_a_retry_after_date_is_compared_with_the_peers_own_clock() -> None:
    outcome = classify(503, retry_after="Fri, 31 Dec 1999 23:59:59 GMT", date="Fri, 31 Dec 1999 23:59:50 GMT")
    assert outcome.retry_after == 9


def test_a_date_in_the_past_is_now() -> None:
    headers = {"retry-after": "Fri, 31 Dec 1999 23:59:50 GMT", "date": "Fri, 31 Dec 1999 23:59:59 GMT"}
    assert retry_after(headers) == 0


def test_without_a_date_header_the_wall_clock_serves() -> None:
    headers = {"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}
    assert retry_after(headers, lambda: 90.0) == 10
    assert retry_after(headers) is None


def test_functions() -> None:
    classifier = FunctionClassifier(ignore=(KeyError,))
    assert classifier.classify(None, None).ok
    assert classifier.classify(None, KeyError()).kind is Kind.IGNORED
    assert classifier.classify(None, ValueError()).kind is Kind.FAILURE
    assert classifier.classify(None, TimeoutError()).reason == "timeout"


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("407 Proxy Authentication Required", Kind.IGNORED),
        ("403 Forbidden", Kind.IGNORED),
        ("Invalid username/password", Kind.IGNORED),
        ("429 Too Many Requests", Kind.FAILURE),
        ("502 Bad Gateway", Kind.FAILURE),
        ("Proxy Server could not connect: HOST_UNREACHABLE.", Kind.FAILURE),
    ],
)
def test_a_proxy_that_refuses_us_would_do_so_again(library: Any, text: str, kind: Kind) -> None:
    outcome = HTTP.classify(None, library.ProxyError(text))
    assert (outcome.kind, outcome.safety) == (kind, Safety.UNSENT)


def test_a_proxy_that_is_overloaded_has_passed_nothing_on() -> None:
    outcome = HTTP.classify(httpx.Response(503, headers={"x-envoy-overloaded": "true"}), None)
    assert (outcome.kind, outcome.reason, outcome.safety) == (Kind.REFUSED, "overloaded", Safety.UNPROCESSED)
    assert outcome.is_overload
