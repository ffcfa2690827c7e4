"""The fields of a TypedDict, each with its type and with the sentence that stands as a docstring below it."""

import ast
import inspect
import sys
from dataclasses import dataclass
from textwrap import dedent
from typing import Any, get_type_hints


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


def summary(kind: type) -> str:
    """Return what a TypedDict or an enumeration is: the first paragraph of its docstring."""
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())


def _sentences(kind: type) -> dict[str, str]:
    """Return the sentence below each field. A TypedDict has no bases when it runs, so its source is read."""
    [definition] = ast.parse(dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    found: dict[str, str] = {}
    for node, following in zip(definition.body, [*definition.body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = _text(following)
    for base in definition.bases:
        if isinstance(base, ast.Name) and base.id != "TypedDict":
            found = {**found, **_sentences(getattr(sys.modules[kind.__module__], base.id)), **found}
    return found


def _text(node: ast.stmt) -> str:
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return " ".join(str(node.value.value).split()) if is_text else ""  # type: ignore[attr-defined]
