from __future__ import annotations

import pytest

from resilient.balance.endpoint import Endpoint, Locality
from resilient.core.check import ConfigError
from resilient.discovery.resolver import FixedResolver
from resilient.discovery.static import StaticResolver, static
from tests.discovery.virtual_loop import run

FULL = {
    "host": "10.0.0.1",
    "port": 80,
    "weight": 2,
    "priority": 1,
    "locality": "eu/eu-1/a",
    "labels": {"version": "v2", "app": "orders"},
}


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("10.0.0.1:80", Endpoint("10.0.0.1", 80)),
        ("[::1]:80", Endpoint("::1", 80)),
        ("orders-1:8080", Endpoint("orders-1", 8080)),
        ("/run/orders.sock", Endpoint("/run/orders.sock")),
        (Endpoint("10.0.0.1", 80, labels=(("a", "b"),)), Endpoint("10.0.0.1", 80, labels=(("a", "b"),))),
        (("10.0.0.1:80", 3), Endpoint("10.0.0.1", 80, weight=3)),
        ((Endpoint("10.0.0.1", 80, priority=1), 0.5), Endpoint("10.0.0.1", 80, weight=0.5, priority=1)),
        ({"host": "10.0.0.1", "port": 80}, Endpoint("10.0.0.1", 80)),
        ({"host": "[::1]:80"}, Endpoint("::1", 80)),
        ({"host": "/run/orders.sock", "weight": 2}, Endpoint("/run/orders.sock", weight=2)),
        (FULL, Endpoint("10.0.0.1", 80, 2, 1, Locality("eu", "eu-1", "a"), {"version": "v2", "app": "orders"})),  # type: ignore[arg-type]
        ({"host": "a", "port": 1, "locality": {"zone": "z"}}, Endpoint("a", 1, locality=Locality(zone="z"))),
    ],
)
def test_what_stands_for_an_endpoint(entry: object, expected: Endpoint) -> None:
    assert static([entry]).endpoints() == (expected,)  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("10.0.0.1", r"static\[1\]: endpoint: '10.0.0.1'"),
        ("", r"static\[1\]: "),
        (7, r"static\[1\]: endpoint: 7 is not valid; expected an address"),
        (("10.0.0.1:80", 0), r"static\[1\]: Endpoint\.weight: 0"),
        (("10.0.0.1:80", "2"), r"static\[1\]: Endpoint\.weight: '2'"),
        ({"host": "a", "port": 1, "wieght": 2}, r"static\[1\]: unknown field 'wieght'; expected some of host"),
        ({"port": 1}, r"static\[1\]: host: None"),
        ({"host": "a"}, r"static\[1\]: endpoint: 'a'"),
        ({"host": "a", "port": "1"}, r"static\[1\]: Endpoint\.port: '1'"),
        ({"host": "a", "port": 1, "locality": "a/b/c/d"}, r"static\[1\]: locality: "),
        ({"host": "a", "port": 1, "locality": {"zone": 1}}, r"static\[1\]: locality\.zone: 1"),
        ({"host": "a", "port": 1, "locality": {"rack": "1"}}, r"static\[1\]: unknown field 'rack'"),
        ({"host": "a", "port": 1, "labels": {"version": 1}}, r"static\[1\]: labels\.version: 1"),
        ({"host": "a", "port": 1, "labels": ["v1"]}, r"static\[1\]: labels: "),
    ],
)
def test_what_does_not_is_refused_with_its_place(entry: object, fault: str) -> None:
    with pytest.raises(ConfigError, match=f"^{fault}"):
        static(["10.0.0.9:80", entry])  # type: ignore[list-item]


def test_no_endpoints_at_all_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^static: .* expected at least one endpoint"):
        static([])


def test_an_address_stands_for_itself_once() -> None:
    assert static(["a:1", "b:1", ("a:1", 5)]).endpoints() == (Endpoint("a", 1), Endpoint("b", 1))
    assert static("a:1").endpoints() == (Endpoint("a", 1),)  # type: ignore[arg-type]


def test_it_is_a_fixed_value() -> None:
    resolver = static(["a:1", FULL])
    assert resolver == static(["a:1", FULL]) != static(["a:2"])
    assert hash(resolver) == hash(static(["a:1", FULL]))
    assert isinstance(resolver, FixedResolver)
    assert "Endpoint(host='a', port=1" in repr(resolver)
    assert isinstance(resolver, StaticResolver)


def test_watching_it_tells_the_endpoints_once() -> None:
    async def main() -> list[object]:
        return [endpoints async for endpoints in static(["a:1"]).watch()]

    assert run(main()) == [(Endpoint("a", 1),)]
