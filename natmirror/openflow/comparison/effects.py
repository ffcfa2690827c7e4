"""What orders do to a switch, without what does not matter: so the effects of two equal controllers are the same.

Left out are transaction ids, cookies, buffers, and flags that tell the switch only how to do an order. What a frame
becomes is compared by where it leaves, and by the actions where that is not known. An order that changes nothing in its
side's tables, because all is already so, is idle: where only one side gives it, that is no difference.
"""

from dataclasses import dataclass

from natmirror.openflow.bodies.elements import NO_BUFFER, Action, Actions, ReservedPort
from natmirror.openflow.bodies.frames import Fields, frame_fields
from natmirror.openflow.bodies.group_values import GroupMod, MeterMod
from natmirror.openflow.bodies.values import Body, FlowMod, PacketOut, PortMod, TableMod
from natmirror.openflow.comparison.attribution import Order
from natmirror.openflow.comparison.causes import BytesKey, key_of
from natmirror.openflow.comparison.readings import FrameSent
from natmirror.openflow.messages import V10
from natmirror.openflow.tables.entries import Entry, Key, Rule, actions_of
from natmirror.openflow.tables.model import Model
from natmirror.openflow.tables.state import Change
from natmirror.openflow.tables.walk import carry_out

_MAX_CHANGES = 64  # changes of one order that are compared one by one
_COST = 1200  # bytes that Python needs for an effect besides its message
_BY_IN_PORT = (ReservedPort.FLOOD, ReservedPort.ALL)

Changed = frozenset[tuple[Key, tuple[object, ...] | None]]
"""The entries that an order has changed, each with what counts of it then; None where it is gone."""


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
        if self.plain is other.plain or self.plain == other.plain:
            return True
        return bool(self.changed) and self.changed == other.changed


def effects_of(order: Order, model: Model) -> list[Effect]:
    """Return the effects of an order that a model has done; none for one without effects, or that was refused."""
    body, done = order.reading.body, order.done
    if order.is_refused:
        return []
    changes = None if done is None else done.changes
    match body:
        case PacketOut():
            return [Effect(order, body, sent=_sent_by(body, order, model))]
        case FlowMod():
            found = [Effect(order, order.reading.plain, changed_by(changes))]
            if order.cause is not None and body.buffer_id != NO_BUFFER and not body.command.is_delete:
                found.append(Effect(order, body, sent=_released_by(body, order, model)))
            return found
        case GroupMod() | MeterMod():
            return [Effect(order, body, changed_by(changes))]
        case PortMod() | TableMod():
            return [Effect(order, body)]
    return []


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
    key, reading = key_of(body.frame), order.reading
    own = None if cause is not None and cause.frame_key == key else key
    sent = reading.sent.get(own is None)
    if sent is None:
        if own is None and cause is not None and cause.has_fields_of_frame and cause.packet_in.match == body.match:
            fields = cause.fields
        else:
            fields = frame_fields(body.frame, body.in_port)
        sent = _sent(body.actions, fields, order, model, own)
        if not any(map(_needs_tables, body.actions)):
            reading.sent[own is None] = sent
    return sent


def _needs_tables(action: Action) -> bool:
    return action.name == "group" or (action.name in ("output", "enqueue") and action.args[0] == ReservedPort.TABLE)


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
