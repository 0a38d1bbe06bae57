"""Endpoints as values: how they are written, and what identifies them."""

from __future__ import annotations

import copy
import gc
import pickle
import tracemalloc
from dataclasses import replace

import pytest

from resilient import Mesh, Service
from resilient.balance.endpoint import Endpoint, EndpointStats, Locality, parse_endpoint
from resilient.core.check import ConfigError


@pytest.mark.parametrize(
    ("text", "host", "port", "address"),
    [
        ("10.0.0.1:80", "10.0.0.1", 80, "10.0.0.1:80"),
        ("[::1]:80", "::1", 80, "[::1]:80"),
        ("orders-1:8080", "orders-1", 8080, "orders-1:8080"),
        ("/run/orders.sock", "/run/orders.sock", 0, "/run/orders.sock"),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, host: str, port: int, address: str) -> None:
    endpoint = parse_endpoint(text)
    assert (endpoint.host, endpoint.port, endpoint.address, str(endpoint)) == (host, port, address, address)
    for again in (copy.deepcopy(endpoint), pickle.loads(pickle.dumps(endpoint)), replace(endpoint, weight=1.0)):
        assert again == endpoint
        assert again.address == address
    assert address not in repr(endpoint).replace(f"host={host!r}", "")


@pytest.mark.parametrize(
    "text", ["10.0.0.1", "10.0.0.1:", "10.0.0.1:http", "[::1]80", "[::1]x:80", "::1", ":80", "a:70000"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_endpoint(text)


@pytest.mark.parametrize("value", [None, 5, "eu/eu-1a", ("eu", "eu-1a"), []])
def test_a_locality_is_one(value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        Endpoint("a", 1, locality=value)  # type: ignore[arg-type]
    assert str(caught.value) == f"Endpoint.locality: {value!r} is not valid; expected a Locality"


@pytest.mark.parametrize("field", ["region", "zone", "subzone"])
@pytest.mark.parametrize("value", [None, 5, b"eu", []])
def test_its_parts_are_text(field: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        Locality(**{field: value})  # type: ignore[arg-type]
    assert str(caught.value) == f"Locality.{field}: {value!r} is not valid; expected a string"


@pytest.mark.parametrize("value", [None, 5, "v1", ["v1"], ("v1",), (("v", 1),), {"v": 1}, {1: "v"}, (("a", "b", "c"),)])
def test_labels_are_text_by_name(value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        Endpoint("a", 1, labels=value)  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"Endpoint.labels: {value!r} is not valid; expected a mapping of strings")


def test_labels_are_the_same_in_any_order() -> None:
    one = Endpoint("a", 1, labels={"b": "2", "a": "1"})  # type: ignore[arg-type]
    assert one == Endpoint("a", 1, labels=(("b", "2"), ("a", "1")))
    assert one.labels == (("a", "1"), ("b", "2"))
    assert Endpoint("a", 1, labels={}) == Endpoint("a", 1)  # type: ignore[arg-type]


def test_another_port_is_another_address() -> None:
    endpoint = replace(Endpoint("10.0.0.1", 80), port=81)
    assert endpoint.address == "10.0.0.1:81"
    assert EndpointStats(endpoint).address is endpoint.address


def test_an_idle_endpoint_costs_little() -> None:
    count = 1000
    addresses = [f"10.0.{number >> 8}.{number & 255}:80" for number in range(count)]
    Mesh({"orders": Service(addresses)}).close()  # what is imported meanwhile does not count
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        mesh = Mesh({"orders": Service(addresses)})
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    mesh.close()
    assert (after - before) / count < 600  # bytes
