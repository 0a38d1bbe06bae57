"""Every Python block of README and docs runs; the blocks of a page share one namespace.

DNS names lead to servers on loopback here; nothing else is replaced. A block with a caption
is the file of that name, in the directory in which the page's blocks run.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from tests.docs.blocks import Block, blocks
from tests.docs.orders import servers

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WITH_PYTHON = [page for page in PAGES if any(block.language == "python" for block in blocks(page))]


@pytest.fixture(scope="module")
def addresses() -> Iterator[list[str]]:
    with servers(3) as found:
        yield found


@pytest.fixture
def names(addresses: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every DNS name has the servers' addresses, whatever the port asked for."""
    import resilient

    def dns(name: str, port: int | None = None, **options: object) -> object:
        return resilient.static(addresses)

    for place in ("resilient.dns", "resilient.mesh.dns", "resilient.discovery.targets.DnsResolver"):
        monkeypatch.setattr(place, dns)


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.name)
def test_page(page: Path, names: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with asyncio.Runner() as runner:
        for block in blocks(page):
            if block.name is not None:
                (tmp_path / block.name).write_text(block.text, encoding="utf-8")
            if block.language == "python":
                run(compiled(block, page), namespace, runner)


def compiled(block: Block, page: Path) -> CodeType:
    source = "\n" * (block.line - 1) + block.text
    return compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def run(code: CodeType, namespace: dict[str, Any], runner: asyncio.Runner) -> None:
    """Execute a block; one that awaits runs in the page's loop, as in a notebook."""
    if not code.co_flags & inspect.CO_COROUTINE:
        exec(code, namespace)
        return

    async def main() -> None:
        await eval(code, namespace)

    runner.run(main())


def test_a_failing_block_is_named_by_its_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```text\nno code\n```\n\n```python\nx = 1\nassert x == 2\n```\n")
    [_, block] = blocks(page)
    with asyncio.Runner() as runner, pytest.raises(AssertionError) as caught:
        run(compiled(block, page), {}, runner)
    assert caught.traceback[-1].lineno == 8  # counted from 0


def test_blocks_with_captions_are_files(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    shown = "```{code-block} yaml\n:caption: mesh.yaml\n\na: 1\n```\n\n"
    page.write_text(shown + "<!--\n```python\nhidden = await later()\n```\n-->\n")
    [file, hidden] = blocks(page)
    assert (file.language, file.name, file.text, file.line) == ("yaml", "mesh.yaml", "a: 1\n", 4)
    assert (hidden.language, hidden.text, hidden.line) == ("python", "hidden = await later()\n", 9)
    assert compiled(hidden, page).co_flags & inspect.CO_COROUTINE
