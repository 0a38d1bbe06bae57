"""`verify`, `cert`, `http1`, `http2`, and what the environment says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import resilient
from tests.compat.certificates import Certificates
from tests.compat.library import Face, Fresh, World, told
from tests.compat.origin import Origin
from tests.runtime.servers import serve_h2, serving

NAMES = ("127.0.0.1", "localhost")
# httpx deprecates paths, and means the same by them.
takes_paths = pytest.mark.filterwarnings("ignore:.*(verify=<str>|cert=).*:DeprecationWarning")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.issue(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("host", NAMES)
@pytest.mark.parametrize("how", ["context", "path", "off", "default"])
@takes_paths
def test_verify(world: World, certificates: Certificates, how: str, host: str) -> None:
    verify = {"context": certificates.client(), "path": str(certificates.ca_file), "off": False, "default": True}[how]
    with Origin(tls=certificates.server(*NAMES)) as origin:
        given = world.same(lambda face: told(face.get(origin.url(host=host))), verify=verify)
    assert given[0] == "ConnectError" if how == "default" else given["status"][0] == 200


def test_the_wrong_name(world: World, certificates: Certificates) -> None:
    with Origin(tls=certificates.server("elsewhere.example")) as origin:
        assert world.same(lambda face: face.get(origin.url()), verify=certificates.client())[0] == "ConnectError"
        given = world.same(
            lambda face: told(face.get(origin.url(), extensions={"sni_hostname": "elsewhere.example"})),
            verify=certificates.client(),
        )
    assert given["status"][0] == 200


def test_a_service_is_verified_by_its_name(world: World, certificates: Certificates) -> None:
    with (
        Origin(tls=certificates.server("orders.internal")) as origin,
        resilient.Mesh({"orders.internal": resilient.Service([origin.endpoint.address])}) as mesh,
    ):
        kind = world.kind(world.library, "HTTPTransport")
        for options in ({"verify": certificates.client()}, {"transport": kind(verify=certificates.client())}):
            assert world.ours(mesh=mesh, **options).get("https://orders.internal/echo").status_code == 200


@takes_paths
@pytest.mark.parametrize("shown", [True, False])
def test_cert(world: World, certificates: Certificates, shown: bool) -> None:
    cert = str(certificates.client_file) if shown else None
    with Origin(tls=certificates.server(*NAMES, asks=True)) as origin:
        given = world.same(
            lambda face: face.get(origin.url()).status_code, verify=Fresh(certificates.client), cert=cert
        )
        assert given == 200 if shown else given[0] == "ConnectError"


@takes_paths
@pytest.mark.parametrize("options", [{"verify": "/nowhere/ca.pem"}, {"cert": "/nowhere/client.pem"}])
def test_a_wrong_path_is_told_at_once(world: World, options: dict[str, Any]) -> None:
    assert world.same(lambda face: None, **options)[0] in ("OSError", "FileNotFoundError")


@pytest.mark.parametrize("trust_env", [True, False])
def test_the_environment(
    world: World, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, trust_env: bool
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca_file))
    with Origin(tls=certificates.server(*NAMES)) as origin:
        given = world.same(lambda face: face.get(origin.url()).status_code, verify=True, trust_env=trust_env)
    assert given == 200 if trust_env else given[0] == "ConnectError"


@takes_paths
def test_files_are_read_anew_for_each_client(world: World, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    for _ in range(2):
        certificates = Certificates.issue(tmp_path)
        with Origin(tls=certificates.server(*NAMES)) as origin:
            given = world.same(lambda face: face.get(origin.url()).status_code, verify=str(path))
        assert given == 200


@pytest.mark.parametrize(("http1", "http2", "version"), [(True, True, "HTTP/2"), (False, True, "HTTP/2")])
def test_http2(world: World, certificates: Certificates, http1: bool, http2: bool, version: str) -> None:
    with serving(serve_h2, tls=certificates.server(*NAMES, alpn="h2")) as server:

        def scenario(face: Face) -> object:
            responses = [face.post(f"https://{server.endpoint.address}/", content=b"x") for _ in range(3)]
            return [(response.status_code, response.http_version, response.text) for response in responses]

        given = world.same(scenario, verify=Fresh(certificates.client), http1=http1, http2=http2)
        assert given == [(200, version, "ok")] * 3
        assert len(server.peers) == 2


def test_http2_where_the_server_knows_only_the_older(world: World, certificates: Certificates) -> None:
    with Origin(tls=certificates.server(*NAMES)) as origin:
        given = world.same(lambda face: told(face.get(origin.url())), verify=Fresh(certificates.client), http2=True)
    assert given["status"] == (200, "OK", "HTTP/1.1")


def test_two_settings_do_not_mix(world: World, certificates: Certificates) -> None:
    """With and without http2 on the same context of the user's."""
    context = certificates.client()
    with Origin(tls=certificates.server(*NAMES)) as origin:
        for http2 in (True, False, True):
            assert world.ours(verify=context, http2=http2).get(origin.url()).http_version == "HTTP/1.1"
