"""What orders do to a switch, without what does not matter: so the effects of two equal controllers are the same.

Left out are transaction ids, cookies, buffers, and flags that tell the switch only how to do an order. What a frame
becomes is compared by where it leaves, and by the actions where that is not known. An order that changes nothing in its
side's tables, because all is already so, is idle: where only one side gives it, that is no difference.
"""

from collections import Counter
from dataclasses import dataclass, replace

from natmirror.openflow.bodies.elements import NO_BUFFER, Action, Actions, ReservedPort
from natmirror.openflow.bodies.frames import Fields, frame_fields
from natmirror.openflow.bodies.group_values import GroupMod, MeterMod
from natmirror.openflow.bodies.values import Body, FlowFlag, FlowMod, PacketOut, PortMod, TableMod
from natmirror.openflow.comparison.attribution import Order
from natmirror.openflow.comparison.causes import BytesKey, key_of
from natmirror.openflow.messages import V10
from natmirror.openflow.tables.entries import Entry, Key, Rule, actions_of
from natmirror.openflow.tables.model import Model
from natmirror.openflow.tables.state import Change
from natmirror.openflow.tables.walk import Outputs, carry_out

_MAX_CHANGES = 64  # changes of one order that are compared one by one
_COST = 1200  # bytes that Python needs for an effect besides its message
_BY_IN_PORT = (ReservedPort.FLOOD, ReservedPort.ALL)

Changed = frozenset[tuple[Key, tuple[object, ...] | None]]
"""The entries that an order has changed, each with what counts of it then; None where it is gone."""


@dataclass(slots=True, eq=False)
class FrameSent:
    """Where a frame goes."""

    actions: Actions
    outputs: Outputs | None
    """None where they are not known."""
    in_port: int | None
    """The port that the actions leave out; None where that makes no difference."""
    own: BytesKey | None
    """The frame, if it is not that of the PACKET_IN."""

    def is_same(self, other: "FrameSent") -> bool:
        if (self.in_port, self.own) != (other.in_port, other.own):
            return False
        if self.outputs is None or other.outputs is None:
            return self.actions == other.actions
        return self.outputs == other.outputs and self.repeated == other.repeated

    @property
    def repeated(self) -> tuple[int, ...]:
        """The ports by which it leaves more than once: the outputs do not show it."""
        ports = Counter(one.args[0] for one in self.actions if one.name == "output")
        return tuple(sorted(port for port in ports.elements() if ports[port] > 1))


@dataclass(slots=True, eq=False)
class Effect:
    """What one order does."""

    order: Order
    plain: Body
    """The order without what does not matter."""
    changed: Changed | None = None
    """None where it is not known, or much."""
    sent: FrameSent | None = None
    """What becomes of a frame; None where the order sends none."""

    @property
    def cost(self) -> int:
        """Bytes of memory."""
        return len(self.order.message.raw) + self.order.more_cost + _COST

    @property
    def is_idle(self) -> bool:
        """Whether it changes nothing."""
        if self.sent is not None:
            return self.sent.outputs is not None and not self.sent.outputs
        return self.changed is not None and not self.changed

    def is_same(self, other: "Effect") -> bool:
        """Return whether two effects are the same."""
        if self.sent is not None or other.sent is not None:
            return self.sent is not None and other.sent is not None and self.sent.is_same(other.sent)
        return self.plain == other.plain or (bool(self.changed) and self.changed == other.changed)


def effects_of(order: Order, model: Model) -> list[Effect]:
    """Return the effects of an order that a model has done; none for one without effects, or that was refused."""
    body, done = order.body, order.done
    if order.is_refused:
        return []
    changes = None if done is None else done.changes
    match body:
        case PacketOut():
            return [Effect(order, body, sent=_sent_by(body, order, model))]
        case FlowMod():
            found = [Effect(order, plain_of(body), changed_by(changes))]
            if order.cause is not None and body.buffer_id != NO_BUFFER and not body.command.is_delete:
                found.append(Effect(order, body, sent=_released_by(body, order, model)))
            return found
        case GroupMod() | MeterMod():
            return [Effect(order, body, changed_by(changes))]
        case PortMod() | TableMod():
            return [Effect(order, body)]
    return []


def plain_of(body: Body) -> Body:
    """Return an order without what does not matter."""
    if isinstance(body, FlowMod):
        return replace(body, cookie=0, buffer_id=NO_BUFFER, flags=body.flags & FlowFlag.SEND_FLOW_REM)
    return body


def value_of(entry: Entry | None) -> tuple[object, ...] | None:
    """Return what counts of an entry; None for none."""
    if isinstance(entry, Rule):
        return (*entry.effect, entry.reports_removal)
    return None if entry is None else entry.effect


def changed_by(changes: tuple[Change, ...] | None) -> Changed | None:
    """Return what changes have come to, without what is as before; None if that is not known, or too much."""
    if changes is None or len(changes) > _MAX_CHANGES:
        return None
    found: dict[Key, tuple[object, ...] | None] = {}
    for key, old, new in changes:
        value = value_of(new)
        if value != value_of(old):
            found[key] = value
    return frozenset(found.items())


# Frames


def _sent_by(body: PacketOut, order: Order, model: Model) -> FrameSent:
    """Return what becomes of the frame of a PACKET_OUT."""
    cause = order.cause
    if body.buffer_id != NO_BUFFER:
        fields = {} if cause is None else {**cause.fields, "in_port": body.in_port}
        return _sent(body.actions, fields, order, model, None)
    key = key_of(body.frame)
    own = None if cause is not None and cause.frame_key == key else key
    return _sent(body.actions, frame_fields(body.frame, body.in_port), order, model, own)


def _released_by(body: FlowMod, order: Order, model: Model) -> FrameSent:
    """Return what becomes of the frame whose buffer a FLOW_MOD names: in 1.0 the rule's actions apply to it, later it
    enters the tables (1.3.5 §6.4)."""
    assert order.cause is not None
    to_tables = (Action("output", (ReservedPort.TABLE,)),)
    actions = tuple(actions_of(body.instructions)) if model.version == V10 else to_tables
    return _sent(actions, order.cause.fields, order, model, None)


def _sent(actions: Actions, fields: Fields, order: Order, model: Model, own: BytesKey | None) -> FrameSent:
    outcome = carry_out(model, actions, fields, order.at)
    depends = any(one.name == "output" and one.args[0] in _BY_IN_PORT for one in actions)
    outputs = outcome.outputs if outcome.unknown is None else None
    return FrameSent(actions, outputs, fields.get("in_port") if depends else None, own)
