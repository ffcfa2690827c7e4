"""OpenFlow sessions through the whole engine: the messages to masters, and production's unchanged verdicts."""

import gc
from typing import Any

import pytest

from natmirror.actions import Accept, Decision, Hook
from natmirror.net.checksum import Checksum
from natmirror.net.packet import SYN
from natmirror.openflow import decisions, messages
from natmirror.openflow.messages import Type, build
from natmirror.rules import parse_rules
from tests.helpers.client_connection import IRS, ClientConnection, engine
from tests.helpers.openflow_sessions import (
    AGAIN,
    FEATURES,
    OF,
    TLS,
    Master,
    began,
    hello,
    introduced,
    packet_in,
    request,
)
from tests.helpers.support import CLIENT, MASTER, RULES, SERVICE, assert_adds_up, packet, summary


@pytest.mark.parametrize(("before", "after"), [(OF, RULES), (RULES, OF)])
def test_the_ledger_adds_up_while_a_mirror_that_changed_its_protocol_still_has_a_leg(before: str, after: str) -> None:
    one = engine(before)
    began(one)[0].from_client("PA", packet_in(1))
    one.reload(parse_rules(after))
    assert_adds_up(one.snapshot(1000.0))


@pytest.mark.parametrize("fast", [True, False])
def test_a_master_gets_the_messages_that_a_switch_would_send_it(fast: bool) -> None:
    one = engine(OF, fast=fast)
    session, master = began(one)
    assert master.messages() == [(Type.HELLO, 1, hello()[8:])]
    session.from_client("PA", packet_in(1))
    master.take()
    assert len(master.messages()) == 1, "it does not have the switch's features yet"
    session.from_backend("PA", request(Type.FEATURES_REQUEST, 5))
    session.from_client("PA", build(messages.V13, Type.FEATURES_REPLY, 5, FEATURES) + packet_in(2)[:9])
    master.take()
    master.say(hello(), request(Type.ECHO_REQUEST, 70, b"x"), request(Type.FEATURES_REQUEST, 71))
    master.say(request(Type.BARRIER_REQUEST, 72), request(Type.FLOW_MOD, 73, bytes(48)))
    session.from_client("PA", packet_in(2)[9:] + packet_in(3))
    master.take()
    assert master.messages()[1:] == [
        (Type.ECHO_REPLY, 70, b"x"),
        (Type.FEATURES_REPLY, 71, FEATURES),
        (Type.PACKET_IN, 0, packet_in(1)[8:]),
        (Type.BARRIER_REPLY, 72, b""),
        (Type.PACKET_IN, 0, packet_in(2)[8:]),
        (Type.PACKET_IN, 0, packet_in(3)[8:]),
    ]
    [flow] = one.flows(session.now)
    [leg] = flow["legs"]
    assert leg["session"] is not None
    assert leg["session"]["orders"] == {"flow_mod": 1}
    assert leg["session"]["messages_passed"] == {"packet_in": 3}
    assert leg["client_bytes"] == leg["acked_bytes"] == len(master.stream)
    [kept] = one.decisions(one.flow_ids())
    assert kept.show(session.now)["master"]["counts"] == {"flow_mod": 1}
    assert_adds_up(one.snapshot(session.now))


def test_decisions_are_read_when_they_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """To read those of a switch takes up to 20 ms, in which a packet thread would pass no packet."""
    one = engine(OF)
    session, master = introduced(one)
    with monkeypatch.context() as watched:
        watched.setattr(decisions, "decode", None)
        master.say(request(Type.FLOW_MOD, 73, bytes(40)))
        [kept] = one.decisions(one.flow_ids())
        master.say(request(Type.FLOW_MOD, 74, bytes(40)))
    shown = kept.show(session.now)["master"]
    assert [order["xid"] for order in shown["latest"]] == [73]
    assert shown["counts"] == {"flow_mod": 1}


def test_no_leg_opens_before_both_hellos() -> None:
    session = ClientConnection(engine(OF))
    session.connect()
    session.from_client("PA", hello())
    assert session.mirrored() == []
    session.from_backend("PA", hello())
    assert [letters for letters, *_ in session.mirrored()] == ["S"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (TLS, "tls"),
        (b"GET / HTTP/1.1\r\n\r\n", "not-openflow"),
        (bytes((4, 0, 0, 4, 0, 0, 0, 1)), "bad-length"),
        (bytes((2, 0, 0, 8, 0, 0, 0, 1)), "bad-version"),
    ],
)
def test_a_connection_that_is_not_openflow_passes_and_is_reported(data: bytes, reason: str) -> None:
    one = engine(OF)
    session = ClientConnection(one)
    session.connect()
    assert session.from_client("PA", data).payload == data
    assert session.from_backend("PA", data).payload == data
    assert session.from_client("PA", data).payload == data
    [leg] = one.flows(session.now)[0]["legs"]
    assert (leg["state"], leg["reason"]) == ("none", reason)
    [mirror] = one.snapshot(session.now)["mirrors"]
    assert mirror["sessions"] is not None
    assert (mirror["legs_opened"], mirror["sessions"]["not_opened"]) == (0, {reason: 1})
    assert session.mirrored() == []


def test_malformed_messages_end_the_session_but_not_the_connection() -> None:
    one = engine(OF)
    session, master = introduced(one)
    assert session.from_client("PA", bytes(16)).payload == bytes(16)
    master.take()
    assert "R" in master.ended
    assert session.from_client("PA", packet_in(1)).payload == packet_in(1)
    [mirror] = one.snapshot(session.now)["mirrors"]
    assert mirror["legs_ended"] == {"bad-length": 1}
    assert_adds_up(one.snapshot(session.now))


def test_a_closed_connection_closes_the_session() -> None:
    one = engine(OF)
    session, master = introduced(one)
    session.from_client("PA", packet_in(1))
    session.from_client("FA")
    master.take()
    assert master.messages()[-1][2] == packet_in(1)[8:]
    assert "F" in master.ended
    master.close()
    session.from_backend("FA")
    session.from_client("A")
    [mirror] = one.snapshot(session.now)["mirrors"]
    assert (mirror["legs_ended"], mirror["legs"]) == ({"closed": 1}, 0)
    assert_adds_up(one.snapshot(session.now))


def test_a_session_begins_again_at_the_next_message_after_its_master_has_closed() -> None:
    one = engine(AGAIN)
    session, master = introduced(one)
    before = len(master.stream)
    master.close()
    assert "F" in master.ended
    session.now += 2.0
    assert one.snapshot(session.now)["mirrors"][0]["connections_not_copied"] == {"reconnecting": 1}
    session.from_client("PA", packet_in(1))
    assert one.snapshot(session.now)["mirrors"][0]["connections_not_copied"] == {}
    assert [letters for letters, *_ in map(lambda sent: summary(sent.raw), session.to_mirror)] == ["S"]
    master.take()
    master.say(hello(), request(Type.FEATURES_REQUEST, 90))
    assert master.messages()[1:] == [(Type.FEATURES_REPLY, 90, FEATURES), (Type.PACKET_IN, 0, packet_in(1)[8:])]
    [mirror] = one.snapshot(session.now)["mirrors"]
    assert (mirror["legs_opened"], mirror["legs_ended"]) == (2, {"closed": 1})
    assert mirror["acked_bytes"] == before + len(master.stream)
    assert_adds_up(one.snapshot(session.now))


def test_attempts_to_reach_an_absent_master_become_rarer() -> None:
    one = engine(AGAIN)
    session, master = introduced(one)
    master.close()
    syns = []
    for _ in range(600):
        session.now += 0.1
        one.handle_timer(session.now)
        session.from_client("PA", packet_in(1))
        for sent in session.to_mirror:
            if sent.flags & SYN:
                syns.append(session.now)
                session.take(packet(MASTER, session.client, "RA", 0, sent.seq + 1), Hook.PREROUTING)
        session.to_mirror.clear()
    assert 6 <= len(syns) <= 11
    assert syns[-1] - syns[-2] >= 8.0
    assert_adds_up(one.snapshot(session.now))


def test_a_new_connection_of_a_switch_supersedes_its_older_one() -> None:
    one = engine(OF)
    older_session, older = introduced(one)
    younger_session, younger = introduced(one, client=(older_session.client[0], 40002))
    assert younger.messages()[1] == (Type.FEATURES_REPLY, 77, FEATURES)
    [mirror] = one.snapshot(younger_session.now)["mirrors"]
    assert (mirror["legs_ended"], mirror["legs"]) == ({"newer-connection": 1}, 1)
    assert_adds_up(one.snapshot(younger_session.now))
    assert older.connection is older_session


def test_missing_bytes_end_the_session() -> None:
    """The backend has acknowledged bytes that did not pass here. A session begins again at the next message."""
    one = engine(AGAIN)
    session, master = introduced(one)
    session.sent += 30
    session.from_client("PA", packet_in(1))
    session.from_backend("A")
    session.from_client("PA", packet_in(2))
    [mirror] = one.snapshot(session.now)["mirrors"]
    assert (mirror["legs_ended"], mirror["legs_opened"]) == ({"hole": 1}, 1)
    session.now += 2.0
    session.from_client("PA", packet_in(3))
    master.take()
    master.say(hello(), request(Type.FEATURES_REQUEST, 90))
    assert (Type.PACKET_IN, 0, packet_in(3)[8:]) in master.messages()
    assert (Type.PACKET_IN, 0, packet_in(1)[8:]) not in master.messages()
    assert_adds_up(one.snapshot(session.now))


def test_a_lie_with_the_numbers_of_missing_bytes_reaches_no_master(fast: bool) -> None:
    one = engine(AGAIN, fast=fast)
    session, master = introduced(one)
    session.from_backend("A")  # now nothing is held
    missing_at = session.sent
    session.sent += len(packet_in(2))
    session.from_client("PA", packet_in(1))
    session.from_backend("A")
    one.read_sessions(session.now)
    [mirror] = one.snapshot(session.now)["mirrors"]
    assert mirror["legs_ended"] == {"hole": 1}
    session.from_client("PA", packet_in(2), at=missing_at)
    session.now += 2.0
    session.from_client("PA", packet_in(3))
    master.take()
    master.say(hello(), request(Type.FEATURES_REQUEST, 90))
    assert [body for kind, _, body in master.messages() if kind is Type.PACKET_IN] == [packet_in(3)[8:]]


def test_a_picked_up_connection_has_a_session_if_its_switch_is_known() -> None:
    before = engine(AGAIN)
    session, _ = introduced(before)
    directory = before.directory
    [known] = [directory.plain(client, session.now) for client in directory.connections(session.now)]
    assert known is not None
    after = engine(AGAIN)
    after.directory.restore(known, session.now)
    session.engine = after
    session.to_mirror.clear()
    session.from_client("PA", packet_in(0))
    session.from_backend("A")  # until both ends were heard, a message may be an attacker's
    session.from_client("PA", packet_in(1))
    master = Master(session)
    master.take()
    master.say(hello(), request(Type.FEATURES_REQUEST, 90))
    session.from_client("PA", packet_in(2))
    master.take()
    assert [body for kind, _, body in master.messages() if kind is Type.PACKET_IN] == [
        packet_in(1)[8:],
        packet_in(2)[8:],
    ]
    assert_adds_up(after.snapshot(session.now))


@pytest.mark.parametrize("is_missing", [False, True])
def test_an_acknowledgement_on_a_picked_up_connection_may_overtake_its_bytes(fast: bool, is_missing: bool) -> None:
    """Later bytes that wait here show that they are missing, and did not only come late."""
    before = engine(AGAIN, fast=fast)
    session, _ = introduced(before)
    [known] = [before.directory.plain(client, session.now) for client in before.directory.connections(session.now)]
    assert known is not None
    session.engine = engine(AGAIN, fast=fast)
    session.engine.directory.restore(known, session.now)
    session.to_mirror.clear()
    session.from_client("PA", packet_in(0))
    session.from_backend("A")
    session.from_client("PA", packet_in(1))
    session.from_backend("A")
    at = session.sent
    session.sent += len(packet_in(2))
    if is_missing:
        session.from_client("PA", packet_in(3))
    session.from_backend("A")
    session.from_client("PA", packet_in(2), at=at)
    session.from_backend("A")
    session.engine.read_sessions(session.now)
    [mirror] = session.engine.snapshot(session.now)["mirrors"]
    assert mirror["legs_ended"] == ({"hole": 1} if is_missing else {})


def test_a_master_that_is_far_behind_gets_no_packet_ins() -> None:
    one = engine(OF.replace("protocol: openflow", "protocol: openflow, buffer: 64KiB"))
    session, _ = introduced(one)
    session.to_mirror.clear()
    for number in range(200):
        session.from_client("PA", packet_in(number, 1000))
        session.from_backend("A")
    [leg] = one.flows(session.now)[0]["legs"]
    assert leg["state"] == "established"
    assert leg["session"] is not None
    assert 0 < leg["session"]["messages_withheld"]["packet_in:master-behind"] < 200
    assert leg["lag_bytes"] < 64 << 10


@pytest.mark.parametrize("text", [RULES, OF])
def test_verdicts_are_the_same_with_and_without_a_session(text: str) -> None:
    """The verdicts on a whole session are those of an engine without mirrors."""
    plain = engine(RULES[: RULES.index("    mirrors:")])
    mirrored = engine(text)
    raws: list[tuple[bytes, Hook]] = []

    class Recording(ClientConnection):
        def take(self, raw: bytes, hook: Hook, checksum: Any = 1) -> Any:
            raws.append((raw, hook))
            return super().take(raw, hook)

    session = Recording(mirrored)
    session.connect()
    session.from_client("PA", hello())
    session.from_backend("PA", hello() + request(Type.FEATURES_REQUEST, 5))
    session.from_client("PA", build(messages.V13, Type.FEATURES_REPLY, 5, FEATURES))
    for number in range(20):
        session.from_client("PA", packet_in(number))
        session.from_backend("PA", request(Type.PACKET_OUT, number, bytes(30)))
    session.from_client("FA")
    session.from_backend("FA")
    session.from_client("A")
    again = engine(text)
    for raw, hook in raws:
        verdict = again.receive(raw, hook, 1000.0).verdict
        assert Decision(verdict, []) == plain.receive(raw, hook, 1000.0)
        assert isinstance(verdict, Accept)


@pytest.mark.parametrize("text", [AGAIN, AGAIN.replace("protocol: openflow", "protocol: openflow, verdict: on")])
def test_sessions_leave_nothing_behind(text: str) -> None:
    """Not even reference cycles: a natmirror with many connections cannot afford garbage collection."""
    one = engine(text)
    gc.collect()
    gc.disable()
    try:
        for number in range(30):
            session, master = introduced(one, client=(CLIENT[0], 41_000 + number))
            if number % 3 == 0:
                master.close()
            if number % 3 == 1:
                session.from_client("PA", bytes(16))
            session.from_client("RA" if number % 2 else "FA")
            session.from_backend("FA")
            session.from_client("A")
            master.take()
            del session, master
        while (due := one.next_timer()) is not None:
            one.handle_timer(due)
        assert (len(one.flow_ids()), one.snapshot(10_000.0)["mirrors"][0]["legs"]) == (0, 0)
        assert one.directory.connections(1e9) == []
        assert gc.collect() == 0
    finally:
        gc.enable()
    assert_adds_up(one.snapshot(10_000.0))


def test_the_read_queue_is_bounded() -> None:
    """A connection whose bytes arrive faster than they are read loses its session, and nothing else."""
    one = engine("mirror-memory: 1GiB\n" + OF)
    session, master = introduced(one)
    for number in range(3000):
        message = packet_in(number, 9000)
        ack = IRS + 1 + session.answered
        raw = packet(session.client, SERVICE, "PA", session.iss + 1 + session.sent, ack, message)
        decision = one.decide(raw, Hook.PREROUTING, session.now, Checksum.VALID)
        assert isinstance(decision.verdict, Accept)
        session.sent += len(message)
        assert session.backend is not None
        reply = packet(session.backend, session.client, "A", ack, session.iss + 1 + session.sent)
        one.decide(reply, Hook.FORWARD, session.now, Checksum.VALID)
        if number == 1000:
            assert one.snapshot(session.now)["mirrors"][0]["legs_ended"] == {}
    one.read_sessions(session.now)
    assert master.messages()[0][0] is Type.HELLO
    [mirror] = one.snapshot(session.now)["mirrors"]
    assert mirror["legs_ended"] == {"hole": 1}
    assert_adds_up(one.snapshot(session.now))
