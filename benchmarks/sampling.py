"""Where a program spends its CPU: the stack of the main thread, each time so much CPU is used.

The kernel's timer ITIMER_PROF runs while the process computes, also within system calls, and
stands still while it waits. Python runs the handler at its next check for signals: after a call
into C has returned, on entry to a function, at the end of a loop's turn. So what C code takes is
its caller's; a sample taken on entry to a function stands for what came before it, and is its
caller's as well. What is left of a bias are the few bytecodes between two checks.

Only the main thread runs handlers, so a program whose threads compute cannot be sampled so. (Their
stacks can be read from outside, but not which of them is on a core: one that has just been answered
looks like one that waits.)
"""

from __future__ import annotations

import dis
import signal
from collections import Counter
from types import FrameType
from typing import Self

Frame = tuple[str, str]
"""File and qualified name of a function."""
Stack = tuple[Frame, ...]
"""From the outermost function to the innermost."""

_ENTRY = dis.opmap["RESUME"]
_FINEST = 0.001  # seconds; a kernel looks less often, as a rule every 4 ms


class Sampler:
    """A context manager that adds to `stacks` while it is entered; of the main thread alone."""

    def __init__(self) -> None:
        self.stacks: Counter[Stack] = Counter()

    def __enter__(self) -> Self:
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, _FINEST, _FINEST)
        return self

    def __exit__(self, *exc_info: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, signal.SIG_IGN)  # one may be on its way

    def _sample(self, number: int, frame: FrameType | None) -> None:
        if frame is not None and _is_entered(frame):
            frame = frame.f_back
        stack = []
        while frame is not None:
            stack.append((frame.f_code.co_filename, frame.f_code.co_qualname))
            frame = frame.f_back
        self.stacks[tuple(reversed(stack))] += 1


def _is_entered(frame: FrameType) -> bool:
    """True if the function has only just been entered, or a generator resumed."""
    return frame.f_lasti >= 0 and frame.f_code.co_code[frame.f_lasti] == _ENTRY
