"""What DNS replies mean: what stays known, for how long, and when to ask again. Pure.

Data is looked up again before it expires, at `refresh_ratio` of its TTL less up to a tenth of
that, so that processes started together do not ask together. A cache in between hands out
what is left of a TTL: the lookups then come closer together as the record nears its end, but
no TTL counts as less than `min_ttl`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")

RESOLUTION_DELAY = 0.05
"""Seconds for which the first lookup waits for the slower family (RFC 8305 section 8, 50 ms)."""

FAILURE_DELAY = 5.0
"""Seconds until a family that failed is asked again (RFC 2308 section 7 allows up to 300)."""

MAX_NEGATIVE = 30.0
"""The most seconds for which "no such name" is believed: RFC 2308 allows hours, but a service
that has just been deployed should be found at once."""

_JITTER_RATIO = 0.1


class Status(Enum):
    """How a question to the nameservers ended."""

    ANSWER = "answer"
    NODATA = "no such record"
    NXDOMAIN = "no such name"
    FAILED = "failed"
    """Nameservers replied, but not with an answer: SERVFAIL, REFUSED, nonsense."""
    LATE = "no reply in time"

    @property
    def is_unknown(self) -> bool:
        """True if the nameservers said nothing about the records."""
        return self in (Status.FAILED, Status.LATE)


@dataclass(frozen=True, slots=True)
class Reply(Generic[T]):
    """What the nameservers said about one name and one type of record.

    `ttl` is the lowest TTL of the CNAME chain and the records; for a negative reply it is
    that of RFC 2308 (the lower of the SOA's TTL and its minimum). It is None if none was given.
    """

    status: Status
    ttl: float | None = None
    records: tuple[T, ...] = ()
    reason: str = ""

    def __str__(self) -> str:
        return self.reason or self.status.value


AddressReplies = Mapping[str, Reply[str]]
"""The replies for "A" and "AAAA", or for one of them."""


def keep_known(known: AddressReplies, replies: AddressReplies) -> dict[str, Reply[str]]:
    """The replies, with what was known before in place of those that say nothing."""
    return {rdtype: known.get(rdtype, reply) if reply.status.is_unknown else reply for rdtype, reply in replies.items()}


def addresses(replies: AddressReplies) -> tuple[str, ...]:
    """The addresses of both families."""
    return tuple(address for reply in replies.values() for address in reply.records)


def ends_search(replies: Iterable[Reply[T]], *, known: bool) -> bool:
    """True if the search list must not be followed further, though there is no address.

    Nameservers that are silent for one name are silent for the next, so the lookup has
    failed; an error reply may be true of one domain only (both as in glibc). But when the
    name that failed is the one in use (`known`), its namesake in another domain would be
    another service.
    """
    replies = tuple(replies)
    is_silent = all(reply.status is Status.LATE for reply in replies)
    return is_silent or (known and all(reply.status.is_unknown for reply in replies))


def refresh_delay(
    replies: Iterable[Reply[T]],
    ttl_range: tuple[float, float],
    refresh_ratio: float,
    jitter: float,
    *,
    first: bool = False,
) -> float:
    """Seconds from the start of a lookup to the start of the next; `jitter` lies in 0..1.

    After a `first` lookup that was cut short there is no delay: requests can already use the
    family that answered, and now there is time for the other.
    """
    replies = tuple(replies)
    if first and any(reply.status is Status.LATE for reply in replies):
        return 0.0
    ttls = [reply.ttl for reply in replies if reply.ttl is not None]
    low, high = ttl_range
    delay = min(max(min(ttls, default=high), low), high) * refresh_ratio * (1.0 - _JITTER_RATIO * jitter)
    return min(delay, FAILURE_DELAY) if any(reply.status.is_unknown for reply in replies) else delay


def margin(ttl: float, refresh_ratio: float) -> float:
    """Seconds between the refresh and the end of a TTL.

    An answer may be held back for this long to wait for the other family: what is in use
    will not have expired by then.
    """
    return max(RESOLUTION_DELAY, ttl * (1.0 - refresh_ratio))


def retry_after(replies: Iterable[Reply[T]], *, min_ttl: float) -> float | None:
    """Seconds for which a failed lookup need not be repeated; None if no reply says so."""
    replies = tuple(replies)
    ttls = [reply.ttl for reply in replies if reply.ttl is not None]
    if not ttls or any(reply.status.is_unknown for reply in replies):
        return None
    return min(max(min(ttls), min_ttl), MAX_NEGATIVE)
