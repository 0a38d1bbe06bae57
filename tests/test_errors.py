"""What the errors of the mesh tell."""

from __future__ import annotations

import copy
import pickle

import httpx
import pytest

import resilient
from resilient import errors
from resilient.core.report import CallReport

ERRORS = [getattr(errors, name) for name in errors.__all__ if name != "ConfigError"]


@pytest.mark.parametrize("error", ERRORS)
def test_each_has_a_report_and_survives_a_copy(error: type[resilient.MeshError]) -> None:
    request = httpx.Request("GET", "http://orders/v1")
    made = error("text", request=request)
    assert (made.report.service, made.report.attempts, str(made)) == ("orders", [], "text")
    report = CallReport("stock")
    assert error("text", request=request, report=report).report is report
    assert error("text").report.service == ""
    for again in (copy.copy(made), pickle.loads(pickle.dumps(error("text", report=report)))):
        assert isinstance(again, error)
        assert str(again) == "text"
        assert again.report.service in ("orders", "stock")


def test_a_service_that_is_not_known_is_told_in_the_report() -> None:
    mesh = resilient.Mesh(strict=True)
    with mesh, resilient.Client(mesh=mesh) as client, pytest.raises(resilient.UnknownService) as caught:
        client.get("http://ordres/")
    assert (caught.value.report.service, caught.value.report.flags) == ("ordres", ["unknown-service"])
    assert not caught.value.report.exhausted
