"""Bodies of OpenFlow messages for tests: os-ken encodes them, and hypothesis draws their values."""

from collections.abc import Callable
from struct import pack
from typing import Any

from hypothesis import strategies as st

from natmirror.openflow.bodies.action_sets import action_set
from natmirror.openflow.bodies.decoder import decode
from natmirror.openflow.bodies.elements import Action, Actions, Instruction, Instructions, Match, MatchField
from natmirror.openflow.bodies.fields import FIELDS
from natmirror.openflow.bodies.values import Body, FlowMod
from natmirror.openflow.messages import V10, V13, V14, V15, Type, build, parse
from tests.helpers.openflow import ALL, KITS, flow_removed, multipart, packet_in

FRAME = bytes.fromhex("020000000002 020000000001 0806 0001080006040001 020000000001 0a000001 000000000000 0a000002")
"""An ARP request."""
_NICIRA_FLOW_MOD = pack("!QHHHHIHHH6x", 0, 0, 0, 0, 5, 0xFFFF_FFFF, 0xFFFF, 0, 0)
LATER = (V13, V14, V15)


def value(raw: bytes) -> Body:
    """Return the value of a message."""
    return decode(parse(raw))


def flow_mod(version: int, match: dict[str, Any], actions: list[Any] | None = None, **fields: Any) -> bytes:
    """Return a FLOW_MOD as os-ken encodes it; its actions are applied. ``fields`` may have other instructions."""
    kit = KITS[version]
    fields = {"priority": 7, "command": 0, **fields, "match": kit.parser.OFPMatch(**match)}
    if version == V10:
        return kit.make("OFPFlowMod", 1, actions=actions or [], **{"cookie": 0, **fields})
    apply = [kit.parser.OFPInstructionActions(kit.ofproto.OFPIT_APPLY_ACTIONS, actions)] if actions else []
    return kit.make("OFPFlowMod", 1, **{"instructions": apply, **fields})


def mod(version: int, match: dict[str, Any], actions: list[Any] | None = None, **fields: Any) -> FlowMod:
    """Return the value of such a FLOW_MOD."""
    found = value(flow_mod(version, match, actions, **fields))
    assert isinstance(found, FlowMod)
    return found


def applied(flow: FlowMod) -> Actions:
    """Return the only instruction's actions."""
    (instruction,) = flow.instructions
    assert instruction.name == "apply_actions"
    found: Actions = instruction.args[0]
    return found


def corpus(version: int) -> list[bytes]:
    """Return a message of each kind that is decoded."""
    kit = KITS[version]
    parser, ofproto = kit.parser, kit.ofproto
    output, send = parser.OFPActionOutput(2), parser.OFPActionOutput(ofproto.OFPP_CONTROLLER, 128)
    if version == V10:
        match = {"in_port": 1, "dl_type": 0x800, "nw_proto": 6, "tp_dst": 80, "nw_src": "10.0.0.0", "nw_src_mask": 8}
        actions = [parser.OFPActionSetDlSrc(b"\2\0\0\0\0\1"), parser.OFPActionEnqueue(2, 5), output, send]
    else:
        match = {"in_port": 1, "eth_type": 0x800, "ip_proto": 6, "tcp_dst": 80, "ipv4_src": ("10.0.0.0", "255.0.0.0")}
        actions = [parser.OFPActionSetField(eth_src="02:00:00:00:00:01"), parser.OFPActionPopVlan(), output, send]
    source = {"match": parser.OFPMatch(in_port=1)} if version == V15 else {"in_port": 1}
    found = [
        flow_mod(version, match, actions),
        flow_mod(version, match, command=3),
        kit.make("OFPPacketOut", 1, buffer_id=0xFFFFFFFF, actions=actions, data=FRAME, **source),
        packet_in(version, frame=FRAME),
        flow_removed(version),
        kit.make("OFPBarrierRequest", 1),
        multipart(version, 1, 3, bytes(64 if version == V10 else 24)),
        multipart(version, 1, 1, _flow_entry(version)),
        multipart(version, 1, 2, pack("!HH4x", 0, 4) if version == V15 else bytes(24)),
        build(version, Type.ERROR, 1, pack("!HH", 5, 1) + bytes(64)),
        build(version, Type.EXPERIMENTER, 1, pack("!III", 0x2320, 10, 1)),
        build(
            version, Type.EXPERIMENTER, 1, pack("!IIQHHHHIHHH6x", 0x2320, 13, 0, 0, 0, 0, 5, 0xFFFFFFFF, 0xFFFF, 0, 0)
        ),
    ]
    if version == V10:
        request = {"flags": 0, "match": parser.OFPMatch(), "table_id": 0xFF, "out_port": 0xFFFF}
        port_mod = {"port_no": 1, "hw_addr": "02:00:00:00:00:01", "config": 1, "mask": 1, "advertise": 0}
        return [*found, kit.make("OFPFlowStatsRequest", 1, **request), kit.make("OFPPortMod", 1, **port_mod)]
    written = parser.OFPInstructionActions(ofproto.OFPIT_WRITE_ACTIONS, actions)
    instructions = [parser.OFPInstructionGotoTable(3), parser.OFPInstructionWriteMetadata(5, 7), written]
    bucket = {"weight": 0, "watch_port": 1, "watch_group": 2} if version < V15 else {"bucket_id": 3}
    buckets = [parser.OFPBucket(actions=actions, **bucket)]
    bands = [parser.OFPMeterBandDrop(5, 6), parser.OFPMeterBandDscpRemark(7, 8, 1)]
    found += [
        flow_mod(version, match, instructions=instructions),
        kit.make("OFPFlowStatsRequest", 1, flags=0, match=parser.OFPMatch(in_port=1)),
        _aggregate_request(version),
        kit.make("OFPGroupMod", 1, command=0, type_=1, group_id=5, buckets=buckets),
        kit.make("OFPMeterMod", 1, command=0, flags=5, meter_id=6, bands=bands),
        kit.make("OFPTableMod", 1, table_id=3, config=1, **({} if version == V13 else {"properties": []})),
        kit.make("OFPRoleRequest", 1, role=2, generation_id=7),
        _port_mod(version),
        _set_async(version),
    ]
    if version >= V14:
        inner = build(version, Type.BUNDLE_ADD_MESSAGE, 2, pack("!I2xH", 9, 1) + flow_mod(version, match, actions))
        found += [build(version, Type.BUNDLE_CONTROL, 1, pack("!IHH", 9, 0, 1)), inner]
    return found


def _aggregate_request(version: int) -> bytes:
    kit = KITS[version]
    fields = {"flags": 0, "table_id": 1, "out_port": 2, "out_group": 3, "cookie": 4, "cookie_mask": 6}
    return kit.make("OFPAggregateStatsRequest", 1, match=kit.parser.OFPMatch(in_port=1), **fields)


def _flow_entry(version: int) -> bytes:
    """Return a flow's statistics, with a match and an action."""
    match, action = pack("!HHII4x", 1, 12, 0x8000_0004, 1), pack("!HHIH6x", 0, 16, 2, 0)
    if version == V10:
        entry = bytes(40) + pack("!IIHHH6xQQQ", 1, 2, 3, 4, 5, 6, 7, 8) + pack("!HHHH", 0, 8, 2, 0)
        return pack("!HBx", 4 + len(entry), 0) + entry
    instruction = pack("!HH4x", 4, 8 + len(action)) + action
    if version == V15:
        entry = pack("!BxHHHHHQ", 1, 2, 3, 4, 5, 6, 7) + match + pack("!HH4x", 0, 4) + instruction
        return pack("!H2x", 4 + len(entry)) + entry
    entry = pack("!BxIIHHHHH2xQQQ", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11) + match + instruction
    return pack("!H", 2 + len(entry)) + entry


def _port_mod(version: int) -> bytes:
    if version == V13:
        fields = {"port_no": 1, "hw_addr": "02:00:00:00:00:01", "config": 1, "mask": 1, "advertise": 3}
        return KITS[version].make("OFPPortMod", 1, **fields)
    body = pack("!I4x6s2xII", 1, b"\2\0\0\0\0\1", 1, 1) + pack("!HHI", 0, 8, 3)
    return build(version, Type.PORT_MOD, 1, body)


def _set_async(version: int) -> bytes:
    kit = KITS[version]
    if version == V13:
        masks = {"packet_in_mask": [1, 2], "port_status_mask": [3, 4], "flow_removed_mask": [5, 6]}
        return kit.make("OFPSetAsync", 1, **masks)
    return build(version, Type.SET_ASYNC, 1, pack("!HHIHHI", 0, 8, 5, 1, 8, 6))


SAMPLES = {version: corpus(version) for version in ALL}


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """Draw a message that is changed in some places, and cut off or longer."""
    version = draw(st.sampled_from(ALL))
    raw = bytearray(draw(st.sampled_from(SAMPLES[version])))
    special = st.sampled_from((0, 1, 3, 4, 7, 8, 0x7F, 0x80, 0xFF)) | st.integers(0, 255)
    for place in draw(st.lists(st.integers(8, len(raw)), max_size=4)):
        if place < len(raw):
            raw[place] = draw(special)
    raw = raw[: draw(st.integers(8, len(raw)))] if draw(st.booleans()) else raw
    raw += draw(st.binary(max_size=9))
    raw[2:4] = pack("!H", len(raw))
    return bytes(raw)


# Values


def _field(name: str) -> st.SearchStrategy[MatchField]:
    all_ones = FIELDS[name].all_ones
    masks = st.none() | st.integers(1, all_ones - 1) if all_ones > 1 else st.none()

    def masked(number: int, mask: int | None) -> MatchField:
        return MatchField(name, number if mask is None else number & mask, mask)

    return st.builds(masked, st.integers(0, all_ones), masks)


fields: st.SearchStrategy[MatchField] = st.sampled_from(sorted(FIELDS)).flatmap(_field)
matches: st.SearchStrategy[Match] = st.lists(fields, max_size=6, unique_by=lambda one: one.name).map(
    lambda found: tuple(sorted(found))
)

_BITS8, _BITS16, _BITS32 = st.integers(0, 0xFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF)
_V10_PORTS = st.integers(0, 0xFEFF) | st.integers(0xFFFF_FF00, 0xFFFF_FFFF)
_CONTROLLER = 0xFFFF_FFFD


def _actions(name: str, *args: st.SearchStrategy[Any]) -> st.SearchStrategy[Action]:
    return st.tuples(*args).map(lambda found: Action(name, found))


def _outputs(ports: st.SearchStrategy[int]) -> st.SearchStrategy[Action]:
    others = _actions("output", ports.filter(lambda port: port != _CONTROLLER))
    return others | _actions("output", st.just(_CONTROLLER), _BITS16)


_MACS = st.integers(0, (1 << 48) - 1)
_V10_ACTIONS = [
    _outputs(_V10_PORTS),
    _actions("enqueue", _V10_PORTS, _BITS32),
    *(_actions(name, _BITS16) for name in ("mod_vlan_vid", "mod_tp_src", "mod_tp_dst")),
    *(_actions(name, _BITS8) for name in ("mod_vlan_pcp", "mod_nw_tos")),
    *(_actions(name, _MACS) for name in ("mod_dl_src", "mod_dl_dst")),
    *(_actions(name, _BITS32) for name in ("mod_nw_src", "mod_nw_dst", "set_tunnel", "set_queue")),
    _actions("strip_vlan"),
]
_LATER_ACTIONS = [
    _outputs(_BITS32),
    *(_actions(name, _BITS32) for name in ("group", "set_queue")),
    *(_actions(name, _BITS16) for name in ("push_vlan", "push_mpls", "pop_mpls", "push_pbb")),
    *(_actions(name, _BITS8) for name in ("mod_nw_ttl", "set_mpls_ttl")),
    *(_actions(name) for name in ("pop_vlan", "pop_pbb", "dec_mpls_ttl", "copy_ttl_in", "copy_ttl_out")),
    _actions("set_field", fields),
]
_ANY_VERSION = [
    *(_actions(name) for name in ("dec_ttl", "exit", "pop_queue")),
    _actions("move", _BITS16, st.sampled_from(sorted(FIELDS)), _BITS16, st.sampled_from(sorted(FIELDS)), _BITS16),
    _actions("resubmit", st.just(0xFFFF_FFFF) | st.integers(0, 0xFEFF), _BITS8),
    _actions("conjunction", _BITS8, _BITS8, _BITS32),
    _actions("controller", _BITS16, _BITS16, _BITS8),
    _actions("note", st.binary(min_size=6, max_size=6)),
    _actions("experimenter", st.integers(0, 0x2319), st.binary(min_size=8, max_size=8)),
]


def actions(version: int) -> st.SearchStrategy[Actions]:
    """Draw actions of a version."""
    own = _V10_ACTIONS if version == V10 else _LATER_ACTIONS
    return st.lists(st.one_of(*own, *_ANY_VERSION), max_size=5).map(tuple)


def instructions(version: int) -> st.SearchStrategy[Instructions]:
    """Draw instructions of a version, in the order of their execution."""
    some = actions(version).filter(bool)
    apply = some.map(lambda found: Instruction("apply_actions", (found,)))
    if version == V10:
        return st.lists(apply, max_size=1).map(tuple)
    metadata = st.tuples(st.integers(0, (1 << 64) - 1), st.integers(1, (1 << 64) - 1))
    parts: list[st.SearchStrategy[Instruction]] = [
        _BITS32.map(lambda number: Instruction("meter", (number,))),
        apply,
        st.just(Instruction("clear_actions")),
        some.map(lambda found: Instruction("write_actions", (action_set(found),))),
        metadata.map(lambda pair: Instruction("write_metadata", (pair[0] & pair[1], pair[1]))),
        _BITS8.map(lambda number: Instruction("goto_table", (number,))),
    ]
    return st.tuples(*(st.none() | part for part in parts)).map(
        lambda found: tuple(one for one in found if one is not None)
    )


def of_versions(build_value: Callable[[int], st.SearchStrategy[Any]]) -> st.SearchStrategy[tuple[int, Any]]:
    """Draw a version and a value of it."""
    return st.sampled_from(ALL).flatmap(lambda version: st.tuples(st.just(version), build_value(version)))
