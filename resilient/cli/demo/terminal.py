"""The terminal: what it can show, and a screen that is redrawn without flicker."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self, TextIO

_CODES = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}
_ESCAPE = re.compile(r"(\x1b\[[0-9;?]*[A-Za-z])")
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[2J"  # alternate screen, no cursor, cleared
_LEAVE = "\x1b[?25h\x1b[?1049l"
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def is_screen(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """True if the stream is a terminal that understands ANSI escape codes."""
    if not stream.isatty() or environment.get("TERM") == "dumb":
        return False
    return os.name != "nt" or "WT_SESSION" in environment


@dataclass(frozen=True, slots=True)
class Style:
    """What may be used: `colour`, and block characters (`blocks`) for bars."""

    colour: bool
    blocks: bool

    @classmethod
    def of(cls, stream: TextIO, environment: Mapping[str, str] = os.environ) -> Self:
        """What suits a stream: colour on a screen unless NO_COLOR is set, blocks if it can encode them."""
        colour = is_screen(stream, environment) and not environment.get("NO_COLOR")
        return cls(colour, (stream.encoding or "").lower().replace("-", "") == "utf8")

    def paint(self, text: str, *looks: str) -> str:
        """The text in a colour, `bold` or `dim`."""
        if not self.colour or not looks:
            return text
        return f"\x1b[{';'.join(_CODES[look] for look in looks)}m{text}\x1b[0m"

    def bar(self, ratio: float, width: int) -> str:
        """A bar of at most `width` characters; anything above 0 is visible."""
        ratio = min(1.0, max(0.0, ratio))
        if not self.blocks:
            return "#" * max(round(ratio * width), 1 if ratio > 0 else 0)
        full, rest = divmod(max(round(ratio * width * 8), 1 if ratio > 0 else 0), 8)
        return "█" * full + (_EIGHTHS[rest] if rest else "")


def clip(line: str, width: int) -> str:
    """The line cut to `width` visible characters; escape codes are kept whole."""
    room = width
    parts = []
    for part in _ESCAPE.split(line):
        if _ESCAPE.fullmatch(part):
            parts.append(part)
        else:
            parts.append(part[:room])
            room -= len(parts[-1])
    return "".join(parts)


class Screen:
    """The alternate screen of a terminal; a context manager that restores the terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __enter__(self) -> Self:
        self._write(_ENTER)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._write(_LEAVE)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, now."""
        return shutil.get_terminal_size()

    def draw(self, lines: Sequence[str]) -> None:
        """Show the lines: over the old ones and in one write, so that nothing flickers."""
        width, height = self.size
        # After the text, the rest of its line is erased; after the last, the rest of the screen.
        body = "\x1b[K\r\n".join(clip(line, width) for line in lines[:height])
        self._write(f"\x1b[H{body}\x1b[J")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
