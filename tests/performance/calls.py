"""Calls to be counted: bare httpx and ours, doing the same; and the server that they call.

    python calls.py serve                the server; prints its port
    python calls.py count URL CALLS      under callgrind: makes the calls of one contender after another

Callgrind writes down what it has counted whenever os.getsid is entered, a function of libc that
nobody else calls: so the calls alone are counted, and neither imports nor warming up.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

import resilient

Spend = Callable[[int], None]
"""Makes so many calls, one after the other."""

SCRIPT = Path(__file__)
URL = "http://orders.test/v1/42"
_WARM_UP = 10  # calls after which connections are open, and what is made once has been made
_BODY = b'{"answer": 4200}'
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n" + _BODY


def mock() -> httpx.MockTransport:
    return httpx.MockTransport(lambda request: httpx.Response(200, content=_BODY))


def blocking(client: Any, url: str) -> Spend:
    def spend(calls: int) -> None:
        for _ in range(calls):
            client.get(url)

    return spend


def asynchronous(client: Any, url: str, runner: asyncio.Runner) -> Spend:
    async def spend(calls: int) -> None:
        for _ in range(calls):
            await client.get(url)

    return lambda calls: runner.run(spend(calls))


@contextmanager
def contenders(url: str) -> Iterator[dict[str, Spend]]:
    """By what carries the calls, how one waits, and who makes them."""
    with asyncio.Runner() as runner, ExitStack() as stack:

        def in_turn(client: Any, url: str) -> Spend:
            return blocking(stack.enter_context(client), url)

        def in_tasks(client: Any, url: str) -> Spend:
            stack.callback(lambda: runner.run(client.aclose()))
            return asynchronous(client, url, runner)

        yield {
            "mock sync httpx": in_turn(httpx.Client(transport=mock()), URL),
            "mock sync resilient": in_turn(resilient.Client(transport=mock()), URL),
            "mock async httpx": in_tasks(httpx.AsyncClient(transport=mock()), URL),
            "mock async resilient": in_tasks(resilient.AsyncClient(transport=mock()), URL),
            "loopback sync httpx": in_turn(httpx.Client(trust_env=False), url),
            "loopback sync resilient": in_turn(resilient.Client(trust_env=False), url),
            "loopback sync fast": in_turn(resilient.Client(trust_env=False, wire="fast"), url),
            "loopback async httpx": in_tasks(httpx.AsyncClient(trust_env=False), url),
            "loopback async resilient": in_tasks(resilient.AsyncClient(trust_env=False), url),
            "loopback async fast": in_tasks(resilient.AsyncClient(trust_env=False, wire="fast"), url),
        }


class _Answering(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(_ANSWER)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Answering, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def begin_to_count() -> None:
    """Until here valgrind has counted nothing, which is ten times as fast."""
    control = subprocess.Popen(["vgdb", f"--pid={os.getpid()}", "instrumentation", "on"], stdout=subprocess.DEVNULL)
    while control.poll() is None:
        """vgdb is heard between instructions; a process that waits would have to be traced."""
    assert control.returncode == 0


def count(url: str, calls: int) -> None:
    with contenders(url) as spends:
        for spend in spends.values():
            spend(_WARM_UP)
        gc.collect()
        gc.disable()  # a collection of all there is costs as much as some calls
        begin_to_count()
        for spend in spends.values():
            spend(1)
            os.getsid(0)
            spend(calls)
            os.getsid(0)
        print(json.dumps(list(spends)), flush=True)
        os._exit(0)  # to close what is open would take long under valgrind


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve())
    else:
        count(sys.argv[2], int(sys.argv[3]))
