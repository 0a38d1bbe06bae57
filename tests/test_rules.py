"""The rules of the house bite: code that breaks one is refused."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.real.procs import missing

ROOT = Path(__file__).parents[1]
IMPURE = {
    "a clock": "from time import monotonic",
    "a clock, inside a function": "def now():\n    import time\n    return time.time()",
    "the wall clock": "import datetime\nprint(datetime.datetime.now())",
    "dice": "import random\nprint(random.random())",
    "dice by name": "from random import choice",
    "a loop": "import asyncio",
    "a thread": "from threading import Thread",
    "I/O": "import socket",
    "a log": "import logging",
    "an HTTP client": "import httpx",
}


def faults(code: str, path: str) -> str:
    """What the linter says of TID251 in `code`, were it the file `path`."""
    if find_spec("ruff") is None:
        missing("ruff")
    argv = [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "TID251", "--stdin-filename", path, "-"]
    return subprocess.run(argv, cwd=ROOT, input=code, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("package", ["core", "policy", "balance"])
@pytest.mark.parametrize("code", IMPURE.values(), ids=IMPURE.keys())
def test_the_pure_packages_may_not_use(code: str, package: str) -> None:
    assert "TID251" in faults(code, f"resilient/{package}/new.py")


def test_the_type_of_a_generator_of_chance_is_allowed() -> None:
    assert "TID251" not in faults("from random import Random", "resilient/core/new.py")


def test_the_others_may() -> None:
    assert "TID251" not in faults("import time, socket, threading", "resilient/runtime/new.py")
