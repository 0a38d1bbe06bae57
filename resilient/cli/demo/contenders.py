"""The two contenders: the same requests with the same deadline, to endpoints of the same kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import httpx

import resilient
from resilient.cli.demo.services import HOST
from resilient.cli.demo.story import Story


class Answer(NamedTuple):
    """How a request ended: "" for a success, else a status or the name of an exception."""

    cause: str
    attempts: int


class State(NamedTuple):
    """What a contender knows about its endpoints, in their order.

    `sent`: attempts so far. `ejected`: seconds until an ejected endpoint is tried again, else
    None. `breaker`: its state; None where there is no breaker.
    """

    sent: list[int]
    ejected: list[float | None]
    breaker: str | None


class Contender(Protocol):
    """A client that the traffic goes through."""

    async def get(self) -> Answer:
        """Make one request; never raises an `httpx.HTTPError`."""
        ...

    def state(self) -> State:
        """The state now."""
        ...

    async def aclose(self) -> None:
        """Close its connections."""
        ...


class PlainHttpx:
    """`httpx.AsyncClient`, and a hand-written round robin."""

    def __init__(self, ports: Sequence[int], story: Story) -> None:
        self._client = httpx.AsyncClient(timeout=story.deadline, trust_env=False)
        self._urls = [f"http://{HOST}:{port}/" for port in ports]
        self._sent = [0] * len(ports)
        self._next = 0

    async def get(self) -> Answer:
        """One request to the next endpoint in turn."""
        turn, self._next = self._next, (self._next + 1) % len(self._urls)
        self._sent[turn] += 1
        try:
            response = await self._client.get(self._urls[turn])
        except httpx.HTTPError as error:
            return Answer(type(error).__name__, 1)
        return Answer(_cause(response), 1)

    def state(self) -> State:
        """Only counts: it knows nothing else."""
        return State(list(self._sent), [None] * len(self._sent), None)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class Resilient:
    """`resilient.AsyncClient` with its defaults, two timeouts and a breaker."""

    def __init__(self, ports: Sequence[int], story: Story) -> None:
        addresses = [f"{HOST}:{port}" for port in ports]
        service = resilient.Service(resolver=resilient.static(addresses), policy=policy(story))
        self._mesh = resilient.Mesh({"orders": service}, seed=story.seed)
        self._client = resilient.AsyncClient(mesh=self._mesh, timeout=story.deadline, trust_env=False)

    async def get(self) -> Answer:
        """One request to the service by its name."""
        try:
            response = await self._client.get("http://orders/")
        except httpx.HTTPError as error:
            return Answer(type(error).__name__, _attempts(getattr(error, "report", None)))
        return Answer(_cause(response), _attempts(response.extensions["resilient"]))

    def state(self) -> State:
        """What the mesh says."""
        service: dict[str, Any] = self._mesh.status()["orders"]
        endpoints = service["endpoints"]
        return State(
            [endpoint["requests"] for endpoint in endpoints],
            [endpoint["ejected_for"] for endpoint in endpoints],
            service["breaker"],
        )

    async def aclose(self) -> None:
        """Close the connections and the mesh."""
        await self._client.aclose()
        self._mesh.close()


def policy(story: Story) -> resilient.Policy:
    """The defaults, a timeout for the call and one for each attempt, and a breaker.

    Ejections are shorter than the default of 30 s, so that a short story shows endpoints return.
    """
    return resilient.Policy(
        timeout=story.deadline,
        attempt_timeout=story.deadline / 4,
        breaker=resilient.Breaker(),
        outlier=resilient.OutlierDetection(base_ejection_time=story.duration / 10),
    )


def _cause(response: httpx.Response) -> str:
    return "" if response.is_success else str(response.status_code)


def _attempts(report: resilient.CallReport | None) -> int:
    return len(report.attempts) if report is not None else 0


CONTENDERS: dict[str, type[PlainHttpx | Resilient]] = {"httpx": PlainHttpx, "resilient": Resilient}
"""By name, as in `story.TITLES`."""
