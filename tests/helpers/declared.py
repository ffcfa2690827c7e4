"""Compares what natmirror shows with what is declared: types of JSON objects, enumerations of counters and reasons."""

from collections.abc import Iterator
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from natmirror.api.client import ask
from natmirror.api.resources import JSON, ROUTES
from natmirror.findings import ALL_CODES, FindingCode
from natmirror.reasons import WithheldReason
from tests.helpers.openapi import assert_described

NUMBERS = {float: (int, float), int: (int,), str: (str,), bool: (bool,), type(None): (type(None),)}

_EXAMPLES = {"client": "10.10.0.11"}
"""Values of the parameters that a request has to have."""


def assert_declared(kind: Any, value: Any) -> None:
    """Fail where a value, as JSON has it, is not of a type: for example, where it has a key that is not declared."""
    assert list(differences(kind, value, "")) == []


def assert_answers_are_declared(api: Path) -> None:
    """Fail where a running natmirror shows something that is not declared."""
    for route in ROUTES:
        if route.method == "GET" and route.content_type == JSON:
            required = {one.name: _EXAMPLES[one.name] for one in route.query if one.is_required}
            assert_described(route.name, ask(route.name, api, **required))


def differences(kind: Any, value: Any, path: str) -> Iterator[str]:
    """Yield where a value is not of a type, and what is wrong there."""
    origin, inner = get_origin(kind), get_args(kind)
    if hasattr(kind, "__required_keys__"):
        yield from _object(kind, value, path)
    elif origin in (Union, UnionType):
        found = [list(differences(one, value, path)) for one in inner]
        yield from () if [] in found else max(found, key=len)
    elif origin is list:
        for index, item in enumerate(value):
            yield from differences(inner[0], item, f"{path}[{index}]")
    elif origin is dict:
        for key, item in value.items():
            yield from differences(inner[0], key, f"{path}: the key {key}")
            yield from differences(inner[1], item, f"{path}.{key}")
    elif isinstance(kind, type) and issubclass(kind, StrEnum):
        if value not in list(ALL_CODES if kind is FindingCode else kind):
            yield f"{path}: {value!r} is no {kind.__name__}"
    elif not isinstance(value, NUMBERS[kind]) or (isinstance(value, bool) and kind is not bool):
        yield f"{path}: {value!r} is no {kind.__name__}"


_types_of = cache(get_type_hints)


def _object(kind: Any, value: Any, path: str) -> Iterator[str]:
    types = _types_of(kind)
    if not isinstance(value, dict):
        yield f"{path}: {value!r} is no {kind.__name__}"
        return
    yield from (f"{path}.{key} is not declared in {kind.__name__}" for key in value.keys() - types.keys())
    yield from (f"{path}.{key} is missing" for key in types.keys() - value.keys())
    for key in value.keys() & types.keys():
        yield from differences(types[key], value[key], f"{path}.{key}")
    for name in value.get("messages_withheld", ()):
        yield from differences(WithheldReason, name.partition(":")[2], f"{path}.messages_withheld: {name}")
