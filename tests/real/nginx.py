"""nginx as an endpoint."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.real.procs import HOST, Proc, accepts, on_free_port, require

LOCATIONS = """
        location / { return 200 "$uri\\n"; }
        location /status/500 { return 500 "no\\n"; }
        location /status/503 { return 503 "no\\n"; }
        location /close { return 444; }
"""
"""`/status/N` answers N, `/close` closes the connection without an answer, the rest says its path."""

_CONFIG = """
{user}
# One process, which has closed its sockets when it is gone: of children one would not know.
master_process off;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    access_log {directory}/access.log;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {http}
    server {{
        listen {host}:{port}{listen_options};
        {server}
        {locations}
    }}
}}
"""


@dataclass
class Nginx:
    proc: Proc
    port: int
    directory: Path

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def requests(self) -> list[str]:
        """The lines of its access log."""
        return (self.directory / "access.log").read_text().splitlines()


def start_nginx(
    directory: Path, *, http: str = "", server: str = "", locations: str = LOCATIONS, listen_options: str = ""
) -> Nginx:
    """nginx with one server; `http`, `server` and `locations` are directives for those blocks."""
    binary = require("nginx")
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "nginx.conf"

    def start(port: int) -> Nginx:
        config.write_text(
            _CONFIG.format(
                # As root it would drop to a user who may not enter the temporary directory.
                user="user root;" if os.geteuid() == 0 else "",
                directory=directory,
                http=http,
                server=server,
                locations=locations,
                host=HOST,
                port=port,
                listen_options=listen_options,
            )
        )
        argv = [binary, "-p", directory, "-c", config, "-e", "stderr", "-g", "daemon off;"]
        return Nginx(Proc(argv, lambda: accepts(port), directory), port, directory)

    return on_free_port(start)


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    """An nginx that answers as `LOCATIONS` says."""
    server = start_nginx(tmp_path / "nginx")
    with server.proc:
        yield server
