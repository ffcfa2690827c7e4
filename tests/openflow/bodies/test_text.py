"""Lines in the words of ovs-ofctl. tests/live/test_flow_text.py compares them with those of a real Open vSwitch."""

from dataclasses import replace
from struct import pack
from typing import Any

import pytest

from natmirror.openflow.bodies.action_text import action_text, actions_text
from natmirror.openflow.bodies.elements import Action, Instruction, MatchField
from natmirror.openflow.bodies.match_text import match_text
from natmirror.openflow.bodies.text import body_text, flow_mod_text, flow_text, frame_text
from natmirror.openflow.bodies.values import FlowCommand, FlowFlag, FlowMod, FlowStats
from natmirror.openflow.messages import V10, V13, V14, V15, Type, build
from tests.helpers.openflow import KITS, multipart
from tests.helpers.openflow_bodies import FRAME, mod, value

_IP, _IPV6, _TCP = MatchField("eth_type", 0x800), MatchField("eth_type", 0x86DD), MatchField("ip_proto", 6)
ALL_FIELDS: dict[str, Any] = {
    "table_id": 1,
    "cookie": 18,
    "idle_timeout": 3,
    "hard_timeout": 7,
    "flags": 0x1F,
    "importance": 5,
}
_WITH_TAG = MatchField("vlan_vid", 0x1000, 0x1000)


@pytest.mark.parametrize(
    ("match", "text"),
    [
        ((), ""),
        ((_IP, _TCP, MatchField("tcp_dst", 80), MatchField("in_port", 1)), "tcp,in_port=1,tp_dst=80"),
        ((_IPV6, MatchField("ip_proto", 58), MatchField("icmpv6_type", 135)), "icmp6,icmp_type=135"),
        ((_IP, MatchField("ip_proto", 99)), "ip,nw_proto=99"),
        ((MatchField("eth_type", 0x806), MatchField("arp_op", 1)), "arp,arp_op=1"),
        ((MatchField("eth_type", 0x1234),), "dl_type=0x1234"),
        ((_IP, MatchField("ipv4_src", 0x0A000000, 0xFF000000)), "ip,nw_src=10.0.0.0/8"),
        ((_IP, MatchField("ipv4_src", 0x0A000001, 0xFF0000FF)), "ip,nw_src=10.0.0.1/255.0.0.255"),
        ((_IPV6, MatchField("ipv6_src", 0xFE80 << 112, 0xFFFF << 112)), "ipv6,ipv6_src=fe80::/16"),
        ((_IPV6, MatchField("ipv6_dst", 0xFFFF_0102_0304)), "ipv6,ipv6_dst=::ffff:1.2.3.4"),
        ((_IPV6, MatchField("ipv6_dst", 0x0102_0304)), "ipv6,ipv6_dst=::1.2.3.4"),
        ((_IPV6, MatchField("ipv6_flabel", 5, 15)), "ipv6,ipv6_label=0x00005/0x0000f"),
        ((MatchField("vlan_vid", 0x1005), MatchField("vlan_pcp", 3)), "dl_vlan=5,dl_vlan_pcp=3"),
        ((_WITH_TAG, MatchField("vlan_pcp", 3)), "dl_vlan_pcp=3"),
        ((_WITH_TAG,), "vlan_tci=0x1000/0x1000"),
        ((MatchField("vlan_vid", 0),), "vlan_tci=0x0000/0x1fff"),
        ((MatchField("vlan_vid", 0), MatchField("vlan_pcp", 0)), "vlan_tci=0x0000"),
        (
            (_IP, MatchField("ip_dscp", 10), MatchField("ip_ecn", 2), MatchField("nw_ttl", 5)),
            "ip,nw_tos=40,nw_ecn=2,nw_ttl=5",
        ),
        ((_IP, MatchField("ip_frag", 1, 1)), "ip,nw_frag=yes"),
        ((_IP, MatchField("ip_frag", 3)), "ip,nw_frag=later"),
        ((_IP, _TCP, MatchField("tcp_src", 16, 0xFFF0)), "tcp,tp_src=0x10/0xfff0"),
        ((_IP, _TCP, MatchField("tcp_flags", 2, 0x12)), "tcp,tcp_flags=+syn-ack"),
        ((_IP, _TCP, MatchField("tcp_flags", 0x12)), "tcp,tcp_flags=syn|ack"),
        ((MatchField("ct_state", 0x21, 0x23),), "ct_state=+new-est+trk"),
        ((MatchField("eth_src", 1 << 40, 1 << 40),), "dl_src=01:00:00:00:00:00/01:00:00:00:00:00"),
        ((MatchField("in_port", 0xFFFF_FFFE), MatchField("metadata", 5, 255)), "metadata=0x5/0xff,in_port=LOCAL"),
        ((MatchField("reg1", 0), MatchField("tunnel_id", 9)), "reg1=0,tun_id=0x9"),
        ((MatchField("in_port", 0xFFFF_FF01),), "in_port=65281"),
        ((MatchField("oxm_8000_99_2", 5),), "oxm_8000_99_2=0x5"),
    ],
)
def test_matches(match: tuple[MatchField, ...], text: str) -> None:
    assert match_text(match) == text


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (Action("output", (2,)), "output:2"),
        (Action("output", (0xFFFF_FFFB,)), "FLOOD"),
        (Action("output", (0xFFFF_FFFD, 128)), "CONTROLLER:128"),
        (Action("enqueue", (0xFFFF_FFFE, 3)), "enqueue:LOCAL:3"),
        (Action("mod_dl_src", (1,)), "mod_dl_src:00:00:00:00:00:01"),
        (Action("mod_nw_dst", (0x0A000001,)), "mod_nw_dst:10.0.0.1"),
        (Action("push_vlan", (0x8100,)), "push_vlan:0x8100"),
        (Action("set_mpls_ttl", (5,)), "set_mpls_ttl(5)"),
        (Action("group", (5,)), "group:5"),
        (Action("dec_ttl"), "dec_ttl"),
        (Action("set_field", (MatchField("vlan_vid", 0x1005),)), "set_field:4101->vlan_vid"),
        (Action("set_field", (MatchField("ipv4_dst", 0x0A000001),)), "set_field:10.0.0.1->ip_dst"),
        (Action("set_field", (MatchField("tcp_dst", 80, 255),)), "set_field:80/0xff->tcp_dst"),
        (Action("set_field", (MatchField("tunnel_id", 5),)), "set_field:0x5->tun_id"),
        (Action("load", (MatchField("reg1", 3, 0xFFFF),)), "load:0x3->NXM_NX_REG1[0..15]"),
        (Action("load", (MatchField("vlan_tci", 0, 0xFFFF),)), "load:0->NXM_OF_VLAN_TCI[]"),
        (Action("load", (MatchField("reg3", 32, 32),)), "load:0x1->NXM_NX_REG3[5]"),
        (Action("move", (48, "eth_src", 0, "eth_dst", 0)), "move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]"),
        (Action("move", (16, "metadata", 0, "reg0", 3)), "move:OXM_OF_METADATA[0..15]->NXM_NX_REG0[3..18]"),
        (Action("resubmit", (0xFFFF_FFFF, 3)), "resubmit(,3)"),
        (Action("resubmit", (1, 255)), "resubmit:1"),
        (Action("resubmit", (2, 5)), "resubmit(2,5)"),
        (Action("conjunction", (1, 3, 5)), "conjunction(5,2/3)"),
        (Action("note", (b"\1\2\0\0\0\0",)), "note:01.02.00.00.00.00"),
        (Action("controller", (128, 5, 0)), "controller(reason=no_match,max_len=128,id=5)"),
        (Action("controller", (65535, 0, 1)), "CONTROLLER:65535"),
        (Action("experimenter", (0xABC, b"\1\2")), "experimenter(0xabc,0102)"),
    ],
)
def test_actions(action: Action, text: str) -> None:
    assert action_text(action) == text


def test_no_actions_drop() -> None:
    assert actions_text(()) == "drop"


def test_a_flow_with_all_that_it_can_have() -> None:
    parser = KITS[V14].parser
    found = mod(
        V14,
        {"in_port": 1},
        instructions=[
            parser.OFPInstructionActions(4, [parser.OFPActionOutput(2)]),
            parser.OFPInstructionActions(3, [parser.OFPActionOutput(1), parser.OFPActionPopVlan()]),
            parser.OFPInstructionWriteMetadata(5, 15),
            parser.OFPInstructionGotoTable(3),
        ],
        **ALL_FIELDS,
    )
    assert flow_text(found) == (
        "cookie=0x12, table=1, idle_timeout=3, hard_timeout=7, send_flow_rem check_overlap reset_counts "
        "no_packet_counts no_byte_counts importance=5, priority=7,in_port=1 "
        "actions=output:2,write_actions(output:1,pop_vlan),write_metadata:0x5/0xf,goto_table:3"
    )


def test_the_default_priority_is_left_out() -> None:
    assert flow_text(FlowStats(0, 0x8000, (), ())) == "actions=drop"
    assert flow_text(FlowStats(3, 0x8000, (), (), importance=5)) == "table=3, importance=5, actions=drop"
    assert flow_text(FlowStats(0, 0, (), ())) == "priority=0 actions=drop"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "add priority=7,in_port=1 actions=drop"),
        ({"command": 1}, "modify in_port=1 actions=drop"),
        ({"command": 2}, "modify-strict priority=7,in_port=1 actions=drop"),
        ({"command": 3, "table_id": 255}, "delete table=all,in_port=1"),
        ({"command": 4, "table_id": 2}, "delete-strict table=2,priority=7,in_port=1"),
        ({"command": 3, "cookie": 5, "cookie_mask": 7}, "delete cookie=0x5/0x7,in_port=1"),
        ({"command": 3, "cookie": 5, "cookie_mask": (1 << 64) - 1}, "delete cookie=0x5/-1,in_port=1"),
        ({"buffer_id": 16}, "add priority=7,in_port=1 actions=drop buffer=0x10"),
    ],
)
def test_the_commands_of_a_flow_mod(fields: dict[str, Any], text: str) -> None:
    anything: dict[str, Any] = {"out_port": 0xFFFF_FFFF, "out_group": 0xFFFF_FFFF}
    assert body_text(mod(V13, {"in_port": 1}, **anything, **fields)) == text


@pytest.mark.parametrize("command", FlowCommand)
def test_flow_mods_that_differ_have_lines_that_differ(command: FlowCommand) -> None:
    """Each field of a value shows in its line, as far as a command may have another value than the default."""
    match, output = (MatchField("in_port", 1),), (Instruction("apply_actions", ((Action("output", (2,)),),)),)
    changes: dict[str, Any] = {"table": 3, "match": (), "cookie": 5, "cookie_mask": 7}
    if command.is_strict:
        changes["priority"] = 9
    if command.is_delete:
        changes |= {"out_port": 5, "out_group": 6}
    else:
        changes |= {"instructions": output, "flags": FlowFlag.RESET_COUNTS, "buffer_id": 6}
    if command is FlowCommand.ADD:
        del changes["cookie_mask"]
        changes |= {"priority": 9, "idle_timeout": 5, "hard_timeout": 6, "importance": 7, "flags": 1}
    plain = FlowMod(command, 0, 7 if command.is_strict else 0, match, (), cookie_mask=0)
    texts = {flow_mod_text(replace(plain, **{name: value})) for name, value in changes.items()}
    assert len(texts | {flow_mod_text(plain)}) == len(changes) + 1


@pytest.mark.parametrize("command", [1, 2])
def test_a_modification_of_1_0_shows_all_that_the_flow_would_have(command: int) -> None:
    found = mod(V10, {"in_port": 1}, command=command, idle_timeout=5, flags=1, cookie=9)
    name = ("modify", "modify-strict")[command - 1]
    expected = f"{name} cookie=0x9, idle_timeout=5, send_flow_rem priority=7,in_port=1 actions=drop"
    assert body_text(found) == expected


def test_what_a_deletion_sends_to() -> None:
    found = mod(V13, {"in_port": 1}, command=3, out_port=0xFFFF_FFFE, out_group=4)
    assert body_text(found) == "delete in_port=1,out_port=LOCAL,out_group=4"
    assert body_text(mod(V10, {}, command=3, out_port=0xFFFF)) == "delete"


def test_packets() -> None:
    arp = (
        "arp,in_port=1,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,arp_spa=10.0.0.1,arp_tpa=10.0.0.2,"
        "arp_op=1,arp_sha=02:00:00:00:00:01,arp_tha=00:00:00:00:00:00"
    )
    assert frame_text(FRAME, 1) == arp
    kit = KITS[V13]
    sent = kit.make(
        "OFPPacketOut", 1, buffer_id=0xFFFFFFFF, in_port=1, actions=[kit.parser.OFPActionOutput(2)], data=FRAME
    )
    assert body_text(value(sent)) == f"packet_out {arp} actions=output:2"
    buffered = kit.make("OFPPacketOut", 1, buffer_id=5, in_port=1, actions=[])
    assert body_text(value(buffered)) == "packet_out in_port=1 buffer=0x5 actions=drop"
    head = pack("!IHBBQ", 7, 60, 1, 2, 0) + pack("!HHII4x", 1, 12, 0x8000_0004, 1) + bytes(2)
    received = build(V13, Type.PACKET_IN, 1, head + FRAME)
    assert body_text(value(received)) == f"packet_in table=2 reason=action {arp} buffer=0x7 (60 bytes)"


def test_groups_and_meters() -> None:
    kit = KITS[V13]
    bucket = kit.parser.OFPBucket(
        weight=5, watch_port=0xFFFFFFFF, watch_group=0xFFFFFFFF, actions=[kit.parser.OFPActionOutput(1)]
    )
    watched = kit.parser.OFPBucket(weight=1, watch_port=3, watch_group=0xFFFFFFFF, actions=[])
    group = kit.make("OFPGroupMod", 1, command=0, type_=1, group_id=2, buckets=[bucket, watched])
    assert body_text(value(group)) == (
        "group add group_id=2,type=select,bucket=weight:5,actions=output:1,bucket=watch_port:3,actions=drop"
    )
    deleted = kit.make("OFPGroupMod", 1, command=2, group_id=0xFFFF_FFFC)
    assert body_text(value(deleted)) == "group delete group_id=all"
    meter = kit.make("OFPMeterMod", 1, command=0, flags=0xE, meter_id=1, bands=[kit.parser.OFPMeterBandDrop(5, 7)])
    assert body_text(value(meter)) == "meter add meter=1 pktps burst stats bands=type=drop rate=5 burst_size=7"


def test_a_long_opaque_body_is_cut() -> None:
    text = body_text(value(multipart(V15, 1, 99, bytes(5000))))
    assert text.endswith("… (5000 bytes)")
    assert len(text) < 200
