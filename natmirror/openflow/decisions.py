"""The decisions of backend and masters for one switch, side by side, so that the operator can compare them.

Each decision is an order, with its time and the PACKET_IN that it most likely answers. Only when they are shown is it
found out which that is (comparison/attribution.py).
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import TypeVar

from natmirror.openflow.bodies.actions import encode_actions
from natmirror.openflow.bodies.decoder import decode
from natmirror.openflow.bodies.elements import MalformedBody
from natmirror.openflow.bodies.instructions import encode_instructions
from natmirror.openflow.bodies.matches import encode_match
from natmirror.openflow.bodies.text import body_text
from natmirror.openflow.bodies.v10_matches import encode_v10_match
from natmirror.openflow.bodies.values import Body, FlowMod, PacketIn, PacketOut
from natmirror.openflow.comparison.attribution import Attribution, Order
from natmirror.openflow.comparison.causes import MAX_KEPT_LEN, Cause, cause_of, cut
from natmirror.openflow.comparison.readings import Reading
from natmirror.openflow.messages import V10, Message, Type
from natmirror.openflow.shown import CauseEntry, DecisionEntry, FlowModFields, PacketOutFields, SideEntry

_KEPT = 32  # decisions of the backend, and of each master
_CAUSES = 64  # PACKET_INs to which an order may still refer
_COST = 500  # bytes that Python needs for a decision or a PACKET_IN besides its message


class By(StrEnum):
    """The side that decided."""

    BACKEND = "backend"
    MASTER = "master"


@dataclass(slots=True, eq=False)
class _Kept:
    """A PACKET_IN or an order, with the time when it was sent, in seconds."""

    at: float
    message: Message

    @property
    def cost(self) -> int:
        """Bytes of memory."""
        return len(self.message.raw) + _COST


@dataclass(slots=True, eq=False)
class SwitchDecision(_Kept):
    """An order."""

    mirror: str | None
    """The mirror whose master has sent it; None for the backend."""

    def plain(self, now: float, cause: Cause | None) -> DecisionEntry:
        """Return values for JSON at the time ``now``, with the message's fields."""
        return {
            "age_seconds": round(now - self.at, 3),
            "by": str(By.BACKEND if self.mirror is None else By.MASTER),
            "mirror": self.mirror,
            "type": self.message.name,
            "xid": self.message.xid,
            "text": text_of(self.message),
            "fields": fields_of(self.message),
            "cause": None if cause is None else _plain_cause(cause, now),
        }


def _plain_cause(cause: Cause, now: float) -> CauseEntry:
    text = text_of(cause.message)
    return {"age_seconds": round(now - cause.at, 3), "buffer_id": cause.packet_in.buffer_id, "text": text}


T = TypeVar("T", bound=_Kept)


class Decisions:
    """The latest decisions of the backend and of each master for one switch, and the number of decisions by type."""

    def __init__(self) -> None:
        self.counts: dict[By, Counter[str]] = {by: Counter() for by in By}
        self._latest: dict[str | None, deque[SwitchDecision]] = {}
        self._packet_ins: deque[_Kept] = deque(maxlen=_CAUSES)
        self.held = 0
        """Bytes of the messages that are kept."""

    def give_up(self) -> None:
        """Forget the messages, because their memory is needed; keep the counts."""
        self._latest.clear()
        self._packet_ins.clear()
        self.held = 0

    def saw(self, packet_in: Message, now: float) -> None:
        """Keep a PACKET_IN that later decisions may answer."""
        if len(packet_in.raw) <= MAX_KEPT_LEN:
            self._keep(self._packet_ins, _Kept(now, packet_in))

    def decided(self, mirror: str | None, message: Message, now: float) -> None:
        """Keep an order of a mirror's master, or with None of the backend."""
        self.counts[By.BACKEND if mirror is None else By.MASTER][message.name] += 1
        latest = self._latest.setdefault(mirror, deque(maxlen=_KEPT))
        self._keep(latest, SwitchDecision(now, cut(message), mirror))

    def _keep(self, kept: deque[T], one: T) -> None:
        """Append to a deque, which drops its oldest entry if it is full."""
        self.held += one.cost - (kept[0].cost if len(kept) == kept.maxlen else 0)
        kept.append(one)

    def latest(self, mirror: str | None) -> Iterable[SwitchDecision]:
        """Return the latest decisions of a mirror's master, or of the backend, the oldest first."""
        return tuple(self._latest.get(mirror, ()))

    def copy(self) -> "Decisions":
        """Return a copy that another thread may show."""
        made = Decisions()
        made.counts = {by: counts.copy() for by, counts in self.counts.items()}
        made._latest = {mirror: latest.copy() for mirror, latest in self._latest.items()}
        made._packet_ins = self._packet_ins.copy()
        return made

    def plain(self, now: float) -> dict[By, SideEntry]:
        """Return both sides as values for JSON. It may take 20 ms: more than a packet thread should stop for."""
        causes = [
            cause_of(number, kept.at, kept.message, body)
            for number, kept in enumerate(self._packet_ins)
            if isinstance(body := _body_of(kept.message), PacketIn)
        ]
        found: dict[By, list[SwitchDecision]] = {by: [] for by in By}
        answered: dict[SwitchDecision, Cause] = {}
        for mirror, latest in self._latest.items():
            found[By.BACKEND if mirror is None else By.MASTER] += latest
            answered |= attributed(latest, causes)
        entries = {
            by: [one.plain(now, answered.get(one)) for one in sorted(found[by], key=lambda one: one.at)] for by in By
        }
        return {by: {"counts": dict(self.counts[by]), "latest": entries[by]} for by in By}


def attributed(decisions: Iterable[SwitchDecision], causes: Iterable[Cause]) -> dict[SwitchDecision, Cause]:
    """Return which PACKET_INs one side's decisions answer; those that answer none are left out."""
    attribution, by_order = Attribution(), {}
    happened: list[tuple[float, Cause | SwitchDecision]] = [(one.at, one) for one in causes]
    happened += ((one.at, one) for one in decisions)
    for at, one in sorted(happened, key=lambda one: one[0]):
        if isinstance(one, Cause):
            attribution.told(one, at)
        elif (body := _body_of(one.message)) is not None:
            order = Order(at, one.message, Reading(body))
            by_order[order] = one
            attribution.ordered(order)
    attribution.settle(inf)
    return {one: order.cause for order, one in by_order.items() if order.cause is not None}


def _body_of(message: Message) -> Body | None:
    """Return the value of a message; None for one that is malformed, or that was cut off because it is long."""
    try:
        return decode(message)
    except MalformedBody:
        return None


def text_of(message: Message) -> str | None:
    """Return a message as one line in the words of ovs-ofctl; None for one that is malformed or cut off."""
    body = _body_of(message)
    return None if body is None else body_text(body)


def fields_of(message: Message) -> FlowModFields | PacketOutFields | None:
    """Return the fields of a FLOW_MOD or PACKET_OUT by name, bytes in hexadecimal. Return None for other messages, and
    for those that are malformed or cut off."""
    body = _body_of(message) if message.kind in (Type.FLOW_MOD, Type.PACKET_OUT) else None
    if isinstance(body, FlowMod):
        return _flow_mod(message.version, body)
    if isinstance(body, PacketOut):
        return {
            "buffer_id": body.buffer_id,
            "in_port": body.in_port,
            "actions": encode_actions(message.version, body.actions).hex(),
            "data": body.frame.hex(),
        }
    return None


def _flow_mod(version: int, mod: FlowMod) -> FlowModFields:
    match = encode_v10_match(mod.match) if version == V10 else encode_match(mod.match)
    return {
        "command": mod.command,
        "table_id": mod.table,
        "priority": mod.priority,
        "match": match.hex(),
        "instructions": encode_instructions(version, mod.instructions).hex(),
        "cookie": mod.cookie,
        "cookie_mask": mod.cookie_mask,
        "idle_timeout": mod.idle_timeout,
        "hard_timeout": mod.hard_timeout,
        "buffer_id": mod.buffer_id,
        "out_port": mod.out_port,
        "out_group": None if version == V10 else mod.out_group,
        "flags": mod.flags,
    }
