"""The show: starts the processes, follows their reports, and draws."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress

from resilient.cli.demo.children import Child
from resilient.cli.demo.lines import Lines
from resilient.cli.demo.screen import frame
from resilient.cli.demo.stats import Tally
from resilient.cli.demo.story import TITLES, Story
from resilient.cli.demo.summary import document, sentences, table
from resilient.cli.demo.terminal import Screen, Style, is_screen

Tallies = Mapping[str, Tally]
Update = Callable[[float, Tallies], None]


async def show(seed: int, duration: float, *, as_json: bool) -> None:
    """Run the story once, and print its summary. Raises ChildError if a process fails."""
    _end_in_order_on_sigterm()
    story = Story(duration=duration, seed=seed)
    style = Style.of(sys.stdout)
    async with AsyncExitStack() as children:
        with _view(story, style, as_json=as_json) as update:
            tallies = await _run(story, children, update)
    if as_json:
        print(json.dumps(document(story, tallies), indent=2))
        return
    text = [textwrap.fill(sentence, 80) for sentence in sentences(tallies)]
    print("", *table(story, tallies, style), "", *text, sep="\n")


def _end_in_order_on_sigterm() -> None:
    """As with Ctrl-C: the terminal is restored and the children are stopped."""
    task = asyncio.current_task()
    assert task is not None
    with suppress(NotImplementedError, RuntimeError):  # Windows; not in the main thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


@contextmanager
def _view(story: Story, style: Style, *, as_json: bool) -> Iterator[Update]:
    if as_json:
        yield lambda _at, _tallies: None
    elif is_screen(sys.stdout):
        with Screen(sys.stdout) as screen:
            screen.draw(["starting the services ..."])
            yield lambda at, tallies: screen.draw(frame(story, at, tallies, style, screen.size[0]))
    else:
        yield Lines(story, sys.stdout).update


async def _run(story: Story, children: AsyncExitStack, update: Update) -> dict[str, Tally]:
    traffic = await _prepare(story, children)
    tallies = {name: Tally(story) for name in TITLES}
    while not all(tally.finished for tally in tallies.values()):
        # Both report at the same ticks, so taking one report from each keeps them in step.
        for name, tally in tallies.items():
            if not tally.finished:
                tally.add(await traffic[name].receive())
        update(min(tally.latest.at for tally in tallies.values()), tallies)
    return tallies


async def _prepare(story: Story, children: AsyncExitStack) -> dict[str, Child]:
    """Start everything, all at the same time; returns the traffic of each contender."""

    async def start(module: str) -> dict[str, Child]:
        return {name: await children.enter_async_context(Child.open(module)) for name in TITLES}

    services = await start("resilient.cli.demo.services")
    traffic = await start("resilient.cli.demo.traffic")
    for name in TITLES:
        await services[name].send(story.to_json())
    for name in TITLES:
        ports = (await services[name].receive())["ports"]
        await traffic[name].send({"contender": name, "ports": ports, "story": story.to_json()})
    for name in TITLES:
        await traffic[name].receive()
    for child in (*services.values(), *traffic.values()):
        await child.send("go")
    return traffic
