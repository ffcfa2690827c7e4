"""The fields of a TypedDict, each with its type and with the sentence that stands as a docstring below it."""

import ast
import sys
from dataclasses import dataclass
from typing import Any, get_type_hints

from natmirror import docstrings


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a JSON object."""

    name: str
    type: Any
    sentence: str


def fields(kind: type) -> list[Field]:
    """Return the fields of a TypedDict, inherited ones last; ValueError where one has no sentence."""
    types = get_type_hints(kind)
    found = [Field(name, types[name], sentence) for name, sentence in _sentences(kind).items()]
    if missing := [one.name for one in found if not one.sentence]:
        raise ValueError(f"{kind.__name__} has no docstring below {', '.join(missing)}")
    return found


def _sentences(kind: type) -> dict[str, str]:
    """Return the sentence below each field. A TypedDict has no bases when it runs, so its source names them."""
    found = docstrings.sentences(kind)
    for base in docstrings.definition(kind).bases:
        if isinstance(base, ast.Name) and base.id != "TypedDict":
            found = {**found, **_sentences(getattr(sys.modules[kind.__module__], base.id)), **found}
    return found
