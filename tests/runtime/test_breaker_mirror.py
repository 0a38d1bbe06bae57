"""The mirror over a storage in this process that can fail, lose its data, and be slow."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta

import pytest
from pybreaker import CircuitBreaker, CircuitBreakerListener, CircuitBreakerStorage, CircuitRedisStorage
from redis.exceptions import ConnectionError as RedisConnectionError

from resilient import Mesh, Policy, Service
from resilient.core.outcome import Kind, Outcome
from resilient.policy.breaker import Breaker, BreakerState
from resilient.runtime.breaker_mirror import BreakerMirror

SUCCESS = Outcome(Kind.SUCCESS)
FAILURE = Outcome(Kind.FAILURE, "5xx")


class SharedStorage(CircuitBreakerStorage):
    """What Redis would hold; `touched` counts reads and writes."""

    state = property(lambda self: self._get("state"), lambda self, value: self._set("state", value))
    opened_at = property(lambda self: self._get("opened_at"), lambda self, value: self._set("opened_at", value))
    counter = property(lambda self: self._get("counter"))
    success_counter = property(lambda self: self._get("success_counter"))

    def __init__(self):
        super().__init__("shared")
        self.data = {"state": "closed", "opened_at": None, "counter": 0, "success_counter": 0}
        self.written = []
        self.touched = 0
        self.error = None
        self.meanwhile = lambda: None

    def _get(self, key):
        self._touch()
        return self.data[key]

    def _set(self, key, value):
        self._touch()
        self.data[key] = value
        self.written.append(value)

    def _touch(self):
        self.touched += 1
        self.meanwhile()
        if self.error is not None:
            raise self.error


@pytest.fixture
def storage() -> SharedStorage:
    return SharedStorage()


def process(storage, **settings) -> tuple[BreakerState, BreakerMirror]:
    """A breaker and its mirror, as one process has them; breaks last 5 s."""
    breaker = Breaker(**{"failure_ratio": None, "consecutive_failures": 1, "storage": storage, **settings})
    state = breaker.bind("orders")
    return state, BreakerMirror(state)


def call(state, outcome, now):
    permit = state.admit(now)
    if permit is not None:
        permit.observe(outcome, now)
    return permit is not None


def test_calls_never_touch_the_storage(storage):
    state, _ = process(storage)
    for outcome, now in [(SUCCESS, 0.0), (FAILURE, 1.0), (SUCCESS, 2.0), (FAILURE, 6.0), (SUCCESS, 11.0)]:
        call(state, outcome, now)
    assert state.state == "closed"
    assert storage.touched == 0


def test_nothing_new_costs_one_read(storage):
    _, mirror = process(storage)
    mirror.sync_once(0.0)
    assert (storage.touched, storage.written) == (1, [])


def test_one_opens_the_others(storage):
    one, one_mirror = process(storage, break_duration=1000.0)
    other, other_mirror = process(storage, break_duration=1000.0)
    call(one, FAILURE, 100.0)
    one_mirror.sync_once(100.0)
    other_mirror.sync_once(7000.0)
    assert other.state == "open"
    assert other.admit(7000.0) is None
    assert 7500.0 < other.retry_at <= 8000.0, "the break began a moment ago, on the other's clock"


def test_who_opened_by_itself_stays_with_its_own_break(storage):
    one, one_mirror = process(storage)
    other, other_mirror = process(storage)
    call(one, FAILURE, 100.0)
    one_mirror.sync_once(100.0)
    call(other, FAILURE, 101.0)
    other_mirror.sync_once(102.0)
    one_mirror.sync_once(102.0)
    assert (one.retry_at, other.retry_at) == (105.0, 106.0)


def test_one_closes_the_others(storage):
    one, one_mirror = process(storage)
    other, other_mirror = process(storage)
    call(one, FAILURE, 100.0)
    for mirror in (one_mirror, other_mirror):
        mirror.sync_once(100.0)
    call(one, SUCCESS, 105.0)
    assert other.state == "open"
    for mirror in (one_mirror, other_mirror):
        mirror.sync_once(101.0)
    assert other.state == "closed"
    assert other.admit(101.0) is not None


def test_following_is_no_news_of_ones_own(storage):
    one, one_mirror = process(storage)
    _, other_mirror = process(storage)
    call(one, FAILURE, 100.0)
    one_mirror.sync_once(100.0)
    storage.written.clear()
    for _ in range(3):
        other_mirror.sync_once(100.0)
        one_mirror.sync_once(100.0)
    assert storage.written == []


def test_a_break_that_others_began_is_not_begun_again(storage):
    storage.data.update(state="open", opened_at=datetime.now(UTC) - timedelta(hours=1))
    state, mirror = process(storage)
    mirror.sync_once(100.0)
    assert state.state == "open"
    assert state.admit(100.0) is not None, "it was over long ago"


def test_a_clock_ahead_of_ours_does_not_make_the_break_longer(storage):
    storage.data.update(state="open", opened_at=datetime.now(UTC) + timedelta(hours=1))
    state, mirror = process(storage)
    mirror.sync_once(100.0)
    assert state.retry_at == 105.0


def test_probes_are_each_ones_own(storage):
    one, one_mirror = process(storage)
    other, other_mirror = process(storage)
    call(one, FAILURE, 100.0)
    for mirror in (one_mirror, other_mirror):
        mirror.sync_once(100.0)
    assert one.admit(105.0) is not None
    for mirror in (one_mirror, other_mirror):
        mirror.sync_once(103.0)
    assert storage.data["state"] == "open"
    assert (one.state, other.state) == ("half-open", "open")


def test_telling_of_the_break_late_does_not_end_the_probe(storage):
    state, mirror = process(storage)
    call(state, FAILURE, 100.0)
    probe = state.admit(105.0)
    mirror.sync_once(105.0)
    assert storage.data["state"] == "open"
    probe.observe(SUCCESS, 106.0)
    assert state.state == "closed"


def test_an_unknown_state_is_left_to_those_who_know_it(storage):
    state, mirror = process(storage)
    for unknown in ("half-open", "forced"):
        storage.data["state"] = unknown
        mirror.sync_once(0.0)
        assert state.state == "closed"


def test_while_the_storage_fails_the_own_decision_stands(storage, caplog):
    caplog.set_level(logging.INFO, "resilient.breaker")
    state, mirror = process(storage)
    call(state, FAILURE, 100.0)
    storage.error = OSError("unreachable")
    for now in range(100, 105):
        mirror.sync_once(float(now))
        assert state.state == "open"
    assert len(caplog.records) == 1, "once for the outage, not for every poll"
    storage.error = None
    mirror.sync_once(104.0)
    assert storage.data["state"] == "open"
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_after_an_outage_only_the_latest_is_told(storage):
    state, mirror = process(storage)
    storage.error = OSError("unreachable")
    for outcome, now in [(FAILURE, 100.0), (FAILURE, 105.0), (SUCCESS, 110.0)]:
        call(state, outcome, now)
        mirror.sync_once(now)
    storage.error = None
    mirror.sync_once(111.0)
    assert storage.written == ["closed"]


def test_news_that_come_while_it_is_told_are_told_next(storage):
    state, mirror = process(storage)
    call(state, FAILURE, 100.0)

    def recover():
        storage.meanwhile = lambda: None
        call(state, SUCCESS, 105.0)

    storage.meanwhile = recover
    mirror.sync_once(105.0)
    assert (storage.data["state"], state.state) == ("open", "closed")
    mirror.sync_once(106.0)
    assert (storage.data["state"], state.state) == ("closed", "closed")


def test_news_of_ones_own_win_over_what_was_read_before_them(storage):
    storage.data.update(state="open", opened_at=datetime.now(UTC))
    state, mirror = process(storage)
    mirror.sync_once(100.0)
    storage.data["state"] = "closed"

    def fail_a_probe():
        storage.meanwhile = lambda: None
        call(state, FAILURE, 105.0)

    storage.meanwhile = fail_a_probe
    mirror.sync_once(105.0)
    assert state.state == "open"
    mirror.sync_once(106.0)
    assert (storage.data["state"], state.state) == ("open", "open")


def test_a_storage_that_lost_its_data_closes_nothing(storage):
    state, mirror = process(storage)
    call(state, FAILURE, 100.0)
    mirror.sync_once(100.0)
    storage.data.update(state="closed", opened_at=None)
    mirror.sync_once(101.0)
    assert state.state == "open"
    assert storage.data["state"] == "open"


def test_listeners_hear_of_what_others_did(storage):
    class Recorder(CircuitBreakerListener):
        changes = ()

        def state_change(self, cb, old_state, new_state):
            self.changes += ((cb.name, old_state.name, new_state.name),)

    listener = Recorder()
    _, mirror = process(storage, listeners=[listener])
    storage.data.update(state="open", opened_at=datetime.now(UTC))
    mirror.sync_once(100.0)
    mirror.sync_once(100.0)
    assert listener.changes == (("orders", "closed", "open"),)


def test_a_ready_breaker_opened_by_hand_is_followed(storage):
    ready = CircuitBreaker(state_storage=storage)
    state = Breaker(ready).bind("orders")
    mirror = BreakerMirror(state)
    ready.open()
    mirror.sync_once(100.0)
    assert state.admit(100.0) is None
    ready.close()
    mirror.sync_once(100.0)
    assert state.admit(100.0) is not None


def test_two_at_once_are_one(storage):
    _, mirror = process(storage)
    entered, leave = threading.Event(), threading.Event()

    def hang():
        entered.set()
        assert leave.wait(10.0)

    storage.meanwhile = hang
    worker = threading.Thread(target=mirror.sync_once, args=(0.0,))
    worker.start()
    assert entered.wait(10.0)
    mirror.sync_once(0.0)
    leave.set()
    worker.join(10.0)
    assert storage.touched == 1


def test_a_storage_in_memory_has_no_mirror():
    with pytest.raises(ValueError, match="orders"):
        BreakerMirror(Breaker().bind("orders"))


class DeadRedis:
    """A client whose server has gone, after the storage was made."""

    def setnx(self, key, value):
        return True

    def get(self, key):
        raise RedisConnectionError("gone")

    set = transaction = get


def test_redis_errors_are_seen_though_the_storage_swallows_them(caplog):
    storage = CircuitRedisStorage("closed", DeadRedis())
    state, mirror = process(storage)
    state.adopt("open", 100.0)
    mirror._shared = "open"
    mirror.sync_once(100.0)
    assert state.state == "open", "the storage answers 'closed' when it cannot know"
    assert storage.state == "closed"
    assert [record.name for record in caplog.records] == ["resilient.breaker", "pybreaker"]


def test_a_policy_that_changes_otherwise_keeps_its_breaker_in_step(storage, monkeypatch):
    mirrored = []

    def mirror(state):
        mirrored.append(state)
        return BreakerMirror(state)

    monkeypatch.setattr("resilient.runtime.upkeep.BreakerMirror", mirror)
    policy = Policy(breaker=Breaker(storage=storage))
    with Mesh({"orders": Service(["10.0.0.1:80"], policy)}) as mesh:
        mesh.apply({"orders": Service(["10.0.0.1:80"], policy.replace(timeout=1.0))})
        assert mirrored == [mesh.find("orders", 80).breaker] * 2
