"""Where the CPU of a request goes: client layer, journey, telemetry, wire, or event loop.

    python benchmarks/layers.py [--quick]

Contenders and server have a process each, as in loopback.py; the server answers after 1 ms with
200 bytes. Each turn has two halves: in one the CPU of requests is measured, in the other it is
sampled (sampling.py) for its shares. A sample belongs to the innermost function of a known layer:
what `re` or `email` do is their caller's. Sampling takes about 2 % of the CPU, and of that each
layer its share. A share of 30 % is uncertain by two points with 500 samples, by one with 2000.
Of threads there is the sum alone: they cannot be sampled like that, see sampling.py.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks import answering, flame, report
from benchmarks.children import Child, orders, reply, stop_on_sigterm
from benchmarks.loopback import spend, spend_in_threads
from benchmarks.sampling import Frame, Sampler, Stack

PLOTS = Path(__file__).parents[1] / "docs" / "plots"
CONTENDERS = ("httpx", "resilient", "resilient fast")
BODIES = {"GET 200 B": None, "POST 10 KB": b"x" * 10_240}
IN_FLIGHT = (1, 10, 100, 500)
THREADS = (1, 100)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 200\r\n\r\n" + b'"%s"' % (b"x" * 198)
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)

LAYERS = {
    "client": r"httpx/(?!_transports)|resilient/(client|cookies|requests|responses)\.py",
    "journey": r"resilient/(?!(client|cookies|requests|responses)\.py)",
    "telemetry": r"resilient/telemetry/|opentelemetry/",
    "wire": r"resilient/runtime/wire/|httpcore2?/|httpx/_transports/|h11/|httptools/|ssl\.py",
    "loop, sockets": r"asyncio/|selectors\.py|uvloop/|httpcore2?/_backends/sync\.py|resilient/.*/blocking\.py",
    "rest": r"benchmarks/",
}
"""Which files are whose, from the package on; the last that matches counts."""
_BEFORE_PACKAGE = re.compile(r"^.*/(site-packages|python3\.\d+|(?=resilient/|benchmarks/))/?")
COLOURS = {
    "client": "#8ab6e8",
    "journey": "#5fc49a",
    "telemetry": "#e58fb1",
    "wire": "#f0b65c",
    "loop, sockets": "#b9a3e3",
    "rest": "#d5d8db",
}


def in_package(path: str) -> str:
    return _BEFORE_PACKAGE.sub("", path)


@cache
def layer_of_file(path: str) -> str | None:
    return next((layer for layer in reversed(LAYERS) if re.match(LAYERS[layer], in_package(path))), None)


def innermost(stack: Stack) -> tuple[str, Frame]:
    """The layer that a sample belongs to, and the function."""
    for frame in reversed(stack):
        layer = layer_of_file(frame[0])
        if layer is not None:
            return layer, frame
    return "rest", stack[-1]


def within_benchmark(stack: Stack) -> Stack:
    """What the innermost function of the benchmark calls; that function, if it calls nothing."""
    ours = [place for place, (path, _) in enumerate(stack) if layer_of_file(path) == "rest"]
    return stack[ours[-1] + 1 :] or stack[-1:] if ours else stack


def short(frame: Frame) -> str:
    return f"{in_package(frame[0])} {frame[1]}"


class Server(answering.Answering):
    """Answers each request once its body is there."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._received = bytearray()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (head := self._received.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._received, 0, head)
            end = head + 4 + (int(length[1]) if length else 0)
            if len(self._received) < end:
                return
            del self._received[:end]
            self._loop.call_later(self._delay, self.transport.write, ANSWER)


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Server(loop, 0.001), "127.0.0.1", 0, backlog=1024)
    reply(server.sockets[0].getsockname()[1])
    await asyncio.to_thread(orders)


def client(kind: str, contender: str) -> Any:
    import httpx

    import resilient

    name = "AsyncClient" if kind == "async" else "Client"
    if contender == "httpx":
        return getattr(httpx, name)(trust_env=False, timeout=120)
    wire = "fast" if contender.endswith("fast") else "default"
    return getattr(resilient, name)(trust_env=False, timeout=120, wire=wire)


def request(client: Any, url: str, content: bytes | None) -> Callable[[], Any]:
    return (lambda: client.get(url)) if content is None else (lambda: client.post(url, content=content))


async def take_orders(kind: str, contender: str, url: str) -> None:
    """Be a contender: sync requests simply block the loop, which has nothing else to do."""
    made = client(kind, contender)
    work = spend if kind == "async" else spend_blocking
    while order := orders():
        one = request(made, url, BODIES[order["body"]])
        stacks = Sampler() if order["sample"] else None
        started = time.process_time()
        with stacks or nullcontext():
            await work(one, order["requests"], order["in_flight"])
        cpu = time.process_time() - started
        reply({"cpu": cpu, "stacks": list(stacks.stacks.items()) if stacks else []})


async def spend_blocking(one: Callable[[], Any], requests: int, threads: int) -> None:
    if threads > 1:
        spend_in_threads(one, requests, threads)
        return
    for _ in range(requests):
        one()


@dataclass
class Measured:
    """One contender in one scenario."""

    kind: str
    body: str
    in_flight: int
    contender: str
    spent: list[float] = field(default_factory=list)
    """Microseconds of CPU for each request, by turn."""
    stacks: Counter[Stack] = field(default_factory=Counter)

    @property
    def microseconds(self) -> float:
        return min(self.spent)

    @property
    def is_sampled(self) -> bool:
        return self.kind == "async" or self.in_flight == 1

    def shares(self) -> dict[str, float]:
        samples: Counter[str] = Counter()
        for stack, number in self.stacks.items():
            samples[innermost(stack)[0]] += number
        return {layer: samples[layer] / max(1, samples.total()) for layer in LAYERS}

    def take_turn(self, child: Child, seconds: float) -> None:
        order = {"body": self.body, "in_flight": self.in_flight, "requests": max(20, self.in_flight), "sample": False}
        if not self.spent:
            child.ask(order)  # opens connections
        each = max(child.ask(order)["cpu"] / order["requests"], 1e-5)
        order["requests"] = max(int(seconds / 3 / each), 2 * self.in_flight)
        self.spent.append(child.ask(order)["cpu"] / order["requests"] * 1e6)
        if not self.is_sampled:
            return
        order["requests"] = max(int(seconds / each), 2 * self.in_flight)
        for stack, number in child.ask({**order, "sample": True})["stacks"]:
            self.stacks[tuple((path, name) for path, name in stack)] += number


def measure(seconds: float, turns: int) -> Iterator[Measured]:
    scenarios = [("async", body, level) for body in BODIES for level in IN_FLIGHT]
    scenarios += [("sync", body, level) for body in BODIES for level in THREADS]
    with ExitStack() as stack:
        url = f"http://127.0.0.1:{stack.enter_context(Child('benchmarks.layers', '--serve')).receive()}/v1/42"
        children = {
            (kind, name): stack.enter_context(Child("benchmarks.layers", "--be", kind, name, url))
            for kind in ("async", "sync")
            for name in CONTENDERS
        }
        for scenario in scenarios:
            cells = [Measured(*scenario, name) for name in CONTENDERS]
            for turn in range(turns if scenario[2] < 500 else 1):
                for cell in [*cells[turn % 3 :], *cells[: turn % 3]]:
                    cell.take_turn(children[cell.kind, cell.contender], seconds)
            for cell in cells:
                print(*scenario, cell.contender, f"{cell.microseconds:.0f} µs", cell.stacks.total(), file=sys.stderr)
                yield cell


def rows(cells: list[Measured]) -> Iterator[list[str]]:
    for cell in cells:
        called = f"{cell.body}, {cell.kind}, {cell.in_flight} in flight: {cell.contender}"
        each = [f"{share * cell.microseconds:.0f} ({share * 100:.0f} %)" for share in cell.shares().values()]
        if not cell.is_sampled:
            each = [""] * len(LAYERS)
        yield [called, f"{cell.microseconds:.0f}", *each]


def functions(cell: Measured, number: int) -> Iterator[list[str]]:
    """Those that take the most, themselves and with what they call."""
    itself: Counter[Frame] = Counter()
    inclusive: Counter[Frame] = Counter()
    for stack, samples in cell.stacks.items():
        itself[innermost(stack)[1]] += samples
        for frame in set(within_benchmark(stack)):
            inclusive[frame] += samples
    one = cell.microseconds / max(1, itself.total())
    shown = [frame for frame, _ in inclusive.most_common() if layer_of_file(frame[0]) not in (None, "rest")]
    for frame in shown[:number]:
        both = (itself[frame] * one, inclusive[frame] * one)
        yield [f"`{short(frame)}`", str(layer_of_file(frame[0])), *(f"{taken:.0f}" for taken in both)]


def draw(cell: Measured) -> None:
    """The flame graph of a contender, without what is the benchmark's own."""
    drawn: Counter[tuple[tuple[str, str], ...]] = Counter()
    for stack, samples in cell.stacks.items():
        frames = within_benchmark(stack)
        drawn[tuple((short(frame), COLOURS[layer_of_file(frame[0]) or "rest"]) for frame in frames)] += samples
    title = f"{cell.contender}: {cell.body}, {cell.kind}, {cell.in_flight} in flight, {cell.microseconds:.0f} µs of CPU"
    PLOTS.mkdir(exist_ok=True)
    (PLOTS / f"flame-{cell.contender.replace(' ', '-')}.svg").write_text(flame.draw(title, drawn, COLOURS))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--quick", action="store_true", help="fewer samples")
    options.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options.add_argument("--be", nargs=3, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.serve:
        answering.run(serve())
    elif chosen.be:
        asyncio.run(take_orders(*chosen.be))
    else:
        publish(*((0.6, 1) if chosen.quick else (1.5, 2)))


def publish(seconds: float, turns: int) -> None:
    stop_on_sigterm()
    before = report.machine()
    cells = list(measure(seconds, turns))
    parts = [report.table(("µs of CPU a request (share)", "all", *LAYERS), rows(cells))]
    for cell in cells:
        if (cell.kind, cell.body, cell.in_flight) == ("async", "GET 200 B", 10):
            draw(cell)
            title = f"### Functions of {cell.contender}: {cell.body}, {cell.kind}, {cell.in_flight} in flight"
            head = ("what takes the most", "layer", "µs itself", "µs with what it calls")
            parts += [title, report.table(head, functions(cell, 50))]
    report.publish("profile", "Where the CPU of a request goes", before, *parts)


if __name__ == "__main__":
    main()
