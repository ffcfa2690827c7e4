"""The decisions of backend and master for one switch, side by side, so that the operator can compare them.

Each decision is an order, with its time and the PACKET_IN that it most likely answers.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from struct import Struct
from typing import TypeVar

from natmirror.openflow.bodies.actions import encode_actions
from natmirror.openflow.bodies.decoder import decode
from natmirror.openflow.bodies.elements import MalformedBody
from natmirror.openflow.bodies.instructions import encode_instructions
from natmirror.openflow.bodies.matches import encode_match
from natmirror.openflow.bodies.text import body_text
from natmirror.openflow.bodies.v10_matches import encode_v10_match
from natmirror.openflow.bodies.values import Body, FlowMod, PacketIn, PacketOut
from natmirror.openflow.messages import HEADER_LEN, V10, V15, Message, Type
from natmirror.openflow.shown import CauseEntry, DecisionEntry, FlowModFields, PacketOutFields, SideEntry

_MAX_KEPT_LEN = 2048  # bytes of a message; the rest of an order is cut off
_KEPT = 32  # decisions of each side
_CAUSES = 64  # PACKET_INs to which an order may still refer
_RECENT = 1.0  # seconds after a PACKET_IN in which an order that names no packet counts as an answer to it
_COST = 500  # bytes that Python needs for a decision or a PACKET_IN besides its message
_NO_BUFFER = 0xFFFF_FFFF

_V10_BUFFER_AT, _BUFFER_AT = 56, 24  # in a FLOW_MOD
_PACKET_OUT, _V13_PACKET_OUT = {V10: Struct("!IHH"), V15: Struct("!IH2xHH")}, Struct("!IIH6x")


class By(StrEnum):
    """The side that decided."""

    BACKEND = "backend"
    MASTER = "master"


@dataclass(slots=True)
class Cause:
    """A PACKET_IN that may cause decisions."""

    at: float
    message: Message
    buffer_id: int

    @property
    def cost(self) -> int:
        """Bytes of memory."""
        return len(self.message.raw) + _COST

    def plain(self, now: float) -> CauseEntry:
        """Return values for JSON."""
        text = text_of(self.message)
        return {"age_seconds": round(now - self.at, 3), "buffer_id": self.buffer_id, "text": text}


@dataclass(slots=True)
class SwitchDecision:
    """An order, the time when it was sent, in seconds, and the PACKET_IN that it most likely answers."""

    at: float
    by: By
    message: Message
    cause: Cause | None

    @property
    def cost(self) -> int:
        """Bytes of memory, with those of the cause: it is kept as long as the decision."""
        return len(self.message.raw) + _COST + (0 if self.cause is None else self.cause.cost)

    def plain(self, now: float) -> DecisionEntry:
        """Return values for JSON at the time ``now``, with the message's fields."""
        return {
            "age_seconds": round(now - self.at, 3),
            "by": str(self.by),
            "type": self.message.name,
            "xid": self.message.xid,
            "text": text_of(self.message),
            "fields": fields_of(self.message),
            "cause": None if self.cause is None else self.cause.plain(now),
        }


T = TypeVar("T", Cause, SwitchDecision)


class Decisions:
    """The latest decisions of both sides for one switch, and the number of decisions by type."""

    def __init__(self) -> None:
        self.counts: dict[By, Counter[str]] = {by: Counter() for by in By}
        self._latest: dict[By, deque[SwitchDecision]] = {by: deque(maxlen=_KEPT) for by in By}
        self._causes: deque[Cause] = deque(maxlen=_CAUSES)
        self.held = 0
        """Bytes of the messages that are kept."""

    def give_up(self) -> None:
        """Forget the messages, because their memory is needed; keep the counts."""
        for latest in self._latest.values():
            latest.clear()
        self._causes.clear()
        self.held = 0

    def saw(self, packet_in: Message, now: float) -> None:
        """Keep a PACKET_IN that later decisions may answer."""
        if len(packet_in.raw) > _MAX_KEPT_LEN:
            return
        buffer_id = int.from_bytes(packet_in.raw[HEADER_LEN : HEADER_LEN + 4], "big")
        self._keep(self._causes, Cause(now, packet_in, buffer_id))

    def decided(self, by: By, message: Message, now: float) -> None:
        """Keep an order of one side."""
        self.counts[by][message.name] += 1
        cause = self._cause_of(message, now)
        if len(message.raw) > _MAX_KEPT_LEN:
            message = replace(message, raw=message.raw[:_MAX_KEPT_LEN])
        self._keep(self._latest[by], SwitchDecision(now, by, message, cause))

    def _keep(self, kept: deque[T], one: T) -> None:
        """Append to a deque, which drops its oldest entry if it is full."""
        self.held += one.cost - (kept[0].cost if len(kept) == kept.maxlen else 0)
        kept.append(one)

    def latest(self, by: By) -> Iterable[SwitchDecision]:
        """Return one side's latest decisions, the oldest first."""
        return tuple(self._latest[by])

    def plain(self, now: float) -> dict[By, SideEntry]:
        """Return both sides as values for JSON."""
        latest = {by: [one.plain(now) for one in self._latest[by]] for by in By}
        return {by: {"counts": dict(self.counts[by]), "latest": latest[by]} for by in By}

    def _cause_of(self, message: Message, now: float) -> Cause | None:
        buffer_id, data = _about(message)
        for cause in reversed(self._causes):
            if buffer_id != _NO_BUFFER and cause.buffer_id == buffer_id:
                return cause
            if data and cause.message.raw.endswith(data) and _frame_of(cause.message) == data:
                return cause
        latest = self._causes[-1] if self._causes else None
        is_recent = latest is not None and now - latest.at <= _RECENT and message.kind is not Type.PACKET_OUT
        return latest if is_recent else None


def _frame_of(packet_in: Message) -> bytes:
    """Return the frame of a PACKET_IN, or no bytes."""
    body = _body_of(packet_in)
    return body.frame if isinstance(body, PacketIn) else b""


def _about(message: Message) -> tuple[int, bytes]:
    """Return the buffer id or the frame to which an order refers, without decoding the whole of each order."""
    body = message.body
    if message.kind is Type.PACKET_OUT and (parts := _parts_of(message.version, body)) is not None:
        return parts[0], parts[3]
    if message.kind is Type.FLOW_MOD:
        at = _V10_BUFFER_AT if message.version == V10 else _BUFFER_AT
        return int.from_bytes(body[at : at + 4], "big") if len(body) >= at + 4 else _NO_BUFFER, b""
    return _NO_BUFFER, b""


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


def _parts_of(version: int, body: bytes) -> tuple[int, int | None, bytes, bytes] | None:
    """Return buffer id, port, actions and frame of a PACKET_OUT; None where it is too short."""
    head = _PACKET_OUT.get(version, _V13_PACKET_OUT)
    if len(body) < head.size:
        return None
    if version == V15:  # the port is in the match (1.5.1 §7.3.6)
        buffer_id, actions_len, _, match_len = head.unpack_from(body)
        in_port, at = None, 8 + (match_len + 7) // 8 * 8
    else:
        buffer_id, in_port, actions_len = head.unpack_from(body)
        at = head.size
    return buffer_id, in_port, body[at : at + actions_len], body[at + actions_len :]
