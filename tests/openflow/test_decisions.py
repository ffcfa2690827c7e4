"""Decisions side by side, with their fields as os-ken wrote them, and the PACKET_INs that they answer."""

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.openflow.decisions import By, Decisions, fields_of, text_of
from natmirror.openflow.messages import V10, V13, V15, Message, Type, build, parse
from natmirror.openflow.shown import FlowModFields
from tests.helpers.openflow import ALL, KITS, packet_in

NO_BUFFER = 0xFFFF_FFFF
everywhere = pytest.mark.parametrize("version", ALL)


def flow_mod(version: int, *, buffer_id: int = NO_BUFFER, command: int = 0) -> bytes:
    kit = KITS[version]
    common = {"cookie": 0xC00C1E, "command": command, "idle_timeout": 5, "hard_timeout": 6, "priority": 7}
    if version == V10:
        action = kit.parser.OFPActionOutput(3)
        return kit.make(
            "OFPFlowMod", 1, match=kit.parser.OFPMatch(in_port=1), buffer_id=buffer_id, actions=[action], **common
        )
    actions = kit.parser.OFPInstructionActions(kit.ofproto.OFPIT_APPLY_ACTIONS, [kit.parser.OFPActionOutput(3)])
    match = kit.parser.OFPMatch(in_port=1)
    return kit.make("OFPFlowMod", 1, table_id=4, match=match, buffer_id=buffer_id, instructions=[actions], **common)


def packet_out(version: int, *, buffer_id: int = NO_BUFFER, data: bytes = b"frame") -> bytes:
    kit = KITS[version]
    source: dict[str, Any] = {"match": kit.parser.OFPMatch(in_port=1)} if version == V15 else {"in_port": 1}
    action = kit.parser.OFPActionOutput(3)
    return kit.make("OFPPacketOut", 2, buffer_id=buffer_id, actions=[action], data=data or None, **source)


def output(version: int) -> str:
    """Return the bytes of an output action in hexadecimal; the number of bytes counts for the controller only."""
    written = bytearray()
    KITS[version].parser.OFPActionOutput(3, 0).serialize(written, 0)
    return bytes(written).hex()


@everywhere
def test_the_fields_of_a_flow_mod(version: int) -> None:
    fields = cast("FlowModFields", fields_of(parse(flow_mod(version, buffer_id=9))))
    expected = {
        "command": "add",
        "cookie": 0xC00C1E,
        "idle_timeout": 5,
        "hard_timeout": 6,
        "priority": 7,
        "buffer_id": 9,
        "table_id": 0 if version == V10 else 4,
    }
    assert expected.items() <= fields.items()
    assert fields["instructions"].endswith(output(version))
    if version != V10:
        assert fields["match"] == "0001000c800000040000000100000000"


@everywhere
def test_fields_that_a_command_ignores_have_their_defaults(version: int) -> None:
    fields = cast("FlowModFields", fields_of(parse(flow_mod(version, buffer_id=9, command=3))))
    assert (fields["command"], fields["instructions"]) == ("delete", "")
    assert (fields["buffer_id"], fields["idle_timeout"], fields["priority"]) == (NO_BUFFER, 0, 0)


@everywhere
def test_the_fields_of_a_packet_out(version: int) -> None:
    fields = fields_of(parse(packet_out(version, buffer_id=NO_BUFFER)))
    assert fields == {
        "buffer_id": NO_BUFFER,
        "in_port": 1,
        "actions": output(version),
        "data": b"frame".hex(),
    }


@everywhere
def test_orders_and_their_causes_have_a_line(version: int) -> None:
    decisions = Decisions()
    decisions.saw(parse(packet_in(version, frame=b"frame")), 0.0)
    decisions.decided(None, parse(flow_mod(version)), 0.5)
    decisions.decided(None, parse(packet_out(version)[:20]), 0.5)
    entry, cut = decisions.plain(1.0)[By.BACKEND]["latest"]
    head = "add cookie=0xc00c1e, " + ("" if version == V10 else "table=4, ")
    assert entry["text"] == f"{head}idle_timeout=5, hard_timeout=6, priority=7,in_port=1 actions=output:3"
    assert entry["cause"] == {
        "age_seconds": 1.0,
        "buffer_id": NO_BUFFER,
        "text": "packet_in reason=no_match in_port=1 (5 bytes)",
    }
    assert (cut["text"], cut["fields"]) == (None, None)


def causes(decisions: Decisions, by: By) -> list[float | None]:
    """Return when the PACKET_INs passed that one side's decisions answer."""
    entries = decisions.plain(10.0)[by]["latest"]
    return [None if one["cause"] is None else 10.0 - one["cause"]["age_seconds"] for one in entries]


@everywhere
def test_an_order_answers_the_packet_in_with_its_frame_or_buffer(version: int) -> None:
    decisions = Decisions()
    for place, frame in enumerate((b"first", b"second", b"third")):
        decisions.saw(parse(packet_in(version, frame=frame)), float(place))
    buffered = packet_in(version, frame=b"buffered")
    decisions.saw(parse(buffered[:8] + b"\0\0\0\x09" + buffered[12:]), 3.0)
    for mirror in (None, "m1"):
        for raw in (
            packet_out(version, data=b"second"),
            packet_out(version, data=b"never seen"),
            packet_out(version, buffer_id=9, data=b""),
            flow_mod(version, buffer_id=9),
        ):
            decisions.decided(mirror, parse(raw), 3.5)
        decisions.decided(mirror, parse(flow_mod(version)), 4.0)  # the oldest that it covers
    for by in By:
        assert causes(decisions, by) == [1.0, None, 3.0, 3.0, 0.0]
        assert decisions.counts[by] == {"packet_out": 3, "flow_mod": 2}
    decisions.decided("m1", parse(flow_mod(version)), 9.5)
    (*_, latest) = decisions.plain(10.0)[By.MASTER]["latest"]
    assert latest["cause"] is None
    assert cast("FlowModFields", latest["fields"])["command"] == "add"


def test_each_master_answers_alone() -> None:
    decisions = Decisions()
    decisions.saw(parse(packet_in(V13, frame=b"first")), 1.0)
    decisions.saw(parse(packet_in(V13, frame=b"first")), 2.0)
    for at, mirror in ((3.0, "m1"), (3.1, "m2"), (3.2, "m1")):
        decisions.decided(mirror, parse(packet_out(V13, data=b"first")), at)
    entries = decisions.plain(10.0)[By.MASTER]["latest"]
    assert [(one["by"], one["mirror"]) for one in entries] == [("master", "m1"), ("master", "m2"), ("master", "m1")]
    assert causes(decisions, By.MASTER) == [1.0, 1.0, 2.0]


def test_only_the_latest_decisions_are_kept() -> None:
    decisions = Decisions()
    for place in range(1000):
        decisions.saw(parse(packet_in(V13)), float(place))
        decisions.decided(None, parse(flow_mod(V13)), float(place))
    latest = list(decisions.latest(None))
    assert [one.at for one in latest] == [float(place) for place in range(968, 1000)]
    assert decisions.counts[By.BACKEND]["flow_mod"] == 1000
    assert len(decisions._packet_ins) == 64
    decisions.give_up()
    assert (decisions.held, decisions.latest(None)) == (0, ())


@pytest.mark.parametrize("length", [*range(0, 80)])
@everywhere
def test_a_cut_message_keeps_the_fields_that_are_there(version: int, length: int) -> None:
    for raw in (flow_mod(version), packet_out(version), packet_in(version)):
        message = parse(raw[: 8 + length])
        fields_of(message)
        text_of(message)
        decisions = Decisions()
        decisions.saw(message, 0.0)
        decisions.decided("m1", message, 0.0)
        (entry,) = decisions.plain(0.0)[By.MASTER]["latest"]
        assert entry["type"] == message.name


kinds = st.sampled_from([Type.FLOW_MOD, Type.PACKET_OUT, Type.PACKET_IN, Type.BARRIER_REQUEST])


@given(st.sampled_from(ALL), kinds, st.binary(max_size=120))
def test_any_bytes_raise_no_error(version: int, kind: Type, body: bytes) -> None:
    message: Message = parse(build(version, kind, 1, body))
    fields_of(message)
    text_of(message)
    decisions = Decisions()
    decisions.saw(message, 0.0)
    decisions.decided(None, message, 0.0)
    decisions.plain(0.0)
