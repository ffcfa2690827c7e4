"""Names of services, backends, mirrors and hosts, and what stands in their place.

Some names are words that natmirror itself writes: a service is often called openflow, a mirror master. Such a word says
nothing of its owner, and to replace it everywhere would make nonsense of the rest; it is replaced only where it stands
as a name. Other names are replaced wherever they stand.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from natmirror import api

KINDS = ("service", "backend", "mirror", "host")
_KEYS = {
    "service": "service",
    "backend": "backend",
    "mirror": "mirror",
    "hosts": "host",
    "services": "service",
    "backends": "backend",
    "mirrors": "mirror",
    "sorry": "backend",
    "twin": "mirror",
}
"""Members of JSON whose values are names, or objects that have a name."""
_SUBJECT = "subject"
"""The member of a problem whose value is names, with a slash between them."""
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+|:.*:")
"""In a name that is an address: its pseudonym is the address's."""
_WORD = re.compile(r"[\w.-]+")
_BEFORE = r"(?P<before>\b(?:service|backend|mirror|master|host|name|of|by|to)s?[ ]?[ =:][ ]?\"?|(?<=\w)/)"
"""What stands before a name in natmirror's sentences, in rules, metrics and commands."""


def find(value: Any, kind: str | None = None) -> Iterator[tuple[str, str]]:
    """Yield the names in values for JSON, or in parsed rules, each with its kind."""
    if isinstance(value, Mapping):
        if kind is not None and isinstance(value.get("name"), str):
            yield value["name"], kind
        for key, one in value.items():
            yield from find(one, _KEYS.get(key))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from find(one, kind)
    elif isinstance(value, str) and value and kind is not None:
        yield value, kind


class NameMap:
    """The pseudonyms of names, ``service-1`` and so on, in the order in which they are given."""

    def __init__(self, found: Iterable[tuple[str, str]]) -> None:
        self.pseudonyms: dict[str, str] = {}
        counts = dict.fromkeys(KINDS, 0)
        for name, kind in found:
            if name not in self.pseudonyms and not _ADDRESS.search(name):
                counts[kind] += 1
                self.pseudonyms[name] = f"{kind}-{counts[kind]}"
        words = vocabulary()
        self._rare = {name.lower() for name in self.pseudonyms if not _is_common(name, words)}
        self.common = [name for name in self.pseudonyms if _is_common(name, words)]
        """The names that are words of natmirror's own, numbers or letters."""
        self._lower = {name.lower(): pseudonym for name, pseudonym in self.pseudonyms.items()}
        any_name = _either([*self.pseudonyms, *self.pseudonyms.values()])
        self._paired = _pattern(r"(?<![\w/.-])", self.common, rf"(?=/(?:{any_name})(?![\w-]))")
        self._named = _pattern(_BEFORE, self.common, r"(?P<after>\"?)(?![\w-])")

    def pattern_of(self, text: str) -> str:
        """Return a pattern that finds the other names in this text. It has those alone that occur there: to look for a
        thousand names at each character takes long."""
        low = text.lower()
        found = [name for name in self._rare if name in low]
        return f"(?<!\\w)(?i:{_either(found)})(?!\\w)" if found else "(?!)"

    def of(self, name: str) -> str:
        """Return the pseudonym of a name that the pattern has found."""
        return self._lower[name.lower()]

    def replace_common(self, text: str) -> str:
        """Return a text with its common names replaced where they stand as names."""
        if self._paired is not None:
            text = self._paired.sub(lambda match: self.pseudonyms[match["name"]], text)
        if self._named is not None:
            text = self._named.sub(
                lambda match: match["before"] + self.pseudonyms[match["name"]] + match["after"], text
            )
        return text

    def replace_in(self, value: Any, kind: str | None = None) -> Any:
        """Return values for JSON with the names replaced that stand where names do."""
        if isinstance(value, dict):
            return {
                key: "/".join(self.pseudonyms.get(part, part) for part in one.split("/"))
                if key == _SUBJECT and isinstance(one, str)
                else self.pseudonyms.get(one, one)
                if key == "name" and kind is not None and isinstance(one, str)
                else self.replace_in(one, _KEYS.get(key))
                for key, one in value.items()
            }
        if isinstance(value, list):
            return [self.replace_in(one, kind) for one in value]
        if isinstance(value, str) and kind is not None:
            return self.pseudonyms.get(value, value)
        return value


def _is_common(name: str, words: frozenset[str]) -> bool:
    return name.lower() in words or name.isdigit() or len(name) == 1


@cache
def vocabulary() -> frozenset[str]:
    """Return the words that natmirror's description of its API has, in lower case."""
    text = (Path(api.__file__).with_name("openapi.json")).read_text(encoding="utf-8")
    return frozenset(word.lower().strip(".") for word in _WORD.findall(text))


def _either(names: Iterable[str]) -> str:
    return "|".join(map(re.escape, sorted(names, key=len, reverse=True)))


def _pattern(before: str, names: Sequence[str], after: str) -> "re.Pattern[str] | None":
    """Return a pattern that finds one of these names, the longest first; None without names."""
    return re.compile(f"{before}(?P<name>{_either(names)}){after}") if names else None
