"""The traffic of one contender: `python -m benchmarks.faults.traffic CONTENDER`.

Client and traffic share one event loop, as in a service. Open loop: calls begin when the
schedule says, however the earlier ones fare, and their time counts from that moment, or the
wait of those that could not begin in time would be left out (coordinated omission).

Receives URLs, says that it is ready; receives `{"start", "arrivals", "deadline"}`, `start` on the
system's monotonic clock; sends `{"calls", "refused", "cpu", "waited"}`:
`calls` are `[intended start, seconds, answered well]`, all in seconds from the start.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.children import orders, reply
from benchmarks.faults.contenders import CLIENTS, Client


async def generate(client: Client, order: dict[str, Any]) -> list[tuple[float, float, bool]]:
    start: float = order["start"]
    deadline: float = order["deadline"]
    calls: list[tuple[float, float, bool]] = []

    async def call(at: float) -> None:
        ok = await client.get(deadline)
        seconds = time.monotonic() - start - at
        # A deadline needs CPU to be kept: where there is none, answers come, but too late.
        calls.append((at, seconds, ok and seconds <= deadline))

    async with asyncio.TaskGroup() as group:
        for at in order["arrivals"]:
            await asyncio.sleep(start + at - time.monotonic())
            group.create_task(call(at))
    return calls


def waited_seconds() -> float:
    """How long this process has been ready to run and was not let run."""
    return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9


async def main() -> None:
    urls = orders()
    client = CLIENTS[sys.argv[1]](urls)
    gc.freeze()
    reply("ready")  # what is imported only now would be latency
    order = orders()
    cpu, waited = time.process_time(), waited_seconds()
    calls = await generate(client, order)
    cpu, waited = time.process_time() - cpu, waited_seconds() - waited
    refused = [at - order["start"] for at in client.refused]
    reply({"calls": sorted(calls), "refused": refused, "cpu": cpu, "waited": waited})
    await client.aclose()


if __name__ == "__main__":
    asyncio.run(main())
