"""The health checker: what it asks, how it reads the answers, and whom it asks when."""

from __future__ import annotations

import asyncio
import logging
import ssl
from itertools import pairwise
from random import Random

import h2.config
import h2.connection
import h2.events
import pytest
import trustme

from resilient.balance.endpoint import Endpoint
from resilient.balance.outlier import OutlierDetection
from resilient.core.bound import Bound
from resilient.core.check import ConfigError
from resilient.core.classify import HttpClassifier
from resilient.mesh import Mesh
from resilient.policy.health import HealthCheck
from resilient.policy.policy import Policy
from resilient.runtime import asking
from resilient.runtime.asking import Verdict, asker, grpc_frame, health_request, serving_status
from resilient.runtime.health import HealthChecker
from resilient.service import Service
from resilient.testing import VirtualLoop
from tests.runtime.servers import Peer, serve, serving
from tests.runtime.wires import until

OK = Verdict(ok=True)


def answers(status="200 OK", head=""):
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(f"HTTP/1.1 {status}\r\n{head}Content-Length: 2\r\n\r\nok".encode())

    return script


def ask(endpoint, setting=HealthCheck(), service="orders"):
    return asyncio.run(asker(setting, service)(endpoint))


def test_a_request_names_the_service_and_itself() -> None:
    with serving(serve) as server:
        assert ask(server.endpoint) == OK
    (request,) = server.requests
    assert request.startswith(b"GET /healthz HTTP/1.1\r\n")
    assert b"Host: orders\r\n" in request
    assert b"resilient/health-check" in request


def test_path_method_and_host_can_be_others() -> None:
    setting = HealthCheck("/ready?full=1", method="HEAD", host="orders.internal:8080")
    with serving(serve) as server:
        assert ask(server.endpoint, setting) == OK
    assert server.requests[0].startswith(b"HEAD /ready?full=1 HTTP/1.1\r\n")
    assert b"Host: orders.internal:8080\r\n" in server.requests[0]


@pytest.mark.parametrize("host", ["::1", "::1:8080"])
def test_a_host_that_is_an_ipv6_address_has_brackets(host) -> None:
    with serving(serve, host="::1") as server:
        assert ask(server.endpoint, service=host) == OK
    assert f"Host: {server.endpoint.address}\r\n".encode() in server.requests[0]


def test_a_unix_socket_is_asked_too(tmp_path) -> None:
    for setting in (HealthCheck(), HealthCheck(protocol="tcp")):
        with serving(serve, path=str(tmp_path / f"{setting.protocol}.sock")) as server:
            assert ask(server.endpoint, setting) == OK
            until(lambda: server.peers)


def test_an_unexpected_status_needs_no_confirmation() -> None:
    with serving(answers("503 Service Unavailable")) as server:
        assert ask(server.endpoint) == Verdict(ok=False, reason="status 503", at_once=True)
        retriable = HealthCheck(retriable_statuses=(503,))
        assert ask(server.endpoint, retriable) == Verdict(ok=False, reason="status 503", at_once=False)
        assert ask(server.endpoint, HealthCheck(expected_statuses=range(200, 600))) == OK


def test_the_answer_of_an_endpoint_that_drains_is_a_failure() -> None:
    with serving(answers(head="X-Envoy-Immediate-Health-Check-Fail: true\r\n")) as server:
        assert ask(server.endpoint) == Verdict(ok=False, reason="it is draining", at_once=True)


def test_nobody_there_raises() -> None:
    with serving(serve) as server:
        endpoint = server.endpoint
    for setting in (HealthCheck(), HealthCheck(protocol="tcp"), HealthCheck(protocol="grpc")):
        with pytest.raises(Exception, match=r"refused|failed"):
            ask(endpoint, setting)


def test_tcp_is_content_with_a_connection() -> None:
    async def silent(peer: Peer) -> None:
        await peer.reader.read()

    with serving(silent) as server:
        assert ask(server.endpoint, HealthCheck(protocol="tcp")) == OK
        until(lambda: server.peers)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("orders").configure_cert(server_tls)
    return str(path), server_tls


def test_https_verifies_the_name_of_the_service(authority) -> None:
    path, server_tls = authority
    with serving(serve, tls=server_tls) as server:
        for setting in (HealthCheck(scheme="https"), HealthCheck(scheme="https", verify=path, host="stock")):
            with pytest.raises(Exception, match="certificate verify failed"):
                ask(server.endpoint, setting)
        assert ask(server.endpoint, HealthCheck(scheme="https", verify=False)) == OK
        assert ask(server.endpoint, HealthCheck(scheme="https", verify=path)) == OK


def test_authorities_that_cannot_be_read_are_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"HealthCheck.verify: '.*/none.pem' is not valid; .* No such file"):
        asker(HealthCheck(scheme="https", verify=str(tmp_path / "none.pem")), "orders")


def grpc(body, trailers=(), status="200"):
    """A gRPC server that answers each call so; its peers keep heads and bodies."""

    async def script(peer: Peer) -> None:
        state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        state.initiate_connection()
        while True:
            await peer.send(state.data_to_send())
            data = await peer.reader.read(65536)
            if not data:
                return
            for event in state.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    peer.requests.append(dict(event.headers))
                elif isinstance(event, h2.events.DataReceived):
                    peer.requests.append(event.data)
                elif isinstance(event, h2.events.StreamEnded):
                    head = [(":status", status), ("content-type", "application/grpc")]
                    if body is None:
                        state.send_headers(event.stream_id, [*head, *trailers], end_stream=True)
                    else:
                        state.send_headers(event.stream_id, head)
                        state.send_data(event.stream_id, body)
                        state.send_headers(event.stream_id, list(trailers), end_stream=True)

    return script


GRPC = HealthCheck(protocol="grpc", grpc_service="shop.Orders")
SERVING, NOT_SERVING = grpc_frame(b"\x08\x01"), grpc_frame(b"\x08\x02")


def test_grpc_asks_the_standard_service() -> None:
    with serving(grpc(SERVING, [("grpc-status", "0")])) as server:
        assert ask(server.endpoint, GRPC) == OK
    head, *body = server.requests
    assert head[":path"] == "/grpc.health.v1.Health/Check"
    assert head[":authority"] == "orders"
    assert (head[":method"], head["te"], head["content-type"]) == ("POST", "trailers", "application/grpc")
    assert b"".join(body) == b"\0\0\0\0\x0d\x0a\x0bshop.Orders"


@pytest.mark.parametrize(
    ("body", "trailers", "reason"),
    [
        (NOT_SERVING, [("grpc-status", "0")], "not serving, grpc-status 0"),
        (grpc_frame(b""), [("grpc-status", "0")], "not serving, grpc-status 0"),
        (None, [("grpc-status", "5"), ("grpc-message", "unknown service")], "not serving, grpc-status 5"),
        (None, [("x-envoy-immediate-health-check-fail", "true"), ("grpc-status", "0")], "it is draining"),
    ],
)
def test_grpc_that_does_not_serve_needs_no_confirmation(body, trailers, reason) -> None:
    with serving(grpc(body, trailers)) as server:
        assert ask(server.endpoint, GRPC) == Verdict(ok=False, reason=reason, at_once=True)


def test_a_server_that_speaks_no_grpc_fails() -> None:
    with serving(answers()) as server, pytest.raises(Exception, match=r"."):
        ask(server.endpoint, GRPC)


def test_messages_are_encoded_as_protobuf_does() -> None:
    assert health_request("") == b""
    assert health_request("a" * 200) == b"\x0a\xc8\x01" + b"a" * 200


@pytest.mark.parametrize(
    ("body", "status"), [(b"", None), (SERVING, 1), (NOT_SERVING, 2), (grpc_frame(b""), 0), (b"\x01\0\0\0\0", None)]
)
def test_a_response_is_read(body, status) -> None:
    assert serving_status(body) == status


def test_grpc_needs_h2(monkeypatch) -> None:
    monkeypatch.setattr(asking, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"HealthCheck.protocol: 'grpc' .* 'resilient-mesh\[http2\]'"):
        Mesh({"orders": Service(["10.0.0.1:80"])}, policy=Policy(health=HealthCheck(protocol="grpc")))


class World:
    """One service with a checker in virtual time. `healthy` answers; what it asks stands in `asked`."""

    def __init__(self, setting=HealthCheck(jitter_ratio=0.0), count=3, policy=Policy(), seed=1):
        self.down: dict[int, Verdict | Exception | None] = {}
        self.asked: list[tuple[float, int]] = []
        self.bound = Bound("orders", policy.replace(health=setting), Random(1), HttpClassifier())
        self.setting = setting
        self.seed = seed
        self.resolve(count, 0.0)

    def resolve(self, count, now):
        self.bound.update([Endpoint("10.0.0.1", port) for port in range(1, count + 1)], now)

    def member(self, port):
        return next(stats for stats in self.bound.members if stats.endpoint.port == port)

    async def ask(self, endpoint):
        self.asked.append((self.loop.time(), endpoint.port))
        verdict = self.down.get(endpoint.port, OK)
        if verdict is None:
            await asyncio.sleep(1e9)
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    def play(self, *steps):
        """Run `(time, action)` steps; an action may return a value, and all are returned."""

        async def main():
            self.loop = asyncio.get_running_loop()
            checker = HealthChecker(self.bound, self.setting, self.loop.time, Random(self.seed), self.ask)
            self.bound.checker = checker
            checker.start()
            told = []
            for time, action in steps:
                await asyncio.sleep(time - self.loop.time())
                told.append(action())
            checker.cancel()
            await asyncio.sleep(0)
            return told

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(main())

    def times(self, port):
        return [time for time, asked in self.asked if asked == port]

    def usable(self):
        return {stats.endpoint.port for stats in self.bound.members if stats.is_usable}

    def request(self, port):
        self.member(port).requests += 1


def test_an_idle_endpoint_is_asked_at_each_interval() -> None:
    world = World(HealthCheck(interval=10.0, no_traffic_interval=10.0, jitter_ratio=0.0))
    world.play((100.0, lambda: None))
    for port in (1, 2, 3):
        times = world.times(port)
        assert 0 <= times[0] < 10
        assert [later - earlier for earlier, later in pairwise(times)] == pytest.approx([10.0] * 9)
    assert len({times[0] for times in map(world.times, (1, 2, 3))}) == 3


def test_a_service_that_nobody_calls_is_asked_once_a_minute() -> None:
    world = World()
    world.play((600.0, lambda: None))
    assert len(world.times(1)) == 10


def test_endpoints_with_traffic_are_not_asked() -> None:
    world = World()
    world.play(*((now / 2, lambda: world.request(1)) for now in range(200)))
    assert world.times(1) == []
    assert len(world.times(2)) > 5


def test_unless_all_are_to_be() -> None:
    world = World(HealthCheck(only="all", jitter_ratio=0.0))
    world.play(*((now / 2, lambda: world.request(1)) for now in range(200)))
    assert len(world.times(1)) > 8


def test_an_endpoint_that_does_not_answer_is_taken_out_and_comes_back(caplog) -> None:
    caplog.set_level(logging.INFO, "resilient.health")
    world = World(HealthCheck(interval=1.0, no_traffic_interval=1.0, timeout=0.5, jitter_ratio=0.0))
    world.down[1] = ConnectionRefusedError("refused")
    world.down[2] = None
    told = world.play(
        (2.0, world.usable), (10.0, world.usable), (10.0, world.down.clear), (10.5, world.usable), (16.0, world.usable)
    )
    assert told == [{1, 2, 3}, {3}, None, {3}, {1, 2, 3}]
    assert caplog.messages[:2] == [
        "orders: 10.0.0.1:1 is unhealthy: refused",
        "orders: 10.0.0.1:2 is unhealthy: no answer in 0.5 s",
    ] or caplog.messages[:2] == [
        "orders: 10.0.0.1:2 is unhealthy: no answer in 0.5 s",
        "orders: 10.0.0.1:1 is unhealthy: refused",
    ]
    assert sorted(caplog.messages[2:]) == ["orders: 10.0.0.1:1 is healthy", "orders: 10.0.0.1:2 is healthy"]


def test_verdicts_are_renewed_for_as_long_as_they_hold() -> None:
    world = World()
    world.down[1] = Verdict(ok=False, reason="status 503", at_once=True)
    pick = lambda: world.bound.pick(world.loop.time(), (), None).stats.endpoint.port
    assert set(world.play(*((time, pick) for time in range(20, 400)))) == {2, 3}


def test_a_newcomer_is_asked_at_once_and_let_in() -> None:
    world = World()
    told = world.play((50.0, lambda: world.resolve(4, 50.0)), (50.0, world.usable), (50.1, world.usable))
    assert told == [None, {1, 2, 3}, {1, 2, 3, 4}]
    assert world.times(4) == [50.0]


def test_a_newcomer_that_does_not_answer_stays_out() -> None:
    world = World(HealthCheck(protocol="tcp", only="new", interval=1.0, jitter_ratio=0.0))
    world.down[4] = ConnectionRefusedError()
    steps = [(50.0, lambda: world.resolve(4, 50.0)), (99.5, world.usable), (99.5, world.down.clear)]
    told = world.play(*steps, (101.0, world.usable), (500.0, world.usable))
    assert told == [None, {1, 2, 3}, None, {1, 2, 3, 4}, {1, 2, 3, 4}]
    assert {port for _, port in world.asked} == {4}
    assert len(world.times(4)) == 51


def test_one_that_has_gone_is_not_asked_any_more() -> None:
    world = World(HealthCheck(interval=1.0, no_traffic_interval=1.0, jitter_ratio=0.0))
    world.play((10.0, lambda: world.resolve(2, 10.0)), (50.0, lambda: None))
    assert max(world.times(3)) <= 10.0
    assert max(world.times(2)) > 45.0


def eject(world, port, now):
    world.member(port).ejected_until = now + 1000.0
    world.bound.rebuild(now)


def test_an_ejected_endpoint_comes_back_after_two_good_checks() -> None:
    world = World(HealthCheck(interval=1.0, jitter_ratio=0.0), policy=Policy(outlier=OutlierDetection()))
    world.request(2)
    told = world.play((10.0, lambda: eject(world, 1, 10.0)), (10.9, world.usable), (13.1, world.usable))
    assert told == [None, {2, 3}, {1, 2, 3}]
    assert world.member(1).ramp is not None


def test_unless_it_is_to_serve_its_time() -> None:
    setting = HealthCheck(interval=1.0, jitter_ratio=0.0, restores_ejected=False)
    world = World(setting, policy=Policy(outlier=OutlierDetection()))
    world.request(2)
    told = world.play((10.0, lambda: eject(world, 1, 10.0)), (100.0, world.usable))
    assert told == [None, {2, 3}]


def test_one_that_is_draining_waits_for_good_checks() -> None:
    world = World(HealthCheck(interval=1.0, jitter_ratio=0.0))
    world.request(2)
    drain = lambda: world.bound.mark_unhealthy(world.member(1), 1000.0, 10.0)
    told = world.play((10.0, drain), (10.9, world.usable), (12.1, world.usable))
    assert told == [None, {2, 3}, {1, 2, 3}]


def test_a_service_is_not_asked_by_many_at_once() -> None:
    world = World(HealthCheck(interval=0.001, timeout=5.0, jitter_ratio=0.0), count=100)
    world.down = dict.fromkeys(range(1, 101))
    world.play((4.0, lambda: None))
    assert len(world.asked) == 32


def test_a_broken_check_is_a_failure_and_not_the_end() -> None:
    world = World(HealthCheck(interval=1.0, no_traffic_interval=1.0, jitter_ratio=0.0))
    world.down[1] = ValueError("odd")
    told = world.play((10.0, world.usable), (10.0, world.down.clear), (13.0, world.usable))
    assert told == [{2, 3}, None, {1, 2, 3}]


def test_checks_go_on_when_what_they_lead_to_breaks(caplog, monkeypatch) -> None:
    world = World(HealthCheck(interval=1.0, no_traffic_interval=1.0, jitter_ratio=0.0))
    mark_unhealthy = Bound.mark_unhealthy

    def broken(*_):
        raise ZeroDivisionError("a balancer of the user's")

    monkeypatch.setattr(Bound, "mark_unhealthy", broken)
    world.down[1] = ValueError("odd")
    mend = lambda: monkeypatch.setattr(Bound, "mark_unhealthy", mark_unhealthy)
    told = world.play((9.0, world.usable), (9.0, mend), (12.0, world.usable))
    assert told == [{1, 2, 3}, None, {2, 3}]
    broke = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in broke] == ["orders: a health check of 10.0.0.1:1 could not be processed"]
    assert broke[0].exc_info[0] is ZeroDivisionError


FAST = HealthCheck(interval=0.02, no_traffic_interval=0.02, timeout=1.0)


@pytest.mark.usefixtures("no_leaks")
def test_a_mesh_checks_its_services_until_it_is_closed() -> None:
    with serving(answers("503 Service Unavailable")) as bad, serving(serve) as good:
        service = Service([bad.endpoint.address, good.endpoint.address])
        with Mesh({"orders": service}, policy=Policy(health=FAST)) as mesh:
            until(lambda: _unhealthy(mesh) == [True, False])
            mesh.apply({"orders": Service(service.resolver, Policy(health=None))})
            count = len(bad.requests)
            until(lambda: len(bad.requests) <= count + 1)
            mesh.apply({"orders": Service(service.resolver, Policy(health=FAST))})
            until(lambda: len(bad.requests) > count + 3)


def _unhealthy(mesh):
    return [endpoint["unhealthy"] for endpoint in mesh.status()["orders"]["endpoints"]]


def test_hosts_that_are_not_services_are_checked_too() -> None:
    with serving(answers("503 Service Unavailable")) as bad, Mesh(policy=Policy(health=FAST)) as mesh:
        bound = mesh.find("127.0.0.1", bad.endpoint.port)
        until(lambda: bound.members[0].unhealthy_until is not None)
        assert bound.pick(mesh.clock(), (), None) is not None


def test_nobody_is_checked_whom_somebody_else_dials() -> None:
    with Mesh(policy=Policy(health=FAST)) as mesh:
        assert mesh.find("127.0.0.1", 1, dials=False).checker is None
