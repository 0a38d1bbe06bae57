"""Subsets of endpoints by their labels."""

from __future__ import annotations

from resilient.balance.endpoint import Endpoint
from resilient.balance.subset import Subset

OLD = Endpoint("10.0.0.1", 80, labels={"version": "v1", "tier": "web"})
NEW = Endpoint("10.0.0.2", 80, labels={"version": "v2", "tier": "web"})
BARE = Endpoint("10.0.0.3", 80)
ALL = (OLD, NEW, BARE)


def test_an_endpoint_needs_all_labels() -> None:
    assert Subset((("version", "v2"),)).select(ALL) == (NEW,)
    assert Subset((("tier", "web"),)).select(ALL) == (OLD, NEW)
    assert Subset((("tier", "web"), ("version", "v1"))).select(ALL) == (OLD,)


def test_where_there_are_none_there_are_none_or_all() -> None:
    assert Subset((("version", "v3"),)).select(ALL) == ()
    assert Subset((("version", "v3"),), or_any=True).select(ALL) == ALL
    assert Subset((("version", "v2"),), or_any=True).select(ALL) == (NEW,)
