"""A master's role and asynchronous configuration: they select which of the switch's messages it gets (1.3.5 §6.3.5,
§7.3.10).

By default it gets all asynchronous messages that the switch sends in production.
"""

from enum import IntEnum
from struct import Struct

from natmirror.openflow.messages import HEADER_LEN, V13, V15, Message, Type


class Role(IntEnum):
    """OFPCR_ROLE_*."""

    NOCHANGE = 0
    EQUAL = 1
    MASTER = 2
    SLAVE = 3


_MASKS = {
    Type.PACKET_IN: 0,
    Type.PORT_STATUS: 1,
    Type.FLOW_REMOVED: 2,
    Type.ROLE_STATUS: 3,
    Type.TABLE_STATUS: 4,
    Type.REQUESTFORWARD: 5,
}
"""The number n of each type: 1.4's property types (1.4.1 §7.3.10) are 2n for slaves and 2n + 1 for others."""
_V13_MASKS = (Type.PACKET_IN, Type.PORT_STATUS, Type.FLOW_REMOVED)
_ALL = 0xFFFF_FFFF
_MAX_PROPERTIES = 64  # of an asynchronous configuration; 1.5 defines 12, and one for experimenters
_REASON_AT = {Type.PACKET_IN: 6, Type.PORT_STATUS: 0, Type.FLOW_REMOVED: 10, Type.ROLE_STATUS: 4, Type.TABLE_STATUS: 0}
"""The reason's offset in a message's body; in 1.5 that of a FLOW_REMOVED differs."""
_V15_FLOW_REMOVED_REASON_AT = 1


class AsyncConfig:
    """The role and the asynchronous configuration of one master."""

    def __init__(self) -> None:
        self.role = Role.EQUAL
        self.generation_id: int | None = None
        self._for_slave: dict[Type | None, int] = {**dict.fromkeys(_MASKS, 0), Type.PORT_STATUS: _ALL}
        self._for_others: dict[Type | None, int] = {**dict.fromkeys(_MASKS, _ALL)}

    def wants(self, message: Message) -> bool:
        """Return whether the master gets an asynchronous message of the switch."""
        mask = (self._for_slave if self.role is Role.SLAVE else self._for_others).get(message.kind)
        if mask is None:
            return message.kind is not Type.EXPERIMENTER or self.role is not Role.SLAVE
        if mask == _ALL or not mask:
            return bool(mask)
        reason = _reason_of(message)
        return reason is None or bool(mask >> reason & 1)

    def request_role(self, role: int, generation_id: int) -> bool:
        """Set the master's role; return False where its generation is stale (1.3.5 §6.3.5).

        ValueError where there is no such role.
        """
        wanted = Role(role)
        if wanted is Role.NOCHANGE:
            return True
        if wanted is not Role.EQUAL:
            if self.generation_id is not None and _distance(generation_id, self.generation_id) < 0:
                return False
            self.generation_id = generation_id
        self.role = wanted
        return True

    def set_async(self, version: int, body: bytes) -> None:
        """Set the configuration from the body of a SET_ASYNC; ValueError where that is malformed."""
        if version == V13:
            if len(body) < 24:
                raise ValueError("the asynchronous configuration is too short")
            numbers = Struct("!6I").unpack_from(body)
            for index, kind in enumerate(_V13_MASKS):
                self._for_others[kind], self._for_slave[kind] = numbers[2 * index : 2 * index + 2]
            return
        kinds = {index: kind for kind, index in _MASKS.items()}
        named: list[tuple[bool, Type | None, int]] = []
        at = 0
        while at + 8 <= len(body):
            if len(named) >= _MAX_PROPERTIES:
                raise ValueError("the asynchronous configuration has too many properties")
            prop, length, mask = Struct("!HHI").unpack_from(body, at)
            if length < 8:
                raise ValueError("a property is too short")
            named.append((bool(prop & 1), kinds.get(prop >> 1), mask))
            at += (length + 7) & ~7
        for is_other, about, mask in named:
            if about is not None:
                (self._for_others if is_other else self._for_slave)[about] = mask

    def get_async(self, version: int) -> bytes:
        """Return the body of a GET_ASYNC_REPLY."""
        if version == V13:
            pairs = [(self._for_others[kind], self._for_slave[kind]) for kind in _V13_MASKS]
            return b"".join(Struct("!II").pack(*pair) for pair in pairs)
        return b"".join(
            Struct("!HHI").pack(2 * index + is_other, 8, masks[kind])
            for kind, index in _MASKS.items()
            for is_other, masks in enumerate((self._for_slave, self._for_others))
        )


def _reason_of(message: Message) -> int | None:
    """Return the reason in a message; None where it has none, or is too short."""
    at = _REASON_AT.get(message.kind) if message.kind is not None else None
    if message.version < V13 or at is None:
        return None
    if message.version == V15 and message.kind is Type.FLOW_REMOVED:
        at = _V15_FLOW_REMOVED_REASON_AT
    reason = message.raw[HEADER_LEN + at : HEADER_LEN + at + 1]
    return min(reason[0], 31) if reason else None


def _distance(one: int, other: int) -> int:
    """Return by how much a generation id is greater than another (1.3.5 §6.3.5: as signed 64-bit numbers)."""
    difference = (one - other) & (1 << 64) - 1
    return difference - (1 << 64) if difference >> 63 else difference
