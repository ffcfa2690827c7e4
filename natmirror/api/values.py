"""The types of parameters of the API: in a query they are text, in a body JSON."""

from collections.abc import Iterable
from difflib import get_close_matches
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from natmirror.events.event import read_time
from natmirror.events.query import SINCE, read_since

MAX_WEIGHT = 1000
"""The largest weight that the rules take, too."""


class ValueType:
    """A type of values: what an error says that it expects, and its JSON Schema."""

    expected = "text"

    def from_text(self, text: str) -> Any:
        """Return the value that a query has as text; ValueError where it is none."""
        return text

    def from_json(self, value: Any) -> Any:
        """Return the value that a body has; ValueError where it is none."""
        if not isinstance(value, str):
            raise ValueError
        return self.from_text(value)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the values in a query and in a body."""
        return {"type": "string"}


class Name(ValueType):
    """A name in the rules. natmirror itself knows the names, and refuses others."""

    expected = "a name"


class Place(ValueType):
    """Where a new backend is. natmirror itself refuses what is no address."""

    expected = "ADDRESS or ADDRESS:PORT"


class Cursor(ValueType):
    """The end of an earlier page (lists.py)."""

    expected = "the value of next in an earlier answer"


class Words(ValueType):
    """A word of an enumeration, which the reference names. natmirror itself knows the words, and refuses others."""

    expected = "a word"

    def __init__(self, enumeration: str) -> None:
        self.enumeration = enumeration


class Order(ValueType):
    """One of a list's fields, or a minus sign before it."""

    def __init__(self, fields: Iterable[str]) -> None:
        self.fields = tuple(fields)
        self.words = [sign + field for field in self.fields for sign in ("", "-")]
        self.expected = f"one of these, with or without - before it: {', '.join(self.fields)}"

    def from_text(self, text: str) -> str:
        if text not in self.words:
            raise ValueError
        return text

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": self.words}


class Since(ValueType):
    """The number of an event, or a time."""

    expected = SINCE

    def from_text(self, text: str) -> str:
        read_since(text)
        return text


class Time(ValueType):
    """A time of day."""

    expected = "a time such as 2026-11-30T03:00:00Z (UTC without an offset)"

    def from_text(self, text: str) -> str:
        read_time(text)
        return text


class Percent(ValueType):
    """A percentage."""

    expected = "a percentage above 0, at most 100"

    def from_text(self, text: str) -> float:
        percent = float(text)
        if not 0 < percent <= 100:
            raise ValueError
        return percent

    def schema(self) -> dict[str, Any]:
        return {"type": "number", "exclusiveMinimum": 0, "maximum": 100}


class Flag(ValueType):
    """True or false."""

    expected = "true or false"

    def from_text(self, text: str) -> bool:
        if text not in ("true", "false"):
            raise ValueError
        return text == "true"

    def from_json(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


class Count(ValueType):
    """A whole number between two others."""

    def __init__(self, least: int, most: int) -> None:
        self.least, self.most = least, most
        self.expected = f"a whole number from {least} to {most}"

    def from_text(self, text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= len(str(self.most))):
            raise ValueError
        return self.from_json(int(text))

    def from_json(self, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not self.least <= value <= self.most:
            raise ValueError
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


class Weight(Count):
    """A backend's weight; null stands for that of the rules."""

    def __init__(self) -> None:
        super().__init__(1, MAX_WEIGHT)
        self.expected += ", or null for the weight of the rules (drain gives a backend no new connections)"

    def from_json(self, value: Any) -> Any:
        return None if value is None else super().from_json(value)

    def schema(self) -> dict[str, Any]:
        return {**super().schema(), "type": ["integer", "null"]}


class Seconds(ValueType):
    """A time in seconds; in a body, null stands for none."""

    expected = "a number of seconds, 0 or more"
    _MOST = 1e9

    def from_text(self, text: str) -> float:
        return self._checked(float(text))

    def from_json(self, value: Any) -> float | None:
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError
        return self._checked(float(value))

    def _checked(self, seconds: float) -> float:
        if not 0 <= seconds <= self._MOST:
            raise ValueError
        return seconds

    def schema(self) -> dict[str, Any]:
        return {"type": ["number", "null"], "minimum": 0, "maximum": self._MOST}


class Client(ValueType):
    """A client's address, a network, or an address with a port."""

    expected = "an address, a network or an address with a port, such as 10.0.0.7, 10.0.0.0/24 or 10.0.0.7:40001"

    def from_text(self, text: str) -> str:
        parse_client(text)
        return text


def parse_client(text: str) -> tuple[IPv4Network, int | None]:
    """Return the network and the port that a value of the type Client stands for; ValueError where it is none."""
    address, colon, port = text.partition(":")
    if not colon:
        return IPv4Network(address), None
    return IPv4Network(f"{IPv4Address(address)}/32"), Count(1, 0xFFFF).from_text(port)


def closest(word: str, known: Iterable[str]) -> str:
    """Return the end of an error's sentence: the known word that is meant, or all of them."""
    words = list(known)
    found = get_close_matches(word, words, 1)
    if found:
        return f"did you mean {found[0]}?"
    return f"there are {', '.join(words)}" if words else "there are none"
