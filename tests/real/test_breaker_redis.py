"""Breakers that share their state through a real Redis."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time

import pybreaker
import pytest
import redis

from resilient.core.outcome import Kind, Outcome
from resilient.policy.breaker import Breaker, BreakerState
from resilient.runtime.breaker_mirror import BreakerMirror

SUCCESS = Outcome(Kind.SUCCESS)
FAILURE = Outcome(Kind.FAILURE, "5xx")
TIMEOUT = 0.2


@pytest.fixture
def client(redis_server):
    with redis.Redis.from_url(
        redis_server.url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=None
    ) as client:
        yield client


def process(client) -> tuple[BreakerState, BreakerMirror]:
    """A breaker and its mirror, as one process has them; breaks last 60 s."""
    storage = pybreaker.CircuitRedisStorage("closed", client, namespace="orders")
    state = Breaker(failure_ratio=None, consecutive_failures=1, break_duration=60.0, storage=storage).bind("orders")
    return state, BreakerMirror(state)


def call(state, outcome, now):
    permit = state.admit(now)
    if permit is not None:
        permit.observe(outcome, now)
    return permit is not None


def test_one_opens_and_closes_the_other(client):
    (one, one_mirror), (other, other_mirror) = process(client), process(client)
    call(one, FAILURE, 100.0)
    assert other.admit(100.0) is not None
    one_mirror.sync_once(100.0)
    other_mirror.sync_once(100.0)
    assert other.admit(100.0) is None
    call(one, SUCCESS, 160.0)
    one_mirror.sync_once(160.0)
    other_mirror.sync_once(160.0)
    assert other.state == "closed"
    assert client.get("orders:pybreaker:state") == b"closed"


def test_plain_pybreaker_shares_the_circuit(client):
    state, mirror = process(client)
    peer = pybreaker.CircuitBreaker(state_storage=pybreaker.CircuitRedisStorage("closed", client, namespace="orders"))
    call(state, FAILURE, 100.0)
    mirror.sync_once(100.0)
    with pytest.raises(pybreaker.CircuitBreakerError):
        peer.call(lambda: None)
    peer.close()
    mirror.sync_once(101.0)
    assert state.admit(101.0) is not None


OPENER = """
import sys, pybreaker, redis
from resilient.core.outcome import Kind, Outcome
from resilient.policy.breaker import Breaker
from resilient.runtime.breaker_mirror import BreakerMirror

storage = pybreaker.CircuitRedisStorage("closed", redis.Redis.from_url(sys.argv[1]), namespace="orders")
state = Breaker(failure_ratio=None, consecutive_failures=1, storage=storage).bind("orders")
state.admit(0.0).observe(Outcome(Kind.FAILURE, "5xx"), 0.0)
BreakerMirror(state).sync_once()
"""


def test_a_trip_in_another_process_opens_ours(client, redis_server):
    state, mirror = process(client)
    subprocess.run([sys.executable, "-c", OPENER, redis_server.url], check=True, timeout=60)
    assert state.admit(100.0) is not None
    mirror.sync_once(100.0)
    assert state.admit(100.0) is None


def test_a_frozen_redis_blocks_no_call_and_changes_no_decision(client, redis_server, caplog):
    caplog.set_level(logging.INFO)
    state, mirror = process(client)
    mirror.sync_once(100.0)
    redis_server.proc.pause()
    worker = threading.Thread(target=mirror.sync_once, args=(100.0,))
    worker.start()
    passed = 0
    while worker.is_alive():
        assert state.admit(100.0) is not None
        passed += 1
    assert passed > 0, "calls pass while the mirror waits for Redis"

    call(state, FAILURE, 100.0)
    for now in (101.0, 102.0):
        mirror.sync_once(now)
    assert state.state == "open", "Redis still says closed, or nothing at all"
    assert [record.name for record in caplog.records] == ["resilient.breaker"], "once, and nothing from pybreaker"

    redis_server.proc.resume()
    _until(lambda: mirror.sync_once(103.0) or client.get("orders:pybreaker:state") == b"open")
    assert state.state == "open"
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_redis_that_lost_its_data_closes_no_breaker(client):
    state, mirror = process(client)
    call(state, FAILURE, 100.0)
    mirror.sync_once(100.0)
    client.flushall()
    mirror.sync_once(101.0)
    mirror.sync_once(102.0)
    assert state.state == "open"
    assert client.get("orders:pybreaker:state") == b"open"


def _until(holds, patience=10.0):
    give_up = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.02)
