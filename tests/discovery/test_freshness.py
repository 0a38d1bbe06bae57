from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.discovery.freshness import (
    FAILURE_DELAY,
    MAX_NEGATIVE,
    RESOLUTION_DELAY,
    Reply,
    Status,
    addresses,
    ends_search,
    keep_known,
    margin,
    refresh_delay,
    retry_after,
)

FAILED: Reply[str] = Reply(Status.FAILED, reason="SERVFAIL")
LATE: Reply[str] = Reply(Status.LATE)
RANGE = (1.0, 300.0)
REPLIES = st.builds(
    Reply,
    st.sampled_from(Status),
    st.none() | st.floats(0, 1e6),
    st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "::1"])).map(tuple),
)


def answer(*found: str, ttl: float) -> Reply[str]:
    return Reply(Status.ANSWER, ttl, found)


def test_a_lookup_is_repeated_before_the_ttl_ends() -> None:
    assert refresh_delay([answer("10.0.0.1", ttl=100)], RANGE, 0.8, 0.0) == pytest.approx(80.0)
    assert refresh_delay([answer("10.0.0.1", ttl=100)], RANGE, 0.8, 1.0) == pytest.approx(72.0)


def test_the_shorter_ttl_counts_also_that_of_a_negative_reply() -> None:
    negative: Reply[str] = Reply(Status.NODATA, 10.0)
    assert refresh_delay([answer("10.0.0.1", ttl=100), answer("::1", ttl=20)], RANGE, 0.8, 0.0) == pytest.approx(16.0)
    assert refresh_delay([answer("10.0.0.1", ttl=100), negative], RANGE, 0.8, 0.0) == pytest.approx(8.0)


def test_a_negative_reply_without_a_ttl_does_not_count() -> None:
    negative: Reply[str] = Reply(Status.NODATA)
    assert refresh_delay([answer("10.0.0.1", ttl=100), negative], RANGE, 0.8, 0.0) == pytest.approx(80.0)


def test_ttls_are_held_within_their_range() -> None:
    assert refresh_delay([answer("10.0.0.1", ttl=0)], RANGE, 0.8, 0.0) == pytest.approx(0.8)
    assert refresh_delay([answer("10.0.0.1", ttl=86400)], RANGE, 0.8, 0.0) == pytest.approx(240.0)


def test_a_family_that_failed_is_asked_again_soon() -> None:
    assert refresh_delay([answer("10.0.0.1", ttl=100), FAILED], RANGE, 0.8, 0.0) == FAILURE_DELAY
    assert refresh_delay([answer("10.0.0.1", ttl=5), FAILED], RANGE, 0.8, 0.0) == pytest.approx(4.0)


def test_after_a_first_lookup_cut_short_there_is_no_delay() -> None:
    assert refresh_delay([answer("10.0.0.1", ttl=100), LATE], RANGE, 0.8, 0.0, first=True) == 0.0
    assert refresh_delay([answer("10.0.0.1", ttl=100), LATE], RANGE, 0.8, 0.0) == FAILURE_DELAY
    assert refresh_delay([answer("10.0.0.1", ttl=100), FAILED], RANGE, 0.8, 0.0, first=True) == FAILURE_DELAY


@given(st.lists(REPLIES, min_size=1, max_size=4), st.floats(0.05, 0.95), st.floats(0, 1))
def test_no_answer_outlives_its_ttl_or_the_floor(replies: list[Reply[str]], ratio: float, jitter: float) -> None:
    delay = refresh_delay(replies, RANGE, ratio, jitter)
    assert 0 < delay <= RANGE[1] * ratio
    for reply in replies:
        if reply.ttl is not None and not reply.status.is_unknown:
            assert delay < max(reply.ttl, RANGE[0])


@given(st.floats(1, 1e5), st.floats(0.05, 0.95))
def test_refresh_and_margin_together_do_not_exceed_the_ttl(ttl: float, ratio: float) -> None:
    assert ttl * ratio + margin(ttl, ratio) <= max(ttl * (1 + 1e-9), ttl * ratio + RESOLUTION_DELAY)


def test_a_family_that_says_nothing_keeps_its_addresses() -> None:
    known = {"A": answer("10.0.0.1", ttl=1), "AAAA": answer("::1", ttl=1)}
    kept = keep_known(known, {"A": answer("10.0.0.2", ttl=1), "AAAA": FAILED})
    assert addresses(kept) == ("10.0.0.2", "::1")


def test_a_family_that_denies_loses_them() -> None:
    known = {"A": answer("10.0.0.1", ttl=1), "AAAA": answer("::1", ttl=1)}
    kept = keep_known(known, {"A": LATE, "AAAA": Reply(Status.NODATA)})
    assert addresses(kept) == ("10.0.0.1",)


@given(st.lists(st.tuples(REPLIES, REPLIES), min_size=1))
def test_what_is_known_is_the_last_word_of_each_family(rounds: list[tuple[Reply[str], Reply[str]]]) -> None:
    known: dict[str, Reply[str]] = {}
    for v4, v6 in rounds:
        known = keep_known(known, {"A": v4, "AAAA": v6})
    for index, rdtype in enumerate(("A", "AAAA")):
        said = [replies[index] for replies in rounds if not replies[index].status.is_unknown]
        assert known[rdtype] == (said[-1] if said else rounds[0][index])


def test_silence_ends_a_search_but_an_error_reply_does_not() -> None:
    assert ends_search([LATE, LATE], known=False)
    assert not ends_search([FAILED, LATE], known=False)
    assert not ends_search([Reply(Status.NXDOMAIN), LATE], known=False)


def test_an_error_for_the_name_in_use_ends_the_search() -> None:
    assert ends_search([FAILED, LATE], known=True)
    assert not ends_search([FAILED, Reply(Status.NODATA)], known=True)


def test_a_negative_reply_is_believed_for_its_ttl_within_bounds() -> None:
    assert retry_after([Reply(Status.NXDOMAIN, 12.0), Reply(Status.NODATA, 7.0)], min_ttl=1.0) == 7.0
    assert retry_after([Reply(Status.NXDOMAIN, 0.0)], min_ttl=1.0) == 1.0
    assert retry_after([Reply(Status.NXDOMAIN, 3600.0)], min_ttl=1.0) == MAX_NEGATIVE


def test_a_failure_is_not_believed_at_all() -> None:
    assert retry_after([FAILED, Reply(Status.NODATA, 7.0)], min_ttl=1.0) is None
    assert retry_after([LATE], min_ttl=1.0) is None
    assert retry_after([Reply(Status.NXDOMAIN)], min_ttl=1.0) is None
