"""The sentences that stand as docstrings below the members of an enumeration."""

import ast
import inspect
from enum import StrEnum
from textwrap import dedent

from natmirror.reference import markdown


def sentences(kind: type[StrEnum]) -> dict[str, str]:
    """Return the sentence of each member, by its value; ValueError where one has none."""
    [definition] = ast.parse(dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    found: dict[str, str] = {}
    for node, following in zip(definition.body, [*definition.body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[kind[node.targets[0].id].value] = _text(following)
    if missing := [word.value for word in kind if not found.get(word.value)]:
        raise ValueError(f"{kind.__name__} has no docstring below {', '.join(missing)}")
    return found


def _text(node: ast.stmt) -> str:
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return markdown.text(str(node.value.value)) if is_text else ""  # type: ignore[attr-defined]
