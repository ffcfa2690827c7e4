"""Observing a switch and its controller: questions, their answers, and asynchronous messages."""

from struct import pack

import pytest

from natmirror.openflow.datapath import CONFIG, FEATURES, PORTS, Answer, Ports
from natmirror.openflow.framer import Broken
from natmirror.openflow.messages import V10, V13, V14, V15, Multipart, Type, build, hello
from natmirror.openflow.observer import MessageClass, Observer
from tests.helpers.openflow import (
    ALL,
    CONNECTION,
    DPID,
    KITS,
    begun,
    exchange,
    features,
    flow_removed,
    introduced,
    multipart,
    packet_in,
    port,
    port_status,
    switch_id,
)

NICIRA = 0x2320
since_13 = pytest.mark.parametrize("version", [V13, V14, V15])


def known(production: Observer, kind: int, body: bytes = b"") -> Answer | Ports | None:
    assert production.datapath is not None
    return production.datapath.answers.get((Type.MULTIPART_REPLY, kind, body))


def bodies(production: Observer, kind: int, body: bytes = b"") -> tuple[bytes, ...] | None:
    answer = known(production, kind, body)
    return None if answer is None else answer.bodies


def request(version: int, xid: int, kind: int, body: bytes = b"", *, flags: int = 0) -> bytes:
    head = pack("!HH", kind, flags) + bytes(0 if version == V10 else 4)
    return build(version, Type.MULTIPART_REQUEST, xid, head + body)


def sent_by_switch(production: Observer, raw: bytes) -> MessageClass:
    ((what, message),) = production.from_switch(raw, 1.0)
    assert message.raw == raw
    return what


# HELLOs


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("switch_first", [True, False])
def test_the_version_is_the_one_that_both_hellos_agree_on(version: int, switch_first: bool) -> None:
    production, _ = begun(version)
    production = Observer(production._directory, CONNECTION)
    if switch_first:
        list(production.from_switch(hello(version, 1), 0.0))
        assert production.version is None
        list(production.from_controller(hello(version, 1)))
    else:
        list(production.from_controller(hello(version, 1)))
        list(production.from_switch(hello(version, 1), 0.0))
    assert production.version == version


def test_two_hellos_of_one_end_do_not_agree_on_a_version() -> None:
    production = Observer(begun(V13)[1], CONNECTION)
    list(production.from_switch(hello(V13, 1) + hello(V13, 2), 0.0))
    assert production.version is None
    list(production.from_controller(hello(V13, 1)))
    assert production.version == V13


def test_hellos_without_a_common_version_break_the_connection() -> None:
    production = Observer(begun(V13)[1], CONNECTION)
    list(production.from_switch(hello(V13, 1), 0.0))
    with pytest.raises(Broken, match="bad-version"):
        list(production.from_controller(build(V10, Type.HELLO, 1)))


def test_an_unsupported_version_breaks_the_connection() -> None:
    production = Observer(begun(V13)[1], CONNECTION)
    list(production.from_switch(b"\x03\x00\x00\x08\x00\x00\x00\x01", 0.0))
    with pytest.raises(Broken, match="bad-version"):
        list(production.from_controller(b"\x03\x00\x00\x08\x00\x00\x00\x01"))


@pytest.mark.parametrize("in_one_piece", [True, False])
def test_messages_in_another_version_break_the_connection(in_one_piece: bool) -> None:
    production = Observer(begun(V13)[1], CONNECTION)
    list(production.from_controller(hello(V13, 1)))
    pieces = [hello(V13, 1), packet_in(V10)]
    with pytest.raises(Broken, match="bad-version"):
        for piece in [b"".join(pieces)] if in_one_piece else pieces:
            list(production.from_switch(piece, 0.0))


def test_a_controller_may_ask_before_the_switchs_hello() -> None:
    production = Observer(begun(V13)[1], CONNECTION)
    list(production.from_controller(hello(V13, 1) + KITS[V13].make("OFPFeaturesRequest", 2)))
    list(production.from_switch(hello(V13, 1) + features(V13, 2), 0.0))
    assert production.datapath is not None
    assert production.datapath.identity.datapath_id == DPID


# Picked up connections


@pytest.mark.parametrize("version", ALL)
def test_a_picked_up_connection_shows_its_version(version: int) -> None:
    production = Observer(begun(version)[1], CONNECTION, is_picked_up=True)
    assert list(production.from_switch(packet_in(version)[9:], 0.0)) == []
    exchange(production, KITS[version].make("OFPFeaturesRequest", 3), features(version, 3))
    assert production.version == version
    assert production.datapath is not None


def test_a_switch_known_in_another_version_is_not_used() -> None:
    first, directory = introduced(V10)
    assert first.datapath is not None
    production = Observer(directory, CONNECTION, is_picked_up=True)
    production.restore(first.datapath)
    list(production.from_switch(packet_in(V13), 0.0))
    assert (production.version, production.datapath) == (V13, None)


def test_questions_are_forgotten_when_bytes_are_missing() -> None:
    for of_switch in (True, False):
        production, _ = introduced(V13)
        list(production.from_controller(request(V13, 0, Multipart.GROUP, b"one")))
        production.note_gap(of_switch=of_switch)
        list(production.from_switch(multipart(V13, 0, Multipart.GROUP, b"?"), 0.0))
        assert known(production, Multipart.GROUP, b"one") is None


# Answers


@pytest.mark.parametrize("version", ALL)
def test_features_identify_the_switch(version: int) -> None:
    ports = port(V10, 1) if version == V10 else b""
    production, directory = introduced(version, ports=ports)
    assert production.datapath is directory.find(switch_id())
    assert production.datapath is not None
    assert production.datapath.answers[FEATURES].bodies == (features(version, 3, ports=ports)[8:],)


@since_13
def test_an_auxiliary_connection_is_a_switch_of_its_own(version: int) -> None:
    main, directory = introduced(version)
    auxiliary = Observer(directory, "openflow/10.10.0.11:40002")
    list(auxiliary.from_switch(hello(version, 1), 0.0))
    list(auxiliary.from_controller(hello(version, 1)))
    exchange(auxiliary, KITS[version].make("OFPFeaturesRequest", 3), features(version, 3, auxiliary_id=1))
    assert auxiliary.datapath is directory.find(switch_id(auxiliary_id=1))
    assert main.datapath is directory.find(switch_id())


def test_1_0_has_padding_where_others_have_an_auxiliary_id() -> None:
    production, directory = begun(V10)
    exchange(production, KITS[V10].make("OFPFeaturesRequest", 3), features(V10, 3, auxiliary_id=0xCC))
    assert production.datapath is directory.find(switch_id())


def test_features_that_are_too_short_are_ignored() -> None:
    production, _ = begun(V13)
    exchange(production, KITS[V13].make("OFPFeaturesRequest", 3), build(V13, Type.FEATURES_REPLY, 3, bytes(23)))
    assert production.datapath is None


def test_bytes_after_a_request_without_a_body_do_not_change_its_key() -> None:
    production, _ = begun(V13)
    exchange(production, build(V13, Type.FEATURES_REQUEST, 3, b"junk"), features(V13, 3))
    exchange(
        production, build(V13, Type.GET_CONFIG_REQUEST, 4, b"junk"), build(V13, Type.GET_CONFIG_REPLY, 4, bytes(4))
    )
    assert production.datapath is not None
    assert {FEATURES, CONFIG} <= set(production.datapath.answers)


@pytest.mark.parametrize("version", ALL)
def test_answers_are_kept_by_their_questions(version: int) -> None:
    production, _ = introduced(version)
    kit = KITS[version]
    for xid, number in ((7, 1), (8, 2)):
        question = kit.make("OFPPortStatsRequest", xid, flags=0, port_no=number)
        exchange(production, question, multipart(version, xid, Multipart.PORT_STATS, b"of %d" % number), now=3.0)
    for number in (1, 2):
        asked = pack("!H6x" if version == V10 else "!I4x", number)
        assert known(production, Multipart.PORT_STATS, asked) == Answer((b"of %d" % number,), 3.0)


@pytest.mark.parametrize("version", ALL)
def test_an_answer_in_parts_is_kept_when_it_is_complete(version: int) -> None:
    production, _ = introduced(version)
    list(production.from_controller(KITS[version].make("OFPDescStatsRequest", 5, flags=0)))
    list(production.from_controller(KITS[version].make("OFPTableStatsRequest", 5, flags=0)))
    # two answers with one transaction id, their parts interleaved
    list(production.from_switch(multipart(version, 5, Multipart.DESC, b"a", more=True), 0.0))
    list(production.from_switch(multipart(version, 5, Multipart.TABLE, b"1", more=True), 0.0))
    list(production.from_switch(multipart(version, 5, Multipart.DESC, b"b", more=True), 0.0))
    assert known(production, Multipart.DESC) is None
    list(production.from_switch(multipart(version, 5, Multipart.TABLE, b"2"), 0.0))
    assert bodies(production, Multipart.TABLE) == (b"1", b"2")
    assert known(production, Multipart.DESC) is None
    list(production.from_switch(multipart(version, 5, Multipart.DESC, b"c"), 0.0))
    assert bodies(production, Multipart.DESC) == (b"a", b"b", b"c")


def test_table_features_of_many_messages_are_kept() -> None:
    production, _ = introduced(V13)
    parts = [bytes((place,)) * 62_000 for place in range(20)]
    answers = [multipart(V13, 5, 12, part, more=place < 19) for place, part in enumerate(parts)]
    exchange(production, request(V13, 5, 12), *answers)
    assert bodies(production, Multipart.TABLE_FEATURES) == tuple(parts)


def test_an_answer_too_large_to_keep_is_not_kept_in_part() -> None:
    production, _ = introduced(V13)
    parts = [multipart(V13, 5, 12, bytes(65_000), more=place < 99) for place in range(100)]
    exchange(production, request(V13, 5, 12), *parts)
    assert known(production, Multipart.TABLE_FEATURES) is None
    assert production.held < 100
    exchange(production, request(V13, 6, 12), multipart(V13, 6, 12, b"less"))
    assert bodies(production, Multipart.TABLE_FEATURES) == (b"less",)


def test_a_controller_with_one_transaction_id_for_everything() -> None:
    production, _ = introduced(V13)
    for body in (b"one", b"two"):
        list(production.from_controller(request(V13, 0, Multipart.FLOW, body)))
    list(production.from_controller(request(V13, 0, Multipart.GROUP)))
    for kind, answer in ((Multipart.FLOW, b"1"), (Multipart.GROUP, b"g"), (Multipart.FLOW, b"2")):
        list(production.from_switch(multipart(V13, 0, kind, answer), 0.0))
    assert bodies(production, Multipart.FLOW, b"one") == (b"1",)
    assert bodies(production, Multipart.FLOW, b"two") == (b"2",)
    assert bodies(production, Multipart.GROUP) == (b"g",)


@pytest.mark.parametrize("version", ALL)
def test_an_error_is_the_answer_to_its_question(version: int) -> None:
    production, _ = introduced(version)
    refused, answered = request(version, 0, Multipart.QUEUE, b"one"), request(version, 0, Multipart.QUEUE, b"two")
    list(production.from_controller(refused + answered))
    for about in (refused, KITS[version].make("OFPBarrierRequest", 0), b"", refused[:7], refused[:9]):
        if about is not refused:
            assert (
                sent_by_switch(production, build(version, Type.ERROR, 0, pack("!HH", 9, 0) + about))
                is MessageClass.ANSWER
            )
    assert sent_by_switch(production, build(version, Type.ERROR, 0, pack("!HH", 9, 0) + refused)) is MessageClass.ANSWER
    list(production.from_switch(multipart(version, 0, Multipart.QUEUE, b"2"), 0.0))
    assert bodies(production, Multipart.QUEUE, b"one") is None
    assert bodies(production, Multipart.QUEUE, b"two") == (b"2",)


def test_a_question_in_parts_is_one_question() -> None:
    production, _ = introduced(V13)
    for body, flags in ((b"a", 1), (b"b", 1), (b"c", 0)):
        list(production.from_controller(request(V13, 0, 12, body, flags=flags)))
    list(production.from_controller(request(V13, 0, 12)))
    exchange(production, b"", multipart(V13, 0, 12, b"changed"), multipart(V13, 0, 12, b"as they are"))
    assert bodies(production, 12) == (b"as they are",)
    assert all(known(production, 12, body) is None for body in (b"a", b"b", b"c", b"abc"))


def test_the_newest_answer_is_kept() -> None:
    production, _ = introduced(V13)
    for now in (1.0, 2.0):
        exchange(production, request(V13, 5, 0), multipart(V13, 5, 0, b"at %d" % now), now=now)
    assert known(production, Multipart.DESC) == Answer((b"at 2",), 2.0)


def test_an_answer_without_a_question_is_not_kept() -> None:
    production, _ = introduced(V13)
    list(production.from_switch(multipart(V13, 5, 0, b"stray", more=True) + multipart(V13, 5, 0, b"stray"), 0.0))
    assert known(production, Multipart.DESC) is None
    assert production.held == 0
    assert production._directory.not_kept == {"not-asked": 2}


@pytest.mark.parametrize("version", ALL)
def test_features_with_another_transaction_id_answer_the_only_question_for_them(version: int) -> None:
    """ofsoftswitch13 sent such a reply on a first connection."""
    production, directory = begun(version)
    list(production.from_controller(request(version, 4, 0)))
    exchange(production, KITS[version].make("OFPFeaturesRequest", 3), features(version, 0xDEADBEEF))
    assert production.datapath is directory.find(switch_id())
    assert production.datapath is not None
    assert production.questions == 1, "the other question is still open"
    assert directory.not_kept == {}


def test_features_with_another_transaction_id_do_not_answer_one_of_two_questions() -> None:
    production, directory = begun(V13)
    list(production.from_controller(KITS[V13].make("OFPFeaturesRequest", 3)))
    exchange(production, KITS[V13].make("OFPFeaturesRequest", 4), features(V13, 5))
    assert production.datapath is None
    assert directory.not_kept == {"not-asked": 1}
    list(production.from_switch(features(V13, 4), 0.0))
    assert production.datapath is directory.find(switch_id())


def test_features_that_the_controller_did_not_ask_for_are_not_kept() -> None:
    production, directory = begun(V13)
    list(production.from_switch(features(V13, 5), 0.0))
    assert production.datapath is None
    assert directory.not_kept == {"not-asked": 1}


@pytest.mark.parametrize("version", [V14, V15])
def test_answers_to_flow_monitors_are_not_kept(version: int) -> None:
    production, _ = introduced(version)
    exchange(production, request(version, 5, 16, b"all"), multipart(version, 5, 16, b"flows"))
    assert known(production, Multipart.FLOW_MONITOR, b"all") is None


@pytest.mark.parametrize("version", ALL)
def test_multiparts_without_their_header_are_ignored(version: int) -> None:
    production, _ = introduced(version)
    exchange(
        production, build(version, Type.MULTIPART_REQUEST, 5, b"\x00"), build(version, Type.MULTIPART_REPLY, 5, b"\x00")
    )
    assert production.held == 0


# Asynchronous messages


@pytest.mark.parametrize("version", ALL)
def test_asynchronous_messages_of_a_switch(version: int) -> None:
    production, _ = introduced(version)
    for raw in (packet_in(version), port_status(version, 0, port(version, 1)), flow_removed(version)):
        assert sent_by_switch(production, raw) is MessageClass.ASYNCHRONOUS
    assert sent_by_switch(production, KITS[version].make("OFPEchoRequest", 0, data=b"")) is MessageClass.ASYNCHRONOUS
    for kind in (Type.ECHO_REPLY, Type.BARRIER_REPLY, Type.MULTIPART_REPLY, Type.ERROR):
        assert sent_by_switch(production, build(version, kind, 0, bytes(8))) is MessageClass.ANSWER
    assert sent_by_switch(production, build(version, Type.HELLO, 0)) is MessageClass.HANDSHAKE
    assert sent_by_switch(production, pack("!BBHI", version, 200, 8, 0)) is MessageClass.ANSWER


@pytest.mark.parametrize("version", ALL)
def test_an_experimenter_message_is_an_answer_only_to_a_question(version: int) -> None:
    production, _ = introduced(version)
    list(production.from_controller(build(version, Type.EXPERIMENTER, 9, pack("!III", NICIRA, 10, 1))))
    reply = build(version, Type.EXPERIMENTER, 9, pack("!III", NICIRA, 11, 1))
    assert sent_by_switch(production, reply) is MessageClass.ANSWER
    assert (
        sent_by_switch(production, build(version, Type.EXPERIMENTER, 0, pack("!II", 0xABCDEF, 1)))
        is MessageClass.ASYNCHRONOUS
    )


@pytest.mark.parametrize("subtype", [14, 17, 30])
def test_niciras_messages_are_asynchronous_with_any_transaction_id(subtype: int) -> None:
    production, _ = introduced(V10)
    for format_ in (16, 12):  # neither is answered
        list(production.from_controller(build(V10, Type.EXPERIMENTER, 0, pack("!III", NICIRA, format_, 1))))
    for _ in range(3):
        assert (
            sent_by_switch(production, build(V10, Type.EXPERIMENTER, 0, pack("!II8x", NICIRA, subtype)))
            is MessageClass.ASYNCHRONOUS
        )


def test_any_byte_of_the_switch_counts_as_a_sign_of_life() -> None:
    production, _ = begun(V13)
    list(production.from_switch(packet_in(V13)[:3], 5.0))
    assert production.heard_at == 5.0


@pytest.mark.parametrize("version", [V13, V14])
def test_known_ports_follow_port_status(version: int) -> None:
    production, _ = introduced(version)
    exchange(
        production,
        KITS[version].make("OFPPortDescStatsRequest", 5, flags=0),
        multipart(version, 5, 13, port(version, 1), more=True),
        multipart(version, 5, 13, port(version, 2)),
    )
    list(production.from_switch(port_status(version, 2, port(version, 1, "new")), 4.0))
    list(production.from_switch(port_status(version, 1, port(version, 2)), 5.0))
    assert production.datapath is not None
    answer = production.datapath.answers[PORTS]
    assert (answer.bodies, answer.at) == ((port(version, 1, "new"),), 5.0)


# Bounds


def test_the_number_of_open_questions_is_bounded() -> None:
    production, _ = introduced(V13)
    for xid in range(3000):
        list(production.from_controller(request(V13, xid, Multipart.FLOW, bytes(60_000))))
        list(production.from_controller(request(V13, 0, Multipart.FLOW, b"%d" % xid)))
        list(production.from_controller(build(V13, Type.EXPERIMENTER, xid, pack("!II", 1, 1))))
    assert production.held <= 4 << 20
    assert production.questions <= 1024


def test_incomplete_answers_are_bounded() -> None:
    production, _ = introduced(V13)
    for xid in range(500):
        list(production.from_controller(request(V13, xid, Multipart.FLOW)))
        for size in (0, 0, 60_000):
            list(production.from_switch(multipart(V13, xid, Multipart.FLOW, bytes(size), more=True), 0.0))
    list(production.from_switch(multipart(V13, 1 << 20, Multipart.FLOW, bytes(60_000), more=True), 0.0))
    assert production.held <= 4 << 20
    for _ in range(50_000):
        list(production.from_switch(multipart(V13, 499, Multipart.FLOW, b"", more=True), 0.0))
    assert production.held <= 4 << 20
    for xid in range(2000):
        list(production.from_controller(request(V13, xid, Multipart.GROUP)))
    assert production.held <= 4 << 20
    exchange(production, request(V13, 1 << 30, Multipart.GROUP), multipart(V13, 1 << 30, Multipart.GROUP, b"now"))
    assert bodies(production, Multipart.GROUP) == (b"now",)
