"""What our classes are: subclasses of the library's, with its arguments and a few more."""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

import pytest

import resilient
from tests.compat.library import LIBRARIES, World

KINDS = [(library, name) for library in LIBRARIES for name in ("Client", "AsyncClient")]
OURS = ["mesh", "policy", "max_connection_age", "wire"]


def parameters(kind: type[Any]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(kind).parameters)


@pytest.mark.parametrize(("library", "name"), KINDS)
def test_the_constructor_takes_what_the_librarys_does(library: str, name: str) -> None:
    plain, ours = (parameters(getattr(module, name)) for module in LIBRARIES[library])
    assert list(ours) == OURS + list(plain)
    assert {key: ours[key] for key in plain} == plain
    assert all(one.kind is inspect.Parameter.KEYWORD_ONLY for one in ours.values())


@pytest.mark.parametrize(("library", "name"), KINDS)
def test_type_checkers_are_told_of_each_argument(library: str, name: str) -> None:
    plain, ours = (getattr(module, name) for module in LIBRARIES[library])
    (options,) = get_type_hints(ours.__init__)["options"].__args__
    assert set(options.__annotations__) == {*OURS, *parameters(plain)}


@pytest.mark.parametrize(("library", "name"), KINDS)
def test_the_rest_is_the_librarys(library: str, name: str) -> None:
    plain, ours = (getattr(module, name) for module in LIBRARIES[library])
    assert issubclass(ours, plain)
    public = [key for key in dir(plain) if not key.startswith("_")]
    assert all(hasattr(ours, key) for key in public)
    for key in ("get", "post", "request", "stream", "build_request"):
        assert inspect.signature(getattr(ours, key)) == inspect.signature(getattr(plain, key))


def test_unknown_arguments(world: World) -> None:
    for options in ({"timeuot": 1}, {"transprot": None}):
        with pytest.raises(TypeError, match=r"unexpected keyword argument '(timeuot|transprot)'"):
            world.ours(**options)
    with pytest.raises(TypeError):
        world.kind(world.resilient, "Client")("http://positional")


@pytest.mark.parametrize(
    "options",
    [
        {"auth": 7},
        {"proxy": 7},
        {"proxy": "http://[bad"},
        {"mounts": {"no-colon": None}},
        {"base_url": 7},
        {"timeout": "soon"},
        {"verify": 7},
        {"headers": 7},
    ],
)
def test_wrong_values_are_refused_alike(world: World, options: dict[str, Any]) -> None:
    world.same(lambda face: None, **options)


def test_a_mesh_or_a_policy(world: World) -> None:
    with resilient.Mesh() as mesh:
        with pytest.raises(TypeError, match="not both"):
            world.ours(mesh=mesh, policy=resilient.Policy())
        with pytest.raises(resilient.ConfigError, match="mesh"):
            world.ours(mesh="orders")
