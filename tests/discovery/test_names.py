from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.balance.endpoint import is_ip
from resilient.core.check import ConfigError
from resilient.discovery.names import ascii_name, candidates, is_localhost


@pytest.mark.parametrize(
    ("given_name", "expected"),
    [
        ("orders", "orders"),
        ("Orders.PROD.svc", "orders.prod.svc"),
        ("orders.", "orders."),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example.", "xn--bcher-kva.example."),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("_http._tcp.orders", "_http._tcp.orders"),
        ("straße.de", "xn--strae-oqa.de"),
    ],
)
def test_a_name_becomes_ascii(given_name: str, expected: str) -> None:
    assert ascii_name("dns.name", given_name) == expected


@pytest.mark.parametrize(
    "wrong",
    ["", ".", "a..b", "a b", "a/b", "a:80", "user@host", "x" * 64, ".".join(["x" * 63] * 4), "\u2060", 7, None],
)
def test_what_cannot_be_a_name_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigError, match=r"^dns\.name: "):
        ascii_name("dns.name", wrong)  # type: ignore[arg-type]


@given(st.from_regex(r"[a-z_][a-z0-9_-]{0,20}(\.[a-z0-9_-]{1,20}){0,3}\.?", fullmatch=True))
def test_an_ascii_name_stays_as_it_is(name: str) -> None:
    assert ascii_name("dns.name", ascii_name("dns.name", name)) == ascii_name("dns.name", name) == name


def test_a_short_name_is_searched_before_it_is_tried_alone() -> None:
    assert candidates("orders", ["prod.svc", "svc"], 1) == ("orders.prod.svc.", "orders.svc.", "orders.")


def test_a_name_with_enough_dots_is_tried_alone_first() -> None:
    assert candidates("a.b", ["svc"], 1) == ("a.b.", "a.b.svc.")
    assert candidates("a.b", ["svc"], 2) == ("a.b.svc.", "a.b.")


def test_a_final_dot_forbids_searching() -> None:
    assert candidates("orders.", ["prod.svc"], 5) == ("orders.",)


def test_the_root_in_a_search_list_adds_nothing() -> None:
    assert candidates("orders", [".", "svc."], 1) == ("orders.svc.", "orders.")


def test_literals_and_localhost_are_known() -> None:
    assert is_ip("10.0.0.1")
    assert is_ip("::1")
    assert is_ip("fe80::1%eth0")
    assert not is_ip("orders")
    assert is_localhost("localhost")
    assert is_localhost("app.localhost.")
    assert not is_localhost("notlocalhost")
