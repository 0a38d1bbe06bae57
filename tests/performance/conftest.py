from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.performance.calls import SCRIPT


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """What a server in a process of its own answers."""
    server = subprocess.Popen([sys.executable, SCRIPT, "serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}/v1/42"
    finally:
        server.kill()
        server.communicate()
