"""The reference lists the public names: all of them, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import resilient

REFERENCE = Path(__file__).parents[2] / "docs" / "reference.md"


def test_every_public_name_is_listed_once() -> None:
    listed = re.findall(r"^\.\. auto\w+:: resilient\.(\w+)$", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(set(resilient.__all__) - {"__version__"})
