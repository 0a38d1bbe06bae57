"""What a call leaves behind, and how many of our functions it passes through: exact on every machine."""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Iterator
from types import FrameType

import pytest

import resilient
from tests.performance.calls import Spend, contenders

FUNCTIONS_AT_MOST = {
    "mock sync resilient": 80,
    "mock async resilient": 90,
    "loopback sync resilient": 147,
    "loopback sync fast": 150,
    "loopback async resilient": 165,
    "loopback async fast": 178,
}
"""Functions of ours that a call enters: the highest of all versions of Python, and 8 % more.

`pytest -s tests/performance` prints what there is.
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def spends(url: str) -> Iterator[dict[str, Spend]]:
    with contenders(url) as found:
        for spend in found.values():
            spend(100)
        yield found


def functions_of_ours(spend: Spend, calls: int = 20) -> float:
    """Entered by each call; a coroutine that is resumed is entered again."""
    package = resilient.__file__.removesuffix("__init__.py")
    entered = 0

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal entered
        entered += event == "call" and frame.f_code.co_filename.startswith(package)

    sys.setprofile(profile)
    try:
        spend(calls)
    finally:
        sys.setprofile(None)
    return entered / calls


def growth(spend: Spend, calls: int = 1000) -> float:
    """Blocks of memory that each call leaves behind."""
    gc.collect()
    before = sys.getallocatedblocks()
    spend(calls)
    gc.collect()
    return (sys.getallocatedblocks() - before) / calls


def garbage(spend: Spend, calls: int = 100) -> float:
    """Objects that each call leaves to the cyclic collector."""
    gc.collect()
    gc.disable()
    try:
        spend(calls)
        return gc.collect() / calls
    finally:
        gc.enable()


@pytest.mark.parametrize("contender", FUNCTIONS_AT_MOST)
def test_functions_of_a_call(contender: str, spends: dict[str, Spend]) -> None:
    found = functions_of_ours(spends[contender])
    print(f"{contender}: {found:.1f} functions")
    assert found <= FUNCTIONS_AT_MOST[contender]


@pytest.mark.parametrize("contender", FUNCTIONS_AT_MOST)
def test_a_call_leaves_nothing_behind(contender: str, spends: dict[str, Spend]) -> None:
    found = growth(spends[contender])
    print(f"{contender}: {found:.3f} blocks")
    # Where statistics keep a float here and there it is 0.1; a leak is at least one block for each call.
    assert found < 0.5


@pytest.mark.parametrize("contender", FUNCTIONS_AT_MOST)
def test_a_call_makes_little_cyclic_garbage(contender: str, spends: dict[str, Spend]) -> None:
    found, bare = garbage(spends[contender]), garbage(spends[re.sub(r"\w+$", "httpx", contender)])
    print(f"{contender}: {found:.1f} objects in cycles, bare httpx {bare:.1f}")
    assert found <= bare + 5


def test_a_leak_is_seen() -> None:
    kept: list[object] = []

    def spend(calls: int) -> None:
        kept.extend(object() for _ in range(calls))

    assert growth(spend) >= 1


def test_garbage_is_seen() -> None:
    def spend(calls: int) -> None:
        for _ in range(calls):
            cycle: list[object] = []
            cycle.append(cycle)

    assert garbage(spend) >= 1
