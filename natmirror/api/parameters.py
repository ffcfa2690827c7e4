"""The parameters of a request, by the declarations in resources.py: unknown and wrong ones are refused with a hint."""

import json
from typing import Any
from urllib.parse import parse_qsl

from natmirror.api.http_server import Request
from natmirror.api.program import Refused
from natmirror.api.resources import JSON, Parameter, Route
from natmirror.api.values import closest


def check_query(query: str, parameters: tuple[Parameter, ...]) -> dict[str, Any]:
    """Return the values in a query, by name. Refused where ``parameters`` do not allow it."""
    values: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name in values:
            raise Refused(400, f"the parameter {name} is given twice: give it once")
        one = _known(name, parameters, "parameter")
        try:
            values[name] = one.type.from_text(text)
        except ValueError:
            raise _wrong("parameter", one, text) from None
    return _require_all(values, parameters, "parameter")


def check_body(route: Route, request: Request) -> dict[str, Any]:
    """Return the values in a command's body, by name. Refused where the command does not take them."""
    if request.content_type.partition(";")[0].strip().lower() != JSON:
        raise Refused(415, f"the body has no Content-Type: {JSON}; {_example(route)}")
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise Refused(400, f"the body is no JSON object; {_example(route)}")
    values: dict[str, Any] = {}
    for name, value in body.items():
        one = _known(name, route.body, "member")
        try:
            values[name] = one.type.from_json(value)
        except ValueError:
            raise _wrong("member", one, json.dumps(value)) from None
    return _require_all(values, route.body, "member")


def _example(route: Route) -> str:
    required = [one for one in route.body if one.is_required]
    optional = [one for one in route.body if not one.is_required]
    parts = [f"with {_members(required)}"] if required else []
    parts += [f"with these members, all optional: {_members(optional)}"] if optional else []
    takes = f"a JSON object {' and '.join(parts)}" if parts else "the empty JSON object {}"
    body = ", ".join(f'"{one.name}": …' for one in required)
    return f"send {takes}, for example: curl --unix-socket SOCKET --json '{{{body}}}' http://natmirror{route.path}"


def _members(parameters: list[Parameter]) -> str:
    return ", ".join(f"{one.name}: {one.type.expected}" for one in parameters)


def _known(name: str, parameters: tuple[Parameter, ...], what: str) -> Parameter:
    for one in parameters:
        if one.name == name:
            return one
    raise Refused(400, f"there is no {what} {name:.50}: {closest(name, [one.name for one in parameters])}")


def _wrong(what: str, one: Parameter, found: str) -> Refused:
    return Refused(400, f"the {what} {one.name}: expected {one.type.expected}, found {found:.50}")


def _require_all(values: dict[str, Any], parameters: tuple[Parameter, ...], what: str) -> dict[str, Any]:
    for one in parameters:
        if one.is_required and one.name not in values:
            raise Refused(400, f"the {what} {one.name} is missing: expected {one.type.expected}")
    return values
