"""Configuration from values, plain data and files."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
import tenacity
from hypothesis import example, given, settings
from hypothesis import strategies as st

from resilient.balance.least_request import LeastRequest
from resilient.balance.outlier import OutlierDetection
from resilient.balance.peak_ewma import PeakEwma
from resilient.balance.random_choice import Random
from resilient.balance.round_robin import RoundRobin
from resilient.config import MeshConfig, as_config, load
from resilient.config.reader import seconds
from resilient.core.check import ConfigError
from resilient.discovery.dns import DnsResolver, dns
from resilient.discovery.static import static
from resilient.policy.adaptive import AdaptiveLimit, GradientLimit
from resilient.policy.breaker import Breaker
from resilient.policy.budget import RetryBudget
from resilient.policy.hedge import Hedge
from resilient.policy.limit import Limit
from resilient.policy.pacing import Pacing
from resilient.policy.policy import UNSET, Policy
from resilient.policy.retry import Retry
from resilient.policy.throttle import Throttle
from resilient.service import Service

EMPTY = MeshConfig()
ORDERS = Service("dns:///orders:8080")


def read(data: object) -> MeshConfig:
    return as_config(data, EMPTY)


def policy_of(data: object) -> Policy:
    return read({"policy": data}).policy


def faults(data: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(data)
    return str(caught.value).splitlines()


def test_a_config_stands_for_itself() -> None:
    assert as_config(EMPTY, MeshConfig(strict=True)) is EMPTY


def test_services_take_the_place_of_services_and_leave_the_rest() -> None:
    current = MeshConfig({"stock": Service(["10.0.0.1:80"])}, Policy(timeout=2.0), strict=True)
    assert as_config({"orders": ORDERS}, current) == MeshConfig({"orders": ORDERS}, Policy(timeout=2.0), strict=True)
    assert as_config({}, current) == MeshConfig({}, Policy(timeout=2.0), strict=True)


def test_plain_data_says_everything() -> None:
    current = MeshConfig({"stock": Service(["10.0.0.1:80"])}, Policy(timeout=2.0), strict=True)
    assert as_config({"services": None}, current) == EMPTY


def test_the_values_of_a_config_are_frozen_and_hashable() -> None:
    services = {"orders": ORDERS}
    config = MeshConfig(services)
    services["stock"] = ORDERS
    assert list(config.services) == ["orders"]
    with pytest.raises(TypeError):
        config.services["stock"] = ORDERS  # type: ignore[index]
    assert hash(config) == hash(MeshConfig({"orders": ORDERS}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"services": [ORDERS]}, "MeshConfig.services: .* a mapping of names to Services"),
        ({"services": {"orders": "dns:///orders:80"}}, r"MeshConfig\.services\.orders: .* a Service"),
        ({"services": {"Orders": ORDERS}}, "name: 'Orders' .* lower case"),
        ({"services": {"orders:80": ORDERS}}, "name: 'orders:80' .* the host alone"),
        ({"policy": None}, "MeshConfig.policy: None .* a Policy"),
        ({"strict": 1}, "MeshConfig.strict: 1 .* True or False"),
    ],
)
def test_a_wrong_config_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MeshConfig(**arguments)


def test_a_whole_configuration() -> None:
    config = read(
        {
            "policy": {
                "timeout": 2,
                "attempt_timeout": "500ms",
                "retry": {"attempts": 4, "wait": 0.1, "budget": {"ratio": 0.1}, "statuses": [503]},
                "breaker": {"failure_ratio": 0.3, "window": "1m"},
                "balancer": {"least_request": {"choice_count": 3}},
                "outlier": {"consecutive_failures": 3},
                "hedge": {"delay": "p99"},
                "limit": {"max_in_flight": 5},
            },
            "services": {
                "orders": {"resolver": "dns:///orders:8080"},
                "stock": {"resolver": ["10.0.0.1:80", {"host": "10.0.0.2", "port": 80, "weight": 2}]},
                "mail": {
                    "resolver": {"dns": {"name": "mail", "port": 80, "min_ttl": "5s", "nameservers": ["10.0.0.53"]}}
                },
            },
            "strict": True,
        }
    )
    policy = Policy(
        timeout=2,
        attempt_timeout=0.5,
        retry=Retry(attempts=4, wait=0.1, budget=RetryBudget(ratio=0.1), statuses=frozenset({503})),
        breaker=Breaker(failure_ratio=0.3, window=60.0),
        balancer=LeastRequest(choice_count=3),
        outlier=OutlierDetection(consecutive_failures=3),
        hedge=Hedge(delay="p99"),
        limit=Limit(max_in_flight=5),
    )
    stock = static(["10.0.0.1:80", {"host": "10.0.0.2", "port": 80, "weight": 2}])
    mail = dns("mail", 80, min_ttl=5.0, nameservers=["10.0.0.53"])
    assert isinstance(mail, DnsResolver)
    services = {"orders": ORDERS, "stock": Service(stock), "mail": Service(mail)}
    assert config == MeshConfig(services, policy, strict=True)


def test_a_mapping_changes_what_it_names() -> None:
    data = {
        "policy": {"timeout": 2.0, "breaker": {"window": 20.0, "probes": 3}, "retry": {"attempts": 5}},
        "services": {
            "orders": {
                "resolver": ["10.0.0.1:80"],
                "policy": {"timeout": None, "breaker": {"window": 30.0}, "retry": None, "limit": {}},
            }
        },
    }
    config = read(data)
    top, orders = config.policy, config.services["orders"].policy
    assert top == Policy(timeout=2.0, breaker=Breaker(window=20.0, probes=3), retry=Retry(attempts=5))
    assert orders == Policy(breaker=Breaker(window=30.0, probes=3), retry=None, limit=Limit())


@pytest.mark.parametrize(
    ("data", "limit"),
    [
        ("adaptive", AdaptiveLimit()),
        ({"adaptive": {"maximum": 200, "queue_timeout": "500ms"}}, AdaptiveLimit(maximum=200, queue_timeout=0.5)),
        ({"gradient": None}, GradientLimit()),
        ({"max_in_flight": 5}, Limit(max_in_flight=5)),
        (None, None),
    ],
)
def test_a_limit_is_that_of_fields_or_one_with_a_name(data: Any, limit: object) -> None:
    assert read({"policy": {"limit": data}}).policy.limit == limit


def test_faults_of_limits_throttle_and_pacing_are_found() -> None:
    policy = {"limit": {"adaptive": {"minimum": 0}}, "throttle": {"multiplier": "2s"}, "pacing": {"max_delay": "0s"}}
    assert sorted(faults({"policy": policy})) == [
        "policy.limit.adaptive.minimum: 0 is not valid; expected a whole number >= 1",
        "policy.pacing.max_delay: 0.0 is not valid; expected a number of seconds > 0",
        "policy.throttle.multiplier: '2s' is not valid; expected a number >= 1",
    ]
    assert "one of adaptive, gradient" in faults({"policy": {"limit": "adptive"}})[0]


def test_another_balancer_starts_from_its_defaults_and_the_same_one_from_the_top() -> None:
    data = {
        "policy": {"balancer": {"peak_ewma": {"decay": 5.0}}},
        "policies": {"same": {"balancer": {"peak_ewma": {"tolerance": 1.0}}}, "other": {"balancer": "round_robin"}},
        "services": {
            "a": {"resolver": ["10.0.0.1:80"], "policy": "same"},
            "b": {"resolver": ["10.0.0.1:80"], "policy": "other"},
        },
    }
    services = read(data).services
    assert services["a"].policy == Policy(balancer=PeakEwma(decay=5.0, tolerance=1.0))
    assert services["b"].policy == Policy(balancer=RoundRobin())


def test_named_policies_start_from_the_top_level_one_also_if_it_is_named() -> None:
    data = {
        "policies": {"patient": {"retry": {"attempts": 9}}, "usual": {"timeout": 2.0}},
        "policy": "usual",
        "services": {
            "orders": {"resolver": ["10.0.0.1:80"], "policy": "patient"},
            "stock": {"resolver": ["10.0.0.1:80"], "policy": "usual"},
            "mail": {"resolver": ["10.0.0.1:80"]},
        },
    }
    config = read(data)
    assert config.policy == Policy(timeout=2.0)
    assert config.services["orders"].policy == Policy(timeout=2.0, retry=Retry(attempts=9))
    assert config.services["stock"].policy == Policy(timeout=2.0)
    assert config.services["mail"].policy is None


def test_values_made_in_python_may_stand_in_data() -> None:
    class Classifier:
        def classify(self, response: Any, error: Any) -> Any:
            raise NotImplementedError

    policy, classifier = Policy(timeout=2.0), Classifier()
    wait = tenacity.wait_fixed(1)
    data = {
        "policy": policy,
        "services": {
            "orders": ORDERS,
            "stock": {
                "resolver": static(["10.0.0.1:80"]),
                "policy": {"classifier": classifier, "retry": {"wait": wait}, "balancer": Random()},
            },
        },
    }
    config = read(data)
    assert config.policy is policy
    assert config.services["orders"] is ORDERS
    expected = Policy(timeout=2.0, classifier=classifier, retry=Retry(wait=wait), balancer=Random())
    assert config.services["stock"].policy == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("250ms", 0.25), ("1.5s", 1.5), ("1m30s", 90.0), ("2h", 7200.0), ("10us", 1e-5), ("3ns", 3e-9), (".5s", 0.5)],
)
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)
    assert policy_of({"timeout": text}).timeout == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "5", "s", "1 s", "-1s", "1s ", "1x", "1s2", "1e3s", "\u0661s", "p95"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    assert seconds(text) == text
    (line,) = faults({"policy": {"timeout": text}})
    assert line.startswith(f"policy.timeout: {text!r} is not valid; expected a number of seconds")


def test_a_ratio_is_no_duration() -> None:
    (line,) = faults({"policy": {"retry": {"budget": {"ratio": "1s"}}}})
    assert line == "policy.retry.budget.ratio: '1s' is not valid; expected a ratio from 0 to 1"


DURATIONS: dict[str, dict[str, Any]] = {
    "retry": dict.fromkeys(("wait", "max_retry_after")),
    "breaker": dict.fromkeys(("window", "break_duration", "max_break_duration", "sync_interval")),
    "outlier": dict.fromkeys(("window", "base_ejection_time", "max_ejection_time", "ramp")),
    "health": dict.fromkeys(
        (
            "interval",
            "timeout",
            "unhealthy_interval",
            "unhealthy_edge_interval",
            "healthy_edge_interval",
            "no_traffic_interval",
        )
    ),
    "hedge": dict.fromkeys(("delay", "minimum_delay")),
    "limit": dict.fromkeys(("queue_timeout",)),
    "throttle": dict.fromkeys(("window",)),
    "pacing": dict.fromkeys(("max_delay",)),
}


def test_whatever_lasts_can_be_given_a_unit() -> None:
    texts: dict[str, Any] = {name: dict.fromkeys(fields, "2m") for name, fields in DURATIONS.items()}
    numbers: dict[str, Any] = {name: dict.fromkeys(fields, 120.0) for name, fields in DURATIONS.items()}
    for data, value in ((texts, "2m"), (numbers, 120.0)):
        data |= {"timeout": value, "attempt_timeout": value, "slow_start": value}
        data["retry"]["budget"] = {"window": value}
        data["balancer"] = {"peak_ewma": {"decay": value, "failure_penalty": value}}
    assert policy_of(texts) == policy_of(numbers)
    for limit in ("adaptive", "gradient"):
        first, second = (policy_of({"limit": {limit: {"queue_timeout": value}}}) for value in ("2m", 120.0))
        assert first == second
    for dns_ in ({"name": "a", "port": 80}, {"name": "_http._tcp.a"}):
        kind = "dns" if "port" in dns_ else "srv"
        first, second = (
            read({"services": {"a": {"resolver": {kind: {**dns_, "min_ttl": t, "max_ttl": t, "timeout": t}}}}})
            for t in ("2m", 120.0)
        )
        assert first == second


@pytest.mark.parametrize(
    ("policy", "path"),
    [
        ({"balancer": {"least_request": {"active_request_bias": "2s"}}}, "balancer.least_request.active_request_bias"),
        ({"balancer": {"peak_ewma": {"tolerance": "2s"}}}, "balancer.peak_ewma.tolerance"),
        ({"balancer": {"maglev": {"hash_balance_factor": "2s"}}}, "balancer.maglev.hash_balance_factor"),
        ({"failover": {"overprovisioning_factor": "2s"}}, "failover.overprovisioning_factor"),
        ({"outlier": {"latency_factor": "2s"}}, "outlier.latency_factor"),
        ({"outlier": {"success_rate_stdev_factor": "2s"}}, "outlier.success_rate_stdev_factor"),
        ({"retry": {"budget": {"min_per_second": "2s"}}}, "retry.budget.min_per_second"),
        ({"limit": {"adaptive": {"tolerance": "2s"}}}, "limit.adaptive.tolerance"),
        ({"retry": {"wait": {"exponential": {"exp_base": "2s"}}}}, "retry.wait.exponential.exp_base"),
    ],
)
def test_other_numbers_cannot(policy: dict[str, Any], path: str) -> None:
    (line,) = faults({"policy": policy})
    assert line.startswith(f"policy.{path}: '2s' is not valid; expected a ")


@dataclasses.dataclass(frozen=True)
class Sticky:
    """Somebody's balancer."""

    hold: Annotated[float, "seconds"] = 1.0
    most: Annotated[float, "seconds"] | None = None
    share: float | str = 0.5

    def picker(self, endpoints: Any) -> Any:
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Unreadable(Sticky):
    """One with a type hint that only type checkers can follow."""

    other: "OnlyForTypeCheckers" = None  # type: ignore[name-defined]  # noqa: F821, UP037


def test_a_balancer_of_somebody_elses_says_which_of_its_numbers_are_durations(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    points = [EntryPoint(cls.__name__, f"{__name__}:{cls.__name__}", "") for cls in (Sticky, Unreadable)]
    monkeypatch.setattr("resilient.config.registry.entry_points", lambda group: points)
    monkeypatch.setattr(EntryPoint, "load", lambda self: globals()[self.attr])
    balancer = {"hold": "500ms", "most": "1m", "share": "1s"}
    assert policy_of({"balancer": {"Sticky": balancer}}) == Policy(balancer=Sticky(0.5, 60.0, "1s"))
    assert policy_of({"balancer": {"Unreadable": balancer}}) == Policy(balancer=Unreadable("500ms", "1m", "1s"))  # type: ignore[arg-type]


def test_waits_of_tenacity_by_name() -> None:
    retry = policy_of({"retry": {"wait": {"exponential": {"multiplier": "20ms", "max": 1}}}}).retry
    assert retry is not None
    assert isinstance(retry.wait, tenacity.wait_exponential)
    assert (retry.wait.multiplier, retry.wait.max) == (0.02, 1)
    named = policy_of({"retry": {"wait": "random_exponential"}}).retry
    assert named is not None
    assert isinstance(named.wait, tenacity.wait_random_exponential)
    assert policy_of({"retry": {"wait": "50ms"}}).retry == Retry(wait=0.05)


def test_the_same_data_give_equal_configs() -> None:
    """Or a file that is read again would throw away the state of what did not change."""
    data = {"policy": {"retry": {"wait": {"incrementing": {"start": 1, "increment": 2}}}, "breaker": {}}}
    assert read(data) == read(json.loads(json.dumps(data)))


@pytest.mark.parametrize(
    ("wait", "fault"),
    [
        (
            {"random": {"min": 5, "max": 1}},
            "random.min: 5.0 is not valid; expected at most policy.retry.wait.random.max, 1",
        ),
        ({"random": {"min": "5s"}}, "random.min: 5.0 is not valid; expected at most policy.retry.wait.random.max, 1"),
        ({"exponential": {"min": 2, "max": 1}}, "exponential.min: 2.0 is not valid; expected at most "),
        ({"random_exponential": {"min": 2, "max": 1}}, "random_exponential.min: 2.0 is not valid; expected at most "),
        ({"exponential": {"exp_base": 0}}, "exponential.exp_base: 0 is not valid; expected a number >= 1"),
        (
            {"exponential_jitter": {"exp_base": True}},
            "exponential_jitter.exp_base: True is not valid; expected a number",
        ),
    ],
)
def test_waits_that_cannot_be_are_refused(wait: dict[str, Any], fault: str) -> None:
    (line,) = faults({"policy": {"retry": {"wait": wait}}})
    assert line.startswith(f"policy.retry.wait.{fault}")


LABELS = 'is not valid; expected a mapping of strings to strings, such as {"version": "v2"}'
WEIGHTS = 'is not valid; expected a mapping such as {"eu/eu-1a": 80, "eu": 20}'
ONE_OF_FOUR = "is not valid; expected exactly one of header, cookie, query and function"


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (
            {"policy": {"retry": {"statuses": 503}}},
            "policy.retry.statuses: 503 is not valid; expected statuses such as (200, 204) or range(200, 400)",
        ),
        (
            {"policy": {"retry": {"statuses": [[503]]}}},
            "policy.retry.statuses: [503] is not valid; expected statuses from 100 to 599",
        ),
        (
            {"policy": {"retry": {"idempotent": "no"}}},
            "policy.retry.idempotent: 'no' is not valid; expected True or False",
        ),
        (
            {"policy": {"failover": {"locality_weights": [1]}}},
            f"policy.failover.locality_weights: (1,) {WEIGHTS}",
        ),
        (
            {"policy": {"failover": {"locality_weights": {"eu": "x"}}}},
            "policy.failover.locality_weights['eu']: 'x' is not valid; expected a number >= 0",
        ),
        (
            {"policy": {"health": {"host": "a\r\nb"}}},
            r"policy.health.host: 'a\r\nb' is not valid; expected a host name, or None for the service's",
        ),
        (
            {"policy": {"balancer": {"maglev": {"hash_on": {}}}}},
            f"policy.balancer.maglev.hash_on: {{}} {ONE_OF_FOUR}",
        ),
        (
            {"policy": {"breaker": object}},
            "policy.breaker: <class 'object'> is not valid; expected a Breaker, or a pybreaker.CircuitBreaker",
        ),
        (
            {"services": {"a": {"resolver": ["10.0.0.1:80"], "subset": ["v1"]}}},
            f"services.a.subset: ('v1',) {LABELS}",
        ),
        (
            {"services": {"a": {"resolver": ["10.0.0.1:80"], "subset": [["a", "b"]]}}},
            f"services.a.subset: (['a', 'b'],) {LABELS}",
        ),
    ],
)
def test_a_fault_names_the_field_the_value_and_what_would_be_right(data: Any, line: str) -> None:
    assert faults(data) == [line]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("\u00e4", "expected 'xn--4ca', as the host of a request has it"),
        ("b\u00fccher.example", "expected 'xn--bcher-kva.example', as the host of a request has it"),
        ("XN--4CA", "expected 'xn--4ca', as the host of a request has it"),
        *[
            (name, "expected a name as it stands in URLs: the host alone, in lower case")
            for name in ("", "A", "a b", "a:80", "a/b", "u@a", "a?b", "a<b", "a\0b", "a\r\nb", "[::1]", "\u200b")
        ],
    ],
)
def test_a_name_that_no_request_can_have_is_refused(name: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        MeshConfig({name: ORDERS})
    assert str(caught.value) == f"name: {name!r} is not valid; {expected}"


@pytest.mark.parametrize("name", ["orders", "orders.prod.svc", "a_b", "a.", "10.0.0.1", "::1", "xn--4ca"])
def test_all_others_are_found(name: str) -> None:
    url = httpx.URL(f"http://[{name}]/" if ":" in name else f"http://{name}/")
    assert url.raw_host.decode() in MeshConfig({name: ORDERS}).services


def test_every_fault_is_listed_with_its_path() -> None:
    data = {
        "policy": {
            "timeot": 2,
            "attempt_timeout": -1,
            "retry": {"attempts": "three", "budget": {"ratio": 3, "widow": 2}, "wait": {"exponential": {"max": "x"}}},
            "breaker": 3,
            "balancer": "pekewma",
            "fallback": 3,
        },
        "policies": {"slow": {"timeout": 0}},
        "services": {
            "Orders": {"resolver": "dn:///orders:80", "policy": "slov"},
            "stock": {"resolver": [], "policy": {"limit": {"max_in_flight": 0, "max_queue": -1}}},
            "mail": {"policy": "slow", "resolver": {"dns": {"prt": 25, "name": "mail"}}},
            "shop": 3,
            "bank": {"resolvers": ["10.0.0.1:80"]},
            4: {},
        },
        "servces": {},
        "strict": "yes",
    }
    found = faults(data)
    for start in (
        "servces: unknown field; did you mean 'services'?",
        "policy.timeot: unknown field; did you mean 'timeout'?",
        "policy.attempt_timeout: -1 is not valid; expected a number of seconds > 0",
        "policy.retry.attempts: 'three' is not valid; expected a whole number >= 1",
        "policy.retry.budget.widow: unknown field; did you mean 'window'?",
        "policy.retry.budget.ratio: 3 is not valid; expected a ratio from 0 to 1",
        "policy.retry.wait.exponential.max: 'x' is not valid; expected a number of seconds >= 0",
        "policy.breaker: 3 is not valid; expected a mapping with some of ",
        "policy.balancer: 'pekewma' is not valid; expected one of peak_ewma, least_request",
        "policy.fallback: 3 is not valid; expected null, or an object that Python code puts there",
        "policies.slow.timeout: 0 is not valid; expected a number of seconds > 0",
        "services: 4 is not valid; expected names that are strings",
        "services.Orders: name: 'Orders' is not valid; expected a name as it stands in URLs",
        "services.Orders.resolver: target: 'dn:///orders:80' is not valid; expected scheme://",
        "services.Orders.policy: unknown policy 'slov'; did you mean 'slow'?",
        "services.stock.resolver: static: [] is not valid; expected at least one endpoint",
        "services.stock.policy.limit.max_in_flight: 0 is not valid; expected a whole number >= 1",
        "services.stock.policy.limit.max_queue: -1 is not valid; expected a whole number >= 0",
        "services.mail.resolver.dns.prt: unknown field; did you mean 'port'?",
        "services.mail.resolver.dns.port: missing",
        "services.shop: 3 is not valid; expected a mapping with some of resolver, policy",
        "services.bank.resolvers: unknown field; did you mean 'resolver'?",
        "services.bank.resolver: missing",
        "strict: 'yes' is not valid; expected true or false",
    ):
        (line,) = [line for line in found if line.startswith(start)]
        found.remove(line)
    assert found == []


def test_fields_that_contradict_each_other_are_a_fault_of_one_of_them() -> None:
    assert faults({"policy": {"timeout": 1.0, "attempt_timeout": 2.0}}) == [
        "policy.attempt_timeout: 2.0 is not valid; expected at most Policy.timeout, 1.0"
    ]
    assert faults({"policy": {"breaker": {"failure_ratio": None}}}) == [
        "policy.breaker.failure_ratio: None is not valid; expected a ratio, unless consecutive_failures is set"
    ]


def test_a_broken_entry_point_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    points = [EntryPoint("gone", "no_such_module:X", ""), EntryPoint("odd", "json:dumps", "")]
    points += [EntryPoint("rotating", "resilient.balance.round_robin:RoundRobin", "")]
    monkeypatch.setattr("resilient.config.registry.entry_points", lambda group: points)
    (gone,) = faults({"policy": {"balancer": "gone"}})
    assert gone.startswith("policy.balancer: the entry point 'no_such_module:X' cannot be loaded")
    (odd,) = faults({"policy": {"balancer": "odd"}})
    assert odd == "policy.balancer: entry point: 'json:dumps' is not valid; expected a dataclass"
    assert policy_of({"balancer": "rotating"}) == Policy(balancer=RoundRobin())


def test_files_of_each_kind_hold_the_same(tmp_path: Path) -> None:
    orders = Service("dns:///orders:8080", Policy(timeout=0.5))
    expected = MeshConfig({"orders": orders}, Policy(timeout=2.0), strict=True)
    texts = {
        "mesh.yaml": (
            "policy: {timeout: 2.0}\nservices:\n  orders:\n    resolver: dns:///orders:8080\n"
            "    policy: {timeout: 500ms}\nstrict: true\n"
        ),
        "mesh.toml": (
            'strict = true\npolicy.timeout = 2.0\n[services.orders]\nresolver = "dns:///orders:8080"\n'
            'policy.timeout = "500ms"\n'
        ),
        "mesh.json": json.dumps(
            {
                "policy": {"timeout": 2.0},
                "services": {"orders": {"resolver": "dns:///orders:8080", "policy": {"timeout": "500ms"}}},
                "strict": True,
            }
        ),
    }
    for name, text in texts.items():
        path = tmp_path / name
        path.write_text(text)
        assert load(path) == expected
    (tmp_path / "mesh.YML").write_text(texts["mesh.yaml"])
    assert load(tmp_path / "mesh.YML") == expected


def test_anchors_of_yaml_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text(
        "policies:\n  slow: &slow {timeout: 30}\n  slower: {<<: *slow, attempt_timeout: 10}\npolicy: slower\n"
    )
    assert load(path).policy == Policy(timeout=30, attempt_timeout=10)


def test_an_empty_file_is_an_empty_config(tmp_path: Path) -> None:
    for name, text in (("mesh.yaml", ""), ("mesh.yaml", "# nothing\n"), ("mesh.toml", ""), ("mesh.json", "{}")):
        (tmp_path / name).write_text(text)
        assert load(tmp_path / name) == EMPTY


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("mesh.yaml", b"policy: {", "not YAML: "),
        ("mesh.yaml", b"policy: !!python/object:os.system {}", "not YAML: "),
        ("mesh.yaml", b"\xff\xfe\x00", "not YAML: "),
        ("mesh.yaml", b"0", "configuration: 0 is not valid"),
        ("mesh.yaml", b"[]", r"configuration: \[\] is not valid"),
        ("mesh.toml", b"policy = ", "not TOML: "),
        ("mesh.toml", b"\xff", "not TOML: "),
        ("mesh.json", b"{", "not JSON: "),
        ("mesh.json", b"\xff", "not JSON: "),
        ("mesh.json", b"", "not JSON: "),
        ("mesh.json", b'{"policy": {"timeout": NaN}}', "policy.timeout: nan is not valid"),
        ("mesh.json", b'{"policy": {"timeout": 0}, "strict": 0}', "policy.timeout: 0 is not valid"),
        ("mesh.ini", b"", "a name that ends in .yaml, .yml, .toml, .json"),
    ],
)
def test_a_file_that_is_wrong_is_named(tmp_path: Path, name: str, text: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load(path)
    assert name in str(caught.value).splitlines()[0]


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "mesh.yaml")


def test_yaml_without_pyyaml_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "mesh.yaml").write_text("strict: true")
    with pytest.raises(ConfigError, match=r"resilient-mesh\[yaml\]"):
        load(tmp_path / "mesh.yaml")


durations = st.floats(min_value=0.001, max_value=1000)
ratios = st.floats(min_value=0, max_value=1)
counts = st.integers(min_value=1, max_value=10**6)


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


budgets = st.builds(RetryBudget, ratio=ratios, min_per_second=st.floats(min_value=0, max_value=1e6), window=durations)
retries = st.builds(
    Retry,
    attempts=counts,
    wait=maybe(durations),
    budget=maybe(budgets),
    statuses=st.frozensets(st.integers(min_value=100, max_value=599)),
    idempotent=st.booleans(),
    max_retry_after=durations,
    buffer_limit=st.integers(min_value=0),
)
breakers = st.builds(
    Breaker,
    failure_ratio=st.floats(min_value=0.01, max_value=1),
    minimum_throughput=counts,
    window=st.floats(min_value=0.1, max_value=1000),
    break_duration=st.floats(min_value=0.1, max_value=10),
    consecutive_failures=maybe(counts),
    probes=counts,
    max_break_duration=maybe(st.floats(min_value=10, max_value=100)),
    sync_interval=durations,
)
balancers = st.one_of(
    st.builds(PeakEwma, decay=durations),
    st.builds(LeastRequest, choice_count=st.integers(min_value=2, max_value=10)),
    st.just(RoundRobin()),
    st.just(Random()),
)
policies = st.builds(
    Policy,
    timeout=maybe(st.floats(min_value=10, max_value=100)),
    attempt_timeout=maybe(st.floats(min_value=0.1, max_value=10)),
    retry=maybe(retries),
    breaker=maybe(breakers),
    balancer=balancers,
    outlier=maybe(st.builds(OutlierDetection, base_ejection_time=st.floats(min_value=0.1, max_value=10))),
    hedge=maybe(st.builds(Hedge, delay=st.sampled_from(["p50", "p99", 0.1]), max_extra_ratio=ratios)),
    limit=maybe(
        st.one_of(
            st.builds(Limit, max_in_flight=counts, max_queue=counts, queue_timeout=durations),
            st.builds(AdaptiveLimit, initial=st.integers(20, 90), maximum=st.integers(90, 200), max_queue=counts),
            st.builds(GradientLimit, initial=st.integers(20, 90), maximum=st.integers(90, 200), max_queue=counts),
        )
    ),
    throttle=maybe(st.builds(Throttle, multiplier=st.floats(1, 4), window=durations)),
    pacing=maybe(st.builds(Pacing, max_delay=durations)),
)
NAMES = {
    PeakEwma: "peak_ewma",
    LeastRequest: "least_request",
    RoundRobin: "round_robin",
    Random: "random",
    AdaptiveLimit: "adaptive",
    GradientLimit: "gradient",
}


def plain(value: Any) -> Any:
    """A value as a file would hold it."""
    if isinstance(value, frozenset):
        return sorted(value)
    if not dataclasses.is_dataclass(value):
        return value
    fields = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    fields = {name: given for name, given in fields.items() if given is not UNSET and given != ()}
    name = NAMES.get(type(value))  # type: ignore[arg-type]
    return fields if name is None else {name: fields}


@settings(deadline=None, max_examples=40)
@given(policies, policies)
def test_a_policy_survives_the_way_through_data(top: Policy, own: Policy) -> None:
    data = {"policy": plain(top), "services": {"orders": {"resolver": "dns:///orders:8080", "policy": plain(own)}}}
    config = read(json.loads(json.dumps(data)))
    assert config == MeshConfig({"orders": dataclasses.replace(ORDERS, policy=own)}, top)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["5s", "peak_ewma", "dns:///orders:80", "dns", "p95", "exponential", "static:///", "10.0.0.1:80"]),
)
KEYS = ["services", "policy", "policies", "strict", "orders", "resolver", "dns", "srv", "file", "name", "port", "path"]
KEYS += [field.name for cls in (Policy, Retry, RetryBudget, Breaker, Limit, Hedge) for field in dataclasses.fields(cls)]
KEYS += ["peak_ewma", "least_request", "choice_count", "exponential", "host", "weight", "nameservers", "search"]
keys = st.sampled_from(KEYS) | st.text(max_size=4) | st.integers() | st.none()
junk = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=6), max_leaves=10
)


def shaped() -> st.SearchStrategy[Any]:
    """Junk in the right places."""
    fields = st.dictionaries(keys, junk, max_size=5)
    policy = st.fixed_dictionaries({}, optional={field.name: junk | fields for field in dataclasses.fields(Policy)})
    service = st.fixed_dictionaries({}, optional={"resolver": junk, "policy": policy | junk})
    return st.fixed_dictionaries(
        {},
        optional={
            "services": st.dictionaries(st.sampled_from(["orders", "stock"]), service | junk),
            "policy": policy | junk,
            "policies": st.dictionaries(st.sampled_from(["slow", "fast"]), policy | junk),
            "strict": junk,
        },
    )


@settings(deadline=None, max_examples=60)
@given(junk | shaped())
@example({"policy": {"timeout": 10**400}})
@example({"policy": {"retry": {"statuses": [[1]]}}})
@example({"services": {"orders": {"resolver": [{"host": "a", "port": 80, "labels": {"a": []}}]}}})
def test_junk_is_refused_or_read_and_nothing_else(data: object) -> None:
    try:
        config = read(data)
    except ConfigError as error:
        lines = str(error).splitlines()
    else:
        lines = []
        hash(config)
    assert [line for line in lines if ": " not in line] == []
