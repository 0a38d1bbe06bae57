"""What all settings have in common: each says what is wrong, and what would be right."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
from typing import Any, get_type_hints

import httpx
import pytest

import resilient
from resilient.core import check

SETTINGS = [
    getattr(resilient, name)
    for name in resilient.__all__
    if dataclasses.is_dataclass(getattr(resilient, name)) and name not in ("AttemptReport", "CallReport")
]
NEEDED: dict[type, dict[str, Any]] = {
    resilient.Endpoint: {"host": "a", "port": 1},
    resilient.HashOn: {"header": "x"},
    resilient.Service: {"resolver": ["10.0.0.1:80"]},
}
FLAGS = [(cls, field) for cls in SETTINGS for field, hint in get_type_hints(cls).items() if hint is bool]


def test_the_flags_are_found() -> None:
    assert (resilient.Retry, "idempotent") in FLAGS
    assert (resilient.Failover, "prefer_zone") in FLAGS


@pytest.mark.parametrize(("cls", "field"), FLAGS)
@pytest.mark.parametrize("value", ["false", "no", "", 0, 1, None, []])
def test_a_flag_is_true_or_false(cls: Any, field: str, value: object) -> None:
    with pytest.raises(resilient.ConfigError) as caught:
        cls(**{**NEEDED.get(cls, {}), field: value})
    assert str(caught.value) == f"{cls.__name__}.{field}: {value!r} is not valid; expected True or False"


@pytest.mark.parametrize(
    "cls", [resilient.Policy, resilient.Retry, resilient.Breaker, resilient.Failover, resilient.dns]
)
def test_a_keyword_that_is_no_field_is_told_from_those_that_are(cls: Any) -> None:
    name = dataclasses.fields(cls)[-1].name
    with pytest.raises(TypeError, match=rf"^{cls.__name__} has no field '{name}s'; did you mean '{name}'\?$"):
        cls(**{f"{name}s": 1})
    with pytest.raises(TypeError, match=f"no field 'xyz'; expected some of .*{name}"):
        cls(xyz=1)


def test_too_many_arguments_are_refused_as_ever() -> None:
    with pytest.raises(TypeError, match="positional"):
        resilient.Pacing(1.0, 2.0)  # type: ignore[call-arg]


@pytest.mark.parametrize("cls", SETTINGS)
def test_the_signature_and_the_type_hints_of_a_setting_can_be_read(cls: Any) -> None:
    names = {field.name for field in dataclasses.fields(cls) if field.init}
    assert set(inspect.signature(cls).parameters) == names
    assert get_type_hints(cls).keys() >= names


@pytest.mark.parametrize("fallback", [[], {}, {1}, None])
def test_a_policy_is_hashable_whatever_stands_in_for_its_calls(fallback: object) -> None:
    policy = resilient.Policy(fallback=fallback)
    assert hash(policy) == hash(resilient.Policy(fallback=fallback))
    assert policy == resilient.Policy(fallback=fallback) != resilient.Policy()


def test_so_it_is_with_a_classifier_that_is_not() -> None:
    @dataclasses.dataclass
    class Classifier:
        def classify(self, response: Any, error: Exception | None) -> Any:
            raise NotImplementedError

    assert hash(resilient.Policy(classifier=Classifier())) == hash(resilient.Policy(classifier=Classifier()))


def test_a_config_error_knows_its_field() -> None:
    with pytest.raises(resilient.ConfigError) as caught:
        resilient.Retry(attempts=0)
    assert caught.value.field == pickle.loads(pickle.dumps(caught.value)).field == "Retry.attempts"
    assert check.ConfigError("not YAML").field == ""


@pytest.mark.parametrize("value", [503, "503", b"503", None, True, 1.5, {503: True}])
def test_statuses_are_a_collection(value: Any) -> None:
    for cls, field in ((resilient.Retry, "statuses"), (resilient.HealthCheck, "retriable_statuses")):
        with pytest.raises(resilient.ConfigError) as caught:
            cls(**{field: value})
        assert str(caught.value).startswith(f"{cls.__name__}.{field}: {value!r} is not valid; expected statuses such")


@pytest.mark.parametrize("value", [99, 600, True, "503", 503.0, [503], None])
def test_of_status_codes(value: Any) -> None:
    with pytest.raises(resilient.ConfigError) as caught:
        resilient.Retry(statuses=[429, value])  # type: ignore[arg-type]
    assert str(caught.value) == f"Retry.statuses: {value!r} is not valid; expected statuses from 100 to 599"


def test_any_collection_will_do() -> None:
    assert resilient.Retry(statuses=range(500, 502)) == resilient.Retry(statuses=frozenset({500, 501}))  # type: ignore[arg-type]


class Silent:
    """A classifier that says nothing."""

    def classify(self, response: Any, error: Exception | None) -> Any:
        return None

    def __repr__(self) -> str:
        return "Silent()"


def test_a_classifier_that_returns_no_outcome_is_named() -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200))
    with (
        resilient.Client(policy=resilient.Policy(classifier=Silent()), transport=transport) as client,
        pytest.raises(TypeError, match=r"^Policy.classifier: Silent\(\) returned None; expected an Outcome$"),
    ):
        client.get("http://orders/")


@pytest.mark.parametrize("delay", ["p 95", "p1_0", "p0", "p100", "pnan", "95", "p", "p-1", "p\u0669"])
def test_a_percentile_is_a_number_after_p(delay: str) -> None:
    with pytest.raises(resilient.ConfigError) as caught:
        resilient.Hedge(delay=delay)
    assert str(caught.value) == f"Hedge.delay: {delay!r} is not valid; expected seconds, or a percentile such as 'p95'"


def test_it_may_have_a_fraction() -> None:
    assert resilient.Hedge(delay="p99.9").bind() is not None
