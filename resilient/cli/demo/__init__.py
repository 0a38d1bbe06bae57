"""`resilient demo`: plain httpx and `resilient` under the same traffic and the same faults.

Everything is local: ten endpoints per contender on loopback, in a process of their own; each
contender is a process too, so that neither's CPU shows in the other's latency; this process
only starts them, draws, and counts. It needs nothing that a plain install lacks.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys

from resilient.cli.demo.children import ChildError

NAME = "demo"
HELP = "watch plain httpx and resilient meet the same faults, side by side"
DESCRIPTION = (
    "Starts small services on loopback, breaks some of them while it runs, and sends the same "
    "traffic to them through plain httpx (round robin) and through resilient."
)

_SHORTEST, _LONGEST = 2.0, 600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--seed", type=int, default=1, help="of arrivals, service times and choices (default: 1)")
    parser.add_argument("--duration", type=_duration, default=20.0, metavar="SECONDS", help="of traffic (default: 20)")
    parser.add_argument("--json", action="store_true", help="print one JSON document at the end, and nothing else")


def _duration(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not _SHORTEST <= seconds <= _LONGEST:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not valid; expected a number of seconds from {_SHORTEST:g} to {_LONGEST:g}"
        )
    return seconds


def run(arguments: argparse.Namespace) -> int:
    """Run the demo; returns 0, 1 if it could not run, 130 or 143 if Ctrl-C or SIGTERM ended it."""
    from resilient.cli.demo.show import show

    try:
        asyncio.run(show(arguments.seed, arguments.duration, as_json=arguments.json))
    except ChildError as error:
        print(f"resilient demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except asyncio.CancelledError:
        return 143
    return 0
