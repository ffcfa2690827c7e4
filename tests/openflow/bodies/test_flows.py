"""FLOW_MOD and FLOW_REMOVED as values: os-ken encodes them, and those with the same effect are equal."""

from dataclasses import replace
from struct import pack
from typing import Any

import pytest

from natmirror.openflow.bodies.elements import Action, Instruction, MalformedBody, MatchField
from natmirror.openflow.bodies.values import FlowCommand, FlowMod, FlowRemoved
from natmirror.openflow.messages import V10, V13, V14, V15, Type, build
from tests.helpers.openflow import ALL, KITS
from tests.helpers.openflow_bodies import LATER, applied, flow_mod, mod, value

ANY = 0xFFFF_FFFF
NO_BUFFER = 0xFFFF_FFFF
everywhere = pytest.mark.parametrize("version", ALL)
later = pytest.mark.parametrize("version", LATER)
OTHER: dict[str, Any] = {
    "cookie": 5,
    "idle_timeout": 6,
    "hard_timeout": 7,
    "buffer_id": 8,
    "flags": 1,
}


@everywhere
def test_a_flow_that_is_added(version: int) -> None:
    output = KITS[version].parser.OFPActionOutput(2)
    table: dict[str, Any] = {} if version == V10 else {"table_id": 3}
    found = mod(version, {"in_port": 1}, [output], **OTHER, **table)
    instructions = (Instruction("apply_actions", ((Action("output", (2,)),),)),)
    assert found == FlowMod(
        FlowCommand.ADD,
        0 if version == V10 else 3,
        7,
        (MatchField("in_port", 1),),
        instructions,
        cookie=5,
        idle_timeout=6,
        hard_timeout=7,
        buffer_id=8,
        flags=1,
    )
    assert hash(found) == hash(replace(found))


@pytest.mark.parametrize(("version", "importance"), [(V13, 0), (V14, 9), (V15, 9)])
def test_the_importance_counts_from_1_4_on(version: int, importance: int) -> None:
    raw = bytearray(flow_mod(version, {}))
    raw[46:48] = pack("!H", 9)
    found = value(bytes(raw))
    assert isinstance(found, FlowMod)
    assert found.importance == importance


@later
@pytest.mark.parametrize("command", [1, 2])
def test_a_modification_changes_neither_timeouts_nor_cookie(version: int, command: int) -> None:
    output = KITS[version].parser.OFPActionOutput(2)
    found = mod(version, {}, [output], command=command, cookie_mask=4, **OTHER)
    plain = mod(version, {}, [output], command=command, cookie=4, cookie_mask=4, buffer_id=8)
    assert found == plain
    assert (found.cookie, found.cookie_mask, found.buffer_id) == (4, 4, 8)
    assert found.priority == (7 if command == 2 else 0)


def test_in_1_0_a_modification_may_add_the_flow() -> None:
    found = mod(V10, {}, command=1, **OTHER)
    assert (found.priority, found.cookie, found.idle_timeout, found.flags) == (7, 5, 6, 1)


@everywhere
@pytest.mark.parametrize("command", [3, 4])
def test_a_deletion_has_only_what_chooses_flows(version: int, command: int) -> None:
    output = KITS[version].parser.OFPActionOutput(2)
    conditions: dict[str, Any] = {"out_port": 9} if version == V10 else {"out_port": 9, "out_group": 10}
    found = mod(version, {"in_port": 1}, [output], command=command, **OTHER, **conditions)
    assert found == mod(version, {"in_port": 1}, command=command, **conditions)
    assert (found.instructions, found.buffer_id, found.out_port) == ((), NO_BUFFER, 9)
    assert found.priority == (7 if command == 4 else 0)
    assert found.command.is_delete
    assert found.command.is_strict == (command == 4)


@later
def test_out_port_and_out_group_count_for_deletions_only(version: int) -> None:
    assert mod(version, {}, out_port=1, out_group=2) == mod(version, {}, out_port=3, out_group=4)
    assert mod(version, {}, command=3, out_port=1) != mod(version, {}, command=3, out_port=3)


def test_in_1_0_a_match_without_wildcards_has_the_highest_priority() -> None:
    match = bytes(40)
    raw = build(V10, Type.FLOW_MOD, 1, match + pack("!QHHHHIHH", 0, 0, 0, 0, 7, NO_BUFFER, 0xFFFF, 0))
    found = value(raw)
    assert isinstance(found, FlowMod)
    assert found.priority == 0xFFFF


def test_in_1_0_the_upper_byte_of_a_command_is_a_table() -> None:
    raw = build(V10, Type.FLOW_MOD, 1, bytes(40) + pack("!QHHHHIHH", 0, 0x0203, 0, 0, 7, NO_BUFFER, 0xFFFF, 0))
    found = value(raw)
    assert isinstance(found, FlowMod)
    assert (found.table, found.command) == (2, FlowCommand.DELETE)


@everywhere
def test_an_unknown_command_is_malformed(version: int) -> None:
    with pytest.raises(MalformedBody, match="command 5"):
        value(flow_mod(version, {}, command=5))


@everywhere
def test_ports_have_32_bits(version: int) -> None:
    kit = KITS[version]
    found = mod(version, {"in_port": kit.ofproto.OFPP_LOCAL}, [kit.parser.OFPActionOutput(kit.ofproto.OFPP_FLOOD)])
    assert found.match == (MatchField("in_port", 0xFFFF_FFFE),)
    assert applied(found) == (Action("output", (0xFFFF_FFFB,)),)


@everywhere
def test_only_the_controller_gets_a_number_of_bytes(version: int) -> None:
    kit = KITS[version]
    assert mod(version, {}, [kit.parser.OFPActionOutput(1, 5)]) == mod(version, {}, [kit.parser.OFPActionOutput(1, 6)])
    sent = [kit.parser.OFPActionOutput(kit.ofproto.OFPP_CONTROLLER, size) for size in (5, 6)]
    assert mod(version, {}, sent[:1]) != mod(version, {}, sent[1:])


@later
def test_instructions_stand_in_the_order_of_execution(version: int) -> None:
    parser = KITS[version].parser
    apply = parser.OFPInstructionActions(4, [parser.OFPActionOutput(2)])
    some = [
        parser.OFPInstructionGotoTable(3),
        parser.OFPInstructionWriteMetadata(5, 0xFF),
        parser.OFPInstructionActions(3, [parser.OFPActionGroup(4)]),
        parser.OFPInstructionActions(5, []),
        apply,
    ]
    found = mod(version, {}, instructions=some)
    assert found == mod(version, {}, instructions=some[::-1])
    names = ("apply_actions", "clear_actions", "write_actions", "write_metadata", "goto_table")
    assert tuple(one.name for one in found.instructions) == names


@later
def test_instructions_without_an_effect_are_none(version: int) -> None:
    parser = KITS[version].parser
    idle = [parser.OFPInstructionActions(kind, []) for kind in (3, 4)] + [parser.OFPInstructionWriteMetadata(5, 0)]
    assert mod(version, {}, instructions=idle).instructions == ()


@later
def test_two_instructions_of_one_type_are_malformed(version: int) -> None:
    parser = KITS[version].parser
    with pytest.raises(MalformedBody, match="two instructions"):
        mod(version, {}, instructions=[parser.OFPInstructionGotoTable(3), parser.OFPInstructionGotoTable(4)])


def test_a_flow_mod_with_nxm_fields() -> None:
    """Open vSwitch's extension of 1.0: a match may name the cookies of the flows that it means."""
    nxm = pack("!IH2x", 0x0000_0002, 1)[:6] + pack("!IQQ", 0x0001_3D10, 5, 7)
    head = pack("!QHHHHIHHH6x", 1, 3, 0, 0, 7, NO_BUFFER, 0xFFFF, 0, len(nxm))
    raw = build(V10, Type.EXPERIMENTER, 1, pack("!II", 0x2320, 13) + head + nxm + bytes(-len(nxm) % 8))
    match = (MatchField("in_port", 1),)
    assert value(raw) == FlowMod(FlowCommand.DELETE, 0, 0, match, (), cookie=5, cookie_mask=7)


@everywhere
def test_a_flow_that_was_removed(version: int) -> None:
    stats = 5, 500_000_000
    if version == V10:
        match = pack("!IH34x", (1 << 22) - 2, 1)
        body = match + pack("!QHBxIIH2xQQ", 9, 8, 1, *stats, 7, 6, 4)
    else:
        match = pack("!HHII4x", 1, 12, 0x8000_0004, 1)
        body = pack("!QHBBIIHHQQ", 9, 8, 1, 2, *stats, 7, 3, 6, 4) + match
    if version == V15:
        oxs = pack("!III", 0x8002_0008, *stats) + pack("!IQ", 0x8002_0808, 6) + pack("!IQ", 0x8002_0A08, 4)
        body = pack("!BBHHHQ", 2, 1, 8, 7, 3, 9) + match + pack("!HH", 0, 4 + len(oxs)) + oxs
    table, hard = (0, 0) if version == V10 else (2, 3)
    found = value(build(version, Type.FLOW_REMOVED, 1, body))
    assert found == FlowRemoved(table, 8, (MatchField("in_port", 1),), 9, 1, 7, hard, 5.5, 6, 4)
