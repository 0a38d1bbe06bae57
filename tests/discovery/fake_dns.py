"""Nameservers in memory: what they say is set by the test, what they are asked is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager

from resilient.discovery.freshness import Reply, Status
from resilient.discovery.lookup import SrvRecord
from resilient.discovery.resolver import Endpoints, Resolver
from tests.discovery.virtual_loop import now

SERVFAIL: Reply[str] = Reply(Status.FAILED, reason="SERVFAIL")
SILENT: Reply[str] = Reply(Status.LATE)


def answer(*addresses: str, ttl: float = 30.0) -> Reply[str]:
    return Reply(Status.ANSWER, ttl, addresses)


def services(*records: SrvRecord, ttl: float = 30.0) -> Reply[SrvRecord]:
    return Reply(Status.ANSWER, ttl, records)


def no_data(ttl: float | None = 30.0) -> Reply[str]:
    return Reply(Status.NODATA, ttl)


def no_name(ttl: float | None = 30.0) -> Reply[str]:
    return Reply(Status.NXDOMAIN, ttl)


class FakeDns:
    """`zone` maps (name, type) to a reply; a pair (seconds, reply) comes after that time."""

    def __init__(self, *, candidates: Iterable[str] = ()) -> None:
        self.zone: dict[tuple[str, str], object] = {}
        self.asked: list[tuple[float, str, str]] = []
        self.cancelled: list[tuple[str, str]] = []
        self._candidates = tuple(candidates)

    def candidates(self, name: str) -> tuple[str, ...]:
        return self._candidates or (f"{name}.",)

    async def addresses(self, name: str, rdtype: str) -> Reply[str]:
        return await self._reply(name, rdtype)

    async def services(self, name: str) -> Reply[SrvRecord]:
        return await self._reply(name, "SRV")

    async def _reply(self, name: str, rdtype: str) -> Reply:
        self.asked.append((now(), name, rdtype))
        reply = self.zone.get((name, rdtype), no_name())
        delay, reply = reply if isinstance(reply, tuple) else (0.0, reply)
        try:
            await asyncio.sleep(delay)
        except asyncio.CancelledError:
            self.cancelled.append((name, rdtype))
            raise
        return reply

    def times(self, rdtype: str) -> list[float]:
        return [time for time, _, asked in self.asked if asked == rdtype]


class Watching:
    """A resolver's watch, taken one set after another, each with the time that it came at."""

    def __init__(self, iterator: AsyncIterator[Endpoints]) -> None:
        self._iterator = iterator

    async def next(self) -> tuple[float, list[str]]:
        async with asyncio.timeout(3600.0):  # virtual: a set that never comes fails the test
            endpoints = await anext(self._iterator)
        return now(), [endpoint.address for endpoint in endpoints]

    async def quiet(self, seconds: float) -> bool:
        """True if no set comes for so long. The watch is over then: it was cancelled."""
        try:
            async with asyncio.timeout(seconds):
                await self.next()
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def watching(resolver: Resolver) -> AsyncIterator[Watching]:
    async with aclosing(resolver.watch()) as iterator:
        yield Watching(iterator)
