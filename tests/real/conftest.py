"""Fixtures for real servers, each from the module of its server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.envoy import envoy
from tests.real.knot import knot
from tests.real.nginx import nginx
from tests.real.redis import redis_server

__all__ = ["envoy", "knot", "nginx", "redis_server"]

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.real)
