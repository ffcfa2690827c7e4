"""The members of an enumeration, each with the text that stands as a docstring below it."""

from enum import StrEnum

from natmirror import docstrings


def sentences(kind: type[StrEnum]) -> dict[str, str]:
    """Return the text of each member, by its value; ValueError where one has none."""
    below = docstrings.sentences(kind)
    found = {word.value: below.get(word.name, "") for word in kind}
    if missing := [word for word, sentence in found.items() if not sentence]:
        raise ValueError(f"{kind.__name__} has no docstring below {', '.join(missing)}")
    return found
