"""The page of the state has all that a running natmirror shows, and each word of it is declared once."""

import ast
import re
from pathlib import Path
from typing import Any, TypedDict, get_type_hints

import pytest

from natmirror.reasons import EndReason
from natmirror.reference import state
from natmirror.reference.fields import fields
from natmirror.reference.state import ANSWERS, WORDS, enums, objects
from tests.helpers.declared import differences

PACKAGE = Path(__file__).parents[2] / "natmirror"
SOURCES = [path for path in sorted(PACKAGE.rglob("*.py")) if "lab" not in path.parts]
OBJECTS: set[type] = {kind for answer in ANSWERS.values() for _, kind in objects(answer)}
PAGE = state.page()
LOSS_TITLE = next(title for title, kind in WORDS.items() if kind is EndReason)
COUNTED = {"count", "drop", "Drop", "Malformed", "Broken", "count_not_kept", "count_not_opened"}
"""Functions that take a counter or a reason as their first argument."""
ENDING = {"abort", "abandon", "cut", "end", "give_up"}
"""Functions that take the reason of an end."""


class Base(TypedDict):
    first: int
    """One."""


class Derived(Base):
    second: str | None
    """Two, in
    two lines."""


class Undescribed(TypedDict):
    first: int


@pytest.mark.parametrize("kind", sorted(OBJECTS, key=str))
def test_each_field_has_its_sentence_and_each_word_its_section(kind: type) -> None:
    for field in fields(kind):
        assert field.sentence.endswith("."), field.name
        assert enums(field.type) <= set(WORDS.values())
        assert f"| `{field.name}` |" in PAGE


@pytest.mark.parametrize("title", WORDS)
def test_each_word_is_on_the_page(title: str) -> None:
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    assert all(f"| `{word}` |" in section for word in WORDS[title])


def test_each_end_reason_has_its_cause_and_its_remedy() -> None:
    section = PAGE.partition(f"\n## {LOSS_TITLE}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \|(.*)\|$", section, re.MULTILINE)
    assert [word for word, _ in rows] == list(EndReason)
    for word, cells in rows:
        texts = [text.strip() for text in re.split(r"(?<!\\)\|", cells)]
        assert [text[-1:] for text in texts] == [".", "."], word


def test_the_page_has_an_anchor_for_each_link() -> None:
    text = PAGE
    anchors = {
        "".join(char for char in title.lower().replace(" ", "-") if char.isalnum() or char in "-_")
        for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= anchors


def test_inherited_fields_come_last() -> None:
    assert [(one.name, one.sentence) for one in fields(Derived)] == [
        ("second", "Two, in two lines."),
        ("first", "One."),
    ]
    assert {one.name: one.type for one in fields(Derived)} == get_type_hints(Derived)


def test_a_field_without_a_sentence_is_an_error() -> None:
    with pytest.raises(ValueError, match="Undescribed has no docstring below first"):
        fields(Undescribed)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"first": 1, "second": None}, []),
        ({"first": 1, "second": None, "third": 3}, [".third is not declared in Derived"]),
        ({"first": 1}, [".second is missing"]),
        ({"first": "1", "second": None}, [".first: '1' is no int"]),
        ({"first": True, "second": None}, [".first: True is no int"]),
    ],
)
def test_what_is_not_declared_is_found(value: Any, found: list[str]) -> None:
    assert list(differences(Derived, value, "")) == found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_counters_and_reasons_are_members_of_an_enumeration(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = node.args if name in ENDING else node.args[:1] if name in COUNTED else []
        words = [one for one in given if isinstance(one, ast.Constant | ast.JoinedStr) and is_word(one)]
        assert not words, f"line {node.lineno}: declare the word in its enumeration, see CONTRIBUTING.md, A counter"


def is_word(node: ast.Constant | ast.JoinedStr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node.value, str) and node.value.isprintable())
