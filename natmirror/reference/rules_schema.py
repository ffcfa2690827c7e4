"""The JSON Schema of a rules file, from the parser's own tables: with it, editors complete and check YAML.

The schema accepts each file that the parser accepts, and some that the parser refuses. It checks which keys exclude or
need each other (_CONDITIONS), but neither relations between values, such as unique names, nor the ranges of durations
and of sizes with a unit.
"""

import json
from typing import Any

from ruamel.yaml import YAML

from natmirror.reference.choices import sentences
from natmirror.rules import Balance, CheckKind, MirrorProtocol, Reconnect, WhenBehind
from natmirror.rules.keys import SECTIONS, TOP
from natmirror.rules.mirror_keys import ONLY_OPENFLOW
from natmirror.rules.scalars import Choice
from natmirror.rules.tables import Key, Section


def _is(**words: str) -> dict[str, Any]:
    """Return the condition that each key has this value."""
    values = {name.replace("_", "-"): word for name, word in words.items()}
    return {"properties": {name: {"const": word} for name, word in values.items()}, "required": list(values)}


def _has(key: str) -> dict[str, Any]:
    return {"required": [key]}


def _refuse(key: str) -> dict[str, Any]:
    return {"not": _has(key)}


_OTHER_THAN_MAGLEV = {"properties": {"balance": {"not": {"const": Balance.MAGLEV}}}, "required": ["balance"]}
_THROTTLES, _OPENFLOW = _is(when_behind=WhenBehind.THROTTLE), _is(protocol=MirrorProtocol.OPENFLOW)

# The counterpart of the rules between keys in natmirror/rules/file.py, by the section's title.
_CONDITIONS: dict[str, list[dict[str, Any]]] = {
    "service": [
        {"anyOf": [_has("pool"), _has("mirrors")]},
        {"if": {"properties": {"mirrors": {"contains": _THROTTLES}}, "required": ["mirrors"]}, "then": _has("pool")},
    ],
    "pool": [
        {"if": _OTHER_THAN_MAGLEV, "then": _refuse("hash")},
        {"if": _is(balance=Balance.PRIORITY), "then": {"properties": {"backends": {"items": _refuse("weight")}}}},
    ],
    "health": [{"if": _is(check=CheckKind.EXEC), "then": _has("command"), "else": _refuse("command")}],
    "mirror": [
        {"if": _has("throttle-limit"), "then": _THROTTLES},
        {"if": _THROTTLES, "then": {"not": _OPENFLOW}},
        *({"if": _has(key), "then": _OPENFLOW} for key in ONLY_OPENFLOW),
        {"if": _is(reconnect=Reconnect.NEXT_MESSAGE), "then": _OPENFLOW},
        {"if": _is(reconnect=Reconnect.NEXT_SEGMENT), "then": {"not": {"anyOf": [_OPENFLOW, _THROTTLES]}}},
        {
            "if": {"properties": {"direct": {"const": True}}, "required": ["direct"]},
            "then": {"properties": {"source": {"const": "client"}}},
        },
    ],
}


def page() -> str:
    """Return the schema as JSON."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": "Generated from the code by make reference. Do not edit.",
        "title": "natmirror rules",
        **_mapping(TOP),
        "$defs": {section.title: _mapping(section) for section in SECTIONS if section is not TOP},
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _mapping(section: Section) -> dict[str, Any]:
    return {
        "description": section.sentence,
        "type": "object",
        "properties": {key.name: _key(key) for key in section.keys},
        "required": [key.name for key in section.keys if key.is_required],
        "additionalProperties": False,
        **({"allOf": _CONDITIONS[section.title]} if section.title in _CONDITIONS else {}),
    }


def _key(key: Key) -> dict[str, Any]:
    words = sentences(key.type.kind) if isinstance(key.type, Choice) else {}
    description = "\n".join((key.sentence, *(f"{word}: {text}" for word, text in words.items())))
    default = {} if key.is_required or key.absent else {"default": _value(key.default_text)}
    return {"description": description, **key.type.schema(), **default, "examples": [_value(key.example)]}


def _value(text: str) -> Any:
    """Return the JSON value of a value that is written in YAML."""
    return YAML(typ="safe", pure=True).load(text)
