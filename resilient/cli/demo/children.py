"""The parent's side: child processes that speak JSON lines and end with their pipe."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import sysconfig
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import resilient


class ChildError(RuntimeError):
    """A child ended, or said nothing, when an answer was due."""


class Child:
    """A Python module that runs as a process of its own."""

    def __init__(self, module: str, process: Process) -> None:
        self._module = module
        self._process = process

    @classmethod
    @asynccontextmanager
    async def open(cls, module: str) -> AsyncIterator[Self]:
        """`python -m module`, with the `resilient` that this process uses, until the block ends."""
        # -P: files in the user's current directory must not shadow modules.
        # A session of its own: Ctrl-C is for the parent, which then ends its children.
        argv = (sys.executable, "-P", "-m", module)
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=_environment(), start_new_session=True
        )
        child = cls(module, process)
        try:
            yield child
        finally:
            await child.close()

    async def send(self, message: object) -> None:
        """Send a message; raises ChildError if the child has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            await self._process.stdin.drain()
        except ConnectionError:
            raise ChildError(await self._last_words()) from None

    async def receive(self, timeout: float = 30.0) -> Any:
        """The next message; raises ChildError if there is none within `timeout` seconds."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise ChildError(f"{self._module} said nothing for {timeout:g} s") from None
        if not line:
            raise ChildError(await self._last_words())
        return json.loads(line)

    async def _last_words(self) -> str:
        _, errors = await self._process.communicate()
        text = errors.decode(errors="replace").strip() or "no message"
        return f"{self._module} ended with {self._process.returncode}: {text}"

    async def close(self) -> None:
        """Kill the child at once: it has nothing to lose. Idempotent.

        Closing its pipe would do, but not while it is still importing.
        """
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.communicate()


def _environment() -> dict[str, str]:
    root = str(Path(resilient.__file__).parents[1])
    if root == sysconfig.get_path("purelib"):
        return dict(os.environ)
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root}
