"""The page of the rules keys: each key's type, range, default, example and meaning, from the parser's own tables."""

from typing import Any

from natmirror.reference import markdown
from natmirror.reference.choices import sentences
from natmirror.reference.markdown import anchor, literal
from natmirror.rules.keys import SECTIONS, TOP
from natmirror.rules.scalars import Choice, ValueType
from natmirror.rules.tables import Key, ListOf, Section

_INTRODUCTION = """
A rules file is a YAML 1.2 file. Keys that are not listed here are errors. `natmirror --rules FILE --check` checks a
file and prints it with its defaults. For a mistake it prints one line with the file, the line, the key and the value
that was expected, and exits with code 2.

Editors that use the YAML language server complete and check a file as you type if it has a comment with the path of
[rules.schema.json](rules.schema.json): `# yaml-language-server: $schema=PATH`.

A size is a number of bytes, or a number with a unit (`16MiB`). A duration is a number with a unit (`500ms`, `1.5s`).
"""


def page() -> str:
    """Return the page."""
    return markdown.page("Rules keys", _INTRODUCTION, *map(_section, SECTIONS))


def _paths(section: Section) -> list[str]:
    """Return the places of a mapping in a file, such as ``services[].mirrors[]``; one that is empty for the top."""
    if section is TOP:
        return [""]
    found = []
    for outer in SECTIONS:
        for key in outer.keys:
            inner, is_list = _inner(key.type)
            if inner is section:
                name = key.name + ("[]" if is_list else "")
                found += [f"{path}.{name}" if path else name for path in _paths(outer)]
    return found


def _inner(of: ValueType[Any]) -> tuple[ValueType[Any], bool]:
    """Return the type of a list's items and True, or the type itself and False."""
    return (of.item, True) if isinstance(of, ListOf) else (of, False)


def _section(section: Section) -> str:
    header = ("key", "type", "default", "example", "meaning")
    choices = [
        markdown.table((literal(key.name), "meaning"), [(literal(word), text) for word, text in words.items()])
        for key in section.keys
        if isinstance(key.type, Choice) and (words := sentences(key.type.kind))
    ]
    title = f"## {_title(section)}"
    return "\n\n".join((title, section.sentence, markdown.table(header, map(_row, section.keys)), *choices))


def _title(section: Section) -> str:
    return "Top of the file" if section is TOP else ", ".join(map(literal, _paths(section)))


def _row(key: Key) -> tuple[str, ...]:
    return literal(key.name), _type(key), _default(key), literal(key.example), key.sentence


def _type(key: Key) -> str:
    inner, is_list = _inner(key.type)
    if isinstance(inner, Section):
        return f"list of [mappings](#{anchor(_title(inner))})" if is_list else f"[mapping](#{anchor(_title(inner))})"
    if isinstance(inner, Choice):
        return "one of " + ", ".join(literal(word) for word in inner.kind)
    unit = f" ({key.type.unit})" if key.type.unit else ""
    bounds = f", {key.type.bounds}" if key.type.bounds else ""
    return f"{key.type.name}{unit}{bounds}"


def _default(key: Key) -> str:
    if key.is_required:
        return "required"
    return key.absent or literal(key.default_text)
