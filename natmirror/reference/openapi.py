"""The OpenAPI description of the API, from the declarations of its requests and of the fields of its answers."""

import json
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from natmirror import api
from natmirror.api.resources import JSON, PARAMETERS_OF_PATHS, ROUTES, Kind, Parameter, Route
from natmirror.api.values import ValueType, Words
from natmirror.docstrings import summary
from natmirror.findings import ALL_CODES, FindingCode
from natmirror.reference.choices import sentences
from natmirror.reference.fields import fields
from natmirror.reference.state import WORDS
from natmirror.runtime import shown

PATH = Path(api.__file__).with_name("openapi.json")
"""The file, which the API serves."""

_PRIMITIVES = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}
_ENUMERATIONS = {kind.__name__: kind for kind in WORDS.values()}
_INTRODUCTION = (
    "The state of a running natmirror, and its commands. Times are in UTC (RFC 3339), durations in seconds. Unknown"
    " parameters are refused. A list whose next is not null goes on: give next as cursor."
)
_ERROR = {"$ref": "#/components/responses/Error"}


def page() -> str:
    """Return the description as JSON."""
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    error = {
        "description": "Why the request failed.",
        "content": {JSON: {"schema": _schema(shown.ErrorAnswer, schemas)}},
    }
    description = {
        "openapi": "3.1.0",
        "info": {"title": "natmirror", "version": "1", "description": _INTRODUCTION},
        "servers": [{"url": "http://natmirror", "description": "The Unix socket /run/natmirror/api.sock."}],
        "paths": paths,
        "components": {"schemas": dict(sorted(schemas.items())), "responses": {"Error": error}},
    }
    return json.dumps(description, indent=1, ensure_ascii=False) + "\n"


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    in_path = [
        {"name": name, "in": "path", "required": True, "description": PARAMETERS_OF_PATHS[name]}
        | {"schema": {"type": "string"}}
        for name in route.parameters_of_path
    ]
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": in_path + [_parameter(one, schemas) for one in route.query],
    }
    if route.kind is Kind.COMMAND:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": _body(route.body, schemas)}}}
    answer = {"description": route.summary, "content": {route.content_type: {"schema": _answer(route, schemas)}}}
    return operation | {"responses": {"200": answer, "default": _ERROR}}


def _answer(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    if route.content_type != JSON:
        return {"type": "string"}
    if route.kind is Kind.FILE:
        return {"type": "object"}
    schema = _schema(getattr(shown, route.answer), schemas)
    return _page(schema) if route.kind is Kind.LIST else schema


def _page(item: dict[str, Any]) -> dict[str, Any]:
    properties = {
        "at": {"type": "string", "format": "date-time", "description": "The time of the first rows."},
        "items": {"type": "array", "items": item},
        "next": {"type": ["string", "null"], "description": "The cursor behind these rows; null if they are the last."},
    }
    return _object(properties, properties)


def _object(properties: dict[str, Any], required: Iterable[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*required], "additionalProperties": False}


def _parameter(one: Parameter, schemas: dict[str, Any]) -> dict[str, Any]:
    place = {"name": one.name, "in": "query", "required": one.is_required, "description": one.sentence}
    return place | {"schema": _value(one.type, schemas)}


def _body(members: Iterable[Parameter], schemas: dict[str, Any]) -> dict[str, Any]:
    properties = {one.name: _value(one.type, schemas) | {"description": one.sentence} for one in members}
    return _object(properties, [one.name for one in members if one.is_required])


def _value(kind: ValueType, schemas: dict[str, Any]) -> dict[str, Any]:
    return _schema(_ENUMERATIONS[kind.enumeration], schemas) if isinstance(kind, Words) else kind.schema()


def _schema(of: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a type. Objects and enumerations stand in ``schemas``, by their names."""
    origin, inner = get_origin(of), get_args(of)
    if of in _PRIMITIVES:
        return {"type": _PRIMITIVES[of]}
    if origin in (Union, UnionType):
        return {"anyOf": [_schema(one, schemas) for one in inner]}
    if origin is list:
        return {"type": "array", "items": _schema(inner[0], schemas)}
    if origin is dict:
        names = {} if inner[0] is str else {"propertyNames": _schema(inner[0], schemas)}
        return {"type": "object", "additionalProperties": _schema(inner[1], schemas)} | names
    if of.__name__ not in schemas:
        schemas[of.__name__] = {}  # a place, for a type that has itself inside
        schemas[of.__name__] = _enumeration(of) if issubclass(of, StrEnum) else _typed_dict(of, schemas)
    return {"$ref": f"#/components/schemas/{of.__name__}"}


def _enumeration(kind: type[StrEnum]) -> dict[str, Any]:
    if kind is FindingCode:
        words = {str(one): one.problem for one in ALL_CODES}
    else:
        words = {word: text.replace("\n\n", " ") for word, text in sentences(kind).items()}
    meanings = "".join(f"\n- `{word}`: {text}" for word, text in words.items())
    return {"type": "string", "enum": [*words], "description": f"{summary(kind)}\n{meanings}"}


def _typed_dict(kind: type, schemas: dict[str, Any]) -> dict[str, Any]:
    properties = {}
    for field in fields(kind):
        schema = _schema(field.type, schemas)
        if field.name in ("at", "since", "time") or field.name.endswith(("_at", "_since")):
            schema |= {"format": "date-time"}
        properties[field.name] = schema | {"description": field.sentence}
    return {"description": summary(kind)} | _object(properties, properties)
