"""The worlds, and the server that both clients talk to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.compat.library import WORLDS, World
from tests.compat.origin import Origin

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(params=WORLDS, ids="-".join)
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name in _PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with ExitStack() as stack:
        yield World(*request.param, stack)


@pytest.fixture(scope="module")
def shared_origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture
def origin(shared_origin: Origin) -> Origin:
    shared_origin.take()
    return shared_origin
