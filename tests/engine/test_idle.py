"""Connections that are silent for hours, or half closed: their copies live as long as they do."""

import struct
from dataclasses import replace

import pytest

from natmirror.actions import Hook
from natmirror.engine.counters import EngineCounter
from natmirror.engine.engine import Engine
from natmirror.fastpath.flow_states import State
from natmirror.net import seq
from natmirror.net.packet import OPT_NOP, OPT_TIMESTAMPS
from natmirror.reasons import EndReason
from natmirror.rules import Release, Timeouts, parse_rules
from tests.helpers.client_connection import IRS, ClientConnection, engine
from tests.helpers.leg_records import NOW, RECORD, answer, due, sealed
from tests.helpers.openflow_sessions import OF, Master, hello
from tests.helpers.support import CLIENT, RULES, SERVICE, TIMEOUTS, assert_adds_up, at, icmp_error, packet

HOUR = 3600.0
DAY = 24 * HOUR
UNMIRRORED = RULES[: RULES.index("    mirrors:")]
LONG = TIMEOUTS[State.ESTABLISHED]
DERIVED = "10.20.0.12:6653"  # the client's backend by the rules alone


@pytest.fixture(params=Release)
def connection(fast: bool, request: pytest.FixtureRequest) -> ClientConnection:
    return ClientConnection(engine(fast=fast, release=request.param))


def wait(connection: ClientConnection, duration: float) -> None:
    """Let the time pass, with all timers that are due in it."""
    until = connection.now + duration
    while (due := connection.engine.next_timer()) is not None and due <= until:
        connection.now = max(connection.now, due)
        assert connection.engine.handle_timer(connection.now) == []
    connection.now = until


def copied(connection: ClientConnection, data: bytes) -> None:
    """Send data of the client, and check that backend and mirror get it."""
    assert connection.from_client("PA", data).dst == connection.backend_address
    connection.from_backend("A")
    assert b"".join(part for *_, part in connection.mirrored()) == data
    connection.from_mirror("A", 1, 1 + connection.sent)
    assert_adds_up(connection.engine.snapshot(connection.now))


def reasons(connection: ClientConnection) -> list[EndReason]:
    return [event.reason for event in connection.engine.take_events()]


# Silence


def test_a_copy_lives_through_a_day_of_silence(connection: ClientConnection) -> None:
    connection.establish()
    copied(connection, b"before")
    wait(connection, DAY)
    copied(connection, b"after")
    [flow] = connection.engine.flows(connection.now)
    assert (flow["state"], flow["client_bytes"], flow["legs"][0]["acked_bytes"]) == ("established", 11, 11)
    wait(connection, DAY)
    connection.from_client("FA")
    connection.from_backend("FA")
    connection.from_client("A")
    assert [letters for letters, *_ in connection.mirrored()] == ["FA"]
    assert_adds_up(connection.engine.snapshot(connection.now))


def stamps(value: int, echo: int) -> bytes:
    """Return the timestamps option."""
    return bytes((OPT_NOP, OPT_NOP, OPT_TIMESTAMPS, 10)) + struct.pack("!II", value & 0xFFFF_FFFF, echo)


@pytest.mark.parametrize("days", [1, 30])
def test_timestamps_that_have_wrapped_in_a_long_silence_are_taken(fast: bool, days: int) -> None:
    connection = ClientConnection(engine(fast=fast))
    syn = packet(CLIENT, SERVICE, "S", connection.iss, options=stamps(1, 0))
    out = connection.passed(syn, Hook.PREROUTING)
    connection.backend = (out.dst, out.dport)
    first, theirs = seq.add(connection.iss, 1), seq.add(IRS, 1)
    answer = packet(connection.backend, CLIENT, "SA", IRS, first, options=stamps(1, 1))
    connection.passed(answer, Hook.FORWARD)
    connection.passed(packet(CLIENT, SERVICE, "A", first, theirs, options=stamps(2, 1)), Hook.PREROUTING)
    connection.connect_mirror()
    connection.mirrored()
    connection.passed(packet(connection.backend, CLIENT, "A", theirs, first, options=stamps(2, 2)), Hook.FORWARD)
    wait(connection, days * DAY)
    late = stamps(2 + days * 86_400_000, 2)  # a clock of milliseconds
    connection.passed(packet(CLIENT, SERVICE, "PA", first, theirs, b"late", options=late), Hook.PREROUTING)
    assert [data for *_, data in connection.mirrored()] == [b"late"]


def test_a_silent_connection_without_mirrors_expires(fast: bool) -> None:
    connection = ClientConnection(engine(UNMIRRORED, fast=fast))
    connection.connect()
    wait(connection, LONG - 1)
    assert connection.states == ["established"]
    wait(connection, 1)
    assert connection.states == []


@pytest.mark.parametrize("who", ["client", "backend"])
def test_a_connection_with_data_that_nobody_acknowledges_is_dead(connection: ClientConnection, who: str) -> None:
    connection.establish()
    if who == "client":
        connection.from_client("PA", b"lost")
        if connection.mirrored():  # with release: seen
            connection.from_mirror("A", 1, 5)
    else:
        connection.from_backend("PA", b"lost")
    wait(connection, LONG - 1)
    assert connection.states == ["established"]
    connection.now += 1
    assert len(connection.engine.handle_timer(connection.now)) == 1
    assert (connection.states, reasons(connection)) == ([], [EndReason.FLOW_EXPIRED])
    assert_adds_up(connection.engine.snapshot(connection.now))


def test_a_connection_whose_copies_have_ended_expires(connection: ClientConnection) -> None:
    connection.establish()
    wait(connection, 3 * LONG)
    connection.from_mirror("RA", 1, 1)
    assert len(reasons(connection)) == 1
    wait(connection, LONG)
    assert connection.states == []


def test_a_session_lives_through_a_day_of_silence(fast: bool) -> None:
    connection = ClientConnection(engine(OF, fast=fast))
    master = Master(connection)
    connection.connect()
    connection.from_client("PA", hello())
    connection.from_backend("PA", hello())
    connection.from_client("A")
    master.take()
    wait(connection, DAY)
    master.take()
    assert (connection.states, master.ended, reasons(connection)) == (["established"], "", [])


# Half closed


def test_a_client_sends_for_ten_hours_to_a_backend_that_has_closed_its_half(connection: ClientConnection) -> None:
    connection.establish()
    connection.from_backend("FA")
    connection.from_client("A")
    for hour in range(10):
        copied(connection, b"hour %d" % hour)
        wait(connection, HOUR)
    assert connection.states == ["half-closed"]
    wait(connection, 10 * HOUR)
    copied(connection, b"after a long silence")
    assert connection.states == ["half-closed"]
    connection.from_client("FA")
    assert connection.states == ["closing"]
    connection.from_backend("A")
    assert [letters for letters, *_ in connection.mirrored()] == ["FA"]
    connection.from_mirror("FA", 1, connection.sent + 1)
    assert (connection.states, reasons(connection)) == (["time-wait"], [EndReason.CLOSED])
    assert_adds_up(connection.engine.snapshot(connection.now))


def test_a_backend_sends_for_ten_hours_to_a_client_that_has_closed_its_half(connection: ClientConnection) -> None:
    connection.establish()
    copied(connection, b"a question")
    connection.from_client("FA")
    connection.from_backend("A")
    assert [letters for letters, *_ in connection.mirrored()] == ["FA"]
    connection.from_mirror("A", 1, connection.sent + 1)
    for _ in range(10):
        connection.from_backend("PA", b"a part of the answer")
        connection.from_client("A")
        wait(connection, HOUR)
    wait(connection, 10 * HOUR)
    assert (connection.states, reasons(connection)) == (["half-closed"], [])
    connection.from_backend("FA")
    connection.from_client("A")
    connection.from_mirror("FA", 1, connection.sent + 1)
    assert (connection.states, reasons(connection)) == (["time-wait"], [EndReason.CLOSED])
    assert_adds_up(connection.engine.snapshot(connection.now))


def test_a_half_closed_connection_without_mirrors_lives_as_long_as_an_established_one(fast: bool) -> None:
    connection = ClientConnection(engine(UNMIRRORED, fast=fast))
    connection.connect()
    connection.from_client("FA")
    connection.from_backend("A")
    wait(connection, LONG - 1)
    assert connection.states == ["half-closed"]
    wait(connection, 1)
    assert connection.states == []


def test_a_fin_that_nobody_acknowledges_ends_the_copy(connection: ClientConnection) -> None:
    connection.establish()
    connection.from_backend("FA")
    connection.now += LONG
    assert len(connection.engine.handle_timer(connection.now)) == 1
    assert (connection.states, reasons(connection)) == ([], [EndReason.FLOW_EXPIRED])


def test_a_connection_whose_last_acknowledgement_is_missing_is_forgotten_soon(fast: bool) -> None:
    connection = ClientConnection(engine(UNMIRRORED, fast=fast))
    connection.connect()
    connection.from_client("FA")
    connection.from_backend("FA")
    assert connection.states == ["closing"]
    wait(connection, TIMEOUTS[State.CLOSING] - 1)
    assert connection.states == ["closing"]
    wait(connection, 1)
    assert connection.states == []


# Room


def many(one: Engine, count: int, first: int = 0) -> list[ClientConnection]:
    """Return connections with established legs, a second apart."""
    connections = []
    for number in range(first, first + count):
        connection = ClientConnection(one, client=at("10.10.0.20", 2000 + number))
        connection.now = 1000.0 + number
        connection.connect()
        raw = packet(at("10.20.0.13", 6653), connection.client, "SA", 5, seq.add(connection.iss, 1))
        connection.take(raw, Hook.PREROUTING)
        connections.append(connection)
    return connections


def ports(one: Engine, now: float) -> set[int]:
    return {int(flow["client"].partition(":")[2]) - 2000 for flow in one.flows(now)}


def test_a_full_table_evicts_the_longest_silent_connection_last_of_all_kinds_and_first_of_its_own(fast: bool) -> None:
    one = engine(fast=fast, max_flows=8)
    connections = many(one, 6)
    closed, half_open = many(one, 1, first=6)[0], ClientConnection(one, client=at("10.10.0.20", 2007))
    clock = connections[0]
    clock.now = 1000.0
    wait(clock, 2 * LONG)
    for connection in (*connections, closed, half_open):
        connection.now = clock.now
    connections[1].from_client("PA", b"awake")  # by the C gear, which touches no list
    half_open.syn()
    closed.from_client("RA")
    gone = []
    for number in range(100, 104):
        before = ports(one, clock.now)
        newest = ClientConnection(one, client=at("10.10.0.20", 2000 + number))
        newest.now = clock.now
        newest.connect()
        gone += [*(before - ports(one, clock.now))]
    assert gone == [6, 7, 0, 2]
    assert one.snapshot(clock.now)["counters"][EngineCounter.FLOWS_EVICTED] == 4
    assert {event.reason for event in one.take_events()} == {EndReason.FLOW_EXPIRED, EndReason.CLIENT_RESET}
    assert_adds_up(one.snapshot(clock.now))


def test_a_connection_that_is_silent_for_less_than_its_timeout_is_never_evicted(fast: bool) -> None:
    one = engine(fast=fast, max_flows=4)
    clock = many(one, 4)[0]
    clock.now = 1000.0
    wait(clock, LONG - 1)
    late = ClientConnection(one, client=at("10.10.0.20", 2100))
    late.now = clock.now
    late.syn()
    assert ports(one, clock.now) == {0, 1, 2, 3}
    counters = one.snapshot(clock.now)["counters"]
    assert (counters[EngineCounter.FLOWS_UNTRACKED], counters[EngineCounter.FLOWS_EVICTED]) == (1, 0)


# The rules


def test_the_timeouts_are_those_of_the_rules(fast: bool) -> None:
    text = "timeouts: {opening: 1m, established: 4h, closing: 5m, closed: 4m}\n" + UNMIRRORED
    one = engine(text, fast=fast)

    def life(client: ClientConnection) -> float:
        wait(client, 0)
        return client.outlive()

    opening, established, closing, closed = (ClientConnection(one, client=at("10.10.0.20", port)) for port in range(4))
    opening.syn()
    assert life(opening) == 60.0
    established.connect()
    assert life(established) == 4 * HOUR
    closing.connect()
    closing.from_client("FA")
    closing.from_backend("FA")
    assert life(closing) == 300.0
    closed.connect()
    closed.from_client("RA")
    assert life(closed) == 240.0


def test_a_reload_applies_other_timeouts_to_living_connections(fast: bool) -> None:
    rules = replace(parse_rules(UNMIRRORED), timeouts=Timeouts(established=10 * HOUR))
    connection = ClientConnection(engine("timeouts: {established: 10h}\n" + UNMIRRORED, fast=fast))
    connection.connect()
    wait(connection, 9 * HOUR)
    connection.engine.reload(replace(rules, timeouts=Timeouts(established=20 * HOUR)))
    assert connection.engine.bindings.sweep(0, 100, 0, connection.now) is None
    wait(connection, 10 * HOUR)
    assert connection.states == ["established"]
    connection.engine.reload(replace(rules, timeouts=Timeouts(established=3 * HOUR)))
    assert connection.engine.bindings.sweep(0, 100, 0, connection.now) is None
    wait(connection, 0)
    assert connection.states == []


def test_a_reload_ends_no_copy_of_a_silent_connection(connection: ClientConnection) -> None:
    connection.establish()
    wait(connection, 3 * LONG)
    rules = parse_rules("timeouts: {established: 10h}\n" + RULES)
    for one in (rules, parse_rules(RULES)):
        connection.engine.reload(one)
        assert connection.engine.bindings.sweep(0, 100, 0, connection.now) is None
        wait(connection, 3 * LONG)
        copied(connection, b"alive")


# A pair


def test_a_standby_connection_that_the_other_host_reports_no_more_expires() -> None:
    one = engine()
    one.replicated_legs.release()
    one.replicated_legs.adopt(sealed({**RECORD, "backend": DERIVED}), NOW)
    connection = ClientConnection(one)
    connection.now = NOW
    wait(connection, LONG)
    assert connection.states == []


def test_a_copy_that_was_taken_over_lives_through_a_day_of_silence() -> None:
    one = engine()
    one.replicated_legs.release()
    one.replicated_legs.adopt(sealed(RECORD), NOW)
    one.replicated_legs.take_over(NOW)
    connection = ClientConnection(one)
    connection.now = NOW
    assert due(connection)
    answer(connection, 11)
    due(connection)
    wait(connection, DAY)
    assert (connection.states, reasons(connection)) == (["established"], [])


# What refreshes nothing, and ends nothing


def timer(connection: ClientConnection) -> float | None:
    """Return the time at which the only flow expires, once its packets have moved its deadline."""
    wait(connection, 0)
    return connection.engine.next_timer()


@pytest.mark.parametrize("code", range(16))
def test_an_icmp_error_ends_and_refreshes_no_connection(fast: bool, code: int) -> None:
    connection = ClientConnection(engine(UNMIRRORED, fast=fast))
    syn = connection.syn()
    connection.take(icmp_error("10.20.0.1", "10.10.0.11", syn.raw, code=code), Hook.FORWARD)
    assert connection.states == ["syn-sent"]
    connection.syn_ack()
    request = connection.from_client("A")
    reply = connection.from_backend("PA", b"x" * 100)
    connection.from_client("A")
    before = timer(connection)
    connection.now += 100
    connection.take(icmp_error("10.20.0.1", "10.10.0.11", request.raw, code=code), Hook.FORWARD)
    connection.take(icmp_error("10.10.0.1", "10.10.0.100", reply.raw, code=code), Hook.PREROUTING)
    assert (connection.states, timer(connection)) == (["established"], before)
    wait(connection, LONG - 101)
    assert connection.states == ["established"]
    wait(connection, 1)
    assert connection.states == []


@pytest.mark.parametrize("hook", [Hook.PREROUTING, Hook.FORWARD])
def test_a_reset_that_its_receiver_ignores_refreshes_no_connection(fast: bool, hook: Hook) -> None:
    connection = ClientConnection(engine(UNMIRRORED, fast=fast))
    connection.connect()
    connection.from_backend("A")
    connection.now += 100
    assert connection.backend
    inside = 1000  # of the receiver's window: it answers with a challenge
    if hook is Hook.PREROUTING:
        raw = packet(CLIENT, SERVICE, "R", seq.add(connection.iss, inside), 0)
    else:
        raw = packet(connection.backend, CLIENT, "R", seq.add(IRS, inside), 0)
    connection.passed(raw, hook)
    assert connection.states == ["established"]
    wait(connection, LONG - 101)
    assert connection.states == ["established"]
    wait(connection, 1)
    assert connection.states == []
