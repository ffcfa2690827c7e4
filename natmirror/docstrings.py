"""The sentences in the code that pages and screens show: docstrings of classes, and those below a class's members.

Python does not keep a member's docstring, so the class's source is read.
"""

import ast
import inspect
from textwrap import dedent


def summary(kind: type) -> str:
    """Return the first paragraph of the docstring of a TypedDict or an enumeration, as Markdown on one line."""
    return text((inspect.getdoc(kind) or "").partition("\n\n")[0])


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


def text(docstring: str) -> str:
    """Return a docstring with each paragraph on one line, its code between single back-ticks."""
    paragraphs = docstring.replace("``", "`").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _text(node: ast.stmt) -> str:
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return text(str(node.value.value)) if is_text else ""  # type: ignore[attr-defined]
