"""Decodes PORT_MOD, TABLE_MOD, ROLE_REQUEST, SET_ASYNC, bundles and ERROR (1.3.5 §7.3 and §7.5.4, 1.4.1 §7.3)."""

from struct import Struct

from natmirror.openflow.bodies.elements import MalformedBody
from natmirror.openflow.bodies.properties import split_properties
from natmirror.openflow.bodies.v10_ports import widen_port
from natmirror.openflow.bodies.values import (
    AsyncMask,
    BundleControl,
    ErrorMessage,
    PortMod,
    RoleRequest,
    SetAsync,
    TableMod,
)
from natmirror.openflow.messages import V10, V13, V14, Type

_V10_PORT_MOD, _PORT_MOD, _V14_PORT_MOD = Struct("!H6sIII4x"), Struct("!I4x6s2xIII4x"), Struct("!I4x6s2xII")
_ETHERNET, _ADVERTISE = 0, Struct("!I")  # OFPPMPT_ETHERNET
_TABLE_MOD = Struct("!B3xI")
_ROLE, _NICIRA_ROLE = Struct("!I4xQ"), Struct("!I")
_NICIRA_ROLES = {0: 1, 1: 2, 2: 3}  # other, master, slave
_ROLES_WITH_GENERATION = (2, 3)  # OFPCR_ROLE_MASTER, OFPCR_ROLE_SLAVE
_BUNDLE_CONTROL = Struct("!IHH")
_ERROR = Struct("!HH")

ASYNC_KINDS = (
    Type.PACKET_IN,
    Type.PORT_STATUS,
    Type.FLOW_REMOVED,
    Type.ROLE_STATUS,
    Type.TABLE_STATUS,
    Type.REQUESTFORWARD,
)
"""The types that SET_ASYNC masks. From 1.4 on the n-th has property 2n for slaves, else 2n + 1 (1.4.1 §7.3.10)."""
V13_ASYNC_KINDS = ASYNC_KINDS[:3]
_V13_MASKS = Struct("!6I")
_MASK = Struct("!I")
_MAX_PROPERTIES = 64  # of a SET_ASYNC; 1.5 defines 12, and one for experimenters


def decode_port_mod(version: int, body: bytes) -> PortMod:
    """Decode a PORT_MOD."""
    if version >= V14:
        port, address, config, mask = _V14_PORT_MOD.unpack_from(body)
        advertise, others = 0, []
        for kind, rest in split_properties(body[_V14_PORT_MOD.size :]):
            if kind == _ETHERNET:
                advertise = _ADVERTISE.unpack(rest)[0]
            else:
                others.append((kind, rest))
        return PortMod(port, int.from_bytes(address, "big"), config & mask, mask, advertise, tuple(others))
    port, address, config, mask, advertise = (_V10_PORT_MOD if version == V10 else _PORT_MOD).unpack_from(body)
    port = widen_port(port) if version == V10 else port
    return PortMod(port, int.from_bytes(address, "big"), config & mask, mask, advertise)


def decode_table_mod(version: int, body: bytes) -> TableMod:
    """Decode a TABLE_MOD."""
    table, config = _TABLE_MOD.unpack_from(body)
    return TableMod(table, config, split_properties(body[_TABLE_MOD.size :]) if version >= V14 else ())


def decode_role_request(body: bytes) -> RoleRequest:
    """Decode a ROLE_REQUEST. Roles without a generation have 0."""
    role, generation_id = _ROLE.unpack_from(body)
    return RoleRequest(role, generation_id if role in _ROLES_WITH_GENERATION else 0)


def decode_nicira_role_request(body: bytes) -> RoleRequest:
    """Decode NXT_ROLE_REQUEST. ``body`` begins after the subtype."""
    number = _NICIRA_ROLE.unpack_from(body)[0]
    if number not in _NICIRA_ROLES:
        raise MalformedBody(f"Nicira has no role {number}")
    return RoleRequest(_NICIRA_ROLES[number])


def decode_set_async(version: int, body: bytes) -> SetAsync:
    """Decode a SET_ASYNC."""
    if version == V13:
        numbers = iter(_V13_MASKS.unpack_from(body))
        return SetAsync(
            tuple(
                AsyncMask(kind, is_for_slave, next(numbers))
                for kind in V13_ASYNC_KINDS
                for is_for_slave in (False, True)
            )
        )
    properties = split_properties(body)
    if len(properties) > _MAX_PROPERTIES:
        raise MalformedBody("the SET_ASYNC has too many properties")
    masks: dict[tuple[Type, bool], AsyncMask] = {}
    others: list[tuple[int, bytes]] = []
    for number, rest in properties:
        if number < 2 * len(ASYNC_KINDS):
            kind, is_for_slave = ASYNC_KINDS[number >> 1], not number & 1
            masks[kind, is_for_slave] = AsyncMask(kind, is_for_slave, _MASK.unpack(rest)[0])
        else:
            others.append((number, rest))
    return SetAsync(tuple(sorted(masks.values())), tuple(others))


def decode_bundle_control(body: bytes) -> BundleControl:
    """Decode a BUNDLE_CONTROL, without its properties."""
    return BundleControl(*_BUNDLE_CONTROL.unpack_from(body))


def decode_error(body: bytes) -> ErrorMessage:
    """Decode an ERROR."""
    kind, code = _ERROR.unpack_from(body)
    return ErrorMessage(kind, code, body[_ERROR.size :])
