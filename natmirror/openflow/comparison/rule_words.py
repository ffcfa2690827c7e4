"""How a rule of a mirror differs from one of production, in words."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from natmirror.openflow.bodies.action_text import actions_text, instructions_text
from natmirror.openflow.bodies.elements import ANY_GROUP, Instructions, MatchField, ReservedPort
from natmirror.openflow.bodies.field_text import port_text
from natmirror.openflow.bodies.match_text import match_text
from natmirror.openflow.bodies.values import FlowMod
from natmirror.openflow.comparison.results import Difference, DifferenceKind

T = TypeVar("T")

_MIN_LIKENESS = 4.5
"""How much two rules must have in common to be the same one with other fields: the highest possible is 8."""
_SIMPLE: dict[str, Callable[[int], str]] = {
    "table": str,
    "priority": str,
    "idle_timeout": str,
    "hard_timeout": str,
    "importance": str,
    "out_port": lambda port: "any" if port == ReservedPort.ANY else port_text(port),
    "out_group": lambda group: "any" if group == ANY_GROUP else str(group),
    "cookie_mask": hex,
}
"""Fields that are numbers, and how their values are written."""


def likeness(one: FlowMod, other: FlowMod) -> float:
    """Return how much two rules have in common; 0 if they are not the same one with other fields."""
    if one.command.is_delete is not other.command.is_delete:
        return 0
    values = _share(set(one.match), set(other.match))
    if not values and (not one.instructions or one.instructions != other.instructions):
        return 0
    names = _share({field.name for field in one.match}, {field.name for field in other.match})
    found = names + values
    found += sum(
        getattr(one, name) == getattr(other, name)
        for name in ("table", "priority", "instructions", "idle_timeout", "hard_timeout", "flags")
    )
    return found if found >= _MIN_LIKENESS else 0


def _share(one: set[T], other: set[T]) -> float:
    """Return which part of two sets is in both."""
    return len(one & other) / len(one | other) if one or other else 1.0


def rule_differences(production: FlowMod, mirror: FlowMod) -> Iterator[Difference]:
    """Yield the fields in which a mirror's rule differs from production's."""
    if production.command is not mirror.command:
        yield _different("command", str(mirror.command), str(production.command))
    for name, text in _SIMPLE.items():
        theirs, mine = getattr(production, name), getattr(mirror, name)
        if theirs != mine:
            yield _different(name, text(mine), text(theirs))
    yield from _match_differences(production, mirror)
    if production.instructions != mirror.instructions:
        mine, theirs = _actions(mirror.instructions), _actions(production.instructions)
        yield Difference(DifferenceKind.RULE_DIFFERENT, f"{mine} for {theirs}", "actions", mine, theirs)
    if production.flags != mirror.flags:
        words = ("without send_flow_rem", "with send_flow_rem")
        value, instead_of = words[bool(mirror.flags)], words[bool(production.flags)]
        yield Difference(DifferenceKind.RULE_DIFFERENT, value, "flags", value, instead_of)


def _match_differences(production: FlowMod, mirror: FlowMod) -> Iterator[Difference]:
    mine, theirs = ({one.name: one for one in mod.match} for mod in (mirror, production))
    for name in sorted(mine.keys() | theirs.keys()):
        one, other = mine.get(name), theirs.get(name)
        if one is None:
            yield Difference(DifferenceKind.RULE_DIFFERENT, f"match without {name}", "match", f"without {name}")
        elif other is None:
            yield Difference(DifferenceKind.RULE_DIFFERENT, f"match also on {name}", "match", f"also on {name}")
        elif one != other:
            value, instead_of = _field(one), _field(other)
            yield Difference(DifferenceKind.RULE_DIFFERENT, f"{value} for {instead_of}", name, value, instead_of)


def _field(one: MatchField) -> str:
    return match_text((one,)) or f"{one.name}={one.value:#x}"


def _actions(instructions: Instructions) -> str:
    return instructions_text(instructions) if instructions else actions_text(())


def _different(field: str, value: str, instead_of: str) -> Difference:
    return Difference(DifferenceKind.RULE_DIFFERENT, f"{field} {value} for {instead_of}", field, value, instead_of)
