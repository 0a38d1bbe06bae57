"""Endpoints from the A and AAAA records of a name."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import Any

from resilient.balance.endpoint import Endpoint, is_ip
from resilient.core import check
from resilient.discovery import freshness, lookup, names, system
from resilient.discovery.freshness import AddressReplies, Reply
from resilient.discovery.resolver import Endpoints, ResolutionFailed
from resilient.discovery.settings import DnsSettings

_LOCAL_DELAY = 5.0
"""Seconds between checks of the hosts file, for a name that is listed there."""

_GETADDRINFO_DELAY = 30.0
"""Seconds between calls to getaddrinfo, which reports no TTL (gRPC's minimum between DNS lookups)."""

_LOOPBACK = ("127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class _Found:
    """What a lookup found, and how many seconds after its start the next one is due."""

    addresses: tuple[str, ...]
    delay: float
    name: str = ""
    replies: AddressReplies | None = None


@check.setting
@dataclass(frozen=True, repr=False)
class DnsResolver(DnsSettings):
    """Every address of `name`, A and AAAA, with one `port`.

    Without `nameservers` it resolves every name that getaddrinfo does: IP addresses, then the
    hosts file and `localhost`, then DNS, then getaddrinfo itself for what DNS does not know.
    With `nameservers` only those are asked. Unicode names are converted to their "xn--" form.
    Addresses without a route are left out if others remain.

    A family that fails while the other answers keeps the addresses that it had. If there is
    no address at all, `watch` raises ResolutionFailed.
    """

    name: str
    port: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_ip(self.name):
            object.__setattr__(self, "name", names.ascii_name("dns.name", self.name))
        Endpoint(self.name, self.port)

    async def watch(self) -> AsyncIterator[Endpoints]:
        """The endpoints, initially and whenever a lookup finds different ones."""
        if is_ip(self.name):
            yield (Endpoint(self.name, self.port),)
            return
        clock = asyncio.get_running_loop().time
        found: _Found | None = None
        endpoints: Endpoints | None = None
        while True:
            started = clock()
            found = await self._lookup(found)
            if (latest := endpoints_at(found.addresses, self.port)) != endpoints:
                endpoints = latest
                yield endpoints
            await asyncio.sleep(max(0.0, started + found.delay - clock()))

    async def _lookup(self, before: _Found | None) -> _Found:
        if local := self._local_addresses():
            return _Found(local, _LOCAL_DELAY)
        try:
            return await self._ask_nameservers(before)
        except ResolutionFailed:
            if self.nameservers or (before and before.replies):
                raise
            addresses = await system.getaddrinfo(self.name, self.family)
            if not addresses:
                raise
            return _Found(system.routable(addresses), _GETADDRINFO_DELAY)

    def _local_addresses(self) -> tuple[str, ...]:
        if self.nameservers:
            return ()
        listed = self.of_family(system.hosts_entry(self.hosts_file, self.name))
        if not listed and names.is_localhost(self.name):
            listed = self.of_family(_LOOPBACK)
        return system.routable(listed)

    async def _ask_nameservers(self, before: _Found | None) -> _Found:
        """The addresses of the first name of the search list that has any."""
        client = lookup.client(self)
        is_first = not (before and before.replies)
        patience = partial(self.patience, first=is_first)
        asked: dict[str, AddressReplies] = {}
        for name in client.candidates(self.name):
            replies = await lookup.ask_families(client, name, self.rdtypes, patience)
            asked[name] = replies
            known = before.replies if before and before.name == name else None
            if freshness.ends_search(replies.values(), known=known is not None):
                break
            replies = freshness.keep_known(known or {}, replies)
            if addresses := freshness.addresses(replies):
                delay = self.refresh_delay(tuple(asked[name].values()), random.random(), first=is_first)
                return _Found(system.routable(addresses), delay, name, replies)
        raise failure(self.name, asked, self.min_ttl)


def endpoints_at(addresses: Iterable[str], port: int) -> Endpoints:
    """One endpoint per address; sorted, so that rotated DNS replies do not count as a change."""
    return tuple(Endpoint(address, port) for address in in_order(addresses))


def in_order(addresses: Iterable[str]) -> list[str]:
    """The addresses without duplicates, IPv4 first, sorted by value."""
    return sorted(set(addresses), key=lambda address: (":" in address, ip_address(address).packed))


def failure(name: str, asked: Mapping[str, Mapping[str, Reply[Any]]], min_ttl: float) -> ResolutionFailed:
    """The error for a name for which no query returned an address."""
    asked_for = [(question, *item) for question, replies in asked.items() for item in replies.items()]
    details = "; ".join(f"{question} {rdtype}: {reply}" for question, rdtype, reply in asked_for)
    pause = freshness.retry_after([reply for _, _, reply in asked_for], min_ttl=min_ttl)
    return ResolutionFailed(f"{name} has no endpoints ({details})", retry_after=pause)


dns = DnsResolver
