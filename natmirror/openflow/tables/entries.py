"""What the tables of a switch consist of: rules, groups and meters, each under a key.

An entry never changes, but for the time of its last known use: a modification replaces the entry. So a change is undone
by putting the former entry back.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from natmirror.openflow.bodies.elements import Action, Instructions, Match
from natmirror.openflow.bodies.group_values import Band, Bucket, GroupType
from natmirror.openflow.bodies.values import FlowFlag
from natmirror.openflow.tables.packed import PackedMatch, pack_match

STATE_FLAGS = FlowFlag.SEND_FLOW_REM | FlowFlag.NO_PACKET_COUNTS | FlowFlag.NO_BYTE_COUNTS
"""The flags that a rule keeps; the others tell the switch how to add it."""
_RULE_COST, _FIELD_COST, _ACTION_COST = 1100, 140, 180  # bytes that Python needs, with the rule's deadlines
_BUCKET_COST = 260


class RuleKey(NamedTuple):
    """What identifies a rule in a switch (1.3.5 §5.2)."""

    table: int
    priority: int
    match: Match


class GroupKey(NamedTuple):
    """What identifies a group."""

    group_id: int


class MeterKey(NamedTuple):
    """What identifies a meter. The word keeps it apart from a group with the same number."""

    meter_id: int
    word: str = "meter"


Key = RuleKey | GroupKey | MeterKey


@dataclass(slots=True, eq=False)
class Rule:
    """A flow entry of a switch (1.3.5 §5.2)."""

    key: RuleKey
    instructions: Instructions
    cookie: int
    idle_timeout: int
    hard_timeout: int
    flags: int
    importance: int
    made_at: float
    """When its controller added it."""
    modified_at: float
    """When its controller last changed its instructions, or added it."""
    used_at: float
    """The latest time at which the rule was in use for certain."""
    is_baseline: bool = False
    """Whether the rule was there before the model followed the switch."""
    packed: PackedMatch = field(init=False, repr=False)
    uses: tuple[GroupKey | MeterKey, ...] = field(init=False, repr=False)
    """The groups and meters that it uses."""
    cost: int = field(init=False, repr=False)
    """Bytes of memory."""

    def __post_init__(self) -> None:
        self.packed = pack_match(self.key.match)
        actions = [action for one in self.instructions if one.name in _WITH_ACTIONS for action in one.args[0]]
        count = len(self.instructions) + len(actions)
        groups, meters = group_ids_of(actions), _meter_ids(self.instructions, actions)
        self.uses = (*map(GroupKey, groups), *map(MeterKey, meters)) if groups or meters else ()
        self.cost = _RULE_COST + _FIELD_COST * len(self.key.match) + _ACTION_COST * count

    @property
    def effect(self) -> tuple[object, ...]:
        """What counts when two tables are compared: all but cookie, flags and importance, which leave frames alone."""
        return self.instructions, self.idle_timeout, self.hard_timeout

    @property
    def reports_removal(self) -> bool:
        """Whether the switch sends FLOW_REMOVED when the rule goes."""
        return bool(self.flags & FlowFlag.SEND_FLOW_REM)


@dataclass(slots=True, eq=False)
class Group:
    """A group of a switch (1.3.5 §5.6.1)."""

    key: GroupKey
    type: GroupType
    buckets: tuple[Bucket, ...]
    properties: tuple[tuple[int, bytes], ...] = ()

    @property
    def effect(self) -> tuple[object, ...]:
        return self.type, self.buckets, self.properties

    @property
    def cost(self) -> int:
        """Bytes of memory."""
        return _RULE_COST + sum(_BUCKET_COST + _ACTION_COST * len(one.actions) for one in self.buckets)


@dataclass(slots=True, eq=False)
class Meter:
    """A meter of a switch (1.3.5 §5.7)."""

    key: MeterKey
    flags: int
    bands: tuple[Band, ...]

    @property
    def effect(self) -> tuple[object, ...]:
        return self.flags, self.bands

    @property
    def cost(self) -> int:
        """Bytes of memory."""
        return _RULE_COST + _BUCKET_COST * len(self.bands)


Entry = Rule | Group | Meter


_WITH_ACTIONS = ("apply_actions", "write_actions")


def actions_of(instructions: Instructions) -> Iterator[Action]:
    """Yield the actions in a rule's instructions: those that are applied, and those that are written."""
    for one in instructions:
        if one.name in _WITH_ACTIONS:
            yield from one.args[0]


def sends_to_port(instructions: Instructions, port: int) -> bool:
    """Return whether a rule has an output to a port, as a deletion with ``out_port`` asks (1.3.5 §6.4)."""
    return any(one.name in ("output", "enqueue") and one.args[0] == port for one in actions_of(instructions))


def group_ids_of(actions: Iterable[Action]) -> set[int]:
    """Return the numbers of the groups that actions send to."""
    return {one.args[0] for one in actions if one.name == "group"}


def meter_ids_of(instructions: Instructions) -> set[int]:
    """Return the numbers of the meters of a rule: an instruction's, and from 1.5 on an action's. An action counts only
    where it is the first one, as in Open vSwitch 3.1."""
    return _meter_ids(instructions, actions_of(instructions))


def _meter_ids(instructions: Instructions, actions: Iterable[Action]) -> set[int]:
    numbers = {one.args[0] for one in instructions if one.name == "meter"}
    first = next(iter(actions), None)
    return numbers | {first.args[0]} if first is not None and first.name == "meter" else numbers
