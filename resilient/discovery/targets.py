"""Resolvers written as text, as in configuration: `dns:///orders:8080`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import unquote

from resilient.balance.endpoint import parse_endpoint
from resilient.core import check
from resilient.discovery.dns import DnsResolver
from resilient.discovery.resolver import Resolver
from resilient.discovery.static import StaticResolver, static

ENTRY_POINTS = "resilient.resolvers"


@dataclass(frozen=True, slots=True)
class Target:
    """The parts of `scheme://authority/path`; the slash before the path is not part of it.

    `default_port` is the port of the service if the target has none.
    """

    text: str
    scheme: str
    authority: str
    path: str
    default_port: int | None = None


ResolverFactory = Callable[[Target], Resolver]
"""What the entry points of the group `resilient.resolvers` are; their names are the schemes."""


def parse_target(text: str, default_port: int | None = None) -> Resolver:
    """The resolver that a target names.

    static:///10.0.0.1:80,10.0.0.2:80      fixed addresses
    dns:///orders:8080                     A and AAAA records, from the system's nameservers
    dns://10.0.0.53:5353/orders:8080       from this nameserver, or several, separated by commas
    srv:///_http._tcp.orders.prod          SRV records
    file:///etc/orders.json                a JSON or YAML file

    As in gRPC, `dns:orders:8080` means `dns:///orders:8080`. Other schemes come from entry
    points. Raises ConfigError for an invalid target, and for an unknown scheme.
    """
    target = split(text, default_port)
    factory = _BUILT_IN.get(target.scheme) or _registered(target)
    try:
        return factory(target)
    except check.ConfigError as error:
        raise check.ConfigError(f"target {text!r}: {error}") from None


def split(text: str, default_port: int | None = None) -> Target:
    """A target's parts."""
    check.instance("target", text, str, "a string like dns:///orders:8080")
    scheme, colon, rest = text.strip().partition(":")
    if not colon:
        raise check.fault("target", text, f"scheme://[authority]/path, with one of {_schemes()}")
    authority, path = "", rest
    if rest.startswith("//"):
        authority, _, path = rest[2:].partition("/")
    return Target(text, scheme.lower(), authority, path, default_port)


def _static(target: Target) -> StaticResolver:
    _refuse_authority(target)
    return static(parse_endpoint(entry, default_port=target.default_port) for entry in target.path.split(","))


def _dns(target: Target) -> DnsResolver:
    address = parse_endpoint(target.path, default_port=target.default_port)
    return DnsResolver(address.host, address.port, nameservers=_nameservers(target))


def _srv(target: Target) -> Resolver:
    from resilient.discovery.srv import SrvResolver

    return SrvResolver(target.path, nameservers=_nameservers(target))


def _file(target: Target) -> Resolver:
    from resilient.discovery.file import FileResolver

    _refuse_authority(target)
    path = unquote(target.path.removeprefix("/"))
    return FileResolver(f"/{path}" if path else "")


_BUILT_IN: Mapping[str, ResolverFactory] = {"static": _static, "dns": _dns, "srv": _srv, "file": _file}


def _nameservers(target: Target) -> tuple[str, ...]:
    return tuple(target.authority.split(",")) if target.authority else ()


def _refuse_authority(target: Target) -> None:
    if target.authority:
        raise check.fault("authority", target.authority, f"three slashes, as in {target.scheme}:///...")


def _registered(target: Target) -> ResolverFactory:
    from importlib.metadata import entry_points

    for entry_point in entry_points(group=ENTRY_POINTS, name=target.scheme):
        return cast(ResolverFactory, entry_point.load())
    raise check.fault("target", target.text, f"scheme://[authority]/path, with one of {_schemes()}")


def _schemes() -> str:
    from importlib.metadata import entry_points

    return ", ".join(sorted({*_BUILT_IN, *entry_points(group=ENTRY_POINTS).names}))
