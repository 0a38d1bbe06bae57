"""Counting and telling: stats, story, arrivals, screen, summary."""

from __future__ import annotations

import io
import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.cli.demo.lines import Lines
from resilient.cli.demo.screen import frame, percent
from resilient.cli.demo.stats import Record, Tally, figures, percentile
from resilient.cli.demo.story import CHAPTERS, ENDPOINTS, STEPS, Fault, Story
from resilient.cli.demo.summary import document, sentences, table
from resilient.cli.demo.terminal import Screen, Style, clip, is_screen
from resilient.cli.demo.traffic import arrivals

STORY = Story(duration=20.0, seed=1)
BARE = Style(colour=False, blocks=False)
RICH = Style(colour=True, blocks=True)


def report(at, sent, calls=(), ejected=None, breaker=None, **more):
    return {
        "at": at,
        "calls": [list(call) for call in calls],
        "lag": 0.001,
        "sent": list(sent),
        "ejected": list(ejected or [None] * ENDPOINTS),
        "breaker": breaker,
        **more,
    }


def counted(story=STORY):
    """Tallies of two contenders: 10 requests a second each, plain httpx by turns."""
    plain, mesh = Tally(story), Tally(story)
    sent, wise = [0] * ENDPOINTS, [0] * ENDPOINTS
    for at in story.ticks():
        turn = round(at * 10) % ENDPOINTS
        sent[turn] += 1
        wise[0] += 1
        broken = story.fault(turn, at) is not Fault.NONE
        more = {"cpu_seconds": 1.0} if at == story.duration else {}
        plain.add(report(at, sent, [(at - 0.01, 0.01, "503" if broken else "", 1)], **more))
        ejected = [1.5 if n == 4 else None for n in range(ENDPOINTS)]
        mesh.add(report(at, wise, [(at - 0.02, 0.02, "", 2 if broken else 1)], ejected, "closed", **more))
    return {"httpx": plain, "resilient": mesh}


@given(st.lists(st.floats(0, 1e3), min_size=1), st.integers(1, 100))
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(values, percent):
    ordered = sorted(values)
    found = percentile(ordered, percent)
    assert sum(value <= found for value in ordered) * 100 >= percent * len(ordered)
    assert sum(value < found for value in ordered) * 100 < percent * len(ordered)


def test_percentiles_of_a_hundred():
    assert [percentile(range(1, 101), percent) for percent in (1, 50, 99, 100)] == [1, 50, 99, 100]
    assert percentile([], 99) is None


def test_the_latency_of_failures_counts():
    found = figures([Record(0, 0.1, "", 1), Record(0, 1.0, "ReadTimeout", 1)])
    assert (found.requests, found.succeeded, found.worst, found.success_ratio) == (2, 1, 1.0, 0.5)


def test_no_requests_have_no_figures():
    found = figures([])
    assert (found.p50, found.p99, found.worst, found.success_ratio) == (None, None, None, None)


def test_exposure_counts_what_was_sent_between_the_ends_of_the_fault():
    tally = Tally(STORY)
    chapter = CHAPTERS[0]
    for at, good, bad in [(2.9, 50, 10), (3.0, 60, 10), (9.0, 80, 11), (16.0, 100, 20), (20.0, 100, 90)]:
        tally.add(report(at, [good, 0, bad, *[0] * 7]))
    assert tally.exposure(chapter) == (chapter, 10, 10 / 50)


def test_recent_means_what_ended_within_the_window():
    tally = Tally(STORY)
    tally.add(report(10.0, [1] * ENDPOINTS, [(0.0, 1.0, "503", 1), (7.5, 1.0, "", 1)]))
    assert tally.window == 2.0
    assert tally.recent().requests == 1
    assert tally.total().requests == 2


def test_retries_are_the_attempts_beyond_the_first():
    tally = Tally(STORY)
    tally.add(report(1.0, [4] + [0] * 9, [(0, 0.1, "", 1), (0, 0.1, "", 3), (0, 0.0, "CircuitOpen", 0)]))
    assert (tally.attempts, tally.retries, tally.failures) == (4, 2, {"CircuitOpen": 1})


@pytest.mark.parametrize("duration", [2.0, 3.0, 7.3, 20.0, 600.0])
def test_there_is_a_tick_at_every_step(duration):
    story = Story(duration, seed=1)
    ticks = story.ticks()
    assert ticks == sorted(ticks)
    assert all(min(abs(tick - story.time(step)) for tick in ticks) < 1e-9 for step in range(1, STEPS + 1))


def test_faults_begin_one_by_one_and_end_together():
    assert [(change.at, str(change)) for change in STORY.changes()[:4]] == [
        (3.0, "endpoint 3 is 20 times slower"),
        (6.0, "endpoint 5 answers 503 at once"),
        (9.0, "endpoint 7 accepts requests and never answers"),
        (12.0, "endpoint 9 refuses connections"),
    ]
    assert {(change.at, change.fault) for change in STORY.changes()[4:]} == {(16.0, Fault.NONE)}
    assert STORY.fault(2, 2.9) is Fault.NONE
    assert STORY.fault(2, 3.0) is STORY.fault(2, 15.9) is Fault.SLOW
    assert STORY.fault(2, 16.0) is Fault.NONE


def test_a_story_survives_the_pipe():
    assert Story.from_json(json.loads(json.dumps(STORY.to_json()))) == STORY


def test_arrivals_are_the_same_for_a_seed_and_come_at_the_rate():
    times = arrivals(STORY)
    assert arrivals(STORY) == times
    assert arrivals(Story(20.0, seed=2)) != times
    times = arrivals(Story(duration=600.0, seed=3))
    assert times == sorted(times)
    assert times[0] > 0
    assert times[-1] < 600.0
    assert len(times) == pytest.approx(600 * STORY.rate, rel=0.03)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert sum(gap > 1 / STORY.rate for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.02)  # 1/e: Poisson


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(None, "-"), (0, "0.0 %"), (1, "100.0 %"), (0.5, "50.0 %"), (0.99999, ">99.9 %"), (0.00001, "<0.1 %")],
)
def test_only_all_is_100_percent_and_only_nothing_is_0(ratio, text):
    assert percent(ratio) == text


@pytest.mark.parametrize("width", [48, 60, 80, 200])
@pytest.mark.parametrize("at", [0.1, 13.0, 20.0])
def test_a_frame_fits_its_terminal(width, at):
    lines = frame(STORY, at, counted(), BARE, width)
    assert len(lines) <= 24
    assert max(map(len, lines)) <= max(width, 64)  # the explanation may be cut


def test_a_frame_shows_faults_shares_and_ejections():
    text = "\n".join(frame(STORY, 13.0, counted(), BARE, 80))
    assert "now: endpoint 9 refuses connections" in text
    assert "CLOSED" in text
    assert "ejected, 1.5 s" in text
    assert "\x1b" not in text


def test_colour_changes_no_text():
    plain = frame(STORY, 13.0, counted(), Style(colour=False, blocks=True), 80)
    colourful = frame(STORY, 13.0, counted(), RICH, 80)
    assert "\x1b[3" in "".join(colourful)
    assert [strip(line).rstrip() for line in colourful] == plain


def strip(line):
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


def test_clip_counts_what_is_seen_and_keeps_escape_codes_whole():
    assert clip("\x1b[31mred\x1b[0m and more", 5) == "\x1b[31mred\x1b[0m a"
    assert clip("\x1b[31mred\x1b[0m", 2) == "\x1b[31mre\x1b[0m"


@pytest.mark.parametrize("style", [BARE, RICH])
def test_bars(style):
    assert style.bar(0, 10) == ""
    assert len(style.bar(1, 10)) == len(style.bar(7, 10)) == 10
    assert len(style.bar(0.0001, 10)) == 1


class Tty(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def test_colour_is_for_terminals_that_want_it():
    assert Style.of(Tty(), {"TERM": "xterm"}) == Style(colour=True, blocks=True)
    assert not Style.of(Tty(), {"TERM": "xterm", "NO_COLOR": "1"}).colour
    assert Style.of(Tty(), {"TERM": "xterm", "NO_COLOR": ""}).colour
    assert not is_screen(Tty(), {"TERM": "dumb"})
    assert not is_screen(io.StringIO(), {"TERM": "xterm"})


def test_a_screen_is_given_back_also_after_an_error():
    stream = Tty()

    def fail():
        with Screen(stream) as screen:
            screen.draw(["a", "b"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert "\x1b[Ha\x1b[K\r\nb\x1b[J" in stream.getvalue()
    assert stream.getvalue().endswith("\x1b[?25h\x1b[?1049l")


def test_lines_tell_each_change_once_and_the_figures_ten_times():
    stream = io.StringIO()
    lines = Lines(STORY, stream)
    tallies = counted()
    for at in STORY.ticks():
        lines.update(at, tallies)
    text = stream.getvalue().splitlines()
    assert sum("plain httpx: success" in line for line in text) == 10
    assert [line.partition("-- ")[2] for line in text if "-- " in line] == [
        "all endpoints are healthy",
        *(str(change) for change in STORY.changes()[:4]),
        "all endpoints have recovered",
    ]


def test_the_table_and_the_sentences_say_what_was_counted():
    tallies = counted()
    failed = tallies["httpx"].failures["503"]
    retries = f"{failed} retries ({percent(failed / 200)} of the requests)"
    text = "\n".join(table(STORY, tallies, BARE))
    assert f"200 requests each in 20 s, the same arrivals (seed {STORY.seed})" in text
    assert f"{200 - failed} / {failed}" in text
    assert sentences(tallies) == [
        f"Plain httpx failed {failed} of 200 requests; resilient answered every request.",
        "One request in a hundred took 10 ms or longer through plain httpx, 20 ms through resilient.",
        f"resilient made {retries}; it ejected endpoint 5; the breaker stayed CLOSED.",
    ]


def test_a_busy_computer_is_admitted():
    tallies = counted()
    tallies["httpx"].lag = 0.25
    assert "up to 250 ms late" in sentences(tallies)[-1]


def test_the_document_is_plain_data():
    tallies = counted()
    found = document(STORY, tallies)
    assert json.loads(json.dumps(found)) == found
    assert found["contenders"]["resilient"]["ejected"] == [5]
    assert found["faults"][0] == {"endpoint": 3, "fault": "slow", "start": 3.0, "end": 16.0}
