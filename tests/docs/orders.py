"""The services that the documentation talks about, on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200)

    def do_PUT(self) -> None:
        self._answer(200)

    def do_POST(self) -> None:
        self._answer(201)

    def _answer(self, status: int) -> None:
        """`/status/N` answers N; everything else tells the last part of its path as `id`."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        *_, parent, last = ["", *self.path.split("/")]
        if parent == "status":
            status = int(last)
        body = json.dumps({"id": last, "state": "paid"}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def servers(count: int) -> Iterator[list[str]]:
    """`count` servers; their addresses."""
    running = [ThreadingHTTPServer(("127.0.0.1", 0), _Handler) for _ in range(count)]
    threads = [Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}) for server in running]
    for thread in threads:
        thread.start()
    try:
        yield [f"127.0.0.1:{server.server_port}" for server in running]
    finally:
        for server in running:
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()
