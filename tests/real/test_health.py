"""Health checks of a server that is killed, hangs, and is started again."""

from __future__ import annotations

import http.client
import json
import sys

import httpx
import pytest

import resilient
from tests.real.procs import HOST, Proc, free_port
from tests.runtime.wires import until

POLICY = resilient.Policy(
    retry=None,
    outlier=None,
    slow_start=0.0,
    balancer=resilient.RoundRobin(),
    health=resilient.HealthCheck("/", interval=0.1, no_traffic_interval=0.1, timeout=0.5, only="all"),
)


def http_server(directory, port):
    """Python's own server, which answers / with 200."""
    directory.mkdir(exist_ok=True)

    def answers():
        connection = http.client.HTTPConnection(HOST, port, timeout=0.2)
        connection.request("HEAD", "/")
        return connection.getresponse().status == 200

    return Proc([sys.executable, "-m", "http.server", "--bind", HOST, str(port)], answers, directory)


@pytest.fixture
def two_servers(tmp_path):
    ports = [free_port(), free_port()]
    with http_server(tmp_path / "one", ports[0]) as first, http_server(tmp_path / "two", ports[1]) as second:
        yield [first, second], ports


def healthy(mesh):
    return [not endpoint["unhealthy"] for endpoint in mesh.status()["orders"]["endpoints"]]


def failures(client, calls=20):
    failed = 0
    for _ in range(calls):
        try:
            failed += client.get("http://orders/", timeout=2.0).status_code != 200
        except httpx.TransportError:
            failed += 1
    return failed


@pytest.mark.usefixtures("no_leaks")
def test_a_server_that_was_killed_is_left_out_until_it_is_back(two_servers, tmp_path) -> None:
    (first, _), ports = two_servers
    service = resilient.Service([f"{HOST}:{port}" for port in ports], POLICY)
    with resilient.Mesh({"orders": service}) as mesh, resilient.Client(mesh=mesh) as client:
        assert failures(client) == 0
        first.kill()
        until(lambda: healthy(mesh) == [False, True])
        assert failures(client) == 0
        with http_server(tmp_path / "one", ports[0]):
            until(lambda: healthy(mesh) == [True, True])
            before = mesh.status()["orders"]["endpoints"][0]["requests"]
            assert failures(client) == 0
            assert mesh.status()["orders"]["endpoints"][0]["requests"] == before + 10


def test_a_server_that_hangs_is_left_out(two_servers) -> None:
    """Its kernel still accepts connections: a TCP check would find it well."""
    (first, _), ports = two_servers
    service = resilient.Service([f"{HOST}:{port}" for port in ports], POLICY)
    with resilient.Mesh({"orders": service}) as mesh, resilient.Client(mesh=mesh) as client:
        first.pause()
        until(lambda: healthy(mesh) == [False, True])
        assert failures(client) == 0
        first.resume()
        until(lambda: healthy(mesh) == [True, True])


def test_a_check_ends_the_ejection_of_a_server_that_is_back(two_servers, tmp_path) -> None:
    """In half a second, and not in the 30 s of an ejection."""
    (first, _), ports = two_servers
    policy = POLICY.replace(
        outlier=resilient.OutlierDetection(consecutive_failures=1),
        health=resilient.HealthCheck("/", interval=0.1, no_traffic_interval=0.1, unhealthy_threshold=1000),
    )
    service = resilient.Service([f"{HOST}:{port}" for port in ports], policy)
    with resilient.Mesh({"orders": service}) as mesh, resilient.Client(mesh=mesh) as client:
        first.kill()
        assert failures(client, 4) == 1
        assert mesh.status()["orders"]["endpoints"][0]["ejected_for"] > 20
        assert failures(client) == 0
        with http_server(tmp_path / "one", ports[0]):
            until(lambda: mesh.status()["orders"]["endpoints"][0]["ejected_for"] is None)
            assert failures(client) == 0


def test_a_newcomer_is_let_in_when_it_listens(two_servers, tmp_path) -> None:
    """The name of a pod may be there before its process is."""
    _, ports = two_servers
    late = free_port()
    listing = tmp_path / "orders.json"
    listing.write_text(json.dumps([f"{HOST}:{port}" for port in ports]))
    policy = POLICY.replace(health=resilient.HealthCheck(protocol="tcp", only="new", interval=0.1))
    service = resilient.Service(resilient.file(str(listing), poll_interval=0.05), policy)
    with resilient.Mesh({"orders": service}) as mesh, resilient.Client(mesh=mesh) as client:
        assert failures(client) == 0
        listing.write_text(json.dumps([f"{HOST}:{port}" for port in [*ports, late]]))
        until(lambda: healthy(mesh) == [True, True, False])
        assert failures(client) == 0
        with http_server(tmp_path / "late", late):
            until(lambda: healthy(mesh) == [True, True, True])
            assert failures(client) == 0
            assert mesh.status()["orders"]["endpoints"][2]["requests"] > 0
