"""The fixtures, as a user's tests see them."""

from __future__ import annotations

import pytest

TESTS = """
import resilient
from resilient.testing import fleet

def test_clock(virtual_clock):
    virtual_clock.sleep(3600)
    assert virtual_clock() == 3600

def test_simulation(simulation):
    assert simulation(resilient.Policy(), fleet(3)).run(rate=10, duration=5).success_ratio == 1.0

def test_hangs(simulation):
    simulation(resilient.Policy(), [fleet(1)[0].at(0, hangs=True)]).run(rate=10, duration=1)
"""


def test_fixtures(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["resilient.testing.pytest_plugin"]')
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*attempts still in flight*give calls a timeout"])
