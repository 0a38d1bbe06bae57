from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from resilient.balance.endpoint import Endpoint, Locality
from resilient.core.check import ConfigError
from resilient.discovery.file import file, parse
from resilient.discovery.resolver import FixedResolver, ResolutionFailed, Resolver
from tests.discovery.fake_dns import watching
from tests.discovery.virtual_loop import run

LOGGER = "resilient.discovery"


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    path = tmp_path / "orders.json"
    path.write_text('["10.0.0.1:80"]')
    return path


def put(path: Path, text: str) -> None:
    """Write aside and rename into place, as a careful writer does."""
    aside = path.with_suffix(".new")
    aside.write_text(text)
    aside.replace(path)


@pytest.mark.parametrize(
    ("text", "yaml"),
    [
        ('["10.0.0.1:80", {"host": "a", "port": 1, "locality": "eu"}]', False),
        ('{"endpoints": ["10.0.0.1:80", {"host": "a", "port": 1, "locality": {"region": "eu"}}]}', False),
        ("- 10.0.0.1:80\n- host: a\n  port: 1\n  locality: eu\n", True),
        ("endpoints:\n- 10.0.0.1:80\n- {host: a, port: 1, locality: eu}\n", True),
    ],
)
def test_the_forms_of_a_file(text: str, yaml: bool) -> None:
    expected = (Endpoint("10.0.0.1", 80), Endpoint("a", 1, locality=Locality("eu")))
    assert parse(text, yaml=yaml) == expected


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("7", "expected a list of endpoints"),
        ("{}", "expected a list of endpoints"),
        ('{"endpoints": [], "endpoint": []}', "unknown field 'endpoint'; expected endpoints"),
        ('[{"host": "a", "port": 1, "wieght": 2}]', r"endpoints\[0\]: unknown field 'wieght'"),
        ('["a:1", "b"]', r"endpoints\[1\]: endpoint: 'b'"),
        ('[{"host": "a", "port": 1, "weight": NaN}]', r"endpoints\[0\]: Endpoint\.weight: nan"),
    ],
)
def test_what_is_wrong_with_a_file(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        parse(text)


def test_broken_yaml_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="line 2"):
        parse("a\nb: c", yaml=True)


def test_an_empty_list_is_a_set() -> None:
    assert parse("[]") == ()


def test_a_change_is_seen_at_the_next_poll(orders: Path) -> None:
    async def main() -> None:
        async with watching(file(str(orders), poll_interval=2.0)) as watch:
            assert await watch.next() == (0.0, ["10.0.0.1:80"])
            put(orders, '["10.0.0.2:80"]')
            assert await watch.next() == (2.0, ["10.0.0.2:80"])
            put(orders, "[]")
            assert await watch.next() == (4.0, [])

    run(main())


def test_an_unchanged_file_is_not_read_again(orders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    read_text = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, **how: (reads.append(path), read_text(path, **how))[1])

    async def main() -> None:
        async with watching(file(str(orders))) as watch:
            await watch.next()
            assert await watch.quiet(10.5)

    run(main())
    assert len(reads) == 1


def test_equal_endpoints_in_another_file_are_no_change(orders: Path) -> None:
    async def main() -> None:
        async with watching(file(str(orders))) as watch:
            await watch.next()
            put(orders, '{"endpoints": ["10.0.0.1:80"]}')
            assert await watch.quiet(10.5)

    run(main())


@pytest.mark.parametrize("problem", ["broken", "gone", "of another shape"])
def test_a_problem_keeps_the_endpoints_and_is_logged_once(
    orders: Path, caplog: pytest.LogCaptureFixture, problem: str
) -> None:
    caplog.set_level(logging.INFO, LOGGER)

    def spoil() -> None:
        if problem == "gone":
            orders.unlink()
        else:
            put(orders, "{" if problem == "broken" else "7")

    async def main() -> None:
        async with watching(file(str(orders))) as watch:
            await watch.next()
            spoil()
            assert await watch.quiet(10.5)

    run(main())
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"endpoint file {orders}: ")
    assert caplog.messages[0].endswith("; the last good endpoints stay in use")


def test_each_problem_is_logged_and_so_is_its_end(orders: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    texts = iter(["{", "7", "{", '["10.0.0.2:80"]', "{"])

    async def main() -> None:
        async with watching(file(str(orders))) as watch:
            await watch.next()

            def change() -> None:
                if (text := next(texts, None)) is not None:
                    put(orders, text)
                    asyncio.get_running_loop().call_later(1.0, change)

            asyncio.get_running_loop().call_later(0.5, change)
            assert await watch.next() == (4.0, ["10.0.0.2:80"])
            assert await watch.quiet(10)

    run(main())
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "INFO", "WARNING"]
    assert caplog.messages[2] == f"endpoint file {orders} is good again"


def test_a_problem_that_leaves_no_trace_in_the_file_ends_all_the_same(
    orders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_text = Path.read_text

    def refuse(path: Path, **_: object) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    async def main() -> None:
        async with watching(file(str(orders))) as watch:
            await watch.next()
            put(orders, '["10.0.0.2:80"]')
            monkeypatch.setattr(Path, "read_text", refuse)
            asyncio.get_running_loop().call_later(5.5, monkeypatch.setattr, Path, "read_text", read_text)
            assert await watch.next() == (6.0, ["10.0.0.2:80"])

    run(main())


def test_without_a_good_file_there_is_nothing_to_keep(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with watching(file(str(tmp_path / "none.json"), poll_interval=3.0)) as watch:
            with pytest.raises(ResolutionFailed, match="No such file") as failed:
                await watch.next()
            assert failed.value.retry_after == 3.0

    run(main())
    assert caplog.messages == []


def test_yaml_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resilient.discovery.file.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"resilient-mesh\[yaml\]"):
        file("orders.yaml")
    file("orders.json")


def test_it_is_a_value(orders: Path) -> None:
    assert file(str(orders)) == file(orders) != file("other.json")  # type: ignore[arg-type]
    assert hash(file(str(orders))) == hash(file(orders))  # type: ignore[arg-type]
    assert repr(file("orders.json")) == "FileResolver(path='orders.json', poll_interval=1.0)"
    assert isinstance(file("orders.json"), Resolver)
    assert not isinstance(file("orders.json"), FixedResolver)
    with pytest.raises(ConfigError, match=r"^file\.poll_interval: "):
        file("orders.json", poll_interval=0)
    with pytest.raises(ConfigError, match=r"^file\.path: "):
        file(7)  # type: ignore[arg-type]
