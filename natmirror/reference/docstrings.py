"""The sentences in the code that the pages show: docstrings of classes, and those below the members of a class.

Python does not keep a member's docstring, so the class's source is read.
"""

import ast
import inspect
from textwrap import dedent

from natmirror.reference import markdown


def summary(kind: type) -> str:
    """Return the first paragraph of the docstring of a TypedDict or an enumeration, as Markdown on one line."""
    return markdown.text((inspect.getdoc(kind) or "").partition("\n\n")[0])


def sentences(kind: type) -> dict[str, str]:
    """Return the text below each member that a class defines itself, by the member's name; empty where it has none."""
    body = definition(kind).body
    pairs = zip(body, [*body[1:], ast.Pass()], strict=True)
    return {name: _text(following) for node, following in pairs if (name := _member(node))}


def definition(kind: type) -> ast.ClassDef:
    """Return the parsed definition of a class."""
    [node] = ast.parse(dedent(inspect.getsource(kind))).body
    assert isinstance(node, ast.ClassDef)
    return node


def _member(node: ast.stmt) -> str:
    """Return the name that a statement of a class defines: of an enumeration's member, or of a TypedDict's field."""
    target = (
        node.target if isinstance(node, ast.AnnAssign) else node.targets[0] if isinstance(node, ast.Assign) else None
    )
    return target.id if isinstance(target, ast.Name) else ""


def _text(node: ast.stmt) -> str:
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return markdown.text(str(node.value.value)) if is_text else ""  # type: ignore[attr-defined]
