"""Redis, for state that processes share."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.real.procs import HOST, Proc, on_free_port, require


@dataclass
class RedisServer:
    proc: Proc
    port: int

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"


def start_redis(directory: Path, *options: str) -> RedisServer:
    """An empty Redis that keeps nothing on disk; `options` are further arguments."""
    binary = require("redis-server")
    directory.mkdir(parents=True, exist_ok=True)

    def start(port: int) -> RedisServer:
        argv = [binary, "--port", str(port), "--bind", HOST, "--save", "", "--appendonly", "no"]
        argv += ["--dir", str(directory), "--daemonize", "no", *options]
        return RedisServer(Proc(argv, lambda: _answers(port), directory), port)

    return on_free_port(start)


def _answers(port: int) -> bool:
    with socket.create_connection((HOST, port), timeout=1.0) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(16) == b"+PONG\r\n"


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = start_redis(tmp_path / "redis")
    with server.proc:
        yield server
