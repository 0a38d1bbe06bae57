"""A short run of `benchmarks/soak.py`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = float(os.environ.get("RESILIENT_SOAK_SECONDS", "20"))
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "soak.py"


@pytest.mark.slow
def test_nothing_grows() -> None:
    command = [sys.executable, str(SCRIPT), "--minutes", str(SECONDS / 60)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS + 120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing grew" in done.stdout
