"""Services: which endpoints they use, and from where."""

from __future__ import annotations

import httpx
import pytest

import resilient
from resilient.balance.endpoint import Endpoint, Locality
from resilient.core.check import ConfigError

OLD, NEW = Endpoint("127.0.0.1", 1, labels={"version": "v1"}), Endpoint("127.0.0.1", 2, labels={"version": "v2"})
BOTH = resilient.static([OLD, NEW])


def ports(mesh):
    bound = mesh.find("orders", 80)
    return {bound.pick(0.0, (), None).stats.endpoint.port for _ in range(50)}


def service(**options):
    return {"orders": resilient.Service(BOTH, **options)}


def test_a_service_can_be_a_subset_of_the_endpoints() -> None:
    with resilient.Mesh(service(subset={"version": "v2"})) as mesh:
        assert ports(mesh) == {2}


def test_a_subset_that_is_empty_is_an_error_that_says_so() -> None:
    with (
        resilient.Mesh(service(subset={"version": "v3", "tier": "web"})) as mesh,
        resilient.Client(mesh=mesh) as client,
        pytest.raises(resilient.NoEndpoint, match="orders: no endpoint of the subset tier=web,version=v3"),
    ):
        client.get("http://orders/")


def test_or_it_is_all_endpoints() -> None:
    with resilient.Mesh(service(subset={"version": "v3"}, subset_fallback="any")) as mesh:
        assert ports(mesh) == {1, 2}


def test_another_subset_is_applied_to_the_endpoints_that_are_known() -> None:
    with resilient.Mesh(service(subset={"version": "v2"})) as mesh:
        mesh.apply(service(subset={"version": "v1"}))
        assert ports(mesh) == {1}
        mesh.apply(service())
        assert ports(mesh) == {1, 2}


def test_services_are_values() -> None:
    one = resilient.Service(BOTH, subset={"b": "2", "a": "1"})
    assert one == resilient.Service(BOTH, subset={"a": "1", "b": "2"})
    assert hash(one) == hash(resilient.Service(BOTH, subset=(("a", "1"), ("b", "2"))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subset": "version=v2"}, "Service.subset: 'version=v2'"),
        ({"subset": {"version": 2}}, "Service.subset: {'version': 2}"),
        ({"subset": ["a"]}, "Service.subset: ['a']"),
        ({"subset": ("v1",)}, "Service.subset: ('v1',)"),
        ({"subset": [["a", "b"]]}, "Service.subset: [['a', 'b']]"),
        ({"subset": (["a", "b"],)}, "Service.subset: (['a', 'b'],)"),
        ({"subset": (("a", "b", "c"),)}, "Service.subset: (('a', 'b', 'c'),)"),
        ({"subset": None}, "Service.subset: None"),
        ({"subset_fallback": "default"}, "Service.subset_fallback: 'default'"),
    ],
)
def test_wrong_subsets_are_refused(options, message) -> None:
    with pytest.raises(ConfigError) as caught:
        resilient.Service(BOTH, **options)
    assert str(caught.value).startswith(message)


HERE, THERE = Locality("eu", "eu-1a"), Locality("eu", "eu-1b")
ZONES = {
    "orders": resilient.Service(
        resilient.static([Endpoint("127.0.0.1", 1, locality=HERE), Endpoint("127.0.0.1", 2, locality=THERE)])
    )
}


@pytest.mark.parametrize("locality", [HERE, "eu/eu-1a"])
def test_a_mesh_knows_where_it_runs(locality) -> None:
    with resilient.Mesh(ZONES, locality=locality) as mesh:
        assert ports(mesh) == {1}


def test_or_the_environment_tells(monkeypatch) -> None:
    monkeypatch.setenv("RESILIENT_LOCALITY", "eu/eu-1b/rack-7")
    with resilient.Mesh(ZONES) as mesh:
        assert mesh.locality == Locality("eu", "eu-1b", "rack-7")
        assert ports(mesh) == {2}


def test_otherwise_zones_do_not_matter(monkeypatch) -> None:
    monkeypatch.delenv("RESILIENT_LOCALITY", raising=False)
    with resilient.Mesh(ZONES) as mesh:
        assert ports(mesh) == {1, 2}


def test_a_locality_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="locality: 'a/b/c/d'"):
        resilient.Mesh(locality="a/b/c/d")


def test_a_file_says_it_all(tmp_path) -> None:
    (tmp_path / "mesh.toml").write_text(
        """
        [policy]
        slow_start = "1m"
        [policy.failover]
        panic_ratio = 0
        locality_weights = {"eu/eu-1a" = 80, eu = 20}
        [policy.health]
        path = "/ready"
        interval = "5s"
        expected_statuses = [200, 204]
        [services.orders]
        resolver = ["127.0.0.1:1"]
        subset = {version = "v2"}
        subset_fallback = "any"
        [services.stock]
        resolver = ["127.0.0.1:1"]
        policy.health = {protocol = "grpc"}
        """
    )
    with resilient.Mesh.from_file(tmp_path / "mesh.toml") as mesh:
        config = mesh.snapshot.config
    assert config.policy.slow_start == 60.0
    assert config.policy.failover == resilient.Failover(panic_ratio=0, locality_weights={"eu/eu-1a": 80, "eu": 20})
    assert config.policy.health == resilient.HealthCheck("/ready", interval=5.0, expected_statuses=(200, 204))
    assert config.services["stock"].policy.health == resilient.HealthCheck(
        "/ready", protocol="grpc", interval=5.0, expected_statuses=(200, 204)
    )
    assert config.services["orders"].subset == (("version", "v2"),)


def test_an_endpoint_that_drains_gets_no_second_request() -> None:
    """Also under a transport of the user's, where nobody checks."""
    asked = []

    def answer(request):
        asked.append(request.url.host)
        return httpx.Response(200, headers={"X-Envoy-Immediate-Health-Check-Fail": "true"})

    policy = resilient.Policy(health=resilient.HealthCheck())
    with (
        resilient.Mesh(service(), policy=policy) as mesh,
        httpx.Client(transport=resilient.MeshTransport(mesh, transport=httpx.MockTransport(answer))) as client,
    ):
        client.get("http://orders/")
        assert sum(stats.unhealthy_until is not None for stats in mesh.find("orders", 80).members) == 1
