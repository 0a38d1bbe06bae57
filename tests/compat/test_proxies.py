"""`proxy=`, the proxies of the environment, NO_PROXY, and mounted proxies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import resilient
from tests.compat.certificates import Certificates
from tests.compat.library import Face, Fresh, World, told
from tests.compat.origin import Origin
from tests.compat.proxies import Proxy


@pytest.fixture(scope="module")
def shared_proxy() -> Iterator[Proxy]:
    with Proxy() as proxy:
        yield proxy


@pytest.fixture
def proxy(shared_proxy: Proxy) -> Proxy:
    shared_proxy.take()
    return shared_proxy


@pytest.mark.parametrize("credentials", ["", "user:secret@"])
@pytest.mark.parametrize("kind", ["str", "URL", "Proxy"])
def test_forwarding(world: World, origin: Origin, proxy: Proxy, kind: str, credentials: str) -> None:
    url = proxy.url(credentials)
    value = url if kind == "str" else getattr(world.library, kind)(url)
    given = world.same(lambda face: told(face.post(origin.url(), content=b"x")), proxy=value)
    assert given["status"][0] == 200
    plain, ours = proxy.take()
    assert ours == plain
    assert ours[:2] == ("POST", origin.url())
    assert (ours[2] is not None) is bool(credentials)
    assert len(set(map(str, origin.take()))) == 1


def test_tunnelling(world: World, proxy: Proxy, tmp_path_factory: pytest.TempPathFactory) -> None:
    certificates = Certificates.issue(tmp_path_factory.mktemp("certificates"))
    with Origin(tls=certificates.server("127.0.0.1")) as origin:
        for http2 in (False, True):
            given = world.same(
                lambda face: told(face.get(origin.url())), proxy=proxy.url(), verify=certificates.client(), http2=http2
            )
            assert given["status"][0] == 200
        assert world.same(lambda face: face.get(origin.url()), proxy=proxy.url(), verify=True)[0] == "ConnectError"
    assert {method for method, *_ in proxy.take()} == {"CONNECT"}


def test_no_proxy_there(world: World, origin: Origin, unused_port: int) -> None:
    given = world.same(lambda face: face.get(origin.url()), proxy=f"http://127.0.0.1:{unused_port}")
    assert given == ("ConnectError", f"GET {origin.url()}")


def test_names_are_the_proxys_affair(world: World, origin: Origin, proxy: Proxy) -> None:
    """What cannot be resolved here may well be there; nor is a service looked up."""
    endpoint = origin.endpoint
    proxy.names = dict.fromkeys(("orders.invalid", "elsewhere.invalid"), (endpoint.host, endpoint.port))
    services = {"orders.invalid": resilient.Service("dns:///orders.invalid:80")}
    with resilient.Mesh(services) as mesh:
        face = world.ours(mesh=mesh, proxy=proxy.url())
        for name in proxy.names:
            assert face.get(f"http://{name}/echo").json()["target"] == "/echo"
            assert proxy.take() == [("GET", f"http://{name}/echo", None)]


@pytest.mark.parametrize(
    ("environment", "through"),
    [
        ({"HTTP_PROXY": "{proxy}"}, True),
        ({"ALL_PROXY": "{proxy}"}, True),
        ({"http_proxy": "{proxy}"}, True),
        ({"HTTPS_PROXY": "{proxy}"}, False),
        ({"HTTP_PROXY": "{proxy}", "NO_PROXY": "127.0.0.1"}, False),
        ({"HTTP_PROXY": "{proxy}", "NO_PROXY": "*"}, False),
        ({"HTTP_PROXY": "{proxy}", "NO_PROXY": "elsewhere.example"}, True),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else None,
)
def test_the_environment(
    world: World,
    origin: Origin,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    through: bool,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(proxy=proxy.url()))
    world.same(lambda face: told(face.get(origin.url())))
    assert len(proxy.take()) == 2 * through
    world.same(lambda face: told(face.get(origin.url())), trust_env=False)
    kind = world.kind(world.library, "HTTPTransport")
    world.same(lambda face: told(face.get(origin.url())), transport=Fresh(kind))
    assert proxy.take() == []


def test_mounted(world: World, origin: Origin, proxy: Proxy) -> None:
    kind = world.kind(world.library, "HTTPTransport")

    def mounts() -> object:
        return {"http://127.0.0.1": kind(proxy=proxy.url()), "http://localhost": None}

    def scenario(face: Face) -> object:
        return face.get(origin.url()).status_code, face.get(origin.url(host="localhost")).status_code

    assert world.same(scenario, mounts=Fresh(mounts)) == (200, 200)
    assert [target for _, target, _ in proxy.take()] == [origin.url()] * 2


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:1", "ftp://127.0.0.1:1", 7])
def test_other_kinds(world: World, origin: Origin, value: object) -> None:
    world.same(lambda face: face.get(origin.url()), proxy=value)
