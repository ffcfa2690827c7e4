"""The OpenAPI description is valid, is what the code gives, and has each request."""

import pytest

from natmirror.api.resources import ROUTES, Route
from natmirror.reference import openapi
from tests.helpers.openapi import assert_described, description


def test_the_description_is_up_to_date() -> None:
    assert openapi.PATH.read_text(encoding="utf-8") == openapi.page(), "run make reference"


def test_the_description_has_each_request_and_no_other() -> None:
    found = {f"{method.upper()} {path}" for path, one in description()["paths"].items() for method in one}
    assert found == {route.title for route in ROUTES}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.title)
def test_each_parameter_is_described(route: Route) -> None:
    operation = description()["paths"][route.path][route.method.lower()]
    names = [one["name"] for one in operation["parameters"]]
    assert names == [*route.parameters_of_path, *(one.name for one in route.query)]
    body = operation.get("requestBody", {"content": {}})["content"].get("application/json", {"schema": {}})["schema"]
    assert [*body.get("properties", {})] == [one.name for one in route.body]


@pytest.mark.parametrize(
    "answer",
    [
        {"items": [], "next": None},
        {"at": "yesterday", "items": [], "next": None},
        {"at": "2026-01-02T03:04:05", "items": [], "next": None},
        {"at": "2026-01-02T03:04:05Z", "items": [{"client": "10.0.0.1:1"}], "next": None},
        {"at": "2026-01-02T03:04:05Z", "items": [], "next": None, "more": 1},
    ],
)
def test_an_answer_that_is_not_as_described_is_found(answer: object) -> None:
    assert_described("legs", {"at": "2026-01-02T03:04:05Z", "items": [], "next": None})
    with pytest.raises(AssertionError):
        assert_described("legs", answer)
