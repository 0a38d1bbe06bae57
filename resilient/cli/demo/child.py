"""The child's side of the pipe between the demo and its processes: JSON lines both ways."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any


class Parent:
    """The process at the other end of our stdin and stdout."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._messages: asyncio.Queue[Any] = asyncio.Queue()
        # A thread, because not every platform's event loop can read a pipe that it inherited.
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        # Unbuffered: the lock of `sys.stdin`, held by this thread, is fatal at shutdown.
        with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as pipe:
            for line in pipe:
                self._loop.call_soon_threadsafe(self._messages.put_nowait, json.loads(line))
        # The parent closed the pipe, or has died. Nothing here is worth an orderly shutdown,
        # and only this ends a process whose event loop is stuck.
        os._exit(0)

    async def receive(self) -> Any:
        """The next message."""
        return await self._messages.get()

    def send(self, message: object) -> None:
        """Send a message; it is small, and the parent always reads."""
        sys.stdout.buffer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        sys.stdout.buffer.flush()


def run(main: Callable[[Parent], Awaitable[None]]) -> None:
    """Run the coroutine function of a child process until the parent closes the pipe."""

    async def until_closed() -> None:
        parent = Parent(asyncio.get_running_loop())
        await main(parent)
        await asyncio.Event().wait()

    asyncio.run(until_closed())
