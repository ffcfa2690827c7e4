"""Decodes and encodes actions: 1.0.0 §5.2.4, 1.3.5 §7.2.5, 1.5.1 §7.2.6, and some of Open vSwitch's extensions."""

from struct import Struct

from natmirror.openflow.bodies.elements import ALL_TABLES, Action, Actions, MalformedBody, MatchField, ReservedPort
from natmirror.openflow.bodies.fields import BY_HEADER, EXPERIMENTER, Header, unknown_name
from natmirror.openflow.bodies.matches import decode_field, encode_field, header_of
from natmirror.openflow.bodies.v10_ports import narrow_port, widen_port
from natmirror.openflow.messages import NICIRA, V10, V15, VERSIONS

_HEAD = Struct("!HH")
_OUTPUT, _SET_FIELD, _COPY_FIELD, _EXPERIMENTER, _V10_ENQUEUE = 0, 25, 28, 0xFFFF, 11
_V10_OUTPUT, _LATER_OUTPUT, _ENQUEUE = Struct("!HH"), Struct("!IH6x"), Struct("!H6xI")

_NOTHING, _BYTE, _SHORT, _LONG, _MAC = Struct("!4x"), Struct("!B3x"), Struct("!H2x"), Struct("!I"), Struct("!6s6x")
_V10_LAYOUTS = {
    1: ("mod_vlan_vid", _SHORT),
    2: ("mod_vlan_pcp", _BYTE),
    3: ("strip_vlan", _NOTHING),
    4: ("mod_dl_src", _MAC),
    5: ("mod_dl_dst", _MAC),
    6: ("mod_nw_src", _LONG),
    7: ("mod_nw_dst", _LONG),
    8: ("mod_nw_tos", _BYTE),
    9: ("mod_tp_src", _SHORT),
    10: ("mod_tp_dst", _SHORT),
}
_LATER_LAYOUTS = {
    11: ("copy_ttl_out", _NOTHING),
    12: ("copy_ttl_in", _NOTHING),
    15: ("set_mpls_ttl", _BYTE),
    16: ("dec_mpls_ttl", _NOTHING),
    17: ("push_vlan", _SHORT),
    18: ("pop_vlan", _NOTHING),
    19: ("push_mpls", _SHORT),
    20: ("pop_mpls", _SHORT),
    21: ("set_queue", _LONG),
    22: ("group", _LONG),
    23: ("mod_nw_ttl", _BYTE),
    24: ("dec_ttl", _NOTHING),
    26: ("push_pbb", _SHORT),
    27: ("pop_pbb", _NOTHING),
}
_V15_LAYOUTS = {**_LATER_LAYOUTS, 29: ("meter", _LONG)}
_NICIRA_LAYOUTS = {
    2: ("set_tunnel", Struct("!2xI")),
    4: ("set_queue", Struct("!2xI")),
    5: ("pop_queue", Struct("!6x")),
    9: ("set_tunnel64", Struct("!6xQ")),
    17: ("exit", Struct("!6x")),
    18: ("dec_ttl", Struct("!6x")),
    20: ("controller", Struct("!HHBx")),
    23: ("push_mpls", Struct("!H4x")),
    24: ("pop_mpls", Struct("!H4x")),
    25: ("set_mpls_ttl", Struct("!B5x")),
    26: ("dec_mpls_ttl", Struct("!6x")),
    34: ("conjunction", Struct("!BBI")),
}
"""Actions of Open vSwitch whose arguments are numbers, by subtype; the layout follows the subtype."""
_NX_RESUBMIT, _NX_REG_MOVE, _NX_REG_LOAD, _NX_RESUBMIT_TABLE = 1, 6, 7, 14
_NX_THIS_PORT = 0xFFF8  # OFPP_IN_PORT: the packet's own
_NX_HEAD, _NX_RESUBMIT_BODY = Struct("!IH"), Struct("!HB3x")
_NX_NOTE = 8
_NX_MOVE_BODY, _NX_LOAD_BODY = Struct("!HHHII"), Struct("!HIQ")
_COPY_FIELD_BODY = Struct("!HHH2x")
_TLV = Struct("!I")


_NICIRA_NUMBERS = {name: (kind, layout) for kind, (name, layout) in _NICIRA_LAYOUTS.items()}

MAX_ACTIONS = 256
"""Limit on the actions of one list: thousands would take milliseconds."""


def _layouts(version: int) -> dict[int, tuple[str, Struct]]:
    if version == V10:
        return _V10_LAYOUTS
    return _V15_LAYOUTS if version >= V15 else _LATER_LAYOUTS


_NUMBERS = {
    version: {name: (kind, layout) for kind, (name, layout) in _layouts(version).items()} for version in VERSIONS
}


def decode_actions(version: int, raw: bytes) -> Actions:
    """Decode a list of actions, in its order. Actions without an effect are left out. MalformedBody also where there
    are more than MAX_ACTIONS."""
    layouts = _layouts(version)
    found: list[Action] = []
    at, end = 0, len(raw)
    while at < end:
        if len(found) >= MAX_ACTIONS:
            raise MalformedBody(f"more than {MAX_ACTIONS} actions")
        kind, length = _HEAD.unpack_from(raw, at)
        if length < 8 or length & 7 or at + length > end:
            raise MalformedBody(f"an action has {length} bytes")
        body = raw[at + 4 : at + length]
        at += length
        if kind == _OUTPUT:
            found.append(_output(version, body))
        elif kind in layouts:
            name, layout = layouts[kind]
            found.append(Action(name, _numbers(name, layout, body)))
        elif kind == _SET_FIELD and version != V10:
            _, field, _ = decode_field(body, 0, len(body))
            if field.mask != 0:
                found.append(Action("set_field", (field,)))
        elif kind == _EXPERIMENTER:
            found.append(_experimenter(body))
        elif kind == _V10_ENQUEUE and version == V10:
            port, queue = _unpack("enqueue", _ENQUEUE, body)
            found.append(Action("enqueue", (widen_port(port), queue)))
        elif kind == _COPY_FIELD and version >= V15:
            found.append(_copy_field(body))
        else:
            found.append(Action("unknown", (kind, body)))
    return tuple(found)


def _unpack(name: str, layout: Struct, body: bytes) -> tuple[int, ...]:
    if len(body) != layout.size:
        raise MalformedBody(f"the action {name} has {len(body)} bytes after its header")
    return layout.unpack(body)


def _numbers(name: str, layout: Struct, body: bytes) -> tuple[int, ...]:
    values = _unpack(name, layout, body)
    return (int.from_bytes(body[:6], "big"),) if layout is _MAC else values


def _output(version: int, body: bytes) -> Action:
    """Only CONTROLLER has a number of bytes: it has no meaning for other ports."""
    if version == V10:
        port, max_len = _unpack("output", _V10_OUTPUT, body)
        port = widen_port(port)
    else:
        port, max_len = _unpack("output", _LATER_OUTPUT, body)
    return Action("output", (port, max_len) if port == ReservedPort.CONTROLLER else (port,))


def _name_of(header: int) -> str:
    """Return the name of the field that an OXM or NXM header of 32 bits has, without an experimenter."""
    key: Header = (header >> 16, header >> 9 & 0x7F, 0)
    return BY_HEADER[key].name if key in BY_HEADER else unknown_name(key, header & 0xFF)


def _copy_field(body: bytes) -> Action:
    """Decode 1.5's COPY_FIELD (1.5.1 §7.2.6.9); with an experimenter's field it stays opaque."""
    bits, source_bit, bit = _COPY_FIELD_BODY.unpack_from(body)
    source, destination = (_TLV.unpack_from(body, _COPY_FIELD_BODY.size + 4 * index)[0] for index in range(2))
    if EXPERIMENTER in (source >> 16, destination >> 16):
        return Action("unknown", (_COPY_FIELD, body))
    return Action("move", (bits, _name_of(source), source_bit, _name_of(destination), bit))


def _experimenter(body: bytes) -> Action:
    experimenter, subtype = _NX_HEAD.unpack_from(body)
    rest = body[_NX_HEAD.size :]
    if experimenter == NICIRA:
        if subtype in _NICIRA_LAYOUTS:
            name, layout = _NICIRA_LAYOUTS[subtype]
            return Action(name, _unpack(name, layout, rest))
        if subtype in (_NX_RESUBMIT, _NX_RESUBMIT_TABLE):
            port, table = _unpack("resubmit", _NX_RESUBMIT_BODY, rest)
            port = ReservedPort.ANY if port == _NX_THIS_PORT else widen_port(port)
            return Action("resubmit", (port, ALL_TABLES if subtype == _NX_RESUBMIT else table))
        if subtype == _NX_REG_LOAD:
            return _load(rest)
        if subtype == _NX_NOTE:
            return Action("note", (rest,))
        if subtype == _NX_REG_MOVE:
            bits, source_bit, bit, source, destination = _unpack("move", _NX_MOVE_BODY, rest)
            return Action("move", (bits, _name_of(source), source_bit, _name_of(destination), bit))
    return Action("experimenter", (experimenter, body[4:]))


def _load(rest: bytes) -> Action:
    place, header, value = _unpack("load", _NX_LOAD_BODY, rest)
    bit, bits = place >> 6, (place & 0x3F) + 1
    if value >> bits:
        raise MalformedBody("the action load has a value with more bits than it sets")
    return Action("load", (MatchField(_name_of(header), value << bit, ((1 << bits) - 1) << bit),))


def encode_actions(version: int, actions: Actions) -> bytes:
    """Return a list of actions as bytes. ValueError for an action that the version does not have."""
    return b"".join(_encode(version, action) for action in actions)


def _encode(version: int, action: Action) -> bytes:
    name, args = action
    if name == "output":
        port, max_len = args if len(args) == 2 else (*args, 0)
        if version == V10:
            return _wrap(_OUTPUT, _V10_OUTPUT.pack(narrow_port(port), max_len))
        return _wrap(_OUTPUT, _LATER_OUTPUT.pack(port, max_len))
    if name in _NUMBERS[version]:
        kind, layout = _NUMBERS[version][name]
        return _wrap(kind, layout.pack(*(value.to_bytes(6, "big") for value in args) if layout is _MAC else args))
    match name:
        case "set_field" if version != V10:
            return _wrap(_SET_FIELD, encode_field(*args))
        case "enqueue" if version == V10:
            return _wrap(_V10_ENQUEUE, _ENQUEUE.pack(narrow_port(args[0]), args[1]))
        case "move" if version >= V15:
            bits, source, source_bit, destination, bit = args
            body = _COPY_FIELD_BODY.pack(bits, source_bit, bit)
            return _wrap(_COPY_FIELD, body + _TLV.pack(_header_number(source)) + _TLV.pack(_header_number(destination)))
        case "move":
            bits, source, source_bit, destination, bit = args
            numbers = _NX_MOVE_BODY.pack(bits, source_bit, bit, _header_number(source), _header_number(destination))
            return _wrap_nicira(_NX_REG_MOVE, numbers)
        case "load":
            field = args[0]
            bit = (field.mask & -field.mask).bit_length() - 1
            place = bit << 6 | (field.mask >> bit).bit_length() - 1
            return _wrap_nicira(_NX_REG_LOAD, _NX_LOAD_BODY.pack(place, _header_number(field.name), field.value >> bit))
        case "resubmit":
            port = _NX_THIS_PORT if args[0] == ReservedPort.ANY else narrow_port(args[0])
            has_table = args[1] != ALL_TABLES
            body = _NX_RESUBMIT_BODY.pack(port, args[1] if has_table else 0)
            return _wrap_nicira(_NX_RESUBMIT_TABLE if has_table else _NX_RESUBMIT, body)
        case "note":
            return _wrap_nicira(_NX_NOTE, args[0])
        case "experimenter":
            return _wrap(_EXPERIMENTER, args[0].to_bytes(4, "big") + args[1])
        case "unknown":
            return _wrap(*args)
    if name in _NICIRA_NUMBERS:
        kind, layout = _NICIRA_NUMBERS[name]
        return _wrap_nicira(kind, layout.pack(*args))
    raise ValueError(f"this version of OpenFlow has no action {name}")


def _wrap(kind: int, body: bytes) -> bytes:
    length = _HEAD.size + len(body)
    return _HEAD.pack(kind, length + (-length % 8)) + body + bytes(-length % 8)


def _wrap_nicira(subtype: int, body: bytes) -> bytes:
    return _wrap(_EXPERIMENTER, _NX_HEAD.pack(NICIRA, subtype) + body)


def _header_number(name: str) -> int:
    """Return the OXM or NXM header of a field as a number, as actions name fields."""
    (of_class, number, _), size = header_of(name)
    return of_class << 16 | number << 9 | size
