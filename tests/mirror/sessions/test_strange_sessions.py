"""OpenFlow sessions where something strange happens: faults of ours, ends from both sides, switches that are others."""

import io
import itertools
import tracemalloc
from typing import Any

import pytest
from rich.console import Console

from natmirror.actions import Hook
from natmirror.api.report import status_screen
from natmirror.engine.engine import Engine
from natmirror.fastpath.flow_flags import has_reader
from natmirror.net.checksum import Checksum
from natmirror.net.packet import SYN
from natmirror.openflow import messages
from natmirror.openflow import session as of_session
from natmirror.openflow.messages import Type, build
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
from tests.helpers.session import IRS, Session, engine
from tests.helpers.support import CLIENT, MASTER, RULES, at, packet, told

V13 = messages.V13


def features(datapath: int) -> bytes:
    return build(V13, Type.FEATURES_REPLY, 5, datapath.to_bytes(8, "big") + FEATURES[8:])


def stats(xid: int, number: int) -> bytes:
    return build(V13, Type.MULTIPART_REQUEST, xid, b"\0\1" + bytes(6) + number.to_bytes(4, "big"))


def known_of(one: Engine, now: float) -> list[dict[str, Any]]:
    return [entry for client in one.directory.clients(now) if (entry := one.directory.plain(client, now)) is not None]


def states(one: Engine, now: float) -> dict[tuple[str, str], str]:
    return {
        (flow["client"], leg["mirror"]): leg["state"] + (f": {leg['reason']}" if leg["reason"] else "")
        for flow in one.flows(now)
        for leg in flow["legs"]
    }


# Data behind a leg's own FIN


@pytest.mark.parametrize("who", ["switch", "master"])
def test_nothing_is_sent_behind_a_fin(who: str) -> None:
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
    assert not [data for _, _, _, data in map(lambda sent: told(sent.raw), session.to_mirror) if data]


def test_a_fins_number_is_no_delivered_byte() -> None:
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


# A fault of ours costs one session


@pytest.mark.parametrize("where", ["take", "next_settling"])
def test_a_fault_in_what_is_flushed_costs_a_session(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    session, _ = introduced(engine(OF))
    monkeypatch.setattr(of_session.SwitchSession, where, _fail)
    session.from_client("PA", packet_in(1))


def test_a_fault_at_a_timer_costs_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    one = engine(OF)
    _, master = introduced(one)
    master.say(build(V13, Type.MULTIPART_REQUEST, 9, bytes(8)))
    monkeypatch.setattr(of_session.SwitchSession, "settle", _fail)
    due = one.next_own_timer()
    assert due is not None
    one.handle_timer(due)


def _fail(*_: Any, **__: Any) -> None:
    raise RuntimeError("a fault of ours")


# Memory


def _mute(one: Engine, number: int) -> Session:
    """A connection whose master says HELLO and nothing else."""
    session, master = began(one, client=(CLIENT[0], 41000 + number))
    session.from_backend("PA", request(Type.FEATURES_REQUEST, 5))
    session.from_client("PA", features(number))
    master.take()
    master.say(hello())
    return session


def test_what_waits_for_mute_masters_is_of_the_memory_for_mirrors() -> None:
    one = engine("mirror-memory: 16MiB\n" + OF)
    tracemalloc.start()
    for number in range(40):
        session = _mute(one, number)
        for count in range(120):
            session.from_client("PA", packet_in(count, 9000))
            session.from_backend("A")
            session.to_mirror.clear()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 20 << 20


def test_decisions_are_of_the_memory_for_mirrors() -> None:
    one = engine("mirror-memory: 16MiB\n" + OF)
    tracemalloc.start()
    for number in range(40):
        session = _mute(one, number)
        for count in range(70):
            session.from_client("PA", packet_in(count, 9000))
            session.from_backend("PA", request(Type.FLOW_MOD, count, bytes(9000)))
        session.from_client("PA", bytes(16))  # its session is over, and what was decided stays
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 20 << 20


def test_a_connection_without_sessions_holds_nothing_back() -> None:
    one = engine(OF)
    session, _ = introduced(one)
    assert session.backend is not None
    before = one.snapshot(session.now)["mirror_memory"]["used_bytes"]
    session.from_client("PA", b"x" * 20000, at=session.sent + 100)
    ahead = IRS + 1 + session.answered + 50
    raw = packet(session.backend, session.client, "PA", ahead, session.iss + 1 + session.sent, b"y" * 20000)
    session.take(raw, Hook.FORWARD)
    session.from_client("PA", bytes(16), at=session.sent)  # no OpenFlow: nobody reads any more
    assert one.snapshot(session.now)["mirror_memory"]["used_bytes"] <= before + 100


def test_connections_whose_master_was_not_there_leave_nothing() -> None:
    one = engine(AGAIN)
    for number in range(50):
        session = Session(one, client=(CLIENT[0], 42000 + number))
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
    assert len(one._sessions._calls._of_switches) == 0


# One session for each datapath and master


def test_an_older_connection_does_not_supersede_a_younger_one() -> None:
    one = engine(AGAIN)
    older, master = introduced(one)
    master.close()
    younger, _ = introduced(one, client=(CLIENT[0], 40002))
    older.now = younger.now + 3
    older.from_client("PA", packet_in(1))
    assert states(one, older.now)["10.10.0.11:40002", "master"] == "established"


def test_a_client_that_a_master_does_not_want_supersedes_nothing() -> None:
    text = RULES.replace(
        "10.20.0.13}",
        "10.20.0.13, protocol: openflow, only: [10.10.0.12/32]}\n"
        "      - {name: other, address: 10.20.0.14, protocol: openflow}",
    )
    one = engine(text)
    wanted, _ = introduced(one, client=at("10.10.0.12", 40001))
    other = Session(one, client=at("10.10.0.13", 40001))
    other.connect()
    other.from_client("PA", hello())
    other.from_backend("PA", hello() + request(Type.FEATURES_REQUEST, 5))
    other.from_client("PA", features(7))
    assert states(one, wanted.now)["10.10.0.12:40001", "master"] == "established"


def test_a_superseded_connection_is_not_read_any_more() -> None:
    one = engine(OF)
    introduced(one)
    introduced(one, client=(CLIENT[0], 40002))
    read = {flow.client[1]: has_reader(flow.row) for flow in one._nat.by_ids(one.flow_ids())}
    assert read == {40001: False, 40002: True}


# What is known of switches


def _picked_up(one: Engine, datapath: int) -> tuple[Session, Master]:
    """A connection that this engine meets in its middle, of a switch whose place in the file names another."""
    before = engine(AGAIN)
    session, _ = introduced(before)
    for entry in known_of(before, session.now):
        one.directory.restore({**entry, "datapath_id": datapath}, session.now)
    session.engine = one
    session.to_mirror.clear()
    session.from_client("PA", packet_in(1))
    master = Master(session)
    master.take()
    master.say(hello(), request(Type.FEATURES_REQUEST, 90))
    return session, master


def test_a_master_that_was_told_a_wrong_switch_is_hung_up() -> None:
    one = engine(AGAIN)
    session, master = _picked_up(one, 99)
    session.from_backend("PA", request(Type.FEATURES_REQUEST, 5))
    session.from_client("PA", features(7))
    master.take()
    assert master.ended, "it believes that this is 99 and would go on so"


def test_a_new_connection_makes_what_was_known_of_its_port_old() -> None:
    before = engine(AGAIN)
    session, _ = introduced(before)
    one = engine(AGAIN)
    for entry in known_of(before, session.now):
        one.directory.restore(entry, session.now)
    Session(one).connect()
    assert one.directory.clients(1e9) == []


def test_connections_that_never_come_back_are_forgotten() -> None:
    before = engine(AGAIN)
    session, _ = introduced(before)
    [entry] = known_of(before, session.now)
    one = engine(AGAIN)
    for port in range(1, 1001):
        one.directory.restore({**entry, "client": f"10.10.0.11:{port}"}, 1000.0)
    for day in range(1, 30):
        one.handle_timer(1000.0 + 86400 * day)
    assert one.directory.clients(1e9) == []


@pytest.mark.parametrize("damage", [{"datapath_id": float("inf")}, {"answers": [[6, -1, "", 10**400, ["00"]]]}])
def test_a_damaged_entry_is_one_of_the_errors_that_are_expected(damage: dict[str, Any]) -> None:
    before = engine(AGAIN)
    session, _ = introduced(before)
    [entry] = known_of(before, session.now)
    with pytest.raises((KeyError, TypeError, ValueError)):
        engine(AGAIN).directory.restore({**entry, **damage}, 1000.0)


def test_an_answer_too_long_for_a_message_is_not_believed() -> None:
    before = engine(AGAIN)
    session, _ = introduced(before)
    [entry] = known_of(before, session.now)
    with pytest.raises(ValueError):
        engine(AGAIN).directory.restore({**entry, "answers": [[6, -1, "", 0, ["00" * 65530]]]}, 1000.0)


# Calling masters again


def test_a_switch_that_only_answers_brings_a_master_back() -> None:
    """A backend that polls keeps Open vSwitch from ever sending an ECHO_REQUEST of its own."""
    one = engine(AGAIN)
    session, master = introduced(one)
    master.close()
    session.to_mirror.clear()
    for number in range(20):
        session.now += 4
        session.from_backend("PA", request(Type.ECHO_REQUEST, number))
        session.from_client("PA", request(Type.ECHO_REPLY, number))
    assert any(sent.flags & SYN for sent in session.to_mirror)


def test_a_master_that_hangs_up_each_time_is_not_called_at_each_message() -> None:
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


# What is told


def test_the_status_screen_says_why_there_is_no_session() -> None:
    one = engine(OF)
    session = Session(one)
    session.connect()
    session.from_client("PA", TLS)
    machine = {
        "queues": {},
        "tunnel": {},
        "internal_errors": 0,
        "ended_threads": {},
        "kernel_translation_off_because": None,
    }
    status = {
        "version": "",
        "pid": 1,
        "uptime_seconds": 1,
        "rules": "",
        "machine": machine,
        "pair": None,
        "failing_chores": [],
        "log": {"records_dropped": 0, "records_suppressed": 0},
        **one.snapshot(session.now),
        "backends": [],
    }
    screen = io.StringIO()
    Console(file=screen, width=120).print(status_screen(status))
    assert "tls" in screen.getvalue()


def test_a_connection_met_in_its_middle_does_not_wait_for_hellos() -> None:
    one = engine(AGAIN)
    session = Session(one)
    session.sent = session.answered = 500
    session.from_client("PA", bytes.fromhex("1703030010") + bytes(16))
    assert states(one, session.now)["10.10.0.11:40001", "master"] != "none: waits-for-hellos"


def test_what_waits_is_read_in_slices() -> None:
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
