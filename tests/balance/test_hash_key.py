from __future__ import annotations

import httpx
import pytest

from resilient.balance.hash_key import HashOn, stable_hash
from resilient.core.check import ConfigError


def request(url="http://orders/", **headers):
    return httpx.Request("GET", url, headers=headers)


@pytest.mark.parametrize(
    ("hash_on", "request_", "key"),
    [
        (HashOn(header="X-User"), request(**{"x-user": "ann"}), b"ann"),
        (HashOn(header="x-user"), request(), None),
        (HashOn(cookie="sid"), request(cookie="a=b; sid=x=1; c=d"), b"x=1"),
        (HashOn(cookie="sid"), request(cookie="asid=1; sid"), None),
        (HashOn(cookie="sid"), request(), None),
        (HashOn(query="user"), request("http://orders/?a=1&user=ann&user=bob"), b"ann"),
        (HashOn(query="user"), request("http://orders/?a=1"), None),
        (HashOn(function=lambda request: request.url.path), request("http://orders/v1/42"), b"/v1/42"),
        (HashOn(function=lambda request: b"\xff"), request(), b"\xff"),
        (HashOn(function=lambda request: None), request(), None),
    ],
)
def test_the_key_of_a_request(hash_on, request_, key):
    assert hash_on.key(request_) == key


@pytest.mark.parametrize(
    "fields", [{}, {"header": "a", "cookie": "b"}, {"header": ""}, {"query": 1}, {"function": "x-user"}]
)
def test_exactly_one_source(fields):
    with pytest.raises(ConfigError, match="HashOn"):
        HashOn(**fields)


@pytest.mark.parametrize("value", [5, 1.5, True, ["a"]])
def test_a_function_that_returns_something_else_is_named(value):
    def user_of(request):
        return value

    with pytest.raises(TypeError) as caught:
        HashOn(function=user_of).key(request())
    assert str(caught.value).startswith("HashOn.function: <function ")
    assert "user_of" in str(caught.value)
    assert str(caught.value).endswith(f" returned {value!r}; expected a str, bytes or None")


def test_it_is_a_value():
    assert HashOn(header="a") == HashOn(header="a")
    assert len({HashOn(header="a"), HashOn(header="a"), HashOn(cookie="a")}) == 2


def test_the_hash_is_fixed_for_ever():
    assert stable_hash(b"") == 0xE4A6A0577479B2B4
