"""How DNS is asked: the settings that `dns` and `srv` share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any

from resilient.balance.endpoint import is_ip, parse_endpoint
from resilient.core import check
from resilient.discovery import freshness, names, system
from resilient.discovery.freshness import Reply

_RDTYPES = {"any": ("A", "AAAA"), "ipv4": ("A",), "ipv6": ("AAAA",)}


@dataclass(frozen=True, kw_only=True, repr=False)
class DnsSettings:
    """Which nameservers are asked, for what, and how often.

    `nameservers` are IP addresses, with a port if it is not `nameserver_port`; without any,
    those of the operating system are asked. `search` holds the domains that are appended to
    a name without a final dot; with `ndots` dots or more it is tried as it is first. None means
    those of resolv.conf, or none if `nameservers` are given. `family` is "any", "ipv4" or "ipv6".

    A TTL counts as at least `min_ttl` and at most `max_ttl` seconds. Names are looked up
    again at `refresh_ratio` of their TTL, less up to a tenth of that, so that data in use
    is never older than its TTL while nameservers answer. `timeout` is the number of seconds
    for one lookup, all nameservers and retries included; 5 is the default of resolv.conf
    and dnspython.
    """

    nameservers: Sequence[str] = ()
    nameserver_port: int = 53
    search: Sequence[str] | None = None
    ndots: int | None = None
    family: str = "any"
    min_ttl: check.Seconds = 1.0
    max_ttl: check.Seconds = 300.0
    timeout: check.Seconds = 5.0
    refresh_ratio: float = 0.8
    hosts_file: str = system.HOSTS_FILE
    resolv_conf: str = system.RESOLV_CONF

    def __post_init__(self) -> None:
        self._check_names()
        check.one_of("dns.family", self.family, tuple(_RDTYPES))
        check.seconds("dns.min_ttl", self.min_ttl)
        check.number("dns.max_ttl", self.max_ttl, minimum=self.min_ttl)
        check.seconds("dns.timeout", self.timeout)
        check.ratio("dns.refresh_ratio", self.refresh_ratio)
        if self.refresh_ratio in (0, 1):
            raise check.fault("dns.refresh_ratio", self.refresh_ratio, "a ratio above 0 and below 1")

    def _check_names(self) -> None:
        check.count("dns.nameserver_port", self.nameserver_port)
        object.__setattr__(self, "nameservers", _texts("dns.nameservers", self.nameservers))
        for text, (host, _) in zip(self.nameservers, self.server_addresses(), strict=True):
            if not is_ip(host):
                raise check.fault("dns.nameservers", text, "the IP address of a nameserver")
        if self.search is not None:
            domains = (names.ascii_name("dns.search", domain) for domain in _texts("dns.search", self.search))
            object.__setattr__(self, "search", tuple(domains))
        if self.ndots is not None:
            check.count("dns.ndots", self.ndots, minimum=0)

    @property
    def rdtypes(self) -> tuple[str, ...]:
        """The record types to ask for."""
        return _RDTYPES[self.family]

    def server_addresses(self) -> tuple[tuple[str, int], ...]:
        """Host and port of each nameserver."""
        servers = (parse_endpoint(text, default_port=self.nameserver_port) for text in self.nameservers)
        return tuple((server.host, server.port) for server in servers)

    def of_family(self, addresses: Sequence[str]) -> tuple[str, ...]:
        """The addresses of the family that is wanted."""
        return tuple(address for address in addresses if ("AAAA" if ":" in address else "A") in self.rdtypes)

    def refresh_delay(self, replies: Sequence[Reply[Any]], jitter: float, *, first: bool) -> float:
        """Seconds from the start of a lookup with these replies to the start of the next."""
        ttl_range = (self.min_ttl, self.max_ttl)
        return freshness.refresh_delay(replies, ttl_range, self.refresh_ratio, jitter, first=first)

    def patience(self, ttl: float, *, first: bool) -> float:
        """Seconds for which an answer with this TTL may wait for the other family."""
        margin = freshness.margin(max(ttl, self.min_ttl), self.refresh_ratio)
        return min(self.timeout, freshness.RESOLUTION_DELAY if first else margin)

    def __repr__(self) -> str:
        values = [(field.name, field.default, getattr(self, field.name)) for field in fields(self)]
        parts = [repr(value) for _, default, value in values if default is MISSING]
        parts += [f"{name}={value!r}" for name, default, value in values if default not in (MISSING, value)]
        return f"{type(self).__name__}({', '.join(parts)})"


def _texts(field: str, values: Sequence[str]) -> tuple[str, ...]:
    texts = (values,) if isinstance(values, str) else tuple(values)
    for text in texts:
        check.instance(field, text, str, "a string, or a sequence of strings")
    return texts
