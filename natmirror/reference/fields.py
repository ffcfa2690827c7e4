"""The fields of a TypedDict, each with its type and with the sentence that stands as a docstring below it."""

import ast
import sys
from dataclasses import dataclass
from types import NoneType
from typing import Any, get_args, get_type_hints

from natmirror import docstrings
from natmirror.api.times import MOMENTS


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a JSON object."""

    name: str
    type: Any
    sentence: str


def fields(kind: type) -> list[Field]:
    """Return the fields of a TypedDict, inherited ones last, and behind each duration the moment that the API shows
    beside it. ValueError where one has no sentence."""
    types = get_type_hints(kind)
    found = []
    for name, sentence in _sentences(kind).items():
        found.append(Field(name, types[name], sentence))
        if (moment := MOMENTS.get(name)) is not None:
            may_be_null = moment.is_null_at_zero or NoneType in get_args(types[name])
            found.append(Field(moment.name, str | None if may_be_null else str, moment.sentence))
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
