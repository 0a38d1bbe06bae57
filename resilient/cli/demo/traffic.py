"""The traffic of one contender: run as `python -m resilient.cli.demo.traffic`.

Open loop: requests arrive when the schedule says, however the earlier ones fare, and their
latency counts from the time at which they should have begun. A closed loop would stop
asking while an endpoint hangs, and so leave out exactly the bad latencies (coordinated
omission).

Each contender has a process of its own. In one event loop the CPU time of one would be latency
for the other, and taking turns would show them minutes apart.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from resilient.cli.demo.child import Parent, run
from resilient.cli.demo.contenders import CONTENDERS, Contender
from resilient.cli.demo.story import Story

Send = Callable[[dict[str, Any]], None]


def arrivals(story: Story) -> list[float]:
    """When requests arrive, in seconds from the start: a Poisson process (seeded)."""
    rng = Random(story.seed)
    times = []
    at = rng.expovariate(story.rate)
    while at < story.duration:
        times.append(at)
        at += rng.expovariate(story.rate)
    return times


class Traffic:
    """Sends the story's requests through a contender, and reports at the story's ticks.

    A report is `{"at", "calls", "lag", "sent", "ejected", "breaker"}`; `calls` are those that
    ended since the last one, `[intended, seconds, cause, attempts]` each; `lag` is the worst
    delay of a request's start behind its schedule. The last one has `cpu_seconds` as well.
    """

    def __init__(self, contender: Contender, story: Story, send: Send) -> None:
        self._contender = contender
        self._story = story
        self._send = send
        self._calls: list[tuple[float, float, str, int]] = []
        self._lag = 0.0
        self._start = 0.0

    async def run(self) -> None:
        """Run all of it; returns after the last report."""
        self._start = asyncio.get_running_loop().time()
        cpu = time.process_time()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._report_at_ticks())
            for at in arrivals(self._story):
                await self._until(at)
                group.create_task(self._call(at))
        self._report(self._now(), cpu_seconds=time.process_time() - cpu)

    async def _report_at_ticks(self) -> None:
        for at in self._story.ticks():
            await self._until(at)
            self._report(at)

    async def _until(self, at: float) -> None:
        await asyncio.sleep(at - self._now())

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._start

    async def _call(self, intended: float) -> None:
        self._lag = max(self._lag, self._now() - intended)
        answer = await self._contender.get()
        self._calls.append((intended, self._now() - intended, *answer))

    def _report(self, at: float, **more: float) -> None:
        calls, self._calls = self._calls, []
        self._send({"at": at, "calls": calls, "lag": self._lag, **self._contender.state()._asdict(), **more})


async def _warm_up(contender: Contender) -> None:
    """One request through a throwaway client: the first request pays for late imports."""
    await contender.get()
    await contender.aclose()


async def main(parent: Parent) -> None:
    """Receive `{"contender", "ports", "story"}`, send "ready", wait for the start, and go."""
    task = await parent.receive()
    story = Story.from_json(task["story"])
    make = partial(CONTENDERS[task["contender"]], task["ports"], story)
    await _warm_up(make())
    contender = make()
    parent.send("ready")
    await parent.receive()
    try:
        await Traffic(contender, story, parent.send).run()
    finally:
        await contender.aclose()


if __name__ == "__main__":
    run(main)
