"""Endpoints from the SRV records of a name (RFC 2782)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from resilient.balance.endpoint import Endpoint, unique
from resilient.core import check
from resilient.discovery import freshness, lookup, names, system
from resilient.discovery.dns import failure, in_order
from resilient.discovery.freshness import AddressReplies, Reply, Status
from resilient.discovery.lookup import Client, SrvRecord
from resilient.discovery.resolver import Endpoints
from resilient.discovery.settings import DnsSettings

_NOWHERE = "."
"""The target that means "the service is decidedly not available at this domain"."""

_WEIGHT_OF_ZERO = 0.01
"""The share of weight 0 beside the weight 1: "a very small chance of being selected"."""

_QUESTIONS_AT_ONCE = 16
"""Targets looked up at the same time, when the reply did not include their addresses."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What a lookup found: the name that has the records, and the replies for their targets."""

    name: str
    records: tuple[SrvRecord, ...]
    delay: float
    targets: Mapping[str, AddressReplies] = field(default_factory=dict)


@check.setting
@dataclass(frozen=True, repr=False)
class SrvResolver(DnsSettings):
    """The targets of the SRV records of `name`, such as `_http._tcp.orders.prod`.

    The lowest priority becomes 0, the next 1, and so on. A target's weight is shared by its
    addresses; weight 0 counts as 0.01, unless all of its priority have weight 0: then they
    are equal. The single target "." is an empty set: an answer, not a failure.
    Addresses come from the reply itself or from A and AAAA records; a target whose lookup
    fails keeps the addresses that it had.
    """

    name: str

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "name", names.ascii_name("srv.name", self.name))

    async def watch(self) -> AsyncIterator[Endpoints]:
        """The endpoints, initially and whenever a lookup finds different ones."""
        clock = asyncio.get_running_loop().time
        found: _Found | None = None
        endpoints: Endpoints | None = None
        while True:
            started = clock()
            found = await self._lookup(found)
            if (latest := srv_endpoints(found.records)) != endpoints:
                endpoints = latest
                yield endpoints
            await asyncio.sleep(max(0.0, started + found.delay - clock()))

    async def _lookup(self, before: _Found | None) -> _Found:
        client = lookup.client(self)
        name, reply = await self._services(client, before.name if before else None)
        records = [self._of_family(record) for record in reply.records if record.target != _NOWHERE]
        if not records:
            return _Found(name, (), self._delay([reply], before))
        wanted = sorted({record.target for record in records if not record.addresses})
        asked = await self._ask_targets(client, wanted, first=before is None)
        known = before.targets if before else {}
        targets = {target: freshness.keep_known(known.get(target, {}), asked[target]) for target in wanted}
        resolved = resolve_targets(records, targets)
        if not resolved:
            raise failure(self.name, asked, self.min_ttl)
        replies = [reply for replies in asked.values() for reply in replies.values()]
        return _Found(name, resolved, self._delay([reply, *replies], before), targets)

    async def _services(self, client: Client, known_name: str | None) -> tuple[str, Reply[SrvRecord]]:
        """The first name of the search list that has SRV records, and its reply."""
        asked: dict[str, Mapping[str, Reply[SrvRecord]]] = {}
        for name in client.candidates(self.name):
            reply = await client.services(name)
            if reply.status is Status.ANSWER:
                return name, reply
            asked[name] = {"SRV": reply}
            if freshness.ends_search([reply], known=name == known_name):
                break
        raise failure(self.name, asked, self.min_ttl)

    async def _ask_targets(self, client: Client, targets: Sequence[str], *, first: bool) -> dict[str, AddressReplies]:
        patience = partial(self.patience, first=first)
        slots = asyncio.Semaphore(_QUESTIONS_AT_ONCE)

        async def ask(target: str) -> AddressReplies:
            async with slots:
                return await lookup.ask_families(client, target, self.rdtypes, patience)

        return dict(zip(targets, await asyncio.gather(*map(ask, targets)), strict=True))

    def _of_family(self, record: SrvRecord) -> SrvRecord:
        return replace(record, addresses=self.of_family(record.addresses))

    def _delay(self, replies: Sequence[Reply[Any]], before: _Found | None) -> float:
        return self.refresh_delay(replies, random.random(), first=before is None)


def resolve_targets(records: Iterable[SrvRecord], targets: Mapping[str, AddressReplies]) -> tuple[SrvRecord, ...]:
    """The records that have addresses, from their own reply or from the one for their target.

    Addresses without a route are left out if others remain.
    """
    filled = [
        replace(record, addresses=record.addresses or freshness.addresses(targets.get(record.target, {})))
        for record in records
    ]
    usable = set(system.routable([address for record in filled for address in record.addresses]))
    kept = (replace(record, addresses=tuple(usable.intersection(record.addresses))) for record in filled)
    return tuple(record for record in kept if record.addresses)


def srv_endpoints(records: Sequence[SrvRecord]) -> Endpoints:
    """The endpoints that SRV records stand for, the preferred priority first."""
    priorities = sorted({record.priority for record in records})
    ranked = [(priorities.index(record.priority), record) for record in records]
    weighted = {rank for rank, record in ranked if record.weight}
    endpoints = (
        Endpoint(address, record.port, weight=_share(record, rank in weighted), priority=rank)
        for rank, record in sorted(ranked, key=lambda pair: (pair[0], pair[1].target, pair[1].port))
        for address in in_order(record.addresses)
    )
    return unique(endpoints)


def _share(record: SrvRecord, has_weighted_peers: bool) -> float:
    """The weight of each address of a record."""
    weight = record.weight or (_WEIGHT_OF_ZERO if has_weighted_peers else 1.0)
    return weight / len(record.addresses)


srv = SrvResolver
