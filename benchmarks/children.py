"""Processes that take orders: one JSON value a line on standard input, one a line back."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[1]


class Child:
    """A Python module running in a process of its own; a context manager that ends it."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, value: Any) -> None:
        self._process.stdin.write(json.dumps(value) + "\n")
        self._process.stdin.flush()

    def receive(self) -> Any:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args[2]} ended with {self._process.wait()}")
        return json.loads(line)

    def ask(self, value: Any) -> Any:
        self.send(value)
        return self.receive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.stdin.close()  # what a child takes for the end
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def stop_on_sigterm() -> None:
    """End by an exception when told to end, so that no child or proxy is left behind."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def orders() -> Any:
    """The next value from the parent; None when it has closed the pipe."""
    line = sys.stdin.readline()
    return json.loads(line) if line else None


def reply(value: Any) -> None:
    """Answer the parent."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process, to the nanosecond: /proc/PID/stat counts in 10 ms."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
