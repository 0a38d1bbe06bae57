"""The demo as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import resilient
from resilient.cli import main
from resilient.cli.demo.story import CHAPTERS, ENDPOINTS

COMMAND = [sys.executable, "-m", "resilient", "demo"]


def start(*options: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(resilient.__file__).parents[1])}
    return subprocess.Popen(
        [*COMMAND, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**environment, "PYTHONIOENCODING": "utf-8"},
    )


def output(*options: str) -> str:
    process = start(*options)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    return out


@pytest.fixture(scope="module")
def document() -> Any:
    return json.loads(output("--duration", "3", "--json", "--seed", "1"))


@pytest.mark.slow
def test_the_document_has_every_field(document):
    assert set(document) == {
        "version", "seed", "duration", "rate", "deadline", "faults", "contenders", "summary",
    }  # fmt: skip
    assert (document["version"], document["seed"], document["duration"]) == (resilient.__version__, 1, 3.0)
    assert [fault["endpoint"] for fault in document["faults"]] == [chapter.number for chapter in CHAPTERS]
    assert list(document["contenders"]) == ["httpx", "resilient"]
    for contender in document["contenders"].values():
        assert set(contender) == {
            "requests", "succeeded", "success_ratio", "failures", "latency", "attempts", "retries",
            "attempts_by_endpoint", "exposure", "ejected", "breaker", "lag", "cpu_seconds",
        }  # fmt: skip


@pytest.mark.slow
def test_both_had_the_same_requests_and_resilient_failed_no_more_of_them(document):
    plain, mesh = document["contenders"].values()
    assert plain["requests"] == mesh["requests"] > 0
    assert mesh["succeeded"] >= plain["succeeded"]
    assert plain["failures"]["503"] > 0
    assert plain["retries"] == 0


@pytest.mark.slow
def test_every_request_and_every_attempt_is_accounted_for(document):
    for contender in document["contenders"].values():
        assert contender["succeeded"] + sum(contender["failures"].values()) == contender["requests"]
        assert contender["success_ratio"] == contender["succeeded"] / contender["requests"]
        assert sum(contender["attempts_by_endpoint"]) == contender["attempts"]
        assert contender["attempts"] == contender["requests"] + contender["retries"]
        assert len(contender["attempts_by_endpoint"]) == ENDPOINTS
        latency = contender["latency"]
        assert 0 < latency["p50"] <= latency["p99"] <= latency["worst"]


@pytest.mark.slow
def test_round_robin_sends_a_tenth_to_each_broken_endpoint(document):
    for exposure in document["contenders"]["httpx"]["exposure"]:
        assert exposure["share"] == pytest.approx(0.1, abs=0.05)


@pytest.mark.slow
def test_without_a_terminal_there_are_plain_lines_and_a_summary():
    text = output("--duration", "2")
    assert "\x1b" not in text
    assert "endpoint 7 accepts requests and never answers" in text
    assert "plain httpx: success" in text
    assert "success   " in text
    assert "sent to endpoint 9 while refusing" in text


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_an_interruption_ends_it_without_a_traceback(number, code):
    process = start("--duration", "60")
    assert process.stdout is not None
    assert "healthy" in process.stdout.readline()
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in err


@pytest.mark.parametrize("duration", ["0", "1.9", "601", "-5", "nan", "inf", "soon"])
def test_a_wrong_duration_is_refused_with_what_would_be_right(duration, capsys):
    with pytest.raises(SystemExit) as refusal:
        main(["demo", f"--duration={duration}"])
    assert refusal.value.code == 2
    assert f"{duration!r} is not valid; expected a number of seconds from 2 to 600" in capsys.readouterr().err


def test_a_wrong_seed_or_command_is_refused(capsys):
    for arguments in (["demo", "--seed", "x"], ["dmeo"], []):
        with pytest.raises(SystemExit) as refusal:
            main(arguments)
        assert refusal.value.code == 2
    assert "--seed: invalid int value: 'x'" in capsys.readouterr().err


def test_the_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"resilient {resilient.__version__}\n"
