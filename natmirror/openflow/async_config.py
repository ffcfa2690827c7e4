"""A master's role and asynchronous configuration: they select which of the switch's messages it gets (1.3.5 §6.3.5,
§7.3.10).

By default it gets all asynchronous messages that the switch sends in production.
"""

from enum import IntEnum
from struct import Struct

from natmirror.openflow.bodies.settings import ASYNC_KINDS, V13_ASYNC_KINDS
from natmirror.openflow.bodies.values import SetAsync
from natmirror.openflow.messages import HEADER_LEN, V13, V15, Message, Type


class Role(IntEnum):
    """OFPCR_ROLE_*."""

    NOCHANGE = 0
    EQUAL = 1
    MASTER = 2
    SLAVE = 3


_ALL = 0xFFFF_FFFF
_REASON_AT = {Type.PACKET_IN: 6, Type.PORT_STATUS: 0, Type.FLOW_REMOVED: 10, Type.ROLE_STATUS: 4, Type.TABLE_STATUS: 0}
"""The reason's offset in a message's body; in 1.5 that of a FLOW_REMOVED differs."""
_V15_FLOW_REMOVED_REASON_AT = 1


class AsyncConfig:
    """The role and the asynchronous configuration of one master."""

    def __init__(self) -> None:
        self.role = Role.EQUAL
        self.generation_id: int | None = None
        self._for_slave: dict[Type | None, int] = {**dict.fromkeys(ASYNC_KINDS, 0), Type.PORT_STATUS: _ALL}
        self._for_others: dict[Type | None, int] = {**dict.fromkeys(ASYNC_KINDS, _ALL)}

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

    def set_async(self, wanted: SetAsync) -> None:
        """Set the masks that a SET_ASYNC has."""
        for kind, is_for_slave, reasons in wanted.masks:
            (self._for_slave if is_for_slave else self._for_others)[kind] = reasons

    def get_async(self, version: int) -> bytes:
        """Return the body of a GET_ASYNC_REPLY."""
        if version == V13:
            pairs = [(self._for_others[kind], self._for_slave[kind]) for kind in V13_ASYNC_KINDS]
            return b"".join(Struct("!II").pack(*pair) for pair in pairs)
        return b"".join(
            Struct("!HHI").pack(2 * index + is_other, 8, masks[kind])
            for index, kind in enumerate(ASYNC_KINDS)
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
