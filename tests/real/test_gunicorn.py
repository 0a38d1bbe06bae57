"""A service under gunicorn, which forks its workers after the application was loaded, or before."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.real.procs import HOST, Proc, accepts, free_port
from tests.runtime.servers import serving
from tests.runtime.wires import until

APPLICATION = """
import json, os
import resilient

policy = resilient.Policy(
    limit=resilient.Limit(max_in_flight=4),
    breaker=resilient.Breaker(),
    health=resilient.HealthCheck(protocol="tcp", interval=0.2, no_traffic_interval=0.2, only="all"),
)
mesh = resilient.Mesh({"orders": resilient.Service(resilient.file(os.environ["ORDERS"]), policy)})
client = resilient.Client(mesh=mesh)
if os.environ["USED"] == "before the fork":
    client.get("http://orders/").raise_for_status()


def application(environ, start_response):
    response = client.get("http://orders/")
    known = mesh.status()["orders"]
    start_response("200 OK", [("Content-Type", "application/json")])
    told = {"pid": os.getpid(), "status": response.status_code, "in_flight": mesh.find("orders", 80).in_flight}
    return [json.dumps({**told, "error": known["error"]}).encode()]
"""


def pids(told: list[dict[str, Any]]) -> set[int]:
    return {one["pid"] for one in told}


@pytest.mark.slow
@pytest.mark.parametrize("used", ["before the fork", "after the fork"])
@pytest.mark.parametrize("preload", [True, False], ids=["preloaded", "loaded by each worker"])
def test_each_worker_has_its_own_connections_and_threads(tmp_path: Path, preload: bool, used: str) -> None:
    (tmp_path / "application.py").write_text(APPLICATION)
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--workers", "3", "--threads", "2", "--bind", f"{HOST}:{port}"]
    with serving() as one, serving() as two:
        (tmp_path / "orders.json").write_text(f'["{one.endpoint.address}", "{two.endpoint.address}"]')
        env = {"ORDERS": str(tmp_path / "orders.json"), "USED": used}
        argv = [*command, *(["--preload"] if preload else []), "application"]
        with Proc(argv, lambda: accepts(port), tmp_path, env=env) as gunicorn:
            # A new connection for each, so that all workers get some.
            with httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=20) as client:
                told = [client.get(f"http://{HOST}:{port}/").json() for _ in range(60)]
                until(
                    lambda: told.append(client.get(f"http://{HOST}:{port}/").json()) or len(pids(told)) > 1, patience=30
                )
            gunicorn.stop(timeout=20)
            assert "Traceback" not in gunicorn.tail(1000)
    assert Counter((one["status"], one["in_flight"], one["error"]) for one in told) == {(200, 0, None): len(told)}
