from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from http.client import HTTPConnection, RemoteDisconnected
from pathlib import Path

import pytest

from tests.real import procs
from tests.real.envoy import Config, Envoy, proxy_config
from tests.real.nginx import Nginx, start_nginx
from tests.real.procs import HOST, Proc, ProcError, accepts, free_port, free_port_tcp_udp, on_free_port, require
from tests.real.redis import RedisServer

STUBBORN = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('up','w').close(); time.sleep(60)"


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = HTTPConnection(HOST, port, timeout=5.0)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_process_that_ends_is_reported_with_its_output(tmp_path: Path) -> None:
    with pytest.raises(ProcError, match=r"ended with 3:\nout of order"):
        Proc([sys.executable, "-c", "print('out of order'); raise SystemExit(3)"], lambda: False, tmp_path)


def test_a_process_that_is_never_ready_is_stopped(tmp_path: Path) -> None:
    pids: list[int] = []

    def ready() -> bool:
        pids[:] = [int(text) for text in (tmp_path / "pid").read_text().split()]
        return False

    program = "import os,time; open('pid','w').write(str(os.getpid())); time.sleep(60)"
    with pytest.raises(ProcError, match="not ready"):
        Proc([sys.executable, "-c", program], ready, tmp_path, timeout=1.0)
    assert pids
    assert is_gone(pids[0])


def test_stop_ends_what_ignores_sigterm(tmp_path: Path) -> None:
    proc = Proc([sys.executable, "-c", STUBBORN], (tmp_path / "up").exists, tmp_path)
    proc.stop(timeout=0.1)
    assert not proc.running
    assert is_gone(proc.pid)
    proc.stop()


def test_stop_ends_what_is_paused(tmp_path: Path) -> None:
    program = STUBBORN.replace("SIG_IGN", "SIG_DFL")
    with Proc([sys.executable, "-c", program], (tmp_path / "up").exists, tmp_path) as proc:
        proc.pause()
    assert not proc.running


def test_a_missing_program_skips_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procs, "IN_CI", False)
    with pytest.raises(pytest.skip.Exception, match="no-such-server is not installed"):
        require("no-such-server")
    monkeypatch.setattr(procs, "IN_CI", True)
    with pytest.raises(pytest.fail.Exception, match="no-such-server is not installed"):
        require("no-such-server")


def test_free_ports_can_be_bound() -> None:
    with socket.socket() as tcp:
        tcp.bind((HOST, free_port()))
    port = free_port_tcp_udp()
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind((HOST, port))
        udp.bind((HOST, port))


def test_a_taken_port_is_left_for_another(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        taken_port, other_port = int(taken.getsockname()[1]), free_port()
        ports = iter([taken_port, other_port])

        def start(port: int) -> Proc:
            program = f"import socket,time; s=socket.socket(); s.bind(('{HOST}',{port})); s.listen(); time.sleep(60)"
            return Proc([sys.executable, "-c", program], lambda: port != taken_port and accepts(port), tmp_path)

        with on_free_port(start, port=lambda: next(ports)) as proc:
            assert str(other_port) in proc.argv[-1]


def test_nginx_answers(nginx: Nginx) -> None:
    assert get(nginx.port, "/v1/42") == (200, b"/v1/42\n")
    assert get(nginx.port, "/status/503")[0] == 503
    with pytest.raises(RemoteDisconnected):
        get(nginx.port, "/close")
    assert len(nginx.requests()) == 3
    assert nginx.proc.rss_mb() > 0


def test_nginx_dies_with_its_workers(nginx: Nginx) -> None:
    nginx.proc.kill()
    assert not accepts(nginx.port)


def test_redis_answers(redis_server: RedisServer) -> None:
    with socket.create_connection((HOST, redis_server.port), timeout=5.0) as connection:
        connection.sendall(b"SET orders 42\r\nGET orders\r\n")
        received = b""
        while received.count(b"\r\n") < 3:
            received += connection.recv(64)
    assert received == b"+OK\r\n$2\r\n42\r\n"


def test_envoy_proxies_to_nginx(envoy: Callable[[Config], Envoy], tmp_path: Path) -> None:
    backends = [start_nginx(tmp_path / f"nginx-{number}") for number in range(2)]
    try:
        server = envoy(proxy_config([(HOST, backend.port) for backend in backends]))
        port = server.listener_port()
        assert [get(port, "/v1")[0] for _ in range(10)] == [200] * 10
        assert server.stats("cluster.orders.upstream_rq_total") == {"cluster.orders.upstream_rq_total": 10}
        assert all(backend.requests() for backend in backends)
    finally:
        for backend in backends:
            backend.proc.stop()


def test_the_leak_check_sees_sockets_and_threads(pytester: pytest.Pytester) -> None:
    conftest = (Path(__file__).parents[1] / "conftest.py").read_text()
    assert "patience: float = 2.0" in conftest
    pytester.makeconftest(conftest.replace("patience: float = 2.0", "patience: float = 0.05"))
    pytester.makepyfile(
        """
        import socket, threading
        kept = []

        def test_clean(no_leaks):
            with socket.socket():
                pass

        def test_socket(no_leaks):
            kept.append(socket.socket())

        def test_thread(no_leaks):
            kept.append(threading.Event())
            threading.Thread(target=kept[-1].wait, daemon=True).start()

        def test_release():
            kept[0].close()
            kept[1].set()
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=4, errors=2)
    result.stdout.fnmatch_lines_random(["*threads outlive the test*", "*sockets outlive the test*"])
