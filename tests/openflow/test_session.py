"""A master's session: asynchronous messages, answers to its questions, and its orders."""

from struct import pack

import pytest

from natmirror.openflow.framer import Broken
from natmirror.openflow.messages import V10, V13, V14, V15, VERSIONS, Message, Multipart, Type, build, hello
from natmirror.openflow.observer import MessageClass, Observer
from natmirror.openflow.session import SessionPolicy, SwitchSession
from natmirror.openflow.shown import RequestOutcome
from tests.helpers.openflow import (
    ALL,
    CONNECTION,
    DPID,
    HEADER,
    KITS,
    ask,
    begin,
    begun,
    exchange,
    features,
    flow_removed,
    hear,
    introduced,
    multipart,
    names,
    packet_in,
    port,
    port_status,
    refusals,
    request,
    session,
    split,
)

NICIRA = 0x2320
since_13 = pytest.mark.parametrize("version", [V13, V14, V15])
everywhere = pytest.mark.parametrize("version", ALL)


# HELLOs


@everywhere
def test_a_session_begins_with_a_hello_in_productions_version(version: int) -> None:
    made = session(begun(version)[0], greeted=False)
    assert made.take() == hello(version, 1)
    assert made.take() == b""


def test_no_session_before_the_version_is_known() -> None:
    with pytest.raises(ValueError, match="version"):
        SwitchSession(Observer(begun(V13)[1], CONNECTION), SessionPolicy())


@pytest.mark.parametrize(
    ("version", "greeting", "is_spoken"),
    [
        (V13, KITS[V13].make("OFPHello", 1), True),
        (V13, build(V15, Type.HELLO, 1), True),  # both agree on 1.3
        (V13, build(V10, Type.HELLO, 1), False),
        (V13, hello(V15, 1), False),
        (V10, build(V13, Type.HELLO, 1), True),
        (V10, hello(V13, 1), False),
        (V15, build(V14, Type.HELLO, 1), False),
        (V13, b"\x02\x00\x00\x08" + bytes(4), False),
    ],
)
def test_a_master_without_productions_version_is_refused(version: int, greeting: bytes, is_spoken: bool) -> None:
    made = session(begun(version)[0], greeted=False)
    if is_spoken:
        list(made.from_master(greeting, 0.0))
    else:
        with pytest.raises(Broken, match="bad-version"):
            list(made.from_master(greeting, 0.0))


@pytest.mark.parametrize(
    ("piece", "reason"),
    [
        (b"\x16\x03\x01\x00\xc8\x01", "tls"),
        (b"HTTP/1.1 400", "not-openflow"),
        (KITS[V13].make("OFPFeaturesRequest", 1), "not-openflow"),
        (hello(V13, 1)[:3] + b"\x04" + bytes(4), "bad-length"),
        (build(V13, Type.HELLO, 1) + KITS[V10].make("OFPFeaturesRequest", 1), "bad-version"),
    ],
)
def test_a_master_that_does_not_speak_openflow_is_refused(piece: bytes, reason: str) -> None:
    made = session(introduced(V13)[0], greeted=False)
    with pytest.raises(Broken, match=reason):
        list(made.from_master(piece, 0.0))
        list(made.from_master(b"", 0.0))


# The switch's messages


@everywhere
def test_the_switchs_messages_are_passed_unchanged(version: int) -> None:
    made, production = begin(version)
    messages = [packet_in(version, 9), port_status(version, 0, port(version, 1)), flow_removed(version)]
    messages += [KITS[version].make("OFPEchoRequest", 5, data=b"x")]
    assert hear(made, production, b"".join(messages)) == b"".join(messages)
    assert made.passed == {"packet_in": 1, "port_status": 1, "flow_removed": 1, "echo_request": 1}


@everywhere
def test_messages_wait_until_the_master_has_the_features(version: int) -> None:
    production, _ = introduced(version)
    made = session(production, greeted=False)
    made.take()
    early = [packet_in(version, 1), port_status(version, 0, port(version, 1)), packet_in(version, 2)]
    assert hear(made, production, b"".join(early)) == b""
    assert made.withheld == {"packet_in:before-features": 2, "port_status:before-features": 1}
    replies = ask(made, hello(version, 1), KITS[version].make("OFPFeaturesRequest", 7))
    assert split(replies)[1:] == early
    assert names(replies)[0] == ("OFPSwitchFeatures", 7)
    assert made.withheld == {}
    assert hear(made, production, packet_in(version, 3)) == packet_in(version, 3)


def test_messages_of_a_switch_without_features_are_counted_as_withheld() -> None:
    production, _ = begun(V13)
    made = session(production, greeted=False)
    ask(made, hello(V13, 1), KITS[V13].make("OFPFeaturesRequest", 2))
    assert hear(made, production, packet_in(V13) * 5) == b""
    assert made.counters()["messages_withheld"] == {"packet_in:switch-unknown": 5}
    exchange(production, KITS[V13].make("OFPFeaturesRequest", 3), features(V13, 9))
    list(made.switch_known(0.0))
    assert [name for name, _ in names(made.take())] == ["OFPSwitchFeatures", *["OFPPacketIn"] * 5]
    assert made.counters()["messages_withheld"] == {}


@everywhere
def test_answers_to_productions_questions_are_not_passed(version: int) -> None:
    made, production = begin(version)
    kit = KITS[version]
    list(production.from_controller(kit.make("OFPDescStatsRequest", 4, flags=0)))
    answers = [
        features(version, 3),
        multipart(version, 4, 0, bytes(1056)),
        build(version, Type.BARRIER_REPLY, 5),
        build(version, Type.ECHO_REPLY, 6),
        build(version, Type.ERROR, 7, pack("!HH", 1, 1)),
        build(version, Type.GET_CONFIG_REPLY, 8, bytes(4)),
        hello(version, 9),
        HEADER.pack(version, 99, 8, 10),
    ]
    assert hear(made, production, b"".join(answers)) == b""
    unsolicited = session(production, policy=SessionPolicy(passes_unsolicited=True))
    assert hear(unsolicited, production, b"".join(answers)) == b"".join(answers[:6])


def test_a_switchs_error_in_another_version_is_not_passed_on() -> None:
    production, _ = introduced(V13)
    made = session(production, policy=SessionPolicy(passes_unsolicited=True))
    assert hear(made, production, build(V10, Type.ERROR, 7, pack("!HH", 0, 0))) == b""


def test_a_master_that_is_far_behind_gets_no_packet_ins() -> None:
    made, production = begin(V13)
    for raw in (packet_in(V13), flow_removed(V13)):
        for what, message in production.from_switch(raw, 0.0):
            made.from_switch(what, message, has_room=False)
    assert made.take() == flow_removed(V13)
    assert made.withheld == {"packet_in:master-behind": 1}


@since_13
def test_a_slave_gets_only_port_status(version: int) -> None:
    made, production = begin(version)
    status = port_status(version, 0, port(version, 1))
    ask(made, build(version, Type.ROLE_REQUEST, 5, pack("!I4xQ", 3, 1)))
    assert hear(made, production, packet_in(version) + status + flow_removed(version)) == status
    assert sum(made.withheld.values()) == 2
    assert {key.partition(":")[2] for key in made.withheld} == {"not-wanted"}


def test_a_slave_of_1_0_gets_port_status() -> None:
    made, production = begin(V10)
    ask(made, build(V10, Type.EXPERIMENTER, 5, pack("!III", NICIRA, 10, 2)))
    status = port_status(V10, 0, port(V10, 1))
    assert hear(made, production, packet_in(V10) + status + flow_removed(V10)) == status


# Orders


@everywhere
def test_orders_are_consumed_and_counted(version: int) -> None:
    made, _ = begin(version)
    kit = KITS[version]
    if version == V10:
        flow_mod = kit.make("OFPFlowMod", 1, match=kit.parser.OFPMatch(), cookie=0, command=0)
        out = kit.make("OFPPacketOut", 2, buffer_id=0xFFFFFFFF, in_port=1, actions=[], data=b"x")
    elif version == V15:
        flow_mod = kit.make("OFPFlowMod", 1)
        match = kit.parser.OFPMatch(in_port=1)
        out = kit.make("OFPPacketOut", 2, buffer_id=0xFFFFFFFF, match=match, actions=[], data=b"x")
    else:
        flow_mod = kit.make("OFPFlowMod", 1)
        out = kit.make("OFPPacketOut", 2, buffer_id=0xFFFFFFFF, in_port=1, actions=[], data=b"x")
    messages = list(made.from_master(flow_mod + out + flow_mod, 0.0))
    assert [message.raw for message in messages] == [flow_mod, out, flow_mod]
    assert made.take() == b""
    assert made.ordered == {"flow_mod": 2, "packet_out": 1}
    assert made.asked == {"answered": 1}


# Bounds


def test_a_master_that_asks_for_too_much_at_once_is_refused() -> None:
    made, production = begin(V13)
    parts = [multipart(V13, 4, 12, bytes(60_000), more=place < 19) for place in range(20)]
    exchange(production, request(V13, 4, 12), *parts)
    with pytest.raises(Broken, match="mirror-asks-too-much"):
        list(made.from_master(request(V13, 5, 12) * 4000, 0.0))
    assert len(made.take()) < 20 << 20
    list(made.from_master(request(V13, 5, 12) * 3, 0.0))


def test_questions_beyond_the_limit_are_refused_when_the_switch_becomes_known() -> None:
    production, directory = begun(V13)
    known = directory.enter(CONNECTION, DPID, 0, V13)  # from an earlier connection
    directory.learn(known, (Type.MULTIPART_REPLY, Multipart.TABLE_FEATURES, b""), (bytes(60_000),) * 20, 0.0)
    made = session(production, greeted=False)
    ask(made, hello(V13, 1), KITS[V13].make("OFPFeaturesRequest", 2), request(V13, 5, 12) * 900)
    exchange(production, KITS[V13].make("OFPFeaturesRequest", 3), features(V13, 3))
    list(made.switch_known(0.0))
    replies = made.take()
    assert len(replies) < 20 << 20
    assert made.asked[RequestOutcome.ANSWERED] + made.asked[RequestOutcome.REFUSED] == 901


def test_questions_that_wait_for_the_switch_are_bounded() -> None:
    production, _ = begun(V13)
    made = session(production, greeted=False)
    ask(made, hello(V13, 1), KITS[V13].make("OFPFeaturesRequest", 2))
    orders = build(V13, Type.PACKET_OUT, 3, bytes(60_000))
    for _ in range(100):
        list(made.from_master(orders, 0.0))
    assert made.held < 1000
    with pytest.raises(Broken, match="mirror-asks-too-much"):
        for _ in range(100_000):
            list(made.from_master(KITS[V13].make("OFPBarrierRequest", 3), 0.0))
    assert made.held < (1 << 20) + 1000


@pytest.mark.parametrize("body_len", [0, 1000, 60_000])
def test_messages_that_wait_for_the_features_are_bounded(body_len: int) -> None:
    production, _ = introduced(V13)
    made = session(production, greeted=False)
    message = Message(V13, Type.PACKET_IN, 0, build(V13, Type.PACKET_IN, 0, bytes(body_len)))
    for _ in range(8000):
        made.from_switch(MessageClass.ASYNCHRONOUS, message, has_room=True)
    assert made.held <= 1 << 20
    made.take()
    replies = ask(made, hello(V13, 1), KITS[V13].make("OFPFeaturesRequest", 2))
    assert len(split(replies)) - 1 + made.withheld["packet_in:before-features"] == 8000
    assert made.held == 0


def test_the_state_of_a_session() -> None:
    made, _ = begin(V13)
    shown = made.shown()
    assert shown["version"] == VERSIONS[V13]
    assert shown["datapath_id"] == DPID
    assert shown["features_sent"]
    assert shown["requests"] == {"answered": 1}
    assert shown["oldest_statistics_seconds"] == 0.0


@everywhere
def test_a_slaves_orders_are_refused(version: int) -> None:
    if version == V10:
        return  # 1.0 has no roles
    made, _ = begin(version)
    kit = KITS[version]
    ask(made, kit.make("OFPRoleRequest", 3, role=3, generation_id=1))
    order = build(version, Type.FLOW_MOD, 4, bytes(48))
    assert refusals(ask(made, order, build(version, Type.BARRIER_REQUEST, 5))[:-8]) == [(4, 1, 10)]
    assert made.ordered["flow_mod"] == 1
