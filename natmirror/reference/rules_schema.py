"""The JSON Schema of a rules file, from the parser's own tables: with it, editors complete and check YAML.

The schema accepts each file that the parser accepts, and some that the parser refuses: it does not check combinations
of keys, nor the ranges of durations and sizes with a unit.
"""

import json
from typing import Any

from ruamel.yaml import YAML

from natmirror.reference.choices import sentences
from natmirror.rules.keys import SECTIONS, TOP
from natmirror.rules.scalars import Choice
from natmirror.rules.tables import Key, Section


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
    }


def _key(key: Key) -> dict[str, Any]:
    words = sentences(key.type.kind) if isinstance(key.type, Choice) else {}
    description = "\n".join((key.sentence, *(f"{word}: {text}" for word, text in words.items())))
    default = {} if key.is_required or key.absent else {"default": _value(key.default_text)}
    return {"description": description, **key.type.schema(), **default, "examples": [_value(key.example)]}


def _value(text: str) -> Any:
    """Return the JSON value of a value that is written in YAML."""
    return YAML(typ="safe", pure=True).load(text)
