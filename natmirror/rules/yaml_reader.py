"""Strict reading of a YAML 1.2 file. Each value knows its line and the path of its key, for error messages.

The values are read from YAML's tree of nodes, before any conversion: ``on`` is a word, ``010`` is no number, and a key
that occurs twice is an error.
"""

import re
from collections.abc import Set
from difflib import get_close_matches
from enum import StrEnum
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from typing import TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from natmirror.errors import RulesError
from natmirror.rules.errors_found import ErrorsFound, PlacedError

Kind = TypeVar("Kind", bound=StrEnum)

MAX_FILE_LEN = 1 << 20
_SHOWN_LEN = 40
_QUOTED_TEXT = re.compile(r"(?<=alias|nchor|andle) '.*'", re.DOTALL)  # quotes the file: it may be a secret

_NO_HOSTS = {
    IPv4Network("0.0.0.0/8"): "which stands for no host or any",
    IPv4Network("127.0.0.0/8"): "a loopback address",
    IPv4Network("224.0.0.0/4"): "a multicast address",
    IPv4Network("255.255.255.255/32"): "the broadcast address",
}
"""Addresses that no packet on a network may have for one host (RFC 6890 §2.2.2, RFC 5771). Linux forwards packets to
and from the rest of 240.0.0.0/4, and 169.254.0.0/16."""

_TAG = "tag:yaml.org,2002:"


class Value:
    """One value of the file. Each method reads it as one type, and raises RulesError where it is of another. ``errors``
    gets those that do not keep the reader from going on."""

    def __init__(self, node: Node, file: str, path: str, errors: ErrorsFound, line: int | None = None) -> None:
        self.errors = errors
        self._node = node
        self._file = file
        self._path = path
        self._line = node.start_mark.line + 1 if line is None else line

    def unexpected(self, expected: str, found: str | None = None) -> PlacedError:
        """Return an error that says what was expected and what was found."""
        return self.error(f"expected {expected}, found {found or self._shown()}")

    def error(self, message: str) -> PlacedError:
        """Return an error with this message, after the value's place in the file."""
        where = f"{self._path}: " if self._path else ""
        return PlacedError(self._line, f"{self._file}:{self._line}: {where}{message}")

    def integer(self, low: int, high: int) -> int:
        """Read a whole number from ``low`` to ``high``."""
        expected = f"{low}..{high}"
        try:
            number = int(self._scalar("int", expected).replace("_", ""), 0)
        except ValueError:
            raise self.unexpected(expected, f"{self._shown()} with a leading zero") from None
        if not low <= number <= high:
            raise self.unexpected(expected)
        return number

    def boolean(self) -> bool:
        """Read ``true`` or ``false``."""
        return self._scalar("bool", "true or false").lower() == "true"

    def choice(self, kinds: type[Kind]) -> Kind:
        """Read one word of an enumeration."""
        expected = " or ".join(kinds)
        word = self._scalar("str", expected)
        if word not in list(kinds):
            raise self.unexpected(expected)
        return kinds(word)

    def scalar(self, expected: str) -> str:
        """Return the text of a scalar; ``expected`` is for the error where the value is a list or a mapping."""
        if not isinstance(self._node, ScalarNode):
            raise self.unexpected(expected)
        return str(self._node.value)

    def address(self) -> IPv4Address:
        """Read the IPv4 address of one host."""
        try:
            address = IPv4Address(self.scalar("an IPv4 address"))
        except AddressValueError:
            raise self.unexpected("an IPv4 address") from None
        self.refuse_no_host(address)
        return address

    def refuse_no_host(self, address: IPv4Address) -> None:
        """Refuse an address that no host on a network has."""
        if kind := next((kind for network, kind in _NO_HOSTS.items() if address in network), None):
            raise self.unexpected("the address of one host that others can reach", f"{address}, {kind}")

    def network(self) -> IPv4Network:
        """Read an IPv4 network."""
        expected = "an IPv4 network such as 10.10.0.0/24"
        try:
            network = IPv4Network(self.scalar(expected))
        except ValueError as error:
            hint = f" ({error})" if "host bits" in str(error) else ""
            raise self.unexpected(expected, self._shown() + hint) from None
        if kind := next((kind for other, kind in _NO_HOSTS.items() if network.subnet_of(other)), None):
            raise self.unexpected("a network with hosts that others can reach", f"{network}, {kind}")
        return network

    def list(self, of: str) -> "list[Value]":
        """Return the values of a list that is not empty; ``of`` says in an error what it lists."""
        if not isinstance(self._node, SequenceNode) or not self._node.value:
            raise self.unexpected(
                f"a list of {of}", None if not isinstance(self._node, SequenceNode) else "an empty list"
            )
        return [
            Value(node, self._file, f"{self._path}[{index}]", self.errors)
            for index, node in enumerate(self._node.value)
        ]

    def mapping(self, *known: str) -> "Mapping":
        """Read a mapping that has only ``known`` keys, each at most once; note those that it may not have."""
        if not isinstance(self._node, MappingNode):
            raise self.unexpected("a mapping with " + ", ".join(known))
        values: dict[str, Value] = {}
        misspelt: set[str] = set()
        is_right = True
        for key_node, node in self._node.value:
            key = str(key_node.value) if isinstance(key_node, ScalarNode) else "?"
            path = f"{self._path}.{key}" if self._path else key
            at_key = Value(key_node, self._file, path, self.errors)
            if key not in known:
                close = get_close_matches(key, known, 1)
                hint = f" (did you mean {close[0]}?)" if close else ""
                self.errors.note(at_key.error(f"expected one of the keys {', '.join(known)}, found {key}{hint}"))
                misspelt.update(close)
                is_right = False
                continue
            if key in values:
                self.errors.note(at_key.error(f"expected each key once, found {key} twice"))
                is_right = False
                continue
            # YAML places a value that was left out where the next token is.
            line = key_node.start_mark.line + 1 if not node.value else None
            values[key] = Value(node, self._file, path, self.errors, line)
        return Mapping(self, values, misspelt, is_right=is_right)

    def _scalar(self, kind: str, expected: str) -> str:
        if not isinstance(self._node, ScalarNode):
            raise self.unexpected(expected)
        if self._node.tag != _TAG + kind:
            raise self.unexpected(expected, f"{self._shown()} in quotes" if self._node.style else None)
        return str(self._node.value)

    def _shown(self) -> str:
        if isinstance(self._node, MappingNode):
            return "a mapping"
        if isinstance(self._node, SequenceNode):
            return "a list"
        value = " ".join(str(self._node.value).split())
        if not value:
            return "nothing"
        return value if len(value) <= _SHOWN_LEN else value[:_SHOWN_LEN] + "…"


class Mapping:
    """The values of a mapping by key. ``is_right``: no key has been refused. Those that may be meant by a refused one
    are ``misspelt``."""

    def __init__(self, value: Value, values: dict[str, Value], misspelt: Set[str], *, is_right: bool) -> None:
        self.value = value
        self.is_right = is_right
        self._values = values
        self._misspelt = misspelt

    def __getitem__(self, key: str) -> Value:
        """Return the value of a key; RulesError where the file does not have the key."""
        if key in self._misspelt - self._values.keys():
            self.value.errors.fail()
        if key not in self._values:
            raise self.value.error(f"expected the key {key}, found {self._keys()}")
        return self._values[key]

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def _keys(self) -> str:
        return "only " + ", ".join(self._values) if self._values else "none"


def parse(text: str, file: str) -> Value:
    """Return the one document of a YAML text; ``file`` names it in errors."""
    try:
        node = YAML(typ="rt").compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = _QUOTED_TEXT.sub("", str(error.problem or error.context or "not YAML"))
        if "<block end>" in problem:
            problem = "a line whose indentation fits none of the lines above it, or that lacks its dash or colon"
        raise RulesError(f"{file}:{line}: expected YAML, found: {' '.join(problem.split())}") from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise RulesError(f"{file}:1: expected YAML, found: {' '.join(str(error).split())}") from None
    if node is None:
        raise RulesError(f"{file}:1: expected rules, found an empty file")
    return Value(node, file, "", ErrorsFound())
