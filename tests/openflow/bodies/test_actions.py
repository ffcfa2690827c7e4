"""Actions and action sets: all that os-ken encodes, those of Open vSwitch, and what is malformed."""

from itertools import permutations
from struct import pack
from typing import Any

import pytest
from hypothesis import given

from natmirror.openflow.bodies.action_sets import action_set
from natmirror.openflow.bodies.actions import decode_actions, encode_actions
from natmirror.openflow.bodies.elements import Action, Actions, Instructions, MalformedBody, MatchField
from natmirror.openflow.bodies.instructions import decode_instructions, encode_instructions
from natmirror.openflow.messages import V10, V13, V15
from tests.helpers.openflow import ALL, KITS
from tests.helpers.openflow_bodies import LATER, actions, instructions, of_versions

MAC = MatchField("eth_src", 0x020000000001)
everywhere = pytest.mark.parametrize("version", ALL)
later = pytest.mark.parametrize("version", LATER)


def decoded(version: int, *written: Any) -> Actions:
    raw = bytearray()
    for one in written:
        one.serialize(raw, len(raw))
    return decode_actions(version, bytes(raw))


def nicira(subtype: int, body: bytes) -> bytes:
    return pack("!HHIH", 0xFFFF, 10 + len(body), 0x2320, subtype) + body


def test_the_actions_of_1_0() -> None:
    parser = KITS[V10].parser
    found = decoded(
        V10,
        parser.OFPActionOutput(0xFFFD, 64),
        parser.OFPActionVlanVid(5),
        parser.OFPActionVlanPcp(3),
        parser.OFPActionStripVlan(),
        parser.OFPActionSetDlSrc(b"\2\0\0\0\0\1"),
        parser.OFPActionSetDlDst(b"\2\0\0\0\0\2"),
        parser.OFPActionSetNwSrc("10.0.0.1"),
        parser.OFPActionSetNwDst("10.0.0.2"),
        parser.OFPActionSetNwTos(8),
        parser.OFPActionSetTpSrc(80),
        parser.OFPActionSetTpDst(81),
        parser.OFPActionEnqueue(0xFFFE, 4),
    )
    assert found == (
        Action("output", (0xFFFF_FFFD, 64)),
        Action("mod_vlan_vid", (5,)),
        Action("mod_vlan_pcp", (3,)),
        Action("strip_vlan"),
        Action("mod_dl_src", (0x020000000001,)),
        Action("mod_dl_dst", (0x020000000002,)),
        Action("mod_nw_src", (0x0A000001,)),
        Action("mod_nw_dst", (0x0A000002,)),
        Action("mod_nw_tos", (8,)),
        Action("mod_tp_src", (80,)),
        Action("mod_tp_dst", (81,)),
        Action("enqueue", (0xFFFF_FFFE, 4)),
    )


@later
def test_the_actions_of_later_versions(version: int) -> None:
    parser = KITS[version].parser
    plain = {
        "copy_ttl_out": parser.OFPActionCopyTtlOut,
        "copy_ttl_in": parser.OFPActionCopyTtlIn,
        "dec_mpls_ttl": parser.OFPActionDecMplsTtl,
        "pop_vlan": parser.OFPActionPopVlan,
        "dec_ttl": parser.OFPActionDecNwTtl,
        "pop_pbb": parser.OFPActionPopPbb,
    }
    numbered = {
        "set_mpls_ttl": parser.OFPActionSetMplsTtl,
        "push_vlan": parser.OFPActionPushVlan,
        "push_mpls": parser.OFPActionPushMpls,
        "pop_mpls": parser.OFPActionPopMpls,
        "set_queue": parser.OFPActionSetQueue,
        "group": parser.OFPActionGroup,
        "mod_nw_ttl": parser.OFPActionSetNwTtl,
        "push_pbb": parser.OFPActionPushPbb,
    }
    written = [make() for make in plain.values()] + [make(9) for make in numbered.values()]
    assert decoded(version, *written) == (*map(Action, plain), *(Action(name, (9,)) for name in numbered))
    assert decoded(version, parser.OFPActionSetField(eth_src="02:00:00:00:00:01")) == (Action("set_field", (MAC,)),)


def test_what_1_5_adds() -> None:
    meter = pack("!HHI", 29, 8, 5)
    copy = pack("!HHHHH2xII", 28, 24, 16, 1, 2, 0x8000_0408, 0x0001_0004) + bytes(4)
    copied = Action("move", (16, "metadata", 1, "reg0", 2))
    assert decode_actions(V15, meter + copy) == (Action("meter", (5,)), copied)
    assert decode_actions(V13, meter + copy) == (
        Action("unknown", (29, meter[4:])),
        Action("unknown", (28, copy[4:])),
    )


@everywhere
def test_the_actions_of_open_vswitch(version: int) -> None:
    assert decode_actions(version, nicira(14, pack("!HB3x", 0xFFF8, 5))) == (Action("resubmit", (0xFFFF_FFFF, 5)),)
    assert decode_actions(version, nicira(1, pack("!HB3x", 2, 0))) == (Action("resubmit", (2, 255)),)
    load = nicira(7, pack("!HIQ", 4 << 6 | 7, 0x0001_0004, 0x5A))
    assert decode_actions(version, load) == (Action("load", (MatchField("reg0", 0x5A0, 0xFF0),)),)
    move = nicira(6, pack("!HHHII", 16, 1, 2, 0x8000_0408, 0x0001_0004))
    assert decode_actions(version, move) == (Action("move", (16, "metadata", 1, "reg0", 2)),)


@everywhere
def test_what_is_unknown_compares_by_its_bytes(version: int) -> None:
    learn = nicira(16, bytes(22))
    other = pack("!HHI8x", 0xFFFF, 16, 0xABC)
    assert decode_actions(version, learn + other) == (
        Action("experimenter", (0x2320, pack("!H", 16) + bytes(22))),
        Action("experimenter", (0xABC, bytes(8))),
    )
    assert decode_actions(version, pack("!HHI", 77, 8, 1)) != decode_actions(version, pack("!HHI", 77, 8, 2))


@pytest.mark.parametrize(
    "raw",
    [
        pack("!HHI", 22, 0, 1),
        pack("!HHI", 22, 12, 1) + bytes(4),
        pack("!HHI", 22, 16, 1),
        pack("!HHI8x", 22, 16, 1),
        pack("!HHHH", 25, 8, 0x8000, 0x0A08),
        pack("!HHH", 22, 8, 1),
        nicira(7, pack("!HIQ", 3, 0x0001_0004, 0x5A)),
    ],
    ids=("of no length", "of odd length", "cut off", "too long", "field cut off", "no header", "too many bits"),
)
def test_malformed_actions(raw: bytes) -> None:
    with pytest.raises(MalformedBody):
        decode_actions(V13, raw)


@given(of_versions(actions))
def test_actions_survive_their_encoding(case: tuple[int, Actions]) -> None:
    version, written = case
    raw = encode_actions(version, written)
    assert decode_actions(version, raw) == written
    assert len(raw) % 8 == 0


@given(of_versions(instructions))
def test_instructions_survive_their_encoding(case: tuple[int, Instructions]) -> None:
    version, written = case
    assert decode_instructions(version, encode_instructions(version, written)) == written


def test_a_version_cannot_encode_the_actions_of_others() -> None:
    for version, action in (
        (V10, Action("group", (1,))),
        (V13, Action("mod_tp_src", (1,))),
        (V13, Action("meter", (1,))),
    ):
        with pytest.raises(ValueError, match=action.name):
            encode_actions(version, (action,))


def test_an_action_set_does_not_depend_on_the_order_of_its_actions() -> None:
    some = (
        Action("output", (1,)),
        Action("set_field", (MAC,)),
        Action("push_vlan", (0x8100,)),
        Action("pop_vlan"),
        Action("set_field", (MatchField("vlan_vid", 0x1005),)),
    )
    sets = {action_set(order) for order in permutations(some)}
    assert [tuple(one.name for one in found) for found in sets] == [
        ("pop_vlan", "push_vlan", "set_field", "set_field", "output")
    ]
    assert action_set(some).written == some


def test_the_last_action_of_a_kind_counts_in_a_set() -> None:
    assert action_set((Action("output", (1,)), Action("output", (2,)))) == (Action("output", (2,)),)
    other = Action("set_field", (MatchField("eth_src", 5),))
    assert action_set((other, Action("set_field", (MAC,)))) == (Action("set_field", (MAC,)),)
    masked = Action("set_field", (MatchField("eth_src", 5, 7),))
    assert action_set((other, masked)) == (other, masked)
    assert action_set((masked, other)) != action_set((other, masked))


def test_unknown_actions_keep_their_place_in_a_set() -> None:
    move = Action("move", (16, "reg0", 0, "reg1", 0))
    load = Action("set_field", (MatchField("reg0", 5),))
    assert action_set((move, load)) == (move, load)
    assert action_set((load, move)) == (load, move)
