"""OpenFlow sessions in unusual cases: faults, ends from both sides, wrong switches, limits on memory."""

import itertools
import tracemalloc
from typing import Any

import pytest

from natmirror.actions import Hook
from natmirror.api.status_screen import status_screen
from natmirror.engine.engine import Engine
from natmirror.fastpath.flow_flags import has_reader
from natmirror.net.checksum import Checksum
from natmirror.net.packet import SYN
from natmirror.openflow import messages
from natmirror.openflow import session as of_session
from natmirror.openflow.messages import Type, build
from natmirror.rules import Release
from tests.helpers.client_connection import IRS, ClientConnection, engine
from tests.helpers.openflow_sessions import (
    AGAIN,
    FEATURES,
    MASTER_ISS,
    OF,
    TLS,
    Master,
    began,
    hello,
    introduced,
    packet_in,
    request,
    session_of,
)
from tests.helpers.status import mirror_status, status_document
from tests.helpers.support import CLIENT, MASTER, RULES, at, packet, summary

V13 = messages.V13


def features(datapath: int) -> bytes:
    return build(V13, Type.FEATURES_REPLY, 5, datapath.to_bytes(8, "big") + FEATURES[8:])


def stats(xid: int, number: int) -> bytes:
    return build(V13, Type.MULTIPART_REQUEST, xid, b"\0\1" + bytes(6) + number.to_bytes(4, "big"))


def known_of(one: Engine, now: float) -> list[dict[str, Any]]:
    return [
        entry for client in one.directory.connections(now) if (entry := one.directory.plain(client, now)) is not None
    ]


def states(one: Engine, now: float) -> dict[tuple[str, str], str]:
    return {
        (flow["client"], leg["mirror"]): leg["state"] + (f": {leg['reason']}" if leg["reason"] else "")
        for flow in one.flows(now)
        for leg in flow["legs"]
    }


# Data after a leg's own FIN


@pytest.mark.parametrize("who", ["switch", "master"])
def test_no_data_is_sent_after_a_fin(who: str) -> None:
    one = engine(AGAIN)
    session, master = introduced(one)
    if who == "switch":
        session.from_client("FA")
        master.take()
        master._send("PA", request(Type.ECHO_REQUEST, 5))
    else:
        master._send("FA")
        session.to_mirror.clear()
        session.from_client("PA", packet_in(1))
    assert not [data for _, _, _, data in map(lambda sent: summary(sent.raw), session.to_mirror) if data]


def test_a_fin_does_not_count_as_an_acknowledged_byte() -> None:
    one = engine(AGAIN)
    session, master = introduced(one)
    assert master.iss is not None
    master._send("FA")
    master.said += 1
    session.to_mirror.clear()
    session.from_client("PA", packet_in(1))
    fin = master.iss + 1 + len(master.stream)
    session.take(packet(MASTER, master.port, "A", MASTER_ISS + 1 + master.said, fin + 1), Hook.PREROUTING)
    assert one.snapshot(session.now)["mirrors"][0]["acked_bytes"] == len(master.stream)


# A fault costs one session


@pytest.mark.parametrize("where", ["take", "next_deadline"])
def test_a_fault_in_a_flush_costs_one_session(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    session, _ = introduced(engine(OF))
    monkeypatch.setattr(of_session.SwitchSession, where, _fail)
    session.from_client("PA", packet_in(1))


def test_a_fault_in_a_timer_costs_one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    one = engine(OF)
    _, master = introduced(one)
    master.say(build(V13, Type.MULTIPART_REQUEST, 9, bytes(8)))
    monkeypatch.setattr(of_session.SwitchSession, "settle", _fail)
    due = one.next_own_timer()
    assert due is not None
    one.handle_timer(due)


def _fail(*_: Any, **__: Any) -> None:
    raise RuntimeError("a fault")


# Memory


def _with_mute_master(one: Engine, number: int) -> ClientConnection:
    """Return a connection whose master sends only a HELLO."""
    session, master = began(one, client=(CLIENT[0], 41000 + number))
    session.from_backend("PA", request(Type.FEATURES_REQUEST, 5))
    session.from_client("PA", features(number))
    master.take()
    master.say(hello())
    return session


def test_messages_that_wait_for_mute_masters_are_bounded() -> None:
    one = engine("mirror-memory: 1GiB\n" + OF)
    tracemalloc.start()
    for number in range(40):
        session = _with_mute_master(one, number)
        for count in range(120):
            session.from_client("PA", packet_in(count, 9000))
            session.from_backend("A")
            session.to_mirror.clear()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 20 << 20


def test_decisions_are_bounded() -> None:
    one = engine("mirror-memory: 1GiB\n" + OF)
    tracemalloc.start()
    for number in range(40):
        session = _with_mute_master(one, number)
        for count in range(70):
            session.from_client("PA", packet_in(count, 9000))
            session.from_backend("PA", request(Type.FLOW_MOD, count, bytes(9000)))
        session.from_client("PA", bytes(16))  # ends its session; the decisions stay
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 20 << 20


def test_a_connection_without_sessions_buffers_nothing() -> None:
    one = engine(OF)
    session, _ = introduced(one)
    assert session.backend is not None
    before = one.snapshot(session.now)["mirror_memory"]["used_bytes"]
    session.from_client("PA", b"x" * 20000, at=session.sent + 100)
    ahead = IRS + 1 + session.answered + 50
    raw = packet(session.backend, session.client, "PA", ahead, session.iss + 1 + session.sent, b"y" * 20000)
    session.take(raw, Hook.FORWARD)
    session.from_client("PA", bytes(16), at=session.sent)  # not OpenFlow: the connection is not read any more
    assert one.snapshot(session.now)["mirror_memory"]["used_bytes"] <= before + 100


def test_connections_with_an_absent_master_leave_nothing_behind() -> None:
    one = engine(AGAIN)
    for number in range(50):
        session = ClientConnection(one, client=(CLIENT[0], 42000 + number))
        session.connect()
        session.from_client("PA", hello())
        session.from_backend("PA", hello())
        for sent in session.to_mirror:
            if sent.flags & SYN:
                session.take(packet(MASTER, session.client, "RA", 0, sent.seq + 1), Hook.PREROUTING)
        session.from_backend("PA", request(Type.FEATURES_REQUEST, 5))
        session.from_client("PA", features(number))
        session.from_client("FA")
        session.from_backend("FA")
        session.from_client("A")
    while (due := one.next_timer()) is not None:
        one.handle_timer(due)
    assert not one.flow_ids()
    assert len(one._sessions._open_sessions._claims._of_switches) == 0


# One session for each datapath and master


def test_an_older_connection_does_not_supersede_a_younger_one() -> None:
    one = engine(AGAIN)
    older, master = introduced(one)
    master.close()
    younger, _ = introduced(one, client=(CLIENT[0], 40002))
    older.now = younger.now + 3
    older.from_client("PA", packet_in(1))
    assert states(one, older.now)["10.10.0.11:40002", "master"] == "established"


def test_a_client_that_a_master_does_not_get_supersedes_no_session() -> None:
    text = RULES.replace(
        "10.20.0.13}",
        "10.20.0.13, protocol: openflow, only: [10.10.0.12/32]}\n"
        "      - {name: other, address: 10.20.0.14, protocol: openflow}",
    )
    one = engine(text)
    wanted, _ = introduced(one, client=at("10.10.0.12", 40001))
    other = ClientConnection(one, client=at("10.10.0.13", 40001))
    other.connect()
    other.from_client("PA", hello())
    other.from_backend("PA", hello() + request(Type.FEATURES_REQUEST, 5))
    other.from_client("PA", features(7))
    assert states(one, wanted.now)["10.10.0.12:40001", "master"] == "established"


def test_a_superseded_connection_is_no_longer_read() -> None:
    one = engine(OF)
    introduced(one)
    introduced(one, client=(CLIENT[0], 40002))
    read = {flow.client[1]: has_reader(flow.row) for flow in one._nat.by_ids(one.flow_ids())}
    assert read == {40001: False, 40002: True}


# Known switches


def _picked_up(one: Engine, datapath: int) -> tuple[ClientConnection, Master]:
    """Return a connection that this engine picks up, restored with the datapath id of another switch."""
    before = engine(AGAIN)
    session, _ = introduced(before)
    for entry in known_of(before, session.now):
        one.directory.restore({**entry, "datapath_id": datapath}, session.now)
    session.engine = one
    session.to_mirror.clear()
    session.from_client("PA", packet_in(0))
    session.from_backend("A")
    session.from_client("PA", packet_in(1))
    master = Master(session)
    master.take()
    master.say(hello(), request(Type.FEATURES_REQUEST, 90))
    return session, master


def test_a_session_with_the_wrong_switch_is_closed() -> None:
    one = engine(AGAIN)
    session, master = _picked_up(one, 99)
    session.from_backend("PA", request(Type.FEATURES_REQUEST, 5))
    session.from_client("PA", features(7))
    master.take()
    assert master.ended, "it would go on taking the switch for 99"


def test_a_connection_that_is_dropped_before_it_is_read_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    one = engine(AGAIN)
    session = ClientConnection(one)
    session.sent = session.answered = 500
    with monkeypatch.context() as patch:
        patch.setattr(one._sessions, "read", lambda now, is_spent: None)
        session.from_client("PA", packet_in(0))  # any sender may have invented it
        [connection] = one._sessions._of_flows.values()
        connection.give_up()  # as for want of memory
        session.from_client("PA", packet_in(1))
    one.read_sessions(session.now)
    assert (one._sessions._of_flows, one._sessions._connections) == ({}, {})


def test_an_ended_connection_whose_end_is_not_read_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    one = engine(AGAIN)
    session, _ = introduced(one)
    with monkeypatch.context() as patch:
        patch.setattr(one._sessions, "read", lambda now, is_spent: None)
        session.from_client("R")
        one._nat.forget(*one._nat.by_ids(one.flow_ids()))
    one._sessions.discard()  # as after a fault in the read queue
    assert (one._sessions._of_flows, one._sessions._connections) == ({}, {})
    assert one.directory.connections(session.now) == []


def test_a_connection_that_begins_again_unread_keeps_its_switch_for_ten_minutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = engine(AGAIN)
    session, _ = introduced(one)
    with monkeypatch.context() as patch:
        patch.setattr(one._sessions, "read", lambda now, is_spent: None)
        for flow in list(one._sessions._of_flows):
            one._sessions.forgotten(flow, continues=True)
    one._sessions.discard()  # as after a fault in the read queue
    assert len(one.directory.connections(session.now)) == 1
    assert one.directory.connections(session.now + 601) == []


def test_a_new_connection_replaces_the_known_switch_of_its_port() -> None:
    before = engine(AGAIN)
    session, _ = introduced(before)
    one = engine(AGAIN)
    for entry in known_of(before, session.now):
        one.directory.restore(entry, session.now)
    ClientConnection(one).connect()
    assert one.directory.connections(1e9) == []


@pytest.mark.parametrize("release", [Release.SEEN, Release.ACKNOWLEDGED])
def test_a_switch_does_not_become_known_once_its_connection_has_ended(fast: bool, release: Release) -> None:
    before = engine(AGAIN)
    session, _ = introduced(before)
    one = session.engine = engine(AGAIN, fast=fast, release=release)
    for entry in known_of(before, session.now):
        one.directory.restore(entry, session.now)
    session.from_client("PFA", packet_in(0))
    session.from_backend("A")
    session.from_backend("PA", request(Type.ECHO_REQUEST, 6))
    assert one.directory.connections(session.now) == []


def test_a_connection_that_does_not_go_on_after_a_takeover_is_not_known() -> None:
    one = engine(AGAIN, release=Release.ACKNOWLEDGED)
    session, _ = began(one)
    one.replicated_legs.release()
    session.from_backend("PA", request(Type.FEATURES_REQUEST, 5))
    session.from_client("PA", features(7))
    session.from_backend("A")
    assert one.directory.seen() == ["openflow/10.10.0.11:40001"]
    session.from_client("FA")
    one.replicated_legs.take_over(session.now)
    one.read_sessions(session.now)
    assert one.directory.seen() == []
    assert one.directory.connections(session.now + 601) == []


def test_a_connection_that_has_ended_supersedes_none() -> None:
    before = engine(AGAIN)
    ended, _ = introduced(before)
    one = ended.engine = engine(AGAIN)
    for entry in known_of(before, ended.now):
        one.directory.restore(entry, ended.now)
    ended.from_client("PFA", packet_in(0))
    ended.from_backend("A")
    younger, _ = introduced(one, client=(CLIENT[0], 40002))
    ended.from_backend("PA", request(Type.ECHO_REQUEST, 6))
    assert states(one, younger.now)["10.10.0.11:40002", "master"] == "established"


def test_restored_connections_without_packets_are_forgotten() -> None:
    before = engine(AGAIN)
    session, _ = introduced(before)
    [entry] = known_of(before, session.now)
    one = engine(AGAIN)
    for port in range(1, 1001):
        one.directory.restore({**entry, "client": f"10.10.0.11:{port}"}, 1000.0)
    for day in range(1, 30):
        one.handle_timer(1000.0 + 86400 * day)
    assert one.directory.connections(1e9) == []


@pytest.mark.parametrize("damage", [{"datapath_id": float("inf")}, {"answers": [[6, -1, "", 10**400, ["00"]]]}])
def test_a_damaged_entry_raises_an_expected_error(damage: dict[str, Any]) -> None:
    before = engine(AGAIN)
    session, _ = introduced(before)
    [entry] = known_of(before, session.now)
    with pytest.raises((KeyError, TypeError, ValueError)):
        engine(AGAIN).directory.restore({**entry, **damage}, 1000.0)


def test_an_answer_too_long_for_a_message_is_refused() -> None:
    before = engine(AGAIN)
    session, _ = introduced(before)
    [entry] = known_of(before, session.now)
    with pytest.raises(ValueError):
        engine(AGAIN).directory.restore({**entry, "answers": [[6, -1, "", 0, ["00" * 65530]]]}, 1000.0)


# Opening sessions again


def test_a_switch_that_only_answers_reopens_the_session() -> None:
    """Open vSwitch never sends an ECHO_REQUEST of its own if its backend polls it."""
    one = engine(AGAIN)
    session, master = introduced(one)
    master.close()
    session.to_mirror.clear()
    for number in range(20):
        session.now += 4
        session.from_backend("PA", request(Type.ECHO_REQUEST, number))
        session.from_client("PA", request(Type.ECHO_REPLY, number))
    assert any(sent.flags & SYN for sent in session.to_mirror)


def test_a_master_that_always_closes_does_not_get_a_leg_for_each_message() -> None:
    one = engine(AGAIN)
    session, master = introduced(one)
    master.close()
    for number in range(100):
        session.now += 0.001
        session.from_client("PA", packet_in(number))
        master.take()
        if not master.ended:
            master.say(hello(), request(Type.FEATURES_REQUEST, 1))
            master.close()
    assert one.snapshot(session.now)["mirrors"][0]["legs_opened"] < 10


# Reports


def test_the_status_screen_has_the_reason_why_there_is_no_session() -> None:
    one = engine(OF)
    session = ClientConnection(one)
    session.connect()
    session.from_client("PA", TLS)
    status = status_document()
    status["mirrors"] = [mirror_status(entry) for entry in one.snapshot(session.now)["mirrors"]]
    assert "connections not copied now to openflow/master: tls 1\n" in status_screen(status, None)
    assert "OpenFlow sessions of openflow/master: not opened: tls 1" in status_screen(status, None, with_counters=True)


def test_a_picked_up_connection_does_not_wait_for_hellos() -> None:
    one = engine(AGAIN)
    session = ClientConnection(one)
    session.sent = session.answered = 500
    session.from_client("PA", bytes.fromhex("1703030010") + bytes(16))
    assert states(one, session.now)["10.10.0.11:40001", "master"] != "none: waits-for-hellos"


def test_the_queue_is_read_in_slices() -> None:
    one = engine(OF)
    session, master = introduced(one)
    piece = request(Type.ECHO_REQUEST, 7) * 1000
    assert master.iss is not None
    raw = packet(MASTER, session.client, "PA", MASTER_ISS + 1 + master.said, master.iss + 1 + len(master.stream), piece)
    one.decide(one.on_the_wire(raw), Hook.PREROUTING, session.now, Checksum.VALID)
    slices = 0
    while one.next_own_timer() is not None:
        asked = itertools.count(1)
        one.read_sessions(session.now, lambda asked=asked: next(asked) == 300)  # type: ignore[misc]
        slices += 1
    assert slices == 4, "1,000 messages, and one step in which their answers go to the leg"
    assert session_of(one, session.now)["requests"] == {"answered": 1001}
