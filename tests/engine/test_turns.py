"""Python decides so many packets of each client a second. C decides the others, so no other client waits for them."""

import random
from collections.abc import Callable, Iterable
from unittest.mock import ANY

import pytest

from natmirror._ffi import lib
from natmirror.actions import Accept, Drop, Hook
from natmirror.engine.counters import EngineCounter
from natmirror.engine.engine import Engine
from natmirror.fastpath import Refusals
from natmirror.fastpath.punt_reasons import PuntReason
from natmirror.net import seq
from natmirror.net.checksum import Checksum
from natmirror.reasons import DropReason, EndReason
from natmirror.rules import Release
from tests.helpers.client_connection import IRS, ISS, ClientConnection, engine
from tests.helpers.support import C1, CLIENT, MASTER, RULES, SERVICE, assert_adds_up, at, icmp_error, packet, segment

TURNS = int(lib.NM_TURNS_BURST - lib.NM_TURNS_KEPT) // lib.NM_TURN_OF_OTHERS
"""Packets of others than genuine ones that Python decides at once for one client."""
STEADY = int(lib.NM_TURNS_STEADY) // lib.NM_TURN_OF_OTHERS
"""Of these, what strays leave."""
SURCHARGE = lib.NM_TURNS_SURCHARGE
"""Tokens that a turn costs more, at most, after packets that had none."""
GENUINE = int(lib.NM_TURNS_BURST) // lib.NM_TURN_OF_DATA
"""Data packets of established flows that Python decides at once for one client."""
NOW = 1000.0
FIRST, THEIRS = seq.add(ISS, 1), seq.add(IRS, 1)
TWO_SERVICES = """
switches: [10.10.0.0/24]
services:
  - name: a
    address: 10.10.0.100
    port: 6653
    pool: {backends: [{name: a1, address: 10.20.0.11, port: 6653}]}
    mirrors: [{name: master, address: 10.20.0.14, protocol: openflow}]
  - name: b
    address: 10.10.0.101
    port: 6653
    pool: {backends: [{name: b1, address: 10.20.0.12, port: 6653}]}
    mirrors: [{name: raw, address: 10.20.0.13}]
"""
THROTTLED = RULES.replace("10.20.0.13}", "10.20.0.13, when-behind: throttle, buffer: 64KiB}")


def junk(number: int) -> bytes:
    """Return a SYN with data, which only Python can decide."""
    return packet(at("10.10.0.66", 1024 + number), SERVICE, "S", number, 0, b"x")


def send_junk(one: Engine, count: int, make: Callable[[int], bytes] = junk, hook: Hook = Hook.PREROUTING) -> None:
    for number in range(count):
        one.receive(make(number), hook, NOW, Checksum.VALID)


def test_a_client_without_turns_is_dropped_and_counted_and_named() -> None:
    one = engine()
    send_junk(one, TURNS)
    assert one.snapshot(NOW)["packets_over_limit"] == {}
    assert one.take_refusals() is None
    for number in range(TURNS, TURNS + 3):
        verdict = one.receive(junk(number), Hook.PREROUTING, NOW, Checksum.VALID).verdict
        assert verdict == Drop(DropReason.OVER_LIMIT)
    state = one.snapshot(NOW)
    assert state["packets_decided_in_python"] == {PuntReason.OPENING_OR_CLOSING: TURNS}
    assert state["packets_over_limit"] == {PuntReason.OPENING_OR_CLOSING: 3}
    assert state["drops"] == {DropReason.OVER_LIMIT: 3}
    refusals = one.take_refusals()
    assert refusals is not None
    assert (refusals.peers, refusals.packets, refusals.most) == (1, 3, 3)
    assert refusals.address == bytes((10, 10, 0, 66))
    assert one.take_refusals() is None, "they are reported once"


def test_other_clients_keep_their_turns() -> None:
    one = engine()
    send_junk(one, TURNS + 10)
    connection = ClientConnection(one, client=CLIENT)
    connection.now = NOW
    connection.establish()
    connection.from_client("PA", b"data")
    assert one.snapshot(NOW)["drops"] == {DropReason.OVER_LIMIT: 10}


def test_turns_come_back_with_time() -> None:
    one = engine()
    send_junk(one, TURNS)
    later = NOW + 10 * lib.NM_TURN_OF_OTHERS / lib.NM_TURNS_RATE
    for number in range(12):
        one.receive(junk(9000 + number), Hook.PREROUTING, later + 1e-6, Checksum.VALID)
    assert one.snapshot(NOW)["packets_over_limit"] == {PuntReason.OPENING_OR_CLOSING: 2}


def turns_in_a_second(one: Engine, rate: int, make: Callable[[int], bytes] = junk) -> int:
    """Have a client send at this rate, in packets a second, after it has spent what it has in store. Return how many
    packets Python decides in a second."""
    send_junk(one, TURNS, make)
    for number in range(2 * rate):
        if number == rate:
            before = sum(one.snapshot(NOW)["packets_decided_in_python"].values())
        one.receive(make(number), Hook.PREROUTING, NOW + number / rate, Checksum.VALID)
    return sum(one.snapshot(NOW)["packets_decided_in_python"].values()) - before


def picked_up_data(number: int) -> bytes:
    """Return data of a connection that natmirror does not know, a new one for each number."""
    return packet(at("10.10.0.66", 1024 + number % 60_000), SERVICE, "PA", number, 7, b"x")


@pytest.mark.parametrize("make", [junk, picked_up_data])
def test_a_flood_gets_few_of_a_clients_turns(make: Callable[[int], bytes]) -> None:
    """With all of them, one client's flood took more than half of the thread: Python opens each flow and ends it."""
    most = int(lib.NM_TURNS_RATE) // lib.NM_TURN_OF_OTHERS
    assert turns_in_a_second(engine(), 20_000, make) <= most // 25 + 1


def test_a_client_that_sends_little_more_than_its_turns_keeps_most_of_them() -> None:
    most = int(lib.NM_TURNS_RATE) // lib.NM_TURN_OF_OTHERS
    assert turns_in_a_second(engine(), most) == most
    assert turns_in_a_second(engine(), most * 11 // 10) >= most * 3 // 4


def test_a_client_has_its_turns_again_after_a_flood() -> None:
    one = engine()
    send_junk(one, TURNS + 2 * SURCHARGE)
    later = NOW + lib.NM_TURNS_BURST / lib.NM_TURNS_RATE
    for number in range(TURNS):
        one.receive(junk(9000 + number), Hook.PREROUTING, later, Checksum.VALID)
    refused = one.snapshot(NOW)["packets_over_limit"][PuntReason.OPENING_OR_CLOSING] - 2 * SURCHARGE
    paid = sum(range(lib.NM_TURNS_RELIEF, SURCHARGE + 1, lib.NM_TURNS_RELIEF))
    assert refused == paid // lib.NM_TURN_OF_OTHERS, "the first turns pay the surcharge"


def test_a_flood_gets_no_turns_in_a_row_after_a_stop() -> None:
    """The thread may have stopped for a while, soon after one of the flood's turns, when few were refused since."""
    one, rate, stop = engine(), 60_000, 0.004
    send_junk(one, TURNS + SURCHARGE)
    now, stops = NOW, 0
    while stops < 10:
        now += 1 / rate
        if is_decided_by_python(one, now):
            now += stop
            assert sum(is_decided_by_python(one, now) for _ in range(lib.NQ_BATCH)) <= 2
            stops += 1


def is_decided_by_python(one: Engine, now: float) -> bool:
    """Return whether a packet of the flood gets a turn."""
    verdict = one.receive(junk(9000), Hook.PREROUTING, now, Checksum.VALID).verdict
    return verdict != Drop(DropReason.OVER_LIMIT)


def test_a_client_that_sends_strays_saves_up_no_turns() -> None:
    one = engine()
    data = packet(at("10.10.0.66", 9999), SERVICE, "PA", 5, 7, b"data")
    send_junk(one, int(lib.NM_TURNS_BURST), lambda _: data)
    assert one.snapshot(NOW)["packets_over_limit"] == {}
    send_junk(one, STEADY + 2)
    assert one.snapshot(NOW)["packets_over_limit"] == {PuntReason.OPENING_OR_CLOSING: 2}


def test_some_strays_cost_a_client_few_turns() -> None:
    one, strays = engine(), 100
    data = packet(at("10.10.0.66", 9999), SERVICE, "PA", 5, 7, b"data")
    send_junk(one, 1 + strays, lambda _: data)
    send_junk(one, TURNS)
    assert one.snapshot(NOW)["packets_over_limit"] == {
        PuntReason.OPENING_OR_CLOSING: 1 + strays // lib.NM_TURN_OF_OTHERS
    }


def test_genuine_packets_cost_no_surcharge() -> None:
    connection = established()
    forge(connection)
    connection.now += lib.NM_TURNS_BURST / lib.NM_TURNS_RATE
    for _ in range(GENUINE):
        connection.from_client("PA", b"late", at=4)  # behind a gap
    over_limit = connection.engine.snapshot(connection.now)["packets_over_limit"]
    assert PuntReason.OUT_OF_ORDER not in over_limit


def test_strays_leave_a_client_the_surcharge_too() -> None:
    """Otherwise, anyone who floods in a client's name could keep it from every further turn."""
    one = engine()
    stray = packet(at("10.10.0.66", 9999), SERVICE, "A", 5, 7)
    send_junk(one, TURNS + 2 * SURCHARGE)
    before = one.snapshot(NOW)["packets_decided_in_python"][PuntReason.OPENING_OR_CLOSING]
    for number in range(20_000):  # in a second
        now = NOW + number / 20_000
        one.receive(stray, Hook.PREROUTING, now, Checksum.VALID)
        one.receive(junk(number), Hook.PREROUTING, now, Checksum.VALID)
    after = one.snapshot(NOW)["packets_decided_in_python"][PuntReason.OPENING_OR_CLOSING]
    assert after - before >= int(lib.NM_TURNS_RATE) // (lib.NM_TURN_OF_OTHERS + SURCHARGE) - 1


def test_strays_take_no_turn_of_the_clients_connections() -> None:
    one = engine()
    connection = ClientConnection(one, client=at("10.10.0.66", 5555))
    connection.now = NOW
    connection.establish()
    data = packet(at("10.10.0.66", 9999), SERVICE, "PA", 5, 7, b"data")
    send_junk(one, int(lib.NM_TURNS_BURST), lambda _: data)
    connection.from_client("FA", b"")
    assert one.snapshot(NOW)["packets_over_limit"] == {}


def test_data_that_would_be_picked_up_passes_without_a_flow() -> None:
    one, reference = engine(), engine(fast=False)
    send_junk(one, TURNS)
    raw = packet(at("10.10.0.66", 9999), SERVICE, "PA", 5, 7, b"data")
    assert one.receive(raw, Hook.PREROUTING, NOW, Checksum.VALID) == reference.receive(
        raw, Hook.PREROUTING, NOW, Checksum.VALID
    )
    assert (len(one.flow_ids()), len(reference.flow_ids())) == (TURNS, 1)
    send_junk(one, TURNS, lambda number: packet(C1, at("10.10.0.77", 1024 + number), "PA", 5, 7, b"x"), Hook.FORWARD)
    flows = len(one.flow_ids())
    verdict = one.receive(packet(C1, at("10.10.0.77", 9), "PA", 5, 7, b"x"), Hook.FORWARD, NOW, Checksum.VALID).verdict
    assert isinstance(verdict, Accept)
    assert verdict.packet is not None
    assert segment(verdict.packet).src == SERVICE[0]
    assert len(one.flow_ids()) == flows


@pytest.mark.parametrize(
    ("make", "hook"),
    [
        (
            lambda _: icmp_error("10.10.0.66", "10.10.0.100", packet(SERVICE, at("10.10.0.99", 5), "A", 1)),
            Hook.PREROUTING,
        ),
        (lambda number: packet(at("10.10.0.66", number), SERVICE, "A", 1)[:30], Hook.PREROUTING),
        (lambda number: packet(MASTER, at("10.10.0.66", number), "A", 1, 1), Hook.PREROUTING),
    ],
)
def test_packets_that_are_no_clients_are_dropped(make: Callable[[int], bytes], hook: Hook) -> None:
    one = engine()
    send_junk(one, TURNS + 5, make, hook)
    assert one.snapshot(NOW)["drops"][DropReason.OVER_LIMIT] == 5


def established(rules: str = RULES, *, release: Release = Release.SEEN) -> ClientConnection:
    connection = ClientConnection(engine(rules, release=release))
    connection.now = NOW
    connection.establish()
    return connection


def exhausted(rules: str = RULES, *, release: Release = Release.SEEN) -> ClientConnection:
    """Return an established connection whose client has no turn left, because of another connection."""
    connection = established(rules, release=release)
    other = ClientConnection(connection.engine, client=(CLIENT[0], 50_000))
    other.now = NOW
    other.connect()
    for _ in range(GENUINE):
        other.from_client("PA", b"late", at=4)  # behind a gap
    assert connection.engine.snapshot(NOW)["packets_over_limit"]
    connection.to_mirror.clear()
    return connection


def forge(connection: ClientConnection) -> None:
    """Have a host that knows no numbers take the client's turns."""
    send_junk(connection.engine, TURNS + 5, lambda number: packet((CLIENT[0], 1024 + number), SERVICE, "S", 7, 0, b"x"))
    assert connection.engine.snapshot(NOW)["packets_over_limit"][PuntReason.OPENING_OR_CLOSING] >= 5


def copied(connection: ClientConnection) -> bytes:
    return b"".join(data for _, _, _, data in connection.mirrored())


def ended(connection: ClientConnection) -> list[EndReason]:
    return [event.reason for event in connection.engine.take_events()]


def test_an_established_connection_loses_no_packet_and_its_copy_ends() -> None:
    connection = exhausted()
    one = connection.engine
    before = one.snapshot(NOW)["packets_over_limit"][PuntReason.OUT_OF_ORDER]
    late = connection.passed(packet(CLIENT, SERVICE, "PA", seq.add(FIRST, 4), THEIRS, b"late"), Hook.PREROUTING)
    assert (late.payload, (late.dst, late.dport)) == (b"late", connection.backend)
    early = connection.passed(packet(CLIENT, SERVICE, "PA", FIRST, THEIRS, b"soon"), Hook.PREROUTING)
    assert early.payload == b"soon"
    assert one.snapshot(NOW)["packets_over_limit"][PuntReason.OUT_OF_ORDER] == before + 2
    assert connection.backend
    connection.now += 1.0
    connection.passed(packet(connection.backend, CLIENT, "A", THEIRS, seq.add(FIRST, 8)), Hook.FORWARD)
    connection.passed(packet(CLIENT, SERVICE, "PA", seq.add(FIRST, 8), THEIRS, b"more"), Hook.PREROUTING)
    state = one.snapshot(connection.now)
    assert_adds_up(state)
    assert state["mirrors"][0]["legs_ended"] == {EndReason.OVER_LIMIT: 1}


def test_nothing_is_held_for_copies_that_ended_over_the_limit() -> None:
    connection = exhausted()
    connection.passed(packet(CLIENT, SERVICE, "PA", seq.add(FIRST, 4), THEIRS, b"late"), Hook.PREROUTING)
    connection.now += 1.0
    connection.passed(packet(CLIENT, SERVICE, "PA", FIRST, THEIRS, b"soon"), Hook.PREROUTING)
    row = connection.engine._gear.flows.find_orig(CLIENT, SERVICE)
    assert row is not None
    assert (row.first_leg, row.held_len) == (lib.NM_NO_LEG, 0)


@pytest.mark.parametrize("release", Release)
def test_a_forger_ends_no_copy(release: Release) -> None:
    connection = established(release=release)
    forge(connection)
    connection.from_client("PA", b"late", at=4)
    connection.from_client("PA", b"soon", at=0)
    connection.sent = 8
    connection.from_backend("A")
    assert (copied(connection), ended(connection)) == (b"soonlate", [])


def test_a_forger_keeps_no_client_from_connecting() -> None:
    connection = established()
    forge(connection)
    other = ClientConnection(connection.engine, client=(CLIENT[0], 50_000))
    other.now = NOW
    other.establish()
    other.from_client("PA", b"hello")
    assert copied(other) == b"hello"
    other.from_client("FA")
    other.from_backend("FA")
    other.from_client("A")
    [flow] = [flow for flow in other.engine.flows(NOW) if flow["client"].endswith(":50000")]
    assert flow["state"] == "time-wait"
    assert [letters for letters, *_ in other.mirrored()] == ["FA"]


@pytest.mark.parametrize("letters", ["S", "SA", "FA", "FPA", "PA", "PUA"])
@pytest.mark.parametrize("release", Release)
def test_forged_packets_of_the_connection_itself_end_no_copy(release: Release, letters: str) -> None:
    """The forger guesses numbers. One packet in some has numbers that the backend takes, of bytes that it has."""
    connection = established(release=release)
    connection.from_client("PA", b"hello, ")
    connection.from_backend("PA", b"reply")
    chance = random.Random(1)
    for _ in range(5000):
        at, ack = (chance.choice((near, chance.getrandbits(32))) for near in (seq.add(FIRST, -1000), THEIRS))
        connection.take(packet(CLIENT, SERVICE, letters, at, ack, b"x"), Hook.PREROUTING)
    connection.from_client("PA", b" world", at=12)
    connection.from_client("PA", b"whole", at=7)
    connection.sent = 18
    connection.from_backend("A")
    assert (copied(connection)[-18:], ended(connection)) == (b"hello, whole world", [])


@pytest.mark.parametrize("release", Release)
def test_a_repetition_needs_no_turn(release: Release) -> None:
    connection = exhausted(release=release)
    connection.from_client("PA", b"acknowledged")
    connection.from_backend("A")
    connection.from_client("PA", b" held")
    for number, data in ((0, b"acknowledged"), (12, b" held"), (10, b"?? held"), (13, b"he"), (0, b"another data")):
        connection.from_client("PA", data, at=number)
    connection.from_backend("A")
    connection.from_client("PA", b" on")
    connection.from_backend("A")
    assert (copied(connection), ended(connection)) == (b"acknowledged held on", [])


def test_a_repetition_of_bytes_in_several_pieces_of_memory_needs_no_turn() -> None:
    connection = exhausted(release=Release.ACKNOWLEDGED)
    data = random.Random(2).randbytes(12_000)
    for number in range(12):
        connection.from_client("PA", data[1000 * number : 1000 * (number + 1)])
    for first, end in ((3500, 4500), (100, 11_000), (8191, 8193), (0, 12_000)):
        connection.from_client("PA", data[first:end], at=first)
    connection.from_backend("A")
    assert (copied(connection), ended(connection)) == (data, [])


@pytest.mark.parametrize("release", Release)
@pytest.mark.parametrize(
    ("letters", "at", "data"), [("PA", 3, b"lo!"), ("PA", 3, b"LO"), ("PA", 9, b"late"), ("UA", 5, b""), ("UA", 9, b"")]
)
def test_what_brings_something_new_without_a_turn_ends_the_copy(
    release: Release, letters: str, at: int, data: bytes
) -> None:
    connection = exhausted(release=release)
    connection.from_client("PA", b"hello")
    connection.from_client(letters, data, at=at)
    connection.now += 1.0
    connection.from_client("PA", b"more")
    connection.from_backend("A")
    assert copied(connection) == (b"hello" if release is Release.SEEN else b"")
    assert ended(connection) == [EndReason.OVER_LIMIT]


def test_a_download_after_the_clients_fin_needs_no_turn() -> None:
    connection = established(release=Release.ACKNOWLEDGED)
    connection.from_client("FPA", b"request")
    connection.from_backend("A")
    before = connection.engine.snapshot(NOW)["packets_decided_in_python"]
    for _ in range(20):
        connection.from_backend("PA", b"reply")
        connection.from_client("A")
    assert connection.engine.snapshot(NOW)["packets_decided_in_python"] == before
    assert [(letters, data) for letters, *_, data in connection.mirrored()] == [("PA", b"request"), ("FA", b"")]


def test_all_connections_of_a_client_have_one_bucket() -> None:
    one = engine()
    connections = [ClientConnection(one, client=(CLIENT[0], 40_000 + number)) for number in range(200)]
    for connection in connections:
        connection.now = NOW
        connection.connect()
    for connection in connections:
        for _ in range(30):
            connection.from_client("PA", b"late", at=4)
    assert sum(one.snapshot(NOW)["packets_decided_in_python"].values()) <= GENUINE
    other = ClientConnection(one, client=at("10.10.0.77", 40_001))
    other.now = NOW
    other.connect()
    other.from_client("PA", b"late", at=4)
    other.from_client("PA", b"soon", at=0)
    assert one.take_refusals() == Refusals(1, ANY, CLIENT[0], ANY)


def test_a_rst_needs_no_turn() -> None:
    connection = exhausted()
    connection.passed(packet(CLIENT, SERVICE, "R", FIRST), Hook.PREROUTING)
    [flow] = [flow for flow in connection.engine.flows(NOW) if flow["client"].endswith(":40001")]
    assert flow["state"] == "reset"
    assert connection.engine.snapshot(NOW)["packets_decided_in_python"][PuntReason.RESET] == 1


def test_a_throttled_client_sees_no_more_room_than_before() -> None:
    connection = established(THROTTLED)
    one = connection.engine
    assert connection.backend
    for _ in range(GENUINE):
        connection.from_backend("A")
    before = one.snapshot(NOW)["packets_over_limit"][PuntReason.THROTTLED]
    row = one._gear.flows.find_orig(CLIENT, SERVICE)
    assert row is not None
    assert row.shown == seq.add(FIRST, 0xFFFF), "the last window that passed through Python"
    row.shown = seq.add(FIRST, 1000)
    for room, window in ((1000, 0xFFFF), (700, 700), (0, 0)):
        reply = packet(connection.backend, CLIENT, "A", THEIRS, FIRST, window=window)
        passed = connection.passed(reply, Hook.FORWARD, Checksum.UNVERIFIED)
        assert (passed.window, passed.checksum_ok()) == (room, True)
    assert one.snapshot(NOW)["packets_over_limit"][PuntReason.THROTTLED] == before + 3


def test_a_mirrors_packets_take_no_turn_of_the_client() -> None:
    connection = ClientConnection(engine())
    connection.now = NOW
    connection.connect()
    [leg] = [one for one in connection.to_mirror if one.dport == MASTER[1]]
    send_junk(connection.engine, TURNS + 5, lambda _: packet(MASTER, CLIENT, "SA", 1, seq.add(leg.seq, 77)))
    assert connection.engine.snapshot(NOW)["packets_over_limit"] == {PuntReason.OPENING_OR_CLOSING: 5}
    other = ClientConnection(connection.engine, client=(CLIENT[0], 50_000))
    other.now = NOW
    other.connect()
    assert other.from_client("PA", b"data").dst == other.backend_address


def test_a_backends_replies_take_no_turn_of_the_client() -> None:
    one = engine(TWO_SERVICES, release=Release.ACKNOWLEDGED)
    victim = ClientConnection(one, client=(CLIENT[0], 50_000), service=at("10.10.0.101", 6653))
    other = ClientConnection(one)
    for connection in (victim, other):
        connection.now = NOW
        connection.connect()
    victim.connect_mirror()
    assert other.backend
    turns = GENUINE - 2  # a SYN-ACK is a stray
    for _ in range(turns + 5):  # behind a gap
        other.passed(packet(other.backend, CLIENT, "PA", seq.add(IRS, 100), FIRST, b"x"), Hook.FORWARD)
    state = one.snapshot(NOW)
    assert state["packets_decided_in_python"][PuntReason.OUT_OF_ORDER] == turns
    assert state["packets_over_limit"] == {PuntReason.OUT_OF_ORDER: 5}
    assert one.take_refusals() == Refusals(1, 5, CLIENT[0], 5)
    victim.mirrored()
    victim.from_client("PA", b"late", at=4)
    victim.from_client("PA", b"soon", at=0)
    victim.sent = 8
    victim.from_backend("A")
    assert (copied(victim), ended(victim)) == (b"soonlate", [])


def test_all_backends_share_the_turns_for_a_clients_replies() -> None:
    """Their SYN-ACKs, sent again because the client answers none, take no more of the thread than one backend's."""
    one = engine(TWO_SERVICES)
    opened = []
    for number in range(40):
        client, service = at("10.10.0.66", 40_000 + number), at(f"10.10.0.{100 + number % 2}", 6653)
        verdict = one.receive(packet(client, service, "S", ISS), Hook.PREROUTING, NOW, Checksum.VALID).verdict
        assert isinstance(verdict, Accept) and verdict.packet
        to = segment(verdict.packet)
        opened.append((client, (to.dst, to.dport)))
    assert len({backend for _, backend in opened}) == 2
    for client, backend in opened * (TURNS // 10):
        one.receive(packet(backend, client, "SA", IRS, FIRST), Hook.FORWARD, NOW, Checksum.VALID)
    strays = len(opened) // lib.NM_TURN_OF_OTHERS  # the first SYN-ACKs
    assert sum(one.snapshot(NOW)["packets_decided_in_python"].values()) == TURNS - strays
    refusals = one.take_refusals()
    assert refusals and refusals.address == at("10.10.0.66", 0)[0]


def test_replies_to_a_throttled_client_leave_it_its_turns() -> None:
    connection = established(THROTTLED)
    for _ in range(GENUINE + 5):
        connection.from_backend("A")
    assert connection.engine.snapshot(NOW)["packets_over_limit"][PuntReason.THROTTLED] >= 5
    connection.from_client("PA", b"late", at=4)
    connection.from_client("PA", b"soon", at=0)
    assert (copied(connection), ended(connection)) == (b"soonlate", [])


def test_many_addresses_share_a_table_of_bounded_size() -> None:
    one = engine()
    for number in range(20_000):
        source = at(f"10.10.0.{number % 256}", 1024 + number)
        one.receive(packet(source, SERVICE, "A", 1)[:30], Hook.PREROUTING, NOW, Checksum.VALID)
    assert one.snapshot(NOW)["packets_over_limit"] == {}


# Strays while the thread sheds them

STRAYS = int(lib.NM_STRAYS_BURST)


def shed(one: Engine, now: float = NOW) -> None:
    """Have the engine shed strays, as the loop does while the thread is swamped."""
    one.gear.sheds_until = now + lib.NM_SHED_TIME


def stray(number: int, letters: str = "A", data: bytes = b"") -> bytes:
    """Return a packet of no connection."""
    return packet(at("10.10.0.66", 1024 + number % 60_000), SERVICE, letters, number, 7, data)


def passed(one: Engine, packets: Iterable[bytes], now: float = NOW) -> int:
    """Return how many of these packets pass."""
    verdicts = [one.receive(raw, Hook.PREROUTING, now, Checksum.VALID).verdict for raw in packets]
    assert all(isinstance(verdict, Accept) or verdict == Drop(DropReason.OVER_LIMIT) for verdict in verdicts)
    return sum(isinstance(verdict, Accept) for verdict in verdicts)


@pytest.mark.parametrize("letters", ["A", "R", "FA"])
def test_strays_beyond_a_clients_part_are_dropped_only_while_the_thread_sheds_them(letters: str) -> None:
    one = engine()
    count = 3 * STRAYS
    assert passed(one, (stray(number, letters) for number in range(count))) == count
    shed(one)
    assert passed(one, (stray(number, letters) for number in range(count))) == STRAYS
    assert one.snapshot(NOW)["drops"] == {DropReason.OVER_LIMIT: count - STRAYS}
    assert one.snapshot(NOW)["counters"][EngineCounter.PACKETS_WITHOUT_FLOW] == count + STRAYS
    refusals = one.take_refusals()
    assert refusals is not None and (refusals.packets, refusals.address) == (count - STRAYS, bytes((10, 10, 0, 66)))
    assert passed(one, (stray(number, letters) for number in range(count)), NOW + 0.1) == lib.NM_STRAYS_RATE / 10
    over = NOW + 0.1 + lib.NM_SHED_TIME
    assert passed(one, (stray(number, letters) for number in range(count)), over) == count


def test_strays_are_shed_as_long_as_a_flood_of_them_lasts() -> None:
    """Otherwise all of them pass again whenever less than two batches wait, until two batches wait."""
    one, rate, seconds = engine(), 4 * int(lib.NM_STRAYS_RATE), 5
    shed(one)
    flood = (passed(one, [stray(number)], NOW + number / rate) for number in range(rate * seconds))
    assert sum(flood) == pytest.approx(STRAYS + seconds * lib.NM_STRAYS_RATE, abs=1)
    few = int(lib.NM_STRAYS_RATE) // 2
    gentle = (passed(one, [stray(number)], NOW + seconds + number / few) for number in range(2 * few))
    assert sum(gentle) == 2 * few
    assert passed(one, (stray(number) for number in range(3 * STRAYS)), NOW + seconds + 2) == 3 * STRAYS


def test_data_of_no_connection_without_a_turn_is_refused_once() -> None:
    one = engine()
    send_junk(one, TURNS, picked_up_data)
    shed(one)
    passed(one, (stray(20_000 + number, "PA", b"x") for number in range(2 * STRAYS)))
    refusals = one.take_refusals()
    assert refusals is not None and refusals.packets == 2 * STRAYS
    assert one.snapshot(NOW)["drops"] == {DropReason.OVER_LIMIT: STRAYS}


def test_repetitions_of_acknowledged_data_are_shed_too() -> None:
    one = engine()
    connection = ClientConnection(one, client=CLIENT)
    connection.now = NOW
    connection.establish()
    connection.from_client("PA", b"data")
    connection.from_backend("A")
    shed(one)
    old = packet(CLIENT, SERVICE, "PA", FIRST, THEIRS, b"data")
    new = packet(CLIENT, SERVICE, "PA", seq.add(FIRST, 4), THEIRS, b"more")
    assert passed(one, [old] * 2 * STRAYS) == STRAYS
    assert passed(one, [new]) == 1, "what is new to the backend passes"
    assert_adds_up(one.snapshot(NOW))


def test_data_of_a_connection_that_was_picked_up_is_shed_until_its_backend_is_heard() -> None:
    one, client = engine(), at("10.10.0.66", 1025)
    data = stray(1, "PA", b"x")
    verdict = one.receive(data, Hook.PREROUTING, NOW, Checksum.VALID).verdict
    assert isinstance(verdict, Accept) and verdict.packet is not None
    assert one.snapshot(NOW)["counters"][EngineCounter.FLOWS_PICKED_UP] == 1
    shed(one)
    assert passed(one, [data] * 2 * STRAYS) == STRAYS
    backend = (verdict.packet[16:20], SERVICE[1])
    one.receive(packet(backend, client, "PA", 7, 2, b"answer"), Hook.FORWARD, NOW, Checksum.VALID)
    assert passed(one, [packet(client, SERVICE, "PA", 2, 13, b"more")] * STRAYS) == STRAYS
    assert_adds_up(one.snapshot(NOW))


def test_a_connection_opens_amid_its_clients_strays_while_the_thread_sheds_them() -> None:
    one = engine()
    shed(one)
    passed(one, (stray(number) for number in range(2 * STRAYS)))
    connection = ClientConnection(one, client=at("10.10.0.66", 900))
    connection.now = NOW
    connection.establish()
    connection.from_client("PA", b"data")
    assert one.snapshot(NOW)["drops"] == {DropReason.OVER_LIMIT: STRAYS}


def test_other_clients_strays_pass_while_the_thread_sheds_them() -> None:
    one = engine()
    shed(one)
    passed(one, (stray(number) for number in range(2 * STRAYS)))
    assert passed(one, [packet(CLIENT, SERVICE, "A", 1, 7)] * STRAYS) == STRAYS


def test_turns_cost_a_flood_the_full_surcharge_while_the_thread_is_swamped() -> None:
    one = engine()
    one.gear.is_swamped = 1
    send_junk(one, TURNS)
    first = int(lib.NM_TURNS_BURST - lib.NM_TURNS_AMPLE) // lib.NM_TURN_OF_OTHERS + 1
    left = int(lib.NM_TURNS_BURST - lib.NM_TURNS_KEPT) - first * lib.NM_TURN_OF_OTHERS
    taken = {PuntReason.OPENING_OR_CLOSING: first + left // (lib.NM_TURN_OF_OTHERS + SURCHARGE)}
    assert one.snapshot(NOW)["packets_decided_in_python"] == taken


def test_a_client_opens_connections_as_before_while_anothers_flood_swamps_the_thread() -> None:
    one = engine(RULES.replace("pool:", "pool:\n      balance: least-connections"))
    send_junk(one, TURNS)
    one.gear.is_swamped = 1
    for number in range(2000):
        now = NOW + number / 1000
        for other in range(10):
            one.receive(junk(1000 + 10 * number + other), Hook.PREROUTING, now, Checksum.VALID)
        syn = packet((CLIENT[0], 2000 + number), SERVICE, "S", number)
        assert isinstance(one.receive(syn, Hook.PREROUTING, now, Checksum.VALID).verdict, Accept)
    refusals = one.take_refusals()
    assert refusals is not None and refusals.peers == 1, "the flood is over its limit"


def test_genuine_packets_cost_no_surcharge_while_the_thread_is_swamped() -> None:
    one = engine()
    one.gear.is_swamped = 1
    for number in range(100):
        connection = ClientConnection(one, client=at("10.10.0.66", 2000 + number))
        connection.now = NOW
        connection.establish()
        connection.from_client("PA", b"data")
    assert one.snapshot(NOW)["drops"] == {}
