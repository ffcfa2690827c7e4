"""The answers to a master's questions, and refusals."""

from struct import pack
from typing import Any

import pytest

from natmirror.openflow.answers import ANSWER_TIMEOUT, ECHO_LIMIT
from natmirror.openflow.bodies.elements import MalformedBody
from natmirror.openflow.messages import TYPES, V10, V13, V14, V15, Multipart, Type, build, hello, parse
from natmirror.openflow.session import SessionPolicy, SwitchSession
from natmirror.openflow.shown import RequestOutcome
from natmirror.openflow.tables.state import NotFollowed
from natmirror.openflow.tables.statistics import MALFORMED, Bodies, bodies_of
from tests.helpers.flow_tables import fields, flow_mod, result_of
from tests.helpers.flow_tables import mirror as mirror_model
from tests.helpers.flow_tables import order as give
from tests.helpers.flow_tables import production as flow_tables
from tests.helpers.openflow import (
    ALL,
    DPID,
    HEADER,
    KITS,
    ask,
    begin,
    begun,
    exchange,
    features,
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
    understood,
)

NICIRA = 0x2320
BAD_TYPE, BAD_MULTIPART, BAD_EXPERIMENTER, EPERM, BAD_LEN = 1, 2, 3, 5, 6
since_13 = pytest.mark.parametrize("version", [V13, V14, V15])
everywhere = pytest.mark.parametrize("version", ALL)


@everywhere
def test_answers_have_the_masters_transaction_ids(version: int) -> None:
    made, production = begin(version)
    kit = KITS[version]
    desc, ports = b"who it is".ljust(1056, b"\0"), port(version, 1) + port(version, 2)
    exchange(production, kit.make("OFPDescStatsRequest", 4, flags=0), multipart(version, 4, 0, desc))
    exchange(production, kit.make("OFPGetConfigRequest", 4), build(version, Type.GET_CONFIG_REPLY, 4, b"\0\1\0\x50"))
    questions = [
        kit.make("OFPFeaturesRequest", 101),
        kit.make("OFPGetConfigRequest", 102),
        kit.make("OFPDescStatsRequest", 103, flags=0),
        kit.make("OFPBarrierRequest", 104),
        kit.make("OFPEchoRequest", 105, data=b"are you there"),
    ]
    expected = [
        ("OFPSwitchFeatures", 101),
        ("OFPGetConfigReply", 102),
        ("OFPDescStatsReply", 103),
        ("OFPBarrierReply", 104),
        ("OFPEchoReply", 105),
    ]
    if version != V10:
        asked = kit.make("OFPPortDescStatsRequest", 4, flags=0)
        exchange(production, asked, multipart(version, 4, 13, ports))
        questions.append(asked[:4] + pack("!I", 106) + asked[8:])
        expected.append(("OFPPortDescStatsReply", 106))
    replies = ask(made, *questions)
    assert names(replies) == expected
    answers = [understood(raw) for raw in split(replies)]
    assert answers[0].datapath_id == DPID
    assert (answers[1].flags, answers[1].miss_send_len) == (1, 80)
    assert (answers[4].data) == b"are you there"
    if version != V10:
        assert [one.port_no for one in answers[5].body] == [1, 2]
    assert made.asked == {"answered": len(questions) + 1}


@everywhere
def test_unknown_questions_are_refused_and_delay_no_others(version: int) -> None:
    made, _ = begin(version)
    kit = KITS[version]
    replies = ask(
        made,
        kit.make("OFPTableStatsRequest", 11, flags=0),
        request(version, 12, 0xFFFF, pack("!II", 1, 2)),
        build(version, Type.MULTIPART_REQUEST, 13, b"\0"),
        build(version, Type.EXPERIMENTER, 14, pack("!II", 0xABCDEF, 1)),
        build(version, Type.EXPERIMENTER, 15, b"\0\0"),
        HEADER.pack(version, 99, 8, 16),
        kit.make("OFPBarrierRequest", 17),
    )
    *errors, barrier = split(replies)
    assert refusals(b"".join(errors)) == [
        (11, 1, BAD_MULTIPART),
        (12, 1, BAD_MULTIPART),
        (13, 1, BAD_LEN),
        (14, 1, BAD_EXPERIMENTER),
        (15, 1, BAD_LEN),
        (16, 1, BAD_TYPE),
    ]
    assert names(barrier) == [("OFPBarrierReply", 17)]


@everywhere
def test_messages_that_only_switches_send_are_refused(version: int) -> None:
    made, _ = begin(version)
    quiet = {Type.HELLO, Type.ERROR, Type.ECHO_REPLY}
    for kind in TYPES[version]:
        if kind is not None and (kind.name.endswith(("_REPLY", "STATUS")) or kind in (Type.PACKET_IN, Type.ERROR)):
            replies = ask(made, build(version, kind, 50 + kind, bytes(20)))
            assert replies == b"" if kind in quiet else refusals(replies) == [(50 + kind, 1, BAD_TYPE)], kind


@pytest.mark.parametrize(("silence", "is_answered"), [(0.0, True), (ECHO_LIMIT, True), (ECHO_LIMIT + 0.1, False)])
def test_an_echo_is_answered_while_the_switch_sends(silence: float, is_answered: bool) -> None:
    production, _ = introduced(V13)
    made = session(production)
    list(production.from_switch(packet_in(V13)[:5], 100.0))
    replies = ask(made, KITS[V13].make("OFPEchoRequest", 5, data=b"x"), now=100.0 + silence)
    assert replies == (build(V13, Type.ECHO_REPLY, 5, b"x") if is_answered else b"")
    assert made.asked[RequestOutcome.UNANSWERED] == (not is_answered)


@everywhere
def test_features_and_later_questions_wait_for_production(version: int) -> None:
    production, _ = begun(version)
    made, kit = session(production, greeted=False), KITS[version]
    made.take()
    replies = ask(
        made,
        kit.make("OFPHello", 1),
        kit.make("OFPFeaturesRequest", 2),
        kit.make("OFPBarrierRequest", 3),
        kit.make("OFPEchoRequest", 4, data=b""),
        kit.make("OFPFeaturesRequest", 5),
    )
    assert names(replies) == [("OFPEchoReply", 4)]
    assert hear(made, production, packet_in(version)) == b""
    exchange(production, kit.make("OFPFeaturesRequest", 77), features(version, 77))
    list(made.switch_known(0.0))
    replies = made.take()
    assert names(replies)[0] == ("OFPSwitchFeatures", 2)
    assert sorted(names(replies)[1:]) == [("OFPBarrierReply", 3), ("OFPPacketIn", 0), ("OFPSwitchFeatures", 5)]
    list(made.switch_known(0.0))
    assert made.take() == b""


def test_features_that_were_not_kept_are_refused_and_delay_no_others() -> None:
    production, _ = begun(V13, limit=10)
    exchange(production, KITS[V13].make("OFPFeaturesRequest", 3), features(V13, 3))
    made = session(production, greeted=False)
    made.take()
    replies = ask(made, hello(V13, 1), KITS[V13].make("OFPFeaturesRequest", 7), KITS[V13].make("OFPBarrierRequest", 8))
    first, second = split(replies)
    assert refusals(first) == [(7, 1, BAD_TYPE)]
    assert names(second) == [("OFPBarrierReply", 8)]
    assert not made.has_sent_features
    assert hear(made, production, packet_in(V13)) == b""


@everywhere
@pytest.mark.parametrize("asks_first", [True, False])
def test_a_question_waits_for_the_answer_that_production_is_about_to_get(version: int, asks_first: bool) -> None:
    production, _ = begun(version)
    kit = KITS[version]
    exchange(production, kit.make("OFPFeaturesRequest", 3), features(version, 3), now=0.0)
    made = session(production)
    questions = [
        kit.make("OFPDescStatsRequest", 5, flags=0),
        kit.make("OFPBarrierRequest", 6),
        kit.make("OFPGetConfigRequest", 7),
        kit.make("OFPTableStatsRequest", 8, flags=0),
        kit.make("OFPBarrierRequest", 9),
    ]
    if asks_first:
        list(production.from_controller(questions[0]))
    assert names(ask(made, *questions, now=1.0)) == [("OFPGetConfigReply", 7)]  # it waits for no other question
    if not asks_first:
        list(production.from_controller(questions[0]))
    replies = hear(made, production, multipart(version, 5, 0, bytes(1056)), 1.5)
    assert names(replies) == [("OFPDescStatsReply", 5), ("OFPBarrierReply", 6)]
    assert hear(made, production, packet_in(version), 1.9) == packet_in(version)
    heard, refused, barrier = split(hear(made, production, packet_in(version), 3.1))
    assert refusals(refused) == [(8, 1, BAD_MULTIPART)]
    assert (names(barrier), heard) == ([("OFPBarrierReply", 9)], packet_in(version))


@everywhere
def test_a_question_that_the_switch_refused_in_production_is_refused(version: int) -> None:
    made, production = begin(version)
    kit = KITS[version]
    question = kit.make("OFPDescStatsRequest", 5, flags=0)
    list(production.from_controller(question))
    other = kit.make("OFPTableStatsRequest", 6, flags=0)
    assert refusals(ask(made, question, other)) == [(6, 1, BAD_MULTIPART)]
    replies = hear(made, production, build(version, Type.ERROR, 5, pack("!HH", 1, 2) + question))
    assert refusals(replies) == [(5, 1, BAD_MULTIPART)]
    list(production.from_controller(question))
    assert ask(made, question) == b""
    assert refusals(ask(made, now=2.0) + ask(made, b"", now=2.1)) == [(5, 1, BAD_MULTIPART)]


def test_the_number_of_open_questions_is_bounded() -> None:
    production, _ = begun(V13)
    exchange(production, KITS[V13].make("OFPFeaturesRequest", 3), features(V13, 3))
    made = session(production)
    replies = ask(made, *(request(V13, xid, Multipart.FLOW, bytes(1000)) for xid in range(1000)))
    assert len(refusals(replies)) == 1000 - 16
    assert made.held < 20_000
    assert len(refusals(ask(made, b"", now=9.0))) == 16
    assert made.held == 0


@everywhere
def test_answers_in_parts_are_sent_in_parts(version: int) -> None:
    made, production = begin(version)
    kind, bodies = Multipart.TABLE, [bytes((place,)) * 60_000 for place in range(20)]
    parts = [multipart(version, 4, kind, body, more=place < 19) for place, body in enumerate(bodies)]
    exchange(production, request(version, 4, kind), *parts, now=3.0)
    replies = split(ask(made, request(version, 200, kind), now=10.0))
    assert replies == [raw[:4] + pack("!I", 200) + raw[8:] for raw in parts]
    assert made.asked == {"answered": 2}
    assert made.shown()["oldest_statistics_seconds"] == 7.0


def test_statistics_may_be_refused() -> None:
    production, _ = introduced(V13)
    made = session(production, policy=SessionPolicy(answers_statistics=False))
    for kind in (Multipart.PORT_STATS, Multipart.DESC):
        exchange(production, request(V13, 4, kind), multipart(V13, 4, kind, bytes(1056)))
    first, second = split(ask(made, request(V13, 5, Multipart.PORT_STATS), request(V13, 6, Multipart.DESC)))
    assert refusals(first) == [(5, 1, EPERM)]
    assert names(second) == [("OFPDescStatsReply", 6)]


@since_13
def test_table_features_are_answered_but_not_set(version: int) -> None:
    made, production = begin(version)
    exchange(production, request(version, 4, 12), multipart(version, 4, 12, b""))
    first, second = split(ask(made, request(version, 5, 12, bytes(64)), request(version, 6, 12)))
    assert refusals(first) == [(5, 1, EPERM)]
    assert names(second) == [("OFPTableFeaturesStatsReply", 6)]


@since_13
def test_a_question_in_parts_has_one_answer(version: int) -> None:
    made, _ = begin(version)
    parts = [request(version, 5, 12, bytes(60_000), flags=1) for _ in range(40)]
    assert ask(made, *parts) == b""
    other = request(version, 6, 12, bytes(64))
    assert refusals(ask(made, other)) == [(6, 1, EPERM)]
    assert refusals(ask(made, request(version, 5, 12, bytes(64)))) == [(5, 1, EPERM)]
    assert refusals(ask(made, request(version, 5, 0, flags=1), request(version, 5, 0))) == [(5, 1, BAD_MULTIPART)]
    assert ask(made, *(request(version, xid, 1, b"x", flags=1) for xid in range(1000))) == b""
    assert made.held < 1 << 16


@since_13
def test_ports_are_sent_in_their_current_state(version: int) -> None:
    made, production = begin(version)
    asked = KITS[version].make("OFPPortDescStatsRequest", 4, flags=0)
    exchange(production, asked, multipart(version, 4, 13, port(version, 1)))
    hear(made, production, port_status(version, 0, port(version, 2)) + port_status(version, 1, port(version, 1)))
    (answer,) = split(ask(made, asked))
    assert [one.port_no for one in understood(answer).body] == [2]


def test_ports_of_1_0_are_sent_with_its_features() -> None:
    production, _ = introduced(V10, ports=port(V10, 1))
    made = session(production)
    hear(made, production, port_status(V10, 0, port(V10, 2)))
    (answer,) = split(ask(made, KITS[V10].make("OFPFeaturesRequest", 4)))
    assert sorted(understood(answer).ports) == [1, 2]


@pytest.mark.parametrize("version", [V10, V13])
def test_queues_are_sent_by_port(version: int) -> None:
    made, production = begin(version)
    asked = KITS[version].make("OFPQueueGetConfigRequest", 4, port=1)
    body = asked[8:].ljust(8, b"\0")
    exchange(production, asked, build(version, Type.QUEUE_GET_CONFIG_REPLY, 4, body))
    other = KITS[version].make("OFPQueueGetConfigRequest", 6, port=2)
    first, second = split(ask(made, asked[:4] + pack("!I", 5) + asked[8:], other))
    assert names(first) == [("OFPQueueGetConfigReply", 5)]
    assert refusals(second) == [(6, 1, BAD_TYPE)]


# Configuration and roles


@everywhere
def test_get_config_returns_the_masters_own_configuration(version: int) -> None:
    made, _ = begin(version)
    kit = KITS[version]

    def config() -> tuple[int, int]:
        answer = understood(ask(made, kit.make("OFPGetConfigRequest", 5)))
        return answer.flags, answer.miss_send_len

    assert config() == (0, 128)
    assert ask(made, kit.make("OFPSetConfig", 6, flags=1, miss_send_len=0xFFFF)) == b""
    assert config() == (1, 0xFFFF)
    assert refusals(ask(made, build(version, Type.SET_CONFIG, 7, b"\0\2"))) == [(7, 1, BAD_LEN)]
    assert config() == (1, 0xFFFF)


def role_request(version: int, xid: int, role: int, generation_id: int) -> bytes:
    fields = {"short_id": 0} if version == V15 else {}
    return KITS[version].make("OFPRoleRequest", xid, role=role, generation_id=generation_id, **fields)


@since_13
def test_roles_are_granted_without_effect(version: int) -> None:
    made, _ = begin(version)
    none = (1 << 64) - 1
    for xid, (role, generation_id), replies in (
        (1, (0, 0), (1, none)),
        (2, (2, 5), (2, 5)),
        (3, (0, 1), (2, 5)),
        (4, (3, 6), (3, 6)),
        (5, (1, 0), (1, 6)),
    ):
        answer = understood(ask(made, role_request(version, xid, role, generation_id)))
        assert (answer.xid, answer.role, answer.generation_id) == (xid, *replies)
    assert refusals(ask(made, role_request(version, 6, 2, 5))) == [(6, 11, 0)]
    assert refusals(ask(made, build(version, Type.ROLE_REQUEST, 7, pack("!I4xQ", 9, 9)))) == [(7, 11, 2)]
    assert refusals(ask(made, build(version, Type.ROLE_REQUEST, 8, pack("!I", 2)))) == [(8, 1, BAD_LEN)]
    assert made.shown()["role"] == "equal"


@pytest.mark.parametrize("version", [V10, V13])
def test_niciras_roles(version: int) -> None:
    made, _ = begin(version)
    for xid, role, name in ((1, 1, "master"), (2, 2, "slave"), (3, 0, "equal")):
        replies = ask(made, build(version, Type.EXPERIMENTER, xid, pack("!III", NICIRA, 10, role)))
        assert replies == build(version, Type.EXPERIMENTER, xid, pack("!III", NICIRA, 11, role))
        assert made.shown()["role"] == name
    assert refusals(ask(made, build(version, Type.EXPERIMENTER, 4, pack("!II", NICIRA, 10)))) == [(4, 1, BAD_LEN)]
    assert refusals(ask(made, build(version, Type.EXPERIMENTER, 5, pack("!III", NICIRA, 10, 7)))) == [(5, 1, EPERM)]
    assert ask(made, build(version, Type.EXPERIMENTER, 6, pack("!III", NICIRA, 16, 1))) == b""  # it asks for no answer
    assert refusals(ask(made, build(version, Type.EXPERIMENTER, 7, pack("!II", NICIRA, 25)))) == [
        (7, 1, BAD_EXPERIMENTER)
    ]


@since_13
def test_async_configuration(version: int) -> None:
    made, production = begin(version)
    kit = KITS[version]
    if version == V13:
        config = kit.make("OFPSetAsync", 3, packet_in_mask=(2, 0), port_status_mask=(0, 0), flow_removed_mask=(0, 0))
    else:
        mask = kit.parser.OFPAsyncConfigPropReasons(kit.ofproto.OFPACPT_PACKET_IN_MASTER, 8, 2)
        config = kit.make("OFPSetAsync", 3, properties=[mask])
    assert ask(made, config) == b""
    answer = understood(ask(made, kit.make("OFPGetAsyncRequest", 4)))
    assert (type(answer).__name__, answer.xid) == ("OFPGetAsyncReply", 4)
    wanted = packet_in(version, reason=1)
    assert hear(made, production, packet_in(version, reason=0) + wanted) == wanted
    broken = build(version, Type.SET_ASYNC, 5, pack("!HHI", 1, 4, 0))
    assert refusals(ask(made, broken)) == [(5, 1, BAD_LEN)]


@pytest.mark.parametrize("version", [V14, V15])
def test_bundles_are_opened_and_committed_without_effect(version: int) -> None:
    made, _ = begin(version)
    kit = KITS[version]
    for kind in (0, 2, 4, 6):
        asked = kit.make("OFPBundleCtrlMsg", kind, bundle_id=7, type_=kind, flags=1, properties=[])
        answer = understood(ask(made, asked))
        assert (answer.xid, answer.bundle_id, answer.type, answer.flags) == (kind, 7, kind + 1, 1)
    for kind in (1, 8, 9):
        wrong = build(version, Type.BUNDLE_CONTROL, 9, pack("!IHH", 7, kind, 0))
        assert refusals(ask(made, wrong)) == [(9, 17, 6)]
    assert refusals(ask(made, build(version, Type.BUNDLE_CONTROL, 9, b"\0"))) == [(9, 1, BAD_LEN)]


# Statistics of the master's own rules


def _flow_request(version: int) -> bytes:
    kit = KITS[version]
    match = kit.parser.OFPMatch()
    if version == V10:
        return kit.make("OFPFlowStatsRequest", 9, flags=0, match=match, table_id=0xFF, out_port=0xFFFF)
    name = "OFPFlowDescStatsRequest" if version == V15 else "OFPFlowStatsRequest"
    return kit.make(name, 9, flags=0, match=match)


class _Tables:
    """The tables of a master's own orders, for one session: they answer in answer()."""

    def __init__(self, version: int, made: SwitchSession) -> None:
        self.model = mirror_model(flow_tables(version))
        self.asked: list[tuple[int, bytes, Bodies, int]] = []
        self._session = made
        made.ask_statistics_from(self._ask)

    def _ask(self, *asked: Any) -> bool:
        self.asked.append(asked)
        return True

    def answer(self, now: float) -> bytes:
        """Answer the oldest question; return what the master gets."""
        number, question, tables, n_tables = self.asked.pop(0)
        try:
            bodies = result_of(bodies_of(self.model, parse(question), now, tables=tables, n_tables=n_tables))
        except MalformedBody:
            bodies = MALFORMED
        self._session.statistics_answered(number, bodies, now)
        return self._session.take()


@everywhere
def test_a_master_gets_the_statistics_of_its_own_rules(version: int) -> None:
    production, _ = introduced(version)
    made = session(production)
    own = _Tables(version, made)
    give(own.model, flow_mod(match=fields(in_port=1), cookie=7), 1.0)
    assert ask(made, _flow_request(version), now=2.0) == b""
    reply = understood(own.answer(2.0))
    assert reply.xid == 9
    assert [(one.cookie, one.priority) for one in reply.body] == [(7, 1)]
    assert ask(made, KITS[version].make("OFPTableStatsRequest", 10, flags=0), now=20.0) == b""
    tables = own.answer(20.0)
    if version == V10:  # its entries have names, which only the switch knows
        assert refusals(tables) == [(10, 1, BAD_MULTIPART)]
    else:
        assert [one.active_count for one in understood(tables).body][:2] == [1, 0]
    ask(made, request(version, 11, Multipart.FLOW), now=20.0)
    assert refusals(own.answer(20.0)) == [(11, 1, BAD_LEN)]


def test_a_barrier_waits_for_the_statistics_of_its_own_rules() -> None:
    made = session(introduced(V13)[0])
    own = _Tables(V13, made)
    assert ask(made, _flow_request(V13) + KITS[V13].make("OFPBarrierRequest", 10), now=20.0) == b""
    assert made.next_deadline() == 20.0 + ANSWER_TIMEOUT
    parts = split(own.answer(20.1))
    assert [understood(part).xid for part in parts] == [9, 10]


def test_statistics_that_do_not_come_in_time_are_those_of_production() -> None:
    production, _ = introduced(V13)
    made = session(production)
    own = _Tables(V13, made)
    exchange(production, _flow_request(V13), multipart(V13, 9, Multipart.FLOW, b""))
    assert ask(made, _flow_request(V13), now=200.0) == b""
    made.settle(200.0 + ANSWER_TIMEOUT)
    assert understood(made.take()).body == []
    assert own.answer(300.0) == b"", "it comes too late"


def test_no_more_than_some_questions_wait() -> None:
    production, _ = introduced(V13)
    made = session(production)
    own = _Tables(V13, made)
    exchange(production, _flow_request(V13), multipart(V13, 9, Multipart.FLOW, b""))
    got = split(ask(made, _flow_request(V13) * 20, now=200.0))
    assert (len(own.asked), len(got)) == (16, 4)


@everywhere
def test_without_the_masters_rules_statistics_are_those_of_production(version: int) -> None:
    production, _ = introduced(version)
    made = session(production)
    own = _Tables(version, made)
    own.model.lose(NotFollowed.NO_MEMORY, 0.0)
    ask(made, _flow_request(version), now=200.0)
    assert refusals(own.answer(200.0)) == [(9, 1, BAD_MULTIPART)]
    exchange(production, _flow_request(version), multipart(version, 9, Multipart.FLOW, b""))
    ask(made, _flow_request(version), now=200.0)
    assert understood(own.answer(200.0)).body == []
    made.ask_statistics_from(lambda *asked: False)
    assert understood(ask(made, _flow_request(version), now=200.0)).body == []
