from __future__ import annotations

import asyncio
import os
import socket
import threading
from pathlib import Path

import pytest

from resilient.discovery import system
from tests.discovery.virtual_loop import run


def test_the_hosts_file_is_read_as_hosts_5_says() -> None:
    lines = ["# 10.0.0.9 a", "", "10.0.0.1\torders Orders.Prod # ours", "::1 orders", "no-ip orders", "10.0.0.1 orders"]
    assert system.parse_hosts(lines) == {"orders": ("10.0.0.1", "::1"), "orders.prod": ("10.0.0.1",)}


def test_a_hosts_file_may_be_missing_or_unreadable(tmp_path: Path) -> None:
    assert system.hosts_entry(str(tmp_path / "none"), "orders") == ()
    assert system.hosts_entry(str(tmp_path), "orders") == ()


def test_a_hosts_file_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    parse_hosts = system.parse_hosts
    monkeypatch.setattr(system, "parse_hosts", lambda lines: (reads.append(1), parse_hosts(lines))[1])
    hosts = tmp_path / "hosts"
    hosts.write_text("10.0.0.1 orders\n")
    assert [system.hosts_entry(str(hosts), name) for name in ("orders", "orders.", "other")] == [
        ("10.0.0.1",),
        ("10.0.0.1",),
        (),
    ]
    assert len(reads) == 1
    hosts.write_text("10.0.0.22 orders\n")
    assert system.hosts_entry(str(hosts), "orders") == ("10.0.0.22",)
    assert len(reads) == 2


def test_a_stamp_tells_a_renamed_file_of_the_same_size_and_age(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for path in (one, two):
        path.write_text("same")
        os.utime(path, ns=(1, 1))
    before = system.file_stamp(str(one))
    two.replace(one)
    assert system.file_stamp(str(one)) != before
    assert system.file_stamp(str(two)) is None


def test_loopback_has_a_route_and_a_lone_address_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert system.has_route("127.0.0.1")
    assert not system.has_route("fe80::1")
    monkeypatch.setattr(system, "has_route", lambda address: address == "10.0.0.1")
    assert system.routable(["::1"]) == ("::1",)
    assert system.routable(["::1", "10.0.0.1"]) == ("10.0.0.1",)
    assert system.routable(["::1", "::2"]) == ("::1", "::2")


def test_getaddrinfo_answers_without_repetition(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(name: str, port: object, family: int, kind: int) -> list[object]:
        assert (name, port, family, kind) == ("printer", None, socket.AF_INET, socket.SOCK_STREAM)
        return [(0, 0, 0, "", ("10.0.0.1", 0)), (0, 0, 0, "", ("10.0.0.1", 0)), (0, 0, 0, "", ("10.0.0.2", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", fake)
    assert run(system.getaddrinfo("printer", "ipv4")) == ("10.0.0.1", "10.0.0.2")


@pytest.mark.parametrize("error", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long")])
def test_getaddrinfo_that_fails_answers_with_nothing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fake(*_: object) -> list[object]:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", fake)
    assert run(system.getaddrinfo("printer", "any")) == ()


def test_getaddrinfo_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    release, finished = threading.Event(), threading.Event()

    def fake(*_: object) -> list[object]:
        release.wait(10)
        finished.set()
        return []

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(system.getaddrinfo("printer", "any"), 3)

    monkeypatch.setattr(socket, "getaddrinfo", fake)
    run(main())
    thread = next(thread for thread in threading.enumerate() if thread.name == "resilient-getaddrinfo-printer")
    assert thread.daemon
    assert not finished.is_set()
    release.set()
    thread.join(10)
    assert finished.is_set()
