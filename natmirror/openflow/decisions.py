"""The decisions of backend and master for one switch, side by side, so that the operator can compare them.

Each decision is an order, with its time and the PACKET_IN that it most likely answers.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from struct import Struct
from typing import TypeVar

from natmirror.openflow.messages import HEADER_LEN, V10, V15, Message, Type
from natmirror.openflow.shown import CauseEntry, DecisionEntry, FlowModFields, PacketOutFields, SideEntry

_MAX_KEPT_LEN = 2048  # bytes of a message; the rest of an order is cut off
_KEPT = 32  # decisions of each side
_CAUSES = 64  # PACKET_INs to which an order may still refer
_RECENT = 1.0  # seconds after a PACKET_IN in which an order that names no packet counts as an answer to it
_COST = 500  # bytes that Python needs for a decision or a PACKET_IN besides its message
_NO_BUFFER = 0xFFFF_FFFF

_V10_FLOW_MOD = Struct("!40sQHHHHIHH")
_FLOW_MOD = Struct("!QQBBHHHIIIHH")
_V10_BUFFER_AT, _BUFFER_AT = 56, 24  # in a FLOW_MOD
_PACKET_OUT, _V13_PACKET_OUT = {V10: Struct("!IHH"), V15: Struct("!IH2xHH")}, Struct("!IIH6x")
_COMMANDS = ("add", "modify", "modify-strict", "delete", "delete-strict")


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
        return {"age_seconds": round(now - self.at, 3), "buffer_id": self.buffer_id}


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
            if data and cause.message.raw.endswith(data) and frame_in(cause.message) == data:
                return cause
        latest = self._causes[-1] if self._causes else None
        is_recent = latest is not None and now - latest.at <= _RECENT and message.kind is not Type.PACKET_OUT
        return latest if is_recent else None


def _about(message: Message) -> tuple[int, bytes]:
    """Return the buffer id or the frame to which an order refers."""
    body = message.body
    if message.kind is Type.PACKET_OUT and (parts := _parts_of(message.version, body)) is not None:
        return parts[0], parts[3]
    if message.kind is Type.FLOW_MOD:
        at = _V10_BUFFER_AT if message.version == V10 else _BUFFER_AT
        return int.from_bytes(body[at : at + 4], "big") if len(body) >= at + 4 else _NO_BUFFER, b""
    return _NO_BUFFER, b""


def frame_in(packet_in: Message) -> bytes:
    """Return the frame of a PACKET_IN, or no bytes (1.0.0 §5.4.1, 1.3.5 §7.4.1)."""
    body = packet_in.body
    if packet_in.version == V10:
        return body[10:]
    if len(body) < 20:
        return b""
    match_len = int.from_bytes(body[18:20], "big")
    return body[16 + (match_len + 7) // 8 * 8 + 2 :]


def fields_of(message: Message) -> FlowModFields | PacketOutFields | None:
    """Return the fields of a FLOW_MOD or PACKET_OUT by name, bytes in hexadecimal (1.0.0 §5.3.3, §5.3.6, 1.3.5
    §7.3.4.1, §7.3.7). Return None for other messages, and for those that are too short."""
    if message.kind is Type.FLOW_MOD:
        return _flow_mod(message)
    if message.kind is Type.PACKET_OUT:
        return _packet_out(message)
    return None


def _flow_mod(message: Message) -> FlowModFields | None:
    body = message.body
    if message.version == V10:
        if len(body) < _V10_FLOW_MOD.size:
            return None
        match, cookie, command, idle, hard, priority, buffer_id, out_port, flags = _V10_FLOW_MOD.unpack_from(body)
        table, actions, mask, group = 0, body[_V10_FLOW_MOD.size :], 0, None
    else:
        if len(body) < _FLOW_MOD.size + 4:
            return None
        cookie, mask, table, command, idle, hard, priority, buffer_id, out_port, group, flags, _ = (
            _FLOW_MOD.unpack_from(body)
        )
        match_len = int.from_bytes(body[_FLOW_MOD.size + 2 : _FLOW_MOD.size + 4], "big")
        match, actions = (
            body[_FLOW_MOD.size : _FLOW_MOD.size + match_len],
            body[_FLOW_MOD.size + (match_len + 7) // 8 * 8 :],
        )
    return {
        "command": _COMMANDS[command] if command < len(_COMMANDS) else command,
        "table_id": table,
        "priority": priority,
        "match": match.hex(),
        "instructions": actions.hex(),
        "cookie": cookie,
        "cookie_mask": mask,
        "idle_timeout": idle,
        "hard_timeout": hard,
        "buffer_id": buffer_id,
        "out_port": out_port,
        "out_group": group,
        "flags": flags,
    }


def _packet_out(message: Message) -> PacketOutFields | None:
    if (parts := _parts_of(message.version, message.body)) is None:
        return None
    buffer_id, in_port, actions, data = parts
    return {"buffer_id": buffer_id, "in_port": in_port, "actions": actions.hex(), "data": data.hex()}


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
