"""Tables of keys: a Section lists the keys of one mapping in a rules file, and reads such a mapping by this list."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, TypeVar

from natmirror.rules.scalars import Schema, ValueType
from natmirror.rules.yaml_reader import Mapping, Value

T = TypeVar("T")


class _Required(Enum):
    REQUIRED = "required"


REQUIRED: Final = _Required.REQUIRED
"""The default of a key that has to be given."""


@dataclass(frozen=True)
class Key:
    """One key of a mapping."""

    name: str
    type: ValueType[Any]
    sentence: str
    """The meaning, in plain sentences for the operator."""
    example: str = field(kw_only=True)
    """A value as a rules file writes it."""
    default: Any = field(default=REQUIRED, kw_only=True)
    """The value where the key is left out."""
    absent: str = field(default="", kw_only=True)
    """The default in words, where no value of the type stands for it."""

    @property
    def is_required(self) -> bool:
        return self.default is REQUIRED

    @property
    def default_text(self) -> str:
        """The default as a rules file writes it, or else in words; empty where the key is required."""
        if self.absent or self.is_required:
            return self.absent
        return self.type.show(self.default)


class Fields:
    """One mapping of a rules file: the value of each key, or the key's default, and its place for error messages."""

    def __init__(self, value: Value, mapping: Mapping, values: dict[str, Any]) -> None:
        self.value = value
        self._mapping = mapping
        self._values = values

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def is_given(self, key: str) -> bool:
        """Return whether the file gives the key."""
        return key in self._mapping

    def place(self, key: str) -> Value:
        """Return the place of a key's value in the file; RulesError where the file does not give it."""
        return self._mapping[key]

    def arguments(self, **others: Any) -> dict[str, Any]:
        """Return all values by the names that the model's fields have, with ``others`` in place of some."""
        return {key.replace("-", "_"): found for key, found in self._values.items()} | others


@dataclass(frozen=True)
class Section(ValueType[Fields]):
    """The keys of one mapping. ``title`` names the mapping, in an error's words and in the JSON Schema."""

    title: str
    sentence: str
    keys: tuple[Key, ...]

    @property
    def name(self) -> str:
        return "mapping"

    def __getitem__(self, name: str) -> Key:
        return next(key for key in self.keys if key.name == name)

    def read(self, value: Value) -> Fields:
        mapping, values = self._read(value)
        if len(values) < len(self.keys) or not mapping.is_right:
            value.errors.fail()
        return Fields(value, mapping, values)

    def read_partly(self, value: Value) -> Fields:
        """Read a mapping whose keys do not depend on each other: one that cannot be read, and is not required, has its
        default."""
        mapping, values = self._read(value)
        defaults = {key.name: key.default for key in self.keys if not key.is_required}
        if not {key.name for key in self.keys} <= defaults.keys() | values.keys():
            value.errors.fail()
        return Fields(value, mapping, defaults | values)

    def _read(self, value: Value) -> tuple[Mapping, dict[str, Any]]:
        """Return a mapping, and the values of its keys without those that cannot be read."""
        mapping = value.mapping(*(key.name for key in self.keys))
        values: dict[str, Any] = {}
        for key in self.keys:
            with value.errors.kept():
                is_read = key.is_required or key.name in mapping
                values[key.name] = key.type.read(mapping[key.name]) if is_read else key.default
        return mapping, values

    def schema(self) -> Schema:
        return {"$ref": f"#/$defs/{self.title}"}


@dataclass(frozen=True)
class ListOf(ValueType[tuple[T, ...]]):
    """A list of values of one type that is not empty; ``what`` says in an error what it lists."""

    item: ValueType[T]
    what: str
    length: int | None = None
    """The number of values that the list must have; None: any number."""

    @property
    def name(self) -> str:
        return f"list of {self.what}"

    @property
    def bounds(self) -> str:
        return self.item.bounds

    def read(self, value: Value) -> tuple[T, ...]:
        values = value.list(self.what)
        if self.length is not None and len(values) != self.length:
            raise value.error(f"expected {self.what}, found {len(values)}")
        read: list[T] = []
        for one in values:
            with value.errors.kept():
                read.append(self.item.read(one))
        if len(read) < len(values) and not isinstance(self.item, Section):  # the other mappings can be checked
            value.errors.fail()
        return tuple(read)

    def schema(self) -> Schema:
        exact = {} if self.length is None else {"maxItems": self.length}
        return {"type": "array", "items": self.item.schema(), "minItems": self.length or 1, **exact}

    def show(self, found: tuple[T, ...]) -> str:
        return f"[{', '.join(map(self.item.show, found))}]"
