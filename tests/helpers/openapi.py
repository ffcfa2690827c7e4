"""Holds answers of the API against its OpenAPI description."""

import json
from datetime import datetime
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import validate

from natmirror.reference import openapi


def _is_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


_checker = FormatChecker(formats=())
_checker.checks("date-time", raises=ValueError)(_is_time)


@cache
def description() -> dict[str, Any]:
    """Return the description, which is a valid one."""
    found: dict[Any, Any] = json.loads(openapi.PATH.read_text(encoding="utf-8"))
    validate(found)
    return found


@cache
def _operations() -> dict[str, dict[str, Any]]:
    return {one["operationId"]: one for path in description()["paths"].values() for one in path.values()}


def assert_described(name: str, answer: Any, status: int = 200) -> None:
    """Fail where the description does not allow this answer to the request ``name``."""
    responses = _operations()[name]["responses"]
    response = responses.get(str(status), responses["default"])
    if "$ref" in response:
        response = description()["components"]["responses"]["Error"]
    schema = response["content"]["application/json"]["schema"] | {"components": description()["components"]}
    validator = Draft202012Validator(schema, format_checker=_checker)
    found = [f"{error.json_path}: {error.message:.300}" for error in validator.iter_errors(answer)]
    assert found == [], f"the answer of {name} is not as described"
