"""An endpoint as a value, and the statistics that we keep about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from random import Random

from resilient.balance.evidence import Evidence
from resilient.balance.ramp import Ramp
from resilient.core import check


@dataclass(frozen=True, slots=True)
class Locality:
    """Where an endpoint runs; empty strings where that is not known."""

    region: str = ""
    zone: str = ""
    subzone: str = ""

    def __post_init__(self) -> None:
        check.instance("Locality.region", self.region, str, "a string")
        check.instance("Locality.zone", self.zone, str, "a string")
        check.instance("Locality.subzone", self.subzone, str, "a string")


NOWHERE = Locality()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of a service.

    `host` is an IP address, a DNS name, or the absolute path of a Unix socket (then `port`
    is 0). `weight` is its share relative to its peers (> 0), `priority` its failover rank
    (0 first). `labels` select subsets; a mapping is accepted.
    """

    host: str
    port: int = 0
    weight: float = 1.0
    priority: int = 0
    locality: Locality = NOWHERE
    labels: tuple[tuple[str, str], ...] = field(default=())
    address: str = field(init=False, repr=False, compare=False)
    """`host:port` as in a URL (IPv6 in brackets), or the path of the socket: its identity."""

    def __post_init__(self) -> None:
        if self.labels != ():  # most have none
            object.__setattr__(self, "labels", check.labels("Endpoint.labels", self.labels))
        if not isinstance(self.host, str) or not self.host:
            raise check.fault("Endpoint.host", self.host, "an IP address, a DNS name or the path of a Unix socket")
        check.count("Endpoint.port", self.port, minimum=0 if self.is_unix else 1)
        if self.port > 65535:
            raise check.fault("Endpoint.port", self.port, "a port from 1 to 65535")
        check.number("Endpoint.weight", self.weight, above=True)
        check.count("Endpoint.priority", self.priority, minimum=0)
        check.instance("Endpoint.locality", self.locality, Locality, "a Locality")
        object.__setattr__(self, "address", _address(self.host, self.port))

    @property
    def is_unix(self) -> bool:
        """True if the address is a Unix socket."""
        return self.host.startswith("/")

    def label(self, key: str) -> str | None:
        """The value of a label, or None."""
        return next((value for name, value in self.labels if name == key), None)

    def __str__(self) -> str:
        return self.address


def _address(host: str, port: int) -> str:
    if host.startswith("/"):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_endpoint(text: str, *, default_port: int | None = None) -> Endpoint:
    """`10.0.0.1:80`, `[::1]:80`, `orders-1:8080` or `/run/orders.sock` as an Endpoint.

    Raises ConfigError when there is no port and no `default_port`, or the text is not an
    address.
    """
    text = text.strip()
    if text.startswith("/"):
        return Endpoint(text)
    host, port_text = _split_port(text)
    if not port_text and default_port is None:
        raise check.fault("endpoint", text, "host:port, [ipv6]:port or the path of a Unix socket")
    if port_text and not (port_text.isascii() and port_text.isdigit()):
        raise check.fault("endpoint", text, "a whole number after the last colon")
    return Endpoint(host, int(port_text) if port_text else default_port or 0)


def _split_port(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        if rest and not rest.startswith(":"):
            raise check.fault("endpoint", text, "a colon between [ipv6] and the port")
        return host, rest[1:]
    if text.count(":") > 1:
        return str(ip_address(text)) if is_ip(text) else text, ""
    host, _, port = text.partition(":")
    return host, port


def is_ip(text: str) -> bool:
    """True if the text is an IPv4 or IPv6 address rather than a name."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


class EndpointStats:
    """What is known about one endpoint: it outlives snapshots, and is keyed by address.

    The only mutable state of balancing. Anything may read it; only `Pick`, the outlier detector
    and its Bound, when told about its health, write it, by single assignments and additions, so
    no reader needs a lock.
    """

    __slots__ = (
        "address",
        "cause",
        "consecutive_failures",
        "cost",
        "ejected_until",
        "ejections",
        "endpoint",
        "evidence",
        "failures",
        "in_flight",
        "ramp",
        "requests",
        "stamp",
        "unhealthy_until",
    )

    def __init__(self, endpoint: Endpoint, now: float = 0.0) -> None:
        self.address = endpoint.address
        """The address of the endpoint, whatever else about it may change."""
        self.endpoint = endpoint
        self.in_flight = 0
        self.requests = 0
        """Attempts sent since it was first seen."""
        self.failures = 0
        """How many of them ended as FAILURE."""
        self.cost = 0.0
        """Peak-EWMA latency in seconds as of `stamp`; 0 until something is measured."""
        self.stamp = now
        self.ejected_until: float | None = None
        """When it returns, while it is ejected."""
        self.ejections = 0
        """Multiplier of its next ejection time: ejections, less one per quiet interval."""
        self.cause = ""
        """Why it was last ejected; one of `outlier.CAUSES`."""
        self.consecutive_failures = 0
        self.unhealthy_until: float | None = None
        """The time until which it is kept out for its health; None while nothing is known against it."""
        self.ramp: Ramp | None = None
        """Its way into use, new or after an ejection; None while it has its full share."""
        self.evidence: Evidence | None = None
        """Owned by the outlier detector."""

    @property
    def is_usable(self) -> bool:
        """True if it is neither ejected nor unhealthy."""
        return self.ejected_until is None and self.unhealthy_until is None

    def accepts(self, now: float, rng: Random) -> bool:
        """True if a pick that has drawn this endpoint may have it.

        While it ramps up, only its current share of the picks that draw it may; so every picker
        honours the ramp without mentioning it in its own rule.
        """
        ramp = self.ramp
        return ramp is None or rng.random() < ramp.share_at(now)

    def share_at(self, now: float) -> float:
        """The part of its weight that it gets at `now`, 0 to 1."""
        if self.ejected_until is not None:
            return 0.0
        return 1.0 if self.ramp is None else self.ramp.share_at(now)

    def restore(self) -> None:
        """Forget an ejection and everything that led to it; its latency is measured anew."""
        self.ejected_until = None
        self.cost = 0.0
        self.ramp = None
        self.consecutive_failures = 0
        if self.evidence is not None:
            self.evidence.clear()

    def __repr__(self) -> str:
        return f"<EndpointStats {self.address} {self._state} in_flight={self.in_flight} cost={self.cost:.4f}>"

    @property
    def _state(self) -> str:
        if self.ejected_until is not None:
            return "ejected"
        if self.unhealthy_until is not None:
            return "unhealthy"
        return "ramping up" if self.ramp is not None else "in use"


def unique(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """The endpoints without repeated addresses, the first of each kept, in their order."""
    found: dict[str, Endpoint] = {}
    for endpoint in endpoints:
        found.setdefault(endpoint.address, endpoint)
    return tuple(found.values())
