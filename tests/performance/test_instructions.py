"""What a call costs, in instructions: a ratio to bare httpx that does the same in the same process.

Instructions are counted by callgrind. Unlike time they do not depend on the machine's other
work: two runs differ by less than 1 %. They do depend on versions, of Python and of packages, which
is why ratios are compared, and with a margin.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.performance.calls import SCRIPT
from tests.real.procs import require

AT_MOST = {
    "mock sync resilient": 0.70,
    "mock async resilient": 0.73,
    "loopback sync resilient": 0.52,
    "loopback sync fast": 0.32,
    "loopback async resilient": 0.39,
    "loopback async fast": 0.26,
}
"""Instructions of a call as a ratio to bare httpx: what was measured, and 8 % more.

After a change that makes calls cheaper: run this test with `-s`, which prints what it measures,
and write down the highest of all versions of Python times 1.08. The sniffio package must be
there, as trio brings it: httpx without it is so slow that any ratio would do.
"""
CALLS = 20

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module")
def instructions(url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Of a call, by contender."""
    directory = tmp_path_factory.mktemp("callgrind")
    valgrind = [require("valgrind"), "-q", "--tool=callgrind", "--instr-atstart=no", "--dump-before=getsid"]
    output = f"--callgrind-out-file={directory / 'counts'}"
    command = [*valgrind, output, sys.executable, SCRIPT, "count", url, str(CALLS)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, timeout=300, env={**os.environ, "PYTHONHASHSEED": "0"}
    )
    # Two files for each contender: what came before its calls, and the calls.
    names = json.loads(done.stdout)
    return {name: _total(directory / f"counts.{2 * number + 2}") / CALLS for number, name in enumerate(names)}


def _total(counts: Path) -> int:
    found = re.search(r"^totals: (\d+)$", counts.read_text(), re.MULTILINE)
    assert found is not None, counts
    return int(found[1])


@pytest.mark.parametrize("contender", AT_MOST)
def test_instructions_of_a_call(contender: str, instructions: dict[str, float]) -> None:
    bare = re.sub(r"\w+$", "httpx", contender)
    ratio = instructions[contender] / instructions[bare]
    print(f"{contender}: {ratio:.3f} of {instructions[bare]:.0f}")
    assert ratio <= AT_MOST[contender]
