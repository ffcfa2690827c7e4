"""Differences that are alike, counted together under one signature: kind, field, and a text without changing values.

A family is a kind of difference in one field, such as other idle timeouts. Its signatures have the text of the
difference: ``idle_timeout 50 for 1``. When a family has too many texts, those with the same value of the master become
one: ``idle_timeout 50 for other values``. When it has too many values, all become one: ``idle_timeout: other values``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import NamedTuple

from natmirror.openflow.comparison.conditions import Agreed, Causes
from natmirror.openflow.comparison.hosts import HOSTS_COST, HostCounts
from natmirror.openflow.comparison.results import Difference, DifferenceKind, Evidence
from natmirror.openflow.tables.state import Account

MAX_SIGNATURES = 100
_MAX_TEXTS = 8
"""Texts, or values, of a family that are kept apart."""
_MAX_TEXT_LEN = 300
_MAX_LINES, _MAX_MESSAGES, _MAX_MESSAGE_LEN = 12, 8, 2048
"""Lines of each side, messages, and bytes of a message that an example keeps."""
SIGNATURE_COST = 4000 + HOSTS_COST
"""Bytes that Python needs for a signature without its example, at most."""
_EXAMPLE_COST = 500
_MESSAGE_COST = 200

_ALIKE = {
    DifferenceKind.RULE_MISSING: "a rule is missing",
    DifferenceKind.RULE_MORE: "a rule more",
    DifferenceKind.RULE_DIFFERENT: "a rule is different",
    DifferenceKind.RULE_KEPT: "a rule is not deleted",
    DifferenceKind.RULE_DELETED: "a rule is deleted",
    DifferenceKind.FRAME_DIFFERENT: "the frame is sent on in another way",
    DifferenceKind.FRAME_MISSING: "the frame is not sent on",
    DifferenceKind.FRAME_MORE: "the frame is sent on",
    DifferenceKind.ENTRY_DIFFERENT: "a group or a meter is different",
    DifferenceKind.SETTING_DIFFERENT: "a setting is different",
    DifferenceKind.NO_ANSWER: "no answer",
    DifferenceKind.SESSION_ENDED: "the session ended",
}
"""The words for a family whose differences have no field."""


class Level(IntEnum):
    """What a family's signatures are kept apart by."""

    TEXT = 0
    VALUE = 1
    NOTHING = 2


class Family(NamedTuple):
    """The differences of a kind in one field; those of answers and those that answer nothing are kept apart."""

    kind: DifferenceKind
    field: str
    is_asked: bool
    """Whether the difference is one of an answer to a PACKET_IN."""


@dataclass(slots=True)
class Example:
    """One difference with its evidence."""

    at: float
    client: str
    datapath_id: int | None
    evidence: Evidence

    @property
    def cost(self) -> int:
        """Bytes of memory."""
        lines = (self.evidence.packet_in, *self.evidence.production, *self.evidence.mirror)
        messages = sum(len(message.raw) + _MESSAGE_COST for _, _, message in self.evidence.messages)
        return _EXAMPLE_COST + sum(map(len, lines)) + messages


@dataclass(slots=True, eq=False)
class Signature:
    """Differences that are alike."""

    number: int
    family: Family
    value: str
    text: str
    first_at: float
    last_at: float
    counted_at: float = float("-inf")
    """When the last difference was counted, which is a little after it happened."""
    count: int = 0
    causes: Causes = field(default_factory=Causes)
    hosts: HostCounts = field(default_factory=HostCounts)
    """The answers that differ, by host."""
    unresolved: int = 0
    """The connections of switches at which it is not resolved."""
    resolved_at: float | None = None
    example: Example | None = None

    def absorb(self, other: "Signature") -> None:
        """Count another signature's differences too."""
        self.first_at = min(self.first_at, other.first_at)
        self.last_at = max(self.last_at, other.last_at)
        self.counted_at = max(self.counted_at, other.counted_at)
        self.count += other.count
        self.causes.merge(other.causes)
        self.hosts.merge(other.hosts)
        self.unresolved += other.unresolved
        ends = [one.resolved_at for one in (self, other) if one.resolved_at is not None]
        self.resolved_at = None if self.unresolved else max(ends, default=None)
        if self.example is None:
            self.example, other.example = other.example, None

    def where(self, agreed: Agreed) -> str:
        """Return what all causes have in common, and none of the agreeing ones; empty for nothing."""
        return self.causes.where(agreed.beside(self.family.kind))

    def copy(self) -> "Signature":
        """Return a copy for another thread, which shares what never changes."""
        return replace(self, causes=Causes(self.causes.count, dict(self.causes.values)), hosts=self.hosts.copy())


class Signatures:
    """The signatures of one master. ``renumber`` is called with the old and the new number when one becomes part of
    another one."""

    def __init__(self, account: Account, renumber: Callable[[int, int], None]) -> None:
        self._account = account
        self._renumber = renumber
        self._families: dict[Family, dict[str, Signature]] = {}
        self._levels: dict[Family, Level] = {}
        self._by_number: dict[int, Signature] = {}
        self._next_number = 1
        self.held = 0
        """Bytes on the account."""

    def __iter__(self) -> Iterator[Signature]:
        return iter(self._by_number.values())

    def level(self, family: Family) -> Level:
        """Return what the family's signatures are kept apart by."""
        return self._levels.get(family, Level.TEXT)

    def find(self, difference: Difference, at: float, *, is_asked: bool) -> Signature | None:
        """Return the signature of a difference, a new one if there is none; None if there are too many."""
        family = Family(difference.kind, difference.field, is_asked)
        return self._find(family, difference.value, difference.text[:_MAX_TEXT_LEN], at)

    def take(self, other: Signature, level: Level) -> Signature | None:
        """Add another collection's signature, which keeps its family apart by ``level``. Return ours that has it; None
        if there are too many."""
        if level > self.level(other.family):
            self._fold(other.family, level)
        mine = self._find(other.family, other.value, other.text, other.first_at)
        if mine is not None:
            mine.absorb(other.copy())
        return mine

    def get(self, number: int) -> Signature | None:
        """Return the signature with this number; None if it is part of another one."""
        return self._by_number.get(number)

    def keep_example(self, signature: Signature, example: Example) -> None:
        """Keep an example, if memory allows it."""
        kept = replace(
            example.evidence,
            packet_in=example.evidence.packet_in[:_MAX_TEXT_LEN],
            production=_lines(example.evidence.production),
            mirror=_lines(example.evidence.mirror),
            messages=tuple(
                (sender, at, replace(message, raw=message.raw[:_MAX_MESSAGE_LEN]))
                for sender, at, message in example.evidence.messages[:_MAX_MESSAGES]
            ),
        )
        example = replace(example, evidence=kept)
        if self._take(example.cost):
            signature.example = example

    def forget_before(self, moment: float) -> None:
        """Forget the signatures whose last difference was counted before a moment."""
        for family, members in list(self._families.items()):
            for key, one in list(members.items()):
                if one.counted_at < moment:
                    del members[key]
                    self._remove(one)
            if not members:
                del self._families[family]
                self._levels.pop(family, None)

    def give_up(self) -> None:
        """Forget the examples, because their memory is needed."""
        for signature in self._by_number.values():
            self._drop_example(signature)

    def close(self) -> None:
        """Give all memory back."""
        self._give(self.held)
        self._renumber = lambda old, new: None  # breaks a reference cycle

    def _find(self, family: Family, value: str, text: str, at: float) -> Signature | None:
        members = self._families.get(family, {})
        for _ in Level:
            level = self.level(family)
            key, words = _named(level, family, value, text)
            if (found := members.get(key)) is not None:
                return found
            if len(members) < _MAX_TEXTS or level is Level.NOTHING:
                return self._add(family, key, value if level is not Level.NOTHING else "", words, at)
            self._fold(family, Level(level + 1))
            members = self._families[family]
        return None

    def _add(self, family: Family, key: str, value: str, text: str, at: float) -> Signature | None:
        if len(self._by_number) >= MAX_SIGNATURES or not self._take(SIGNATURE_COST):
            return None
        made = Signature(self._next_number, family, value, text, at, at)
        self._next_number += 1
        self._families.setdefault(family, {})[key] = made
        self._by_number[made.number] = made
        return made

    def _fold(self, family: Family, level: Level) -> None:
        """Keep the signatures of a family apart by less."""
        self._levels[family] = level
        members: dict[str, Signature] = {}
        for old in list(self._families.get(family, {}).values()):
            key, words = _named(level, family, old.value, old.text)
            kept = members.setdefault(key, old)
            kept.text, kept.value = words, kept.value if level is Level.VALUE else ""
            if kept is not old:
                kept.absorb(old)
                self._remove(old)
                self._renumber(old.number, kept.number)
        self._families[family] = members

    def _remove(self, signature: Signature) -> None:
        self._drop_example(signature)
        del self._by_number[signature.number]
        self._give(SIGNATURE_COST)

    def _drop_example(self, signature: Signature) -> None:
        if signature.example is not None:
            self._give(signature.example.cost)
            signature.example = None

    def _take(self, count: int) -> bool:
        if not self._account.take(count):
            return False
        self.held += count
        return True

    def _give(self, count: int) -> None:
        self._account.give(count)
        self.held -= count


def _named(level: Level, family: Family, value: str, text: str) -> tuple[str, str]:
    """Return the key and the text of a signature on a level."""
    alike = family.field or _ALIKE[family.kind]
    if level is Level.TEXT:
        return text, text
    if level is Level.VALUE and family.field:
        return value, f"{alike} {value} for other values"
    return "", f"{alike}: other values" if family.field else alike


def _lines(lines: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(line[:_MAX_TEXT_LEN] for line in lines[:_MAX_LINES])
