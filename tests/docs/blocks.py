"""The code blocks of a Markdown page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(?P<head>[^\n`]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_CAPTION = re.compile(r"^:caption: (\S+)\n", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block. `name` is its caption: the file that it shows."""

    language: str
    name: str | None
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The blocks of a page in their order, those in HTML comments included.

    A block in a comment is set-up that readers need not see.
    """
    source = page.read_text(encoding="utf-8")
    return [_block(match, source) for match in _FENCE.finditer(source)]


def _block(match: re.Match[str], source: str) -> Block:
    head = match["head"].replace("{code-block}", "").strip()
    body = match["body"]
    caption = _CAPTION.match(body)
    text = body[caption.end() :].lstrip("\n") if caption else body
    # Where `text` begins, so that a traceback names the line of the page.
    line = source.count("\n", 0, match.end() - len("```") - len(text)) + 1
    return Block(head, caption[1] if caption else None, text, line)
