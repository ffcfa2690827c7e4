"""The cost of faults in mirroring: one connection's copies; of repeated ones, a kind of work or all for a while."""

import pytest

from natmirror.api.report import summarize
from natmirror.engine.engine import Engine
from natmirror.mirror.backpressure import Backpressure
from natmirror.mirror.faults import MAX_OF_ALL, MAX_OF_ONE_KIND, OFF_TIME, WINDOW, Fault, Faults, Work, WorkChanged
from natmirror.mirror.mirroring import Mirroring
from natmirror.nat.flows import Nat
from natmirror.reasons import EndReason
from natmirror.tcp.reassembler import Reassembler
from tests.helpers.client_connection import ClientConnection, engine
from tests.helpers.support import RULES, assert_adds_up, at

THROTTLED = RULES.replace("10.20.0.13}", "10.20.0.13, when-behind: throttle, buffer: 64KiB}")
OF = RULES.replace("10.20.0.13}", "10.20.0.13, protocol: openflow}")


def faulty(faults: Faults, work: Work, *times: float) -> None:
    for when in times:
        faults.now = when
        faults.note(work, None, ValueError("an error"))


def test_three_of_one_kind_within_a_minute_switch_that_kind_off() -> None:
    faults = Faults()
    faulty(faults, Work.SESSION, 0.0, 1.0)
    faulty(faults, Work.COPY, 2.0)
    assert not faults.off
    faulty(faults, Work.SESSION, 59.0)
    assert faults.off == {Work.SESSION: 59.0 + OFF_TIME}
    assert faults.take_news()[-1] == WorkChanged(Work.SESSION, is_off=True)


def test_faults_far_apart_switch_nothing_off() -> None:
    faults = Faults()
    faulty(faults, Work.COPY, *(number * WINDOW / 2 for number in range(50)))
    assert not faults.off
    assert faults.counts == {Work.COPY: 50}


def test_ten_of_any_kind_switch_mirroring_off() -> None:
    faults = Faults()
    faulty(faults, Work.COPY, 0.0, 0.0, 0.0)
    faulty(faults, Work.SESSION, 0.0, 0.0, 0.0)
    faulty(faults, Work.THROTTLE, 0.0, 0.0)
    faulty(faults, Work.TAKEOVER, 0.0)
    assert set(faults.off) == {Work.COPY, Work.SESSION}
    faulty(faults, Work.TAKEOVER, 1.0)
    assert set(faults.off) == set(Work)
    assert faults.take_news()[-1] == WorkChanged(None, is_off=True)
    assert MAX_OF_ALL == 10


def test_work_is_switched_on_again_after_a_while_or_by_a_command() -> None:
    faults = Faults()
    faulty(faults, Work.COPY, *[0.0] * MAX_OF_ONE_KIND)
    faulty(faults, Work.SESSION, *[5.0] * MAX_OF_ONE_KIND)
    faults.take_news()
    assert faults.next_on() == OFF_TIME
    faults.now = OFF_TIME
    faults.expire()
    assert set(faults.off) == {Work.SESSION}
    assert faults.take_news() == [WorkChanged(Work.COPY, is_off=False)]
    faults.resume()
    assert not faults.off
    assert faults.next_on() is None


def test_only_the_first_of_many_faults_are_kept_with_their_exceptions() -> None:
    faults = Faults()
    faulty(faults, Work.COPY, *[0.0] * 10_000)
    news = faults.take_news()
    assert len(news) < 20
    assert isinstance(news[0], Fault)
    assert "internal error in copies" in str(news[0])
    assert faults.counts[Work.COPY] == 10_000


# In an engine


@pytest.fixture
def one(fast: bool) -> Engine:
    return engine(fast=fast)


def fail(*_: object, **__: object) -> None:
    raise ZeroDivisionError


def connected(one: Engine, number: int) -> ClientConnection:
    session = ClientConnection(one, client=at("10.10.0.11", 50_000 + number))
    session.connect()
    session.connect_mirror()
    return session


def leg_of(one: Engine, session: ClientConnection) -> str:
    """Return the state of the session's only leg."""
    for flow in one.flows(session.now):
        if flow["client"] == f"10.10.0.11:{session.client[1]}":
            return str(flow["legs"][0]["state"]) if flow["legs"] else "none"
    return "gone"


def test_a_fault_ends_only_the_copies_of_its_own_connection(one: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = connected(one, 1), connected(one, 2)
    first.from_client("PA", b"before")
    with monkeypatch.context() as patch:
        patch.setattr(Reassembler, "push", fail)
        first.from_client("PA", b"ahead", at=100)  # out of order, so that Python handles it in both gears
    assert [(event.client, event.reason) for event in one.take_events()] == [
        ("10.10.0.11:50001", EndReason.INTERNAL_ERROR)
    ]
    first.from_client("PA", b"after")
    second.from_client("PA", b"of another")
    assert b"of another" in b"".join(data for *_, data in second.mirrored())
    assert first.mirrored()[-1][0] == "RA"
    assert_adds_up(one.snapshot(first.now))


def test_copies_that_fail_repeatedly_are_switched_off_and_on_again(
    one: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    living = connected(one, 0)
    with monkeypatch.context() as patch:
        patch.setattr(Mirroring, "open", fail)
        for number in range(1, 1 + MAX_OF_ONE_KIND):
            ClientConnection(one, client=at("10.10.0.11", 50_000 + number)).connect()
    off = one.snapshot(living.now)["faults"]["off"]
    assert [(entry["thread"], entry["work"]) for entry in off] == [(0, "copies")]
    one.handle_timer(living.now)
    assert [event.reason for event in one.take_events()] == [EndReason.MIRRORING_OFF]

    later = ClientConnection(one, client=at("10.10.0.11", 50_100))
    later.connect()
    later.from_client("PA", b"not copied")
    assert later.mirrored() == []
    snapshot = one.snapshot(living.now)
    assert snapshot["mirrors"][0]["lost_bytes"] == {EndReason.MIRRORING_OFF: len(b"not copied")}
    assert_adds_up(snapshot)

    living.now += OFF_TIME
    one.handle_timer(living.now)
    assert one.snapshot(living.now)["faults"]["off"] == []
    again = ClientConnection(one, client=at("10.10.0.11", 50_200))
    again.now = living.now
    again.connect()
    assert [flags for flags, *_ in again.mirrored()] == ["S"]


def test_a_command_switches_mirroring_on_again(one: Engine) -> None:
    faulty(one.faults, Work.COPY, *[1000.0] * MAX_OF_ALL)
    assert len(one.snapshot(1000.0)["faults"]["off"]) == len(Work)
    one.faults.resume()
    session = ClientConnection(one)
    session.connect()
    assert [flags for flags, *_ in session.mirrored()] == ["S"]


def test_work_that_was_switched_off_ends_in_slices(one: Engine) -> None:
    sessions = [connected(one, number) for number in range(100)]
    faulty(one.faults, Work.COPY, *[sessions[0].now] * MAX_OF_ONE_KIND)
    ended = []
    while (timer := one.next_timer()) is not None and timer <= sessions[0].now:
        one.handle_timer(sessions[0].now)
        if events := one.take_events():
            ended.append(len(events))
    assert sum(ended) == 100
    assert one.snapshot(sessions[0].now)["mirrors"][0]["legs"] == 0


def test_a_failing_throttle_leaves_the_backends_own_window(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    one = engine(THROTTLED, fast=fast)
    session = connected(one, 1)
    monkeypatch.setattr(Backpressure, "throttled_window", fail)
    assert session.from_backend("A").window == 0xFFFF
    assert session.from_backend("A").window == 0xFFFF
    assert leg_of(one, session) == "established"


def test_no_session_begins_while_sessions_are_off(fast: bool) -> None:
    one = engine(OF, fast=fast)
    faulty(one.faults, Work.SESSION, *[1000.0] * MAX_OF_ONE_KIND)
    session = ClientConnection(one)
    session.connect()
    session.from_client("PA", bytes((4, 0, 0, 8, 0, 0, 0, 1)))
    assert session.mirrored() == []
    sessions = one.snapshot(session.now)["mirrors"][0]["sessions"]
    assert sessions is not None
    assert sessions["not_opened"] == {EndReason.MIRRORING_OFF: 1}


def test_a_failing_read_queue_switches_sessions_off_and_does_not_spin(
    fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = engine(OF, fast=fast)
    session = ClientConnection(one)
    session.connect()
    monkeypatch.setattr("natmirror.mirror.sessions.read_queue.ReadQueue.take", fail)
    session.from_client("PA", bytes((4, 0, 0, 8, 0, 0, 0, 1)))
    assert Work.SESSION in one.faults.off
    one.handle_timer(session.now)
    assert (one.next_own_timer() or 0.0) > session.now


def test_a_flow_that_cannot_be_forgotten_keeps_no_timer_due(one: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    session = connected(one, 1)
    session.from_client("PA", b"its backend does not acknowledge this")
    with monkeypatch.context() as patch:
        patch.setattr(Nat, "forget", fail)
        later = session.now + 1e6
        with pytest.raises(ZeroDivisionError):
            one.handle_timer(later)
        one.handle_timer(later)
        assert (one.next_timer() or later) > later
    one.handle_timer(later + 1e6)
    assert one.flow_ids() == []


def test_a_failing_read_queue_leaves_nothing_of_ended_connections(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    one = engine(OF, fast=fast)
    session = ClientConnection(one)
    session.connect()
    session.from_client("PA", bytes((4, 0, 0, 8, 0, 0, 0, 1)))
    [flow_id] = one.flow_ids()
    assert one._sessions.masters_of(flow_id)
    monkeypatch.setattr("natmirror.mirror.sessions.read_queue.ReadQueue.take", fail)
    session.from_client("R")
    later = session.now + 1e5
    for _ in range(10):
        one.handle_timer(later)
    assert one.flow_ids() == []
    assert not one._sessions.masters_of(flow_id), "they would be reported with the next flow of that number"
    assert one._sessions.sums() == {}


def test_the_status_reports_work_that_is_off(one: Engine) -> None:
    faulty(one.faults, Work.COPY, *[1000.0] * MAX_OF_ONE_KIND)
    machine = {
        "queues": {},
        "tunnel": {},
        "internal_errors": 0,
        "ended_threads": {},
        "kernel_translation_off_because": None,
        "paths_checked": True,
        "packets_forged": {},
    }
    text = summarize(one.snapshot(1000.0), machine)
    assert "copies 3" in text
    assert "OFF after internal errors: copies in thread 0: on again in 600 s, or by 'natmirror resume" in text


def test_faults_on_a_host_without_packets_are_dated_by_their_own_calls(
    one: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = connected(one, 1)
    record = one.replicated_legs.records(one.replicated_legs.ids())[0]
    standby = engine(fast=one._fast)
    standby.replicated_legs.release()
    monkeypatch.setattr(Mirroring, "adopt", fail)
    for number in range(MAX_OF_ONE_KIND):
        assert not standby.faults.off
        standby.replicated_legs.adopt(record, session.now + number * WINDOW / 2)
    assert not standby.faults.off
    standby.replicated_legs.adopt(record, session.now + WINDOW)
    assert standby.faults.off == {Work.TAKEOVER: session.now + WINDOW + OFF_TIME}


def test_production_passes_while_all_of_mirroring_is_off(one: Engine) -> None:
    faulty(one.faults, Work.COPY, *[1000.0] * MAX_OF_ALL)
    session = ClientConnection(one)
    session.connect()
    session.from_client("PA", b"question")
    session.from_backend("PA", b"answer")
    session.from_client("FA")
    assert session.mirrored() == []
