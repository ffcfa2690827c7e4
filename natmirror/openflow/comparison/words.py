"""What a mirror's orders do otherwise than production's, in words; and the lines and messages that show it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from natmirror.openflow.bodies.action_text import actions_text
from natmirror.openflow.bodies.elements import ALL_TABLES, ANY_GROUP, ReservedPort
from natmirror.openflow.bodies.field_text import port_text
from natmirror.openflow.bodies.group_values import GroupCommand, GroupMod, MeterCommand, MeterMod
from natmirror.openflow.bodies.text import body_text
from natmirror.openflow.bodies.values import Body, FlowCommand, FlowMod, PortMod, TableMod
from natmirror.openflow.comparison.causes import Cause, cut
from natmirror.openflow.comparison.effects import Effect
from natmirror.openflow.comparison.results import Difference, DifferenceKind, Evidence
from natmirror.openflow.comparison.rule_words import likeness, rule_differences
from natmirror.openflow.messages import Message
from natmirror.openflow.tables.walk import Choice, Output, Outputs

MAX_PAIRED = 8
"""Rules of each side among which the nearest are looked for."""
_MAX_DIFFERENCES = 16
_MAX_LINES = 12
_MAX_TEXT_LEN = 200

_MISSING_RULE = Difference(DifferenceKind.RULE_MISSING, "a rule is missing")
_MORE_RULE = Difference(DifferenceKind.RULE_MORE, "a rule more")
_KEPT_RULE = Difference(DifferenceKind.RULE_KEPT, "a rule is not deleted")
_DELETED_RULE = Difference(DifferenceKind.RULE_DELETED, "a rule is deleted")
_MISSING_FRAME = Difference(DifferenceKind.FRAME_MISSING, "the frame is not sent on")
_MORE_FRAME = Difference(DifferenceKind.FRAME_MORE, "the frame is sent on")
NO_ANSWER = Difference(DifferenceKind.NO_ANSWER, "no answer")


def unmatched(ones: Sequence[Effect], others: Sequence[Effect]) -> tuple[list[Effect], list[Effect]]:
    """Return the effects of each side that the other side does not have; frames each as often as it has them less. To
    make a rule twice is the same as to make it once."""
    if len(ones) == len(others) and all(map(Effect.is_same, ones, others)):
        return [], []
    left, right = [], list(others)
    for one in ones:
        same = next((other for other in right if one.is_same(other)), None)
        if same is None:
            left.append(one)
        elif one.sent is not None:
            right.remove(same)
    return left, [one for one in right if one.sent is not None or not any(one.is_same(other) for other in ones)]


def without_idle(effects: Iterable[Effect]) -> list[Effect]:
    """Return the effects that change something."""
    return [one for one in effects if not one.is_idle]


class Found(NamedTuple):
    """A difference between two effects, or between one and none."""

    difference: Difference
    production: tuple[Effect, ...]
    mirror: tuple[Effect, ...]


def differences(production: Sequence[Effect], mirror: Sequence[Effect]) -> list[Found]:
    """Return the differences between effects that only one side has."""
    found = [
        *_rules(_of(production, FlowMod), _of(mirror, FlowMod)),
        *_frames([one for one in production if one.sent is not None], [one for one in mirror if one.sent is not None]),
        *_by_name(_of(production, GroupMod, MeterMod), _of(mirror, GroupMod, MeterMod)),
        *_by_name(_of(production, PortMod, TableMod), _of(mirror, PortMod, TableMod)),
    ]
    return found[:_MAX_DIFFERENCES]


def _of(effects: Iterable[Effect], *kinds: type) -> list[Effect]:
    return [one for one in effects if one.sent is None and isinstance(one.plain, kinds)]


# Rules


def _rules(production: list[Effect], mirror: list[Effect]) -> Iterable[Found]:
    """Pair the rules that have most in common, and say how they differ; say of the others that one side has them."""
    alike = sorted(
        (
            (likeness(_mod(one), _mod(other)), one, other)
            for one in production[:MAX_PAIRED]
            for other in mirror[:MAX_PAIRED]
        ),
        key=lambda found: -found[0],
    )
    paired: set[int] = set()
    for count, one, other in alike:
        if count and not {id(one), id(other)} & paired:
            paired |= {id(one), id(other)}
            for difference in rule_differences(_mod(one), _mod(other)):
                yield Found(difference, (one,), (other,))
    for one in production:
        if id(one) not in paired:
            yield Found(_KEPT_RULE if _mod(one).command.is_delete else _MISSING_RULE, (one,), ())
    for other in mirror:
        if id(other) not in paired:
            yield Found(_DELETED_RULE if _mod(other).command.is_delete else _MORE_RULE, (), (other,))


def _mod(effect: Effect) -> FlowMod:
    assert isinstance(effect.plain, FlowMod)
    return effect.plain


# Frames


def _frames(production: list[Effect], mirror: list[Effect]) -> Iterable[Found]:
    for one, other in zip(production, mirror, strict=False):
        value, instead_of = sent_text(other), sent_text(one)
        if value == instead_of:  # the same actions have other results, by a group or by the tables
            value, instead_of = _leaves_text(other), _leaves_text(one)
        text = f"frame {value} for {instead_of}"
        yield Found(Difference(DifferenceKind.FRAME_DIFFERENT, text, "frame", value, instead_of), (one,), (other,))
    for one in production[len(mirror) :]:
        yield Found(_MISSING_FRAME, (one,), ())
    for other in mirror[len(production) :]:
        yield Found(_MORE_FRAME, (), (other,))


def sent_text(effect: Effect) -> str:
    """Return what becomes of a frame, by the actions."""
    assert effect.sent is not None
    return _cut(actions_text(effect.sent.actions))


def _leaves_text(effect: Effect) -> str:
    """Return what becomes of a frame, by where it leaves."""
    assert effect.sent is not None
    sent = effect.sent
    words = ["in an unknown way"] if sent.outputs is None else sorted(_outputs_text(sent.outputs))
    if sent.in_port is not None:
        words.append(f"not by {port_text(sent.in_port)}")
    if sent.own is not None:
        words.append("with other contents")
    return _cut(f"leaves {' and '.join(words) or 'nowhere'}")


def _outputs_text(outputs: Outputs) -> Iterable[str]:
    for one in outputs:
        if isinstance(one, Output):
            changed = ",".join(f"{name}={value}" for name, value in one.changes)
            yield f"by {port_text(one.port)}" + (f" with {changed}" if changed else "")
        elif isinstance(one, Choice):
            yield f"by one of {len(one.options)} buckets"


# Groups, meters, settings


def name_of(body: Body) -> str:
    """Return what an order about a group, a meter, a port or a table changes."""
    match body:
        case GroupMod():
            return f"group {body.group_id}" + (" deleted" if body.command is GroupCommand.DELETE else "")
        case MeterMod():
            return f"meter {body.meter_id}" + (" deleted" if body.command is MeterCommand.DELETE else "")
        case PortMod():
            return f"port {port_text(body.port)}"
        case TableMod():
            return f"table {body.table}"
    return ""


def _by_name(production: list[Effect], mirror: list[Effect]) -> Iterable[Found]:
    theirs, mine = ({name_of(one.plain): one for one in effects} for effects in (production, mirror))
    for name in sorted(theirs.keys() | mine.keys()):
        one, other = theirs.get(name), mine.get(name)
        either = one or other
        assert either is not None
        is_entry = isinstance(either.plain, (GroupMod, MeterMod))
        kind = DifferenceKind.ENTRY_DIFFERENT if is_entry else DifferenceKind.SETTING_DIFFERENT
        if one is not None and other is not None:
            value, instead_of = _cut(body_text(other.plain)), _cut(body_text(one.plain))
            yield Found(Difference(kind, f"{value} for {instead_of}", name, value, instead_of), (one,), (other,))
        elif one is not None:
            yield Found(Difference(kind, f"{name} missing", name, "missing"), (one,), ())
        elif other is not None:
            yield Found(Difference(kind, f"{name} more", name, "more"), (), (other,))


# Evidence


def line_of(effect: Effect) -> str:
    """Return an effect as a line."""
    return f"frame {sent_text(effect)}" if effect.sent is not None else _cut(body_text(effect.order.body))


def evidence(cause: Cause | None, production: Sequence[Effect], mirror: Sequence[Effect]) -> Evidence:
    """Return what shows a difference: both sides' lines and messages."""
    messages: list[tuple[str, float, Message]] = []
    if cause is not None:
        messages.append(("switch", cause.at, cause.message))
    for name, effects in (("production", production), ("mirror", mirror)):
        orders = list(dict.fromkeys(one.order for one in effects[:_MAX_LINES]))
        messages += [(name, one.at, cut(one.message)) for one in orders]
    return Evidence(
        "" if cause is None else body_text(cause.packet_in),
        tuple(map(line_of, production[:_MAX_LINES])),
        tuple(map(line_of, mirror[:_MAX_LINES])),
        tuple(messages),
    )


def named(found: Found) -> Difference:
    """Return a difference with the order that only one side has given."""
    effects = (*found.production, *found.mirror)
    if found.difference.field or len(effects) != 1:
        return found.difference
    return replace(found.difference, text=f"{found.difference.text}: {line_of(effects[0])}{_extent(effects[0].plain)}")


def _extent(body: Body) -> str:
    """Return what a deletion of all rules of a table has no word for in its line."""
    if not isinstance(body, FlowMod) or body.command is not FlowCommand.DELETE or body.table == ALL_TABLES:
        return ""
    is_bounded = body.match or body.cookie_mask or (body.out_port, body.out_group) != (ReservedPort.ANY, ANY_GROUP)
    return "" if is_bounded else f", all rules of table {body.table}"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT_LEN else f"{text[:_MAX_TEXT_LEN]}…"
