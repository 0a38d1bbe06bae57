"""A short run of `benchmarks/soak.py`."""

from __future__ import annotations

import os

import pytest

from benchmarks.soak import soak

SECONDS = float(os.environ.get("RESILIENT_SOAK_SECONDS", "20"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")  # trio's, of httpx's own iterators
def test_nothing_grows(no_leaks) -> None:
    assert soak(SECONDS) == []
