"""A body that breaks after good headers: the endpoint has failed, though the call had its response."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

import resilient
from resilient.balance.round_robin import RoundRobin
from tests.faults.callers import FLAVOURS, Caller, calling
from tests.faults.servers import resets_in_the_body, truncates, truncates_chunks
from tests.runtime.servers import Script, serve, serving

URL = "http://orders/v1"
BREAKS = {"resets": resets_in_the_body, "truncates": truncates, "truncates-chunks": truncates_chunks}

pytestmark = [pytest.mark.usefixtures("no_leaks"), pytest.mark.parametrize("flavour", FLAVOURS)]


class Pair:
    """A server that breaks its bodies, a good one, and a client that takes turns, wherever it begins."""

    def __init__(self, caller: Caller, mesh: resilient.Mesh) -> None:
        self.caller = caller
        self._mesh = mesh

    @property
    def bad(self) -> dict[str, Any]:
        """What is known of the server that breaks its bodies."""
        known: dict[str, Any] = self._mesh.status()["orders"]["endpoints"][0]
        return known

    @property
    def is_ejected(self) -> bool:
        return self.bad["ejected_for"] is not None

    def stream(self, calls: int) -> int:
        """Read so many streams; returns how many of them broke."""
        ends = [self.caller.read_stream(URL)[1] for _ in range(calls)]
        assert all(isinstance(error, httpx.TransportError) for error in ends if error is not None)
        return sum(error is not None for error in ends)


@contextmanager
def pair(flavour: str, script: Script, detection: resilient.OutlierDetection) -> Iterator[Pair]:
    policy = resilient.Policy(retry=None, balancer=RoundRobin(), outlier=detection)
    with serving(script) as bad, serving(serve) as good:
        mesh = resilient.Mesh(
            {"orders": resilient.Service([bad.endpoint.address, good.endpoint.address], policy)}, max_lag=60.0
        )
        with calling(flavour, mesh) as caller:
            yield Pair(caller, mesh)


@pytest.mark.parametrize("script", BREAKS.values(), ids=BREAKS)
def test_it_can_eject_the_endpoint(flavour, script) -> None:
    with pair(flavour, script, resilient.OutlierDetection(consecutive_failures=1)) as both:
        assert both.stream(2) == 1
        assert both.is_ejected
        assert both.stream(4) == 0
        assert (both.bad["requests"], both.bad["failures"]) == (1, 1)


def test_where_every_body_breaks_the_defaults_eject_it_as_well(flavour) -> None:
    with pair(flavour, resets_in_the_body, resilient.OutlierDetection()) as both:
        assert both.stream(6) == 3
        assert not both.is_ejected
        both.stream(14)
        assert both.is_ejected
        assert both.stream(4) == 0


def test_one_that_its_reader_closes_has_not_broken(flavour) -> None:
    with pair(flavour, resets_in_the_body, resilient.OutlierDetection(consecutive_failures=1)) as both:
        for _ in range(2):  # one of them is the bad one's
            with both.caller.holding(URL):
                pass
        assert (both.bad["requests"], both.bad["failures"], both.is_ejected) == (1, 0, False)


def test_one_that_is_read_at_once_fails_the_attempt_and_counts_once(flavour) -> None:
    with pair(flavour, resets_in_the_body, resilient.OutlierDetection(consecutive_failures=3)) as both:
        for failures in (1, 2, 3):
            assert not both.is_ejected
            results = [both.caller.call("GET", URL) for _ in range(2)]
            assert sum(isinstance(result, httpx.TransportError) for result in results) == 1
            assert (both.bad["requests"], both.bad["failures"]) == (failures, failures)
        assert both.is_ejected
