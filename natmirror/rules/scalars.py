"""The types of single values in a rules file; addresses.py has those that hold addresses.

Each type reads a value from a file, shows one as a file writes it, and describes the values that it takes, in words and
as JSON Schema.
"""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, TypeVar

from natmirror.rules.units import SECONDS, UNITS, Rate, show_duration, show_size
from natmirror.rules.yaml_reader import Value

T = TypeVar("T")
Kind = TypeVar("Kind", bound=StrEnum)
Schema = dict[str, Any]

_SIZE = re.compile(r"(\d{1,12}) ?(KiB|MiB|GiB)?")
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?) ?(ms|s|m|h|d)")
_PERCENTAGE = re.compile(r"(\d{1,3}(?:\.\d{1,6})?) ?%")
_RATE = re.compile(r"(\d{1,9}) ?/ ?(s|m|h)")
_EXACT = 1e-9  # seconds


class ValueType(ABC, Generic[T]):
    """A type of values in a rules file."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of the type, for the reference."""

    @property
    def unit(self) -> str:
        """The units of a value, or the things that it counts; empty for other types."""
        return ""

    @property
    def bounds(self) -> str:
        """The range of the values; empty where the name says it all."""
        return ""

    @abstractmethod
    def read(self, value: Value) -> T:
        """Return the value as the rules have it; RulesError where it is not of this type."""

    @abstractmethod
    def schema(self) -> Schema:
        """Return JSON Schema for the values: it takes each value that read() takes, and may take others."""

    def show(self, found: T) -> str:
        """Return a value as a rules file writes it."""
        return str(found)


@dataclass(frozen=True)
class Integer(ValueType[int]):
    """A whole number from ``low`` to ``high``; ``counted`` names the things that it counts."""

    low: int
    high: int
    counted: str = ""

    @property
    def name(self) -> str:
        return "integer"

    @property
    def unit(self) -> str:
        return self.counted

    @property
    def bounds(self) -> str:
        return f"{self.low} to {self.high}"

    def read(self, value: Value) -> int:
        return value.integer(self.low, self.high)

    def schema(self) -> Schema:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Size(ValueType[int]):
    """A number of bytes, such as 16MiB, within bounds."""

    low: int
    high: int

    @property
    def name(self) -> str:
        return "size"

    @property
    def unit(self) -> str:
        return f"bytes, {', '.join(UNITS)}"

    @property
    def bounds(self) -> str:
        return f"{show_size(self.low)} to {show_size(self.high)}"

    def read(self, value: Value) -> int:
        expected = f"a size from {self.bounds}, such as 16MiB"
        match = _SIZE.fullmatch(value.scalar(expected))
        size = int(match[1]) << UNITS.get(match[2], 0) if match else -1
        if not self.low <= size <= self.high:
            raise value.unexpected(expected)
        return size

    def schema(self) -> Schema:
        text = {"type": "string", "pattern": _whole(_SIZE)}
        return {"anyOf": [{"type": "integer", "minimum": self.low, "maximum": self.high}, text]}

    def show(self, found: int) -> str:
        return show_size(found)


@dataclass(frozen=True)
class Duration(ValueType[float]):
    """A duration in seconds within bounds, and in steps of ``step`` where that is not 0. ``source`` names the standard
    that demands at least ``low``."""

    low: float = 0.001
    high: float = 30 * SECONDS["d"]
    step: float = 0.0
    source: str = ""

    @property
    def name(self) -> str:
        return "duration"

    @property
    def unit(self) -> str:
        return ", ".join(SECONDS)

    @property
    def bounds(self) -> str:
        steps = f" in steps of {show_duration(self.step)}" if self.step else ""
        source = f" ({self.source})" if self.source else ""
        return f"{show_duration(self.low)}{source} to {show_duration(self.high)}{steps}"

    def read(self, value: Value) -> float:
        expected = f"a duration from {self.bounds}, such as {show_duration(max(self.low, 5.0))}"
        match = _DURATION.fullmatch(value.scalar(expected))
        seconds = float(match[1]) * SECONDS[match[2]] if match else -1.0
        remainder = abs(round(seconds / self.step) * self.step - seconds) if self.step else 0.0
        if not self.low <= seconds <= self.high or remainder > _EXACT:
            raise value.unexpected(expected)
        return seconds

    def schema(self) -> Schema:
        return {"type": "string", "pattern": _whole(_DURATION)}

    def show(self, found: float) -> str:
        return show_duration(found)


@dataclass(frozen=True)
class RateType(ValueType[Rate]):
    """A number of things for each second, minute or hour, such as 20/s, from 1 to ``high``; ``counted`` names them."""

    high: int
    counted: str

    @property
    def name(self) -> str:
        return "rate"

    @property
    def unit(self) -> str:
        return f"{self.counted} /s, /m, /h"

    @property
    def bounds(self) -> str:
        return f"1 to {self.high} in each unit"

    def read(self, value: Value) -> Rate:
        expected = f"a rate of 1 to {self.high} in each second, minute or hour, such as 20/s, 600/m or 100/h"
        match = _RATE.fullmatch(value.scalar(expected))
        if not match or not 1 <= int(match[1]) <= self.high:
            raise value.unexpected(expected)
        return Rate(int(match[1]), match[2])

    def schema(self) -> Schema:
        return {"type": "string", "pattern": _whole(_RATE)}


@dataclass(frozen=True)
class Percentage(ValueType[float]):
    """A percentage, as a fraction from 0 to 1."""

    @property
    def name(self) -> str:
        return "percentage"

    @property
    def bounds(self) -> str:
        return "0% to 100%"

    def read(self, value: Value) -> float:
        expected = "a percentage from 0% to 100%"
        match = _PERCENTAGE.fullmatch(value.scalar(expected))
        if not match or float(match[1]) > 100:
            raise value.unexpected(expected)
        return float(match[1]) / 100

    def schema(self) -> Schema:
        return {"type": "string", "pattern": r"^(\d{1,2}(\.\d{1,6})?|0\d{2}(\.\d{1,6})?|100(\.0{1,6})?) ?%$"}

    def show(self, found: float) -> str:
        return f"{found:.6%}".rstrip("0%").rstrip(".") + "%"


@dataclass(frozen=True)
class Boolean(ValueType[bool]):
    """``true`` or ``false``."""

    @property
    def name(self) -> str:
        return "true or false"

    def read(self, value: Value) -> bool:
        return value.boolean()

    def schema(self) -> Schema:
        return {"type": "boolean"}

    def show(self, found: bool) -> str:
        return str(found).lower()


@dataclass(frozen=True)
class Choice(ValueType[Kind]):
    """One word of an enumeration in kinds.py."""

    kind: type[Kind]

    @property
    def name(self) -> str:
        return "choice"

    @property
    def bounds(self) -> str:
        return ", ".join(self.kind)

    def read(self, value: Value) -> Kind:
        return value.choice(self.kind)

    def schema(self) -> Schema:
        return {"enum": [str(word) for word in self.kind]}


@dataclass(frozen=True)
class Threads(ValueType[int | None]):
    """A power of two up to ``high``, or ``auto``, which is None."""

    high: int

    @property
    def name(self) -> str:
        return ", ".join(("one of auto", *map(str, self._numbers)))

    @property
    def _numbers(self) -> list[int]:
        return [1 << shift for shift in range(self.high.bit_length())]

    def read(self, value: Value) -> int | None:
        expected = f"auto, or a power of two up to {self.high}"
        word = value.scalar(expected)
        if word == "auto":
            return None
        if not word.isdecimal() or int(word) not in self._numbers:
            raise value.unexpected(expected)
        return int(word)

    def schema(self) -> Schema:
        return {"enum": ["auto", *self._numbers, *map(str, self._numbers)]}

    def show(self, found: int | None) -> str:
        return "auto" if found is None else str(found)


@dataclass(frozen=True)
class Text(ValueType[str]):
    """A text that matches ``pattern`` as a whole, with an article and a description for errors."""

    pattern: re.Pattern[str]
    article: str
    description: str

    @property
    def name(self) -> str:
        return self.description

    def read(self, value: Value) -> str:
        expected = f"{self.article} {self.description}"
        text = value.scalar(expected)
        if not self.pattern.fullmatch(text):
            raise value.unexpected(expected)
        return text

    def schema(self) -> Schema:
        # YAML reads 12 as a number and true as a boolean; read() takes both as they are written.
        return {"anyOf": [{"type": "string", "pattern": _whole(self.pattern)}, {"type": ["number", "boolean"]}]}


NAME = Text(
    re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"),
    "a",
    "name of letters, digits, dots, dashes and underscores",
)


PORT = Integer(1, 65535)


@dataclass(frozen=True)
class Secret(ValueType[str]):
    """A text of ``shortest`` to ``longest`` characters, of which an error shows the length alone."""

    shortest: int
    longest: int

    @property
    def name(self) -> str:
        return "secret text"

    @property
    def bounds(self) -> str:
        return f"{self.shortest} to {self.longest} characters"

    def read(self, value: Value) -> str:
        expected = f"a secret text of {self.bounds}"
        text = value.scalar(expected)
        if not self.shortest <= len(text) <= self.longest:
            raise value.unexpected(expected, f"one of {len(text)}")
        return text

    def schema(self) -> Schema:
        text = {"type": "string", "minLength": self.shortest, "maxLength": self.longest}
        return {"anyOf": [text, {"type": "number"}]}


@dataclass(frozen=True)
class Word(ValueType[str]):
    """Any scalar, as it is written."""

    @property
    def name(self) -> str:
        return "word"

    def read(self, value: Value) -> str:
        return value.scalar("a word")

    def schema(self) -> Schema:
        return {"type": ["string", "number", "boolean"]}


@dataclass(frozen=True)
class FilePath(ValueType[Path]):
    """The absolute path of a file."""

    @property
    def name(self) -> str:
        return "absolute path"

    def read(self, value: Value) -> Path:
        expected = "an absolute path of a file"
        path = Path(value.scalar(expected))
        if not path.is_absolute():
            raise value.unexpected(expected)
        return path

    def schema(self) -> Schema:
        return {"type": "string", "pattern": "^/"}


def _whole(pattern: re.Pattern[str]) -> str:
    return f"^(?:{pattern.pattern})$"
