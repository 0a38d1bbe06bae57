"""pytest-httpx and respx, on our clients as on httpx's."""

from __future__ import annotations

import httpx
import pytest
import pytest_httpx
import respx

import resilient
import resilient.httpx2
from tests.compat.library import ONLY_HTTPX, World, told
from tests.compat.origin import Origin

pytestmark = ONLY_HTTPX

QUICK = resilient.Policy(retry=resilient.Retry(wait=0))
URL = "http://nowhere.invalid/x"


def of_services() -> resilient.Mesh:
    services = {
        "orders": resilient.Service("dns:///orders.invalid:8080"),
        "stock": resilient.Service(["10.0.0.1:80", "10.0.0.2:80"]),
    }
    return resilient.Mesh(services, policy=QUICK)


@pytest.mark.httpx_mock(can_send_already_matched_responses=True)
def test_pytest_httpx(world: World, httpx_mock: pytest_httpx.HTTPXMock) -> None:
    httpx_mock.add_response(url=URL, json={"a": 1}, headers={"x": "y"})
    world.same(lambda face: told(face.get(URL)))
    world.same(lambda face: face.stream("GET", URL, "lines")[1])
    plain, ours, *_ = httpx_mock.get_requests()
    assert (ours.method, ours.url, ours.headers, ours.read()) == (plain.method, plain.url, plain.headers, plain.read())


@pytest.mark.httpx_mock(can_send_already_matched_responses=True)
def test_pytest_httpx_matches_bodies(world: World, httpx_mock: pytest_httpx.HTTPXMock) -> None:
    httpx_mock.add_response(url=URL, method="POST", match_json=[1])
    httpx_mock.add_response(url=URL, method="PUT", match_content=b"onetwo")
    world.same(lambda face: told(face.post(URL, json=[1])))
    world.same(lambda face: told(face.put(URL, content=world.body([b"one", b"two"]))))


def test_pytest_httpx_raises(world: World, httpx_mock: pytest_httpx.HTTPXMock) -> None:
    httpx_mock.add_exception(httpx.ReadTimeout("late"), is_reusable=True)
    assert world.same(lambda face: face.get(URL)) == ("ReadTimeout", f"GET {URL}")
    assert len(httpx_mock.get_requests()) == 1 + 3


def test_pytest_httpx_sees_retries(world: World, httpx_mock: pytest_httpx.HTTPXMock) -> None:
    for status in (503, 502, 200):
        httpx_mock.add_response(status_code=status)
    response = world.ours(policy=QUICK).get(URL)
    assert response.status_code == 200
    assert [attempt.status for attempt in response.extensions["resilient"].attempts] == [503, 502, 200]
    assert len(httpx_mock.get_requests()) == 3


@pytest.mark.parametrize("host", ["orders", "stock", "elsewhere.invalid"])
def test_pytest_httpx_and_services(world: World, httpx_mock: pytest_httpx.HTTPXMock, host: str) -> None:
    httpx_mock.add_response(url=f"http://{host}/x", status_code=503)
    httpx_mock.add_response(url=f"http://{host}/x")
    with of_services() as mesh:
        assert world.ours(mesh=mesh).get(f"http://{host}/x").status_code == 200


@pytest.mark.httpx_mock(should_mock=lambda request: request.url.host != "127.0.0.1")
def test_pytest_httpx_lets_through(world: World, httpx_mock: pytest_httpx.HTTPXMock, origin: Origin) -> None:
    httpx_mock.add_response(url=URL, status_code=201)
    face = world.ours()
    assert face.get(URL).status_code == 201
    assert face.get(origin.url()).status_code == 200


def test_after_the_double_the_network_is_back(world: World, origin: Origin) -> None:
    face = world.ours()
    with respx.mock:
        respx.get(origin.url()).respond(202)
        assert face.get(origin.url()).status_code == 202
    assert face.get(origin.url()).status_code == 200
    assert len(origin.take()) == 1


@pytest.mark.parametrize("using", ["httpcore", "httpx"])
def test_respx(world: World, using: str) -> None:
    with respx.mock(using=using, assert_all_called=False) as router:
        router.get(URL).respond(200, json={"a": 1}, headers={"x": "y"})
        router.post(URL, json=[1]).respond(201)
        router.put(URL).mock(side_effect=httpx.ConnectError("no"))
        world.same(lambda face: told(face.get(URL)))
        world.same(lambda face: told(face.post(URL, json=[1])))
        world.same(lambda face: face.put(URL))
        world.same(lambda face: face.stream("GET", URL, "lines")[1])


def test_respx_sees_retries_below_the_client(world: World) -> None:
    with respx.mock as router:
        route = router.get(URL).mock(side_effect=[httpx.Response(503), httpx.ConnectError("no"), httpx.Response(200)])
        assert world.ours(policy=QUICK).get(URL).status_code == 200
        assert route.call_count == 3


def test_respx_in_place_of_the_transport_sees_calls(world: World) -> None:
    """`using="httpx"` takes the place of every transport, ours included: no policy applies."""
    with respx.mock(using="httpx") as router:
        route = router.get(URL).respond(503)
        assert world.ours(policy=QUICK).get(URL).status_code == 503
        assert route.call_count == 1


@pytest.mark.parametrize("using", ["httpcore", "httpx"])
@pytest.mark.parametrize("host", ["orders", "stock", "elsewhere.invalid"])
def test_respx_and_services(world: World, host: str, using: str) -> None:
    with respx.mock(using=using) as router, of_services() as mesh:
        router.get(f"http://{host}/x").respond(200)
        assert world.ours(mesh=mesh).get(f"http://{host}/x").status_code == 200


def test_respx_as_a_transport(world: World) -> None:
    router = respx.Router()
    router.get(URL).respond(200)
    handler = router.async_handler if world.is_async else router.handler
    assert world.ours(transport=httpx.MockTransport(handler)).get(URL).status_code == 200


def test_respx_lets_through(world: World, origin: Origin) -> None:
    with respx.mock(assert_all_called=False) as router:
        router.route(host="127.0.0.1").pass_through()
        assert world.ours().get(origin.url()).status_code == 200


def test_respx_does_not_concern_httpx2(world: World, origin: Origin) -> None:
    with resilient.Mesh({"orders": resilient.Service([origin.endpoint.address])}) as mesh, respx.mock:
        face = world.client(resilient.httpx2, mesh=mesh)
        assert face.get("http://orders/echo").status_code == 200
