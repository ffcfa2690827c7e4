"""The sentences below the members of an enumeration."""

import inspect
from enum import StrEnum

import pytest

from natmirror.reference.choices import sentences
from natmirror.rules import kinds

KINDS = [kind for _, kind in inspect.getmembers(kinds, inspect.isclass) if issubclass(kind, StrEnum) and list(kind)]


class Described(StrEnum):
    ONE = "one"
    """The first
    word."""
    TWO = "two"
    """The second."""


class Undescribed(StrEnum):
    ONE = "one"
    """The first."""
    TWO = "two"


def test_each_word_has_its_sentence() -> None:
    assert sentences(Described) == {"one": "The first word.", "two": "The second."}


def test_a_word_without_a_sentence_is_an_error() -> None:
    with pytest.raises(ValueError, match="Undescribed has no docstring below two"):
        sentences(Undescribed)


@pytest.mark.parametrize("kind", KINDS)
def test_each_choice_of_the_rules_is_described(kind: type[StrEnum]) -> None:
    assert list(sentences(kind)) == list(kind)
