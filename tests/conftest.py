"""What every test may use: both async back ends, and a check for leaks."""

from __future__ import annotations

import gc
import os
import socket
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from tests.real.procs import IN_CI


def pytest_configure(config: pytest.Config) -> None:
    if IN_CI:
        _refuse_the_source_tree()
    sys.addaudithook(_refuse_to_leave_the_machine)
    engine = os.environ.get("RESILIENT_TEST_WIRE")
    if engine:
        _speak_with(engine)


def _refuse_to_leave_the_machine(event: str, args: tuple[Any, ...]) -> None:
    """Tests talk to loopback alone; addresses such as 10.0.0.1 are names in them, never dialled.

    Nor are the name servers of the machine asked: to them no name is known. A datagram socket may be
    connected, which sends nothing: so routes are looked up.
    """
    if event not in ("socket.connect", "socket.sendto"):
        return
    sock, address = args
    is_stream = sock.type == socket.SOCK_STREAM
    if not isinstance(address, tuple) or _is_loopback(str(address[0])):
        return
    if is_stream:
        left.append(f"{event} to {address}")
    if is_stream or event == "socket.sendto":
        raise PermissionError(f"a test may not reach {address}")


left: list[str] = []
"""What a test dialled outside this machine; the code under test may have taken the error for a fault."""


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@pytest.fixture(autouse=True)
def _stays_here() -> Iterator[None]:
    left.clear()
    yield
    assert left == [], "a test may reach loopback alone"


def _speak_with(engine: str) -> None:
    """Let every wire that a test does not ask for otherwise have this engine."""
    from resilient.runtime.wire import WireSettings

    check = WireSettings.__post_init__

    def choose(settings: WireSettings) -> None:
        if settings.engine == "default":
            object.__setattr__(settings, "engine", engine)
        check(settings)

    WireSettings.__post_init__ = choose  # type: ignore[method-assign]


def _refuse_the_source_tree() -> None:
    """CI tests what users install: a file that the wheel lacks must not go unseen."""
    import resilient

    installed = Path(sysconfig.get_path("purelib")).resolve()
    assert resilient.__file__ is not None
    if not Path(resilient.__file__).resolve().is_relative_to(installed):
        raise pytest.UsageError(f"CI=true, but resilient comes from {resilient.__file__}, not from {installed}")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Fail the test if threads or sockets that it made outlive it.

    Ask for it before the fixtures whose closing it shall see.
    """
    threads = set(threading.enumerate())
    sockets = _sockets()
    gc.freeze()  # what the test did not make need not be looked through
    yield
    gc.collect()
    gc.unfreeze()
    assert _soon_empty(lambda: set(threading.enumerate()) - threads) == set(), "threads outlive the test"
    assert _soon_empty(lambda: _sockets() - sockets) == set(), "sockets outlive the test"


def _sockets() -> set[str]:
    """The sockets of this process by inode; none where there is no /proc."""
    found = set()
    for descriptor in Path("/proc/self/fd").glob("*"):
        with suppress(OSError):  # the descriptor of this very listing is gone
            target = str(descriptor.readlink())
            if target.startswith("socket:"):
                found.add(target)
    return found


def _soon_empty(left: Callable[[], set[object]], patience: float = 2.0) -> set[object]:
    """What is left once nothing is, or after `patience` seconds: closing may take a moment."""
    give_up = time.monotonic() + patience
    while (rest := left()) and time.monotonic() < give_up:
        time.sleep(0.01)
    return rest
