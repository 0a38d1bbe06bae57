from __future__ import annotations

from importlib import metadata

import pytest

from resilient.core.check import ConfigError
from resilient.discovery.dns import dns
from resilient.discovery.file import file
from resilient.discovery.srv import srv
from resilient.discovery.static import static
from resilient.discovery.targets import ENTRY_POINTS, Target, parse_target


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("static:///10.0.0.1:80,10.0.0.2:80", static(["10.0.0.1:80", "10.0.0.2:80"])),
        ("static:///[::1]:80", static(["[::1]:80"])),
        ("static:////run/orders.sock", static(["/run/orders.sock"])),
        ("dns:///orders:8080", dns("orders", 8080)),
        (" DNS:///orders:8080 ", dns("orders", 8080)),
        ("dns:orders:8080", dns("orders", 8080)),
        ("dns:///bücher.example:80", dns("bücher.example", 80)),
        ("dns:///[::1]:80", dns("::1", 80)),
        ("dns://10.0.0.53/orders:8080", dns("orders", 8080, nameservers=["10.0.0.53"])),
        ("dns://10.0.0.53:5353/orders:8080", dns("orders", 8080, nameservers=["10.0.0.53:5353"])),
        ("dns://[::1]:5353,10.0.0.53/orders:1", dns("orders", 1, nameservers=["[::1]:5353", "10.0.0.53"])),
        ("srv:///_http._tcp.orders.prod", srv("_http._tcp.orders.prod")),
        ("srv://10.0.0.53/_http._tcp.orders", srv("_http._tcp.orders", nameservers=["10.0.0.53"])),
        ("file:///etc/orders.json", file("/etc/orders.json")),
        ("file:///etc/my%20orders.json", file("/etc/my orders.json")),
    ],
)
def test_a_target_is_the_resolver_that_it_names(text: str, expected: object) -> None:
    assert parse_target(text) == expected


def test_the_default_port_is_for_addresses_without_one() -> None:
    assert parse_target("dns:///orders", 80) == dns("orders", 80)
    assert parse_target("dns:///orders:81", default_port=80) == dns("orders", 81)
    assert parse_target("static:///10.0.0.1,10.0.0.2:81", 80) == static(["10.0.0.1:80", "10.0.0.2:81"])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("orders", r"^target: 'orders' is not valid; expected .* one of dns, file, srv, static$"),
        ("orders:8080", r"one of dns, file, srv, static$"),
        ("http://orders:8080/", r"one of dns, file, srv, static$"),
        ("dns:///", "endpoint: ''"),
        ("dns:///orders", r"^target 'dns:///orders': endpoint: 'orders'"),
        ("dns:///orders:http", "a whole number after the last colon"),
        ("dns://ns.example/orders:80", r"dns\.nameservers: 'ns\.example'"),
        ("static:///", "endpoint: ''"),
        ("static://10.0.0.1:80", "expected three slashes, as in static:///"),
        ("srv:///", r"srv\.name: ''"),
        ("file:///", r"file\.path: ''"),
        ("static://a/10.0.0.1:80", "expected three slashes, as in static:///"),
        ("static:///10.0.0.1:80,", "endpoint: ''"),
        ("file://host/etc/orders.json", "expected three slashes"),
        (7, "expected a string"),
    ],
)
def test_a_wrong_target_is_refused(text: object, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        parse_target(text)  # type: ignore[arg-type]


@pytest.fixture
def third_party(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Somebody's resolver for the scheme `fixed`; the list holds each time it was looked up."""
    looked_up: list[str] = []
    entry = metadata.EntryPoint("fixed", "tests.discovery.test_targets:fixed", ENTRY_POINTS)

    def entry_points(**wanted: str) -> metadata.EntryPoints:
        looked_up.append(str(wanted))
        return metadata.EntryPoints([entry]).select(**wanted)

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    return looked_up


def fixed(target: Target) -> object:
    return static([f"{target.authority}:{target.default_port}"])


def test_third_parties_add_schemes(third_party: list[str]) -> None:
    assert parse_target("fixed://10.0.0.1/orders", 80) == static(["10.0.0.1:80"])
    with pytest.raises(ConfigError, match=r"one of dns, file, fixed, srv, static$"):
        parse_target("other:///orders")


def test_they_are_not_looked_up_for_known_schemes(third_party: list[str]) -> None:
    parse_target("dns:///orders:80")
    assert third_party == []
