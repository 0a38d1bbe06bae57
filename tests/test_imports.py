"""What `import resilient` brings along."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.real.procs import missing

DEPENDENCIES = "anyio, dns, httpcore2, httpx, opentelemetry.propagate, opentelemetry.trace, pybreaker, tenacity"
EXTRAS = ("h2", "httpx2", "redis", "socksio", "trio", "yaml")


def modules_after(statement: str) -> set[str]:
    script = f"import json, sys; {statement}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


EVERYTHING = "import resilient; [getattr(resilient, name) for name in resilient.__all__]"


def test_no_extra_is_imported_that_a_dependency_does_not_import_itself() -> None:
    # httpcore2 looks for h2 and trio, and pybreaker for redis, wherever they are installed.
    ours = modules_after(EVERYTHING)
    theirs = modules_after(f"import {DEPENDENCIES}")
    brought = {name.partition(".")[0] for name in ours - theirs}
    assert brought.isdisjoint(EXTRAS)


def test_a_client_loads_nothing_of_what_files_and_rare_settings_need() -> None:
    loaded = modules_after("import resilient; resilient.AsyncClient(), resilient.Client()")
    assert loaded.isdisjoint(
        {"resilient.config.schema", "resilient.discovery.srv", "statistics", "tenacity", "tomllib"}
    )


FIRST_CALL = """
import asyncio, json, sys
import resilient

async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.1 204 No Content\\r\\nConnection: close\\r\\n\\r\\n")
    writer.close()

async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    client = resilient.AsyncClient(trust_env=False, **OPTIONS)
    before = set(sys.modules)
    assert (await client.get(url)).status_code == 204
    print(json.dumps(sorted(set(sys.modules) - before)))

asyncio.run(main())
"""


@pytest.mark.parametrize(("options", "needs"), [({}, "h11"), ({"wire": "fast"}, "httptools"), ({"http2": True}, "h2")])
def test_a_first_call_imports_nothing_while_others_wait_for_its_event_loop(
    options: dict[str, object], needs: str
) -> None:
    if find_spec(needs) is None:
        missing(needs)
    script = FIRST_CALL.replace("OPTIONS", repr(options))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_only_this_package_and_the_standard_library_are_added() -> None:
    ours = modules_after(EVERYTHING)
    theirs = modules_after(f"import {DEPENDENCIES}")
    brought = {name.partition(".")[0] for name in ours - theirs}
    known = {name.strip().partition(".")[0] for name in DEPENDENCIES.split(",")}
    assert brought - set(sys.stdlib_module_names) - known == {"resilient"}


def test_all_public_names_exist_and_are_sorted() -> None:
    import resilient

    assert list(resilient.__all__) == sorted(resilient.__all__)
    assert all(hasattr(resilient, name) for name in resilient.__all__)


def test_each_name_is_declared_to_type_checkers_from_the_module_that_it_comes_from() -> None:
    import resilient

    tree = ast.parse(Path(resilient.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    declared = {
        name.name: node.module.removeprefix("resilient.")
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module is not None
        for name in node.names
    }
    assert declared == resilient._HOMES
    assert {*declared, "__version__"} == set(resilient.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    import resilient

    with pytest.raises(AttributeError, match="no attribute 'Klient'"):
        _ = resilient.Klient
    assert set(resilient.__all__) <= set(dir(resilient))
