"""What the operating system knows about names and addresses, apart from its nameservers."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from resilient.balance.endpoint import is_ip

HOSTS_FILE = r"C:\Windows\System32\drivers\etc\hosts" if os.name == "nt" else "/etc/hosts"
RESOLV_CONF = "/etc/resolv.conf"

FileStamp = tuple[int, int, int]

_FAMILIES = {"any": socket.AF_UNSPEC, "ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}


def file_stamp(path: str) -> FileStamp | None:
    """A value that changes whenever a file is written or replaced; None while there is no file."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def hosts_entry(path: str, name: str) -> tuple[str, ...]:
    """The addresses of a name in the hosts file, which is read again when it has changed."""
    stamp = file_stamp(path)
    return _hosts(path, stamp).get(name.rstrip("."), ()) if stamp else ()


@lru_cache(maxsize=4)
def _hosts(path: str, stamp: FileStamp) -> Mapping[str, tuple[str, ...]]:  # noqa: ARG001 - the stamp is in the key
    try:
        return parse_hosts(Path(path).read_text(encoding="utf-8", errors="replace").splitlines())
    except OSError:
        return {}


def parse_hosts(lines: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """hosts(5): the addresses of each name, from all the lines that name it."""
    found: dict[str, tuple[str, ...]] = {}
    for line in lines:
        address, *aliases = line.partition("#")[0].split() or [""]
        if is_ip(address):
            for alias in aliases:
                known = found.get(alias.lower(), ())
                found[alias.lower()] = known if address in known else (*known, address)
    return found


async def getaddrinfo(name: str, family: str) -> tuple[str, ...]:
    """The addresses that the C library finds for a name (mDNS, NSS modules), or none.

    It may block for a long time and cannot be cancelled. The thread is a daemon, unlike those
    of an executor, so that it delays the end of neither the loop nor the interpreter.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[tuple[str, ...]] = loop.create_future()

    def settle(found: tuple[str, ...]) -> None:
        if not future.done():
            future.set_result(found)

    def ask() -> None:
        found = _getaddrinfo(name, family)
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=ask, name=f"resilient-getaddrinfo-{name}", daemon=True).start()
    return await future


def _getaddrinfo(name: str, family: str) -> tuple[str, ...]:
    try:
        infos = socket.getaddrinfo(name, None, _FAMILIES[family], socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys(str(info[4][0]) for info in infos))


def routable(addresses: Sequence[str]) -> tuple[str, ...]:
    """The addresses that have a route, or all of them if none has."""
    if len(addresses) < 2:
        return tuple(addresses)
    return tuple(address for address in addresses if has_route(address)) or tuple(addresses)


def has_route(address: str) -> bool:
    """True if the kernel has a route to an address; no packet is sent.

    Connecting a datagram socket only picks a route and a source address, as
    implementations of RFC 6724 do.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
    except OSError:
        return False
    return True
