"""Real servers for tests: started on loopback in a directory of their own, stopped by pid."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Self, TypeVar

import pytest

HOST = "127.0.0.1"
IN_CI = os.environ.get("CI") == "true"

# Debian keeps daemons where the PATH of an ordinary user does not look.
_SYSTEM_PATH = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"

T = TypeVar("T")


def missing(what: str) -> NoReturn:
    """Skip the test on a developer's machine; fail it in CI, where nothing may be missing."""
    reason = f"{what} is not installed"
    if IN_CI:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def require(binary: str) -> str:
    """The full path of a program; without it the test is skipped, or fails in CI."""
    path = shutil.which(binary, path=_SYSTEM_PATH) or shutil.which(binary)
    return path or missing(binary)


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def free_port_tcp_udp() -> int:
    """A number that was free a moment ago as a TCP and as a UDP port, as DNS needs."""
    for _ in range(50):
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind((HOST, 0))
            port = int(tcp.getsockname()[1])
            try:
                udp.bind((HOST, port))
            except OSError:
                continue
            return port
    raise RuntimeError("no number is free for both TCP and UDP")


def accepts(port: int) -> bool:
    """True if something accepts TCP connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0


class ProcError(RuntimeError):
    """A server that ended, or was not ready in time; the message ends with its output."""


class Proc:
    """A server process, started and ready.

    `ready` is asked every 10 ms, at most for `timeout` seconds; an OSError counts as "not
    yet". Output goes to `output.log` in `cwd`. Use as a context manager, or call `stop`.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        ready: Callable[[], object],
        cwd: Path,
        timeout: float = 30.0,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.argv = [str(argument) for argument in argv]
        self.log = Path(cwd) / "output.log"
        started = time.monotonic()
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.argv,
                cwd=cwd,
                env=None if env is None else {**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until(ready, started + timeout)
        except BaseException:
            self.stop()
            raise
        self.startup = time.monotonic() - started
        """Seconds until it was ready."""

    def _wait_until(self, ready: Callable[[], object], give_up: float) -> None:
        while not _holds(ready):
            if self._process.poll() is not None:
                raise ProcError(f"{self.argv[0]} ended with {self._process.returncode}:\n{self.tail()}")
            if time.monotonic() > give_up:
                raise ProcError(f"{self.argv[0]} is not ready:\n{self.tail()}")
            time.sleep(0.01)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def rss_mb(self) -> float:
        """Resident memory in megabytes."""
        resident_pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return resident_pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def tail(self, lines: int = 20) -> str:
        """The last lines of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def pause(self) -> None:
        """Freeze it: the kernel still accepts connections, nobody answers them."""
        self._signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def resume(self) -> None:
        """Undo `pause`."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, with the children that it has."""
        self._signal(signal.SIGKILL)
        self._process.wait()

    def stop(self, timeout: float = 5.0) -> None:
        """End it in order; after `timeout` seconds, at once. Does nothing when it has ended."""
        if not self.running:
            return
        # A frozen process would not see the SIGTERM.
        self._signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()

    def _signal(self, number: signal.Signals) -> None:
        # Its session is its own, so the group is the server and its workers, nobody else.
        if self.running:
            os.killpg(self.pid, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()


def _holds(ready: Callable[[], object]) -> bool:
    try:
        return bool(ready())
    except OSError:
        return False


def on_free_port(start: Callable[[int], T], port: Callable[[], int] = free_port, tries: int = 3) -> T:
    """`start(port)`, again on another port if somebody else was quicker to take it."""
    for _ in range(tries - 1):
        try:
            return start(port())
        except ProcError as error:
            if "ddress already in use" not in str(error):
                raise
    return start(port())
