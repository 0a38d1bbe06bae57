"""The fixtures, as a user's tests see them."""

from __future__ import annotations

import subprocess
import sys

import pytest

import resilient.testing

TESTS = """
import anyio
import pytest
import resilient
from resilient.testing import fleet

def test_clock(virtual_clock):
    virtual_clock.sleep(3600)
    assert virtual_clock() == 3600

async def now():
    await anyio.sleep(3600)
    return anyio.current_time()

def test_async_clock(async_virtual_clock):
    assert async_virtual_clock.run(now) == 3600
    assert async_virtual_clock.run(now, backend="trio") == async_virtual_clock() == 7200

@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request, async_virtual_clock):
    return async_virtual_clock.backend(request.param)

@pytest.mark.anyio
async def test_in_the_clock(async_virtual_clock):
    assert await now() == async_virtual_clock() == 3600

def test_simulation(simulation):
    assert simulation(resilient.Policy(), fleet(3)).run(rate=10, duration=5).success_ratio == 1.0

def test_hangs(simulation):
    simulation(resilient.Policy(), [fleet(1)[0].at(0, hangs=True)]).run(rate=10, duration=1)
"""


def test_fixtures(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["resilient.testing.pytest_plugin"]')
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=6, errors=1)
    result.stdout.fnmatch_lines(["*attempts still in flight*give calls a timeout"])


def test_simulations_bring_no_http_client_along() -> None:
    script = "import sys, resilient.testing as t; t.Simulation; assert 'httpx' not in sys.modules; t.FakeTransport"
    subprocess.run([sys.executable, "-c", script], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'FakeTransporter'"):
        resilient.testing.FakeTransporter  # type: ignore[attr-defined]  # noqa: B018
