"""Queries to nameservers, by dnspython on asyncio.

The only module that imports dnspython, and only when a query is made: importing `resilient`
stays cheap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from resilient.discovery import names
from resilient.discovery.freshness import Reply, Status
from resilient.discovery.resolver import ResolutionFailed

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver as Nameservers
    from dns.message import Message
    from dns.resolver import Answer

    from resilient.discovery.settings import DnsSettings

_TRY_TIMEOUT = 2.0
"""Seconds until the next nameserver is asked, as in dnspython and c-ares."""


@dataclass(frozen=True, slots=True)
class SrvRecord:
    """One SRV record (RFC 2782), with the addresses of its target if the reply included them."""

    priority: int
    weight: int
    port: int
    target: str
    addresses: tuple[str, ...] = ()


class Client(Protocol):
    """Answers queries; a failure is a Reply too, never an exception."""

    def candidates(self, name: str) -> tuple[str, ...]:
        """The absolute names to try for a name."""

    async def addresses(self, name: str, rdtype: str) -> Reply[str]:
        """The addresses of an absolute name; `rdtype` is "A" or "AAAA"."""

    async def services(self, name: str) -> Reply[SrvRecord]:
        """The SRV records of an absolute name."""


async def ask_families(
    client: Client, name: str, rdtypes: Sequence[str], patience: Callable[[float], float]
) -> dict[str, Reply[str]]:
    """The replies for all of `rdtypes`, asked together.

    Once one has an answer, the others have `patience(ttl)` seconds left; after that they
    count as LATE, so that a lost AAAA does not hold up the A that is there.
    """
    tasks = {rdtype: asyncio.create_task(client.addresses(name, rdtype)) for rdtype in rdtypes}
    try:
        done, _ = await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        answers = [task.result() for task in done if task.result().status is Status.ANSWER]
        wait = min((patience(answer.ttl or 0.0) for answer in answers), default=None)
        await asyncio.wait(tasks.values(), timeout=wait)
        late: Reply[str] = Reply(Status.LATE)
        return {rdtype: task.result() if task.done() else late for rdtype, task in tasks.items()}
    finally:
        for task in tasks.values():
            task.cancel()


def client(settings: DnsSettings) -> Client:
    """A client for the nameservers of `settings`, or for those of resolv.conf.

    Raises ResolutionFailed when there is none.
    """
    import dns.exception
    from dns.asyncresolver import Resolver
    from dns.nameserver import Do53Nameserver

    try:
        nameservers = Resolver(settings.resolv_conf, configure=not settings.nameservers)
        if settings.nameservers:
            nameservers.nameservers = [Do53Nameserver(*server) for server in settings.server_addresses()]
    except (dns.exception.DNSException, OSError, ValueError, NotImplementedError) as error:
        raise ResolutionFailed(f"no nameservers: {error}") from error
    return _DnspythonClient(nameservers, settings)


class _DnspythonClient:
    """`Client` by dnspython: next nameserver on failure, TCP after a truncated reply."""

    def __init__(self, nameservers: Nameservers, settings: DnsSettings) -> None:
        from dns.asyncbackend import get_backend

        nameservers.timeout = min(_TRY_TIMEOUT, settings.timeout / max(1, len(nameservers.nameservers)))
        self._nameservers = nameservers
        self._settings = settings
        # Explicit, because dnspython's default is whatever it saw first in the process, which may be trio.
        self._backend = get_backend("asyncio")

    def candidates(self, name: str) -> tuple[str, ...]:
        search, ndots = self._settings.search, self._settings.ndots
        if search is None:
            search = [] if self._settings.nameservers else self._system_search()
        if ndots is None:
            ndots = 1 if self._nameservers.ndots is None else self._nameservers.ndots
        return names.candidates(name, search, ndots)

    def _system_search(self) -> list[str]:
        domains = self._nameservers.search or [self._nameservers.domain]
        return [domain.to_text(omit_final_dot=True) for domain in domains if len(domain) > 1]

    async def addresses(self, name: str, rdtype: str) -> Reply[str]:
        return await self._ask(name, rdtype, _address_reply)

    async def services(self, name: str) -> Reply[SrvRecord]:
        return await self._ask(name, "SRV", _srv_reply)

    async def _ask(self, name: str, rdtype: str, read: Callable[[Answer], Reply[Any]]) -> Reply[Any]:
        import dns.exception
        import dns.resolver

        try:
            answer = await self._nameservers.resolve(
                name,
                rdtype,
                search=False,
                raise_on_no_answer=False,
                lifetime=self._settings.timeout,
                backend=self._backend,
            )
        except dns.resolver.NXDOMAIN as error:
            return Reply(Status.NXDOMAIN, _negative_ttl(error.responses().values()))  # type: ignore[no-untyped-call]
        except dns.exception.Timeout as error:
            return Reply(Status.LATE, reason=str(error))
        except (dns.exception.DNSException, OSError) as error:
            return Reply(Status.FAILED, reason=str(error) or type(error).__name__)
        if answer.rrset is None:
            return Reply(Status.NODATA, _negative_ttl([answer.response]))
        return read(answer)


def _reply(answer: Answer, records: Sequence[Any], *more_ttls: float) -> Reply[Any]:
    ttl = min((float(answer.chaining_result.minimum_ttl), *more_ttls))
    return Reply(Status.ANSWER, ttl, tuple(records))


def _address_reply(answer: Answer) -> Reply[str]:
    return _reply(answer, [rdata.address for rdata in answer])


def _srv_reply(answer: Answer) -> Reply[SrvRecord]:
    along = _additional(answer.response)
    records = [_srv_record(rdata, along) for rdata in answer]
    ttls = [ttl for record in records for ttl, _ in along.get(record.target, ())]
    return _reply(answer, records, *ttls)


def _srv_record(rdata: Any, along: Mapping[str, Sequence[tuple[float, str]]]) -> SrvRecord:
    target = rdata.target.to_text().lower()
    addresses = tuple(address for _, address in along.get(target, ()))
    return SrvRecord(rdata.priority, rdata.weight, rdata.port, target, addresses)


def _additional(message: Message) -> dict[str, list[tuple[float, str]]]:
    """The TTLs and addresses in the additional section, by the names that they belong to."""
    from dns.rdatatype import RdataType

    found: dict[str, list[tuple[float, str]]] = {}
    for rrset in message.additional:
        if rrset.rdtype in (RdataType.A, RdataType.AAAA):
            entries = [(float(rrset.ttl), rdata.address) for rdata in rrset]
            found.setdefault(rrset.name.to_text().lower(), []).extend(entries)
    return found


def _negative_ttl(messages: Iterable[Message]) -> float | None:
    """RFC 2308 section 5: the lower of the SOA's TTL and its minimum; None without an SOA."""
    from dns.rdatatype import RdataType

    soas = [rrset for message in messages for rrset in message.authority if rrset.rdtype == RdataType.SOA]
    return min((float(min(rrset.ttl, rrset[0].minimum)) for rrset in soas), default=None)
