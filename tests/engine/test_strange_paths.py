"""Rare events of networks and hosts: huge packets, reused ports, days of silence, tens of thousands of connections."""

import gc
from collections.abc import Iterator

import pytest

from natmirror.actions import Accept, Decision, Drop, Hook, Send
from natmirror.engine.engine import Engine
from natmirror.fastpath.flow_states import State
from natmirror.net import seq
from natmirror.net.packet import OPT_MSS, Segment
from natmirror.reasons import DropReason
from tests.helpers.client_connection import IRS, ISS, MIRROR_ISS, ClientConnection, engine
from tests.helpers.support import CLIENT, MASTER, RULES, SERVICE, TIMEOUTS, assert_adds_up, at, packet, segment, summary

DAY = 86_400.0


@pytest.fixture
def connection(fast: bool) -> Iterator[ClientConnection]:
    connection = ClientConnection(engine(fast=fast))
    yield connection
    assert_adds_up(connection.engine.snapshot(connection.now))


def connected(connection: ClientConnection) -> ClientConnection:
    connection.connect()
    connection.connect_mirror()
    connection.mirrored()
    return connection


class Stream:
    """A mirror that acknowledges everything at once, and the stream that it gets."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.data = bytearray()
        self.largest = 0

    def settle(self) -> None:
        """Take and acknowledge the leg's packets until it sends none."""
        while self.connection.to_mirror:
            for one in self.connection.to_mirror:
                ahead = seq.diff(one.seq, seq.add(self.connection.iss, 1 + len(self.data)))
                assert ahead == 0 or not one.payload_len, "in order, and each byte once"
                self.data += one.payload
                self.largest = max(self.largest, len(one.raw))
            self.connection.to_mirror.clear()
            self.connection.from_mirror("A", 1, 1 + len(self.data))


# Packets


def test_client_packets_of_64_kib_are_cut_to_the_mirrors_size(connection: ClientConnection) -> None:
    connected(connection)
    stream = Stream(connection)
    sent = bytearray()
    for number in range(20):
        piece = bytes([number]) * 65_000
        connection.from_client("PA", piece)
        connection.from_backend("A")
        stream.settle()
        sent += piece
    assert stream.data == sent
    assert stream.largest == 40 + 1460


def test_the_numbers_wrap_in_the_middle_of_a_transfer(fast: bool) -> None:
    for begin in (0xFFFF_FFFF, 0xFFFF_FFFE, 0xFFFF_FFFF - 3000, 0x7FFF_FFFF - 3000):
        connection = connected(ClientConnection(engine(fast=fast), iss=begin))
        stream = Stream(connection)
        sent = bytearray()
        for number in range(50):
            connection.from_client("PA", bytes([number]) * 1001)
            connection.from_backend("A", b"y" * 777)
            stream.settle()
            sent += bytes([number]) * 1001
        assert stream.data == sent


def test_data_with_the_syn_and_with_the_fin_is_not_lost(connection: ClientConnection) -> None:
    out = connection.passed(packet(CLIENT, SERVICE, "S", ISS, 0, b"early "), Hook.PREROUTING)
    connection.backend = (out.dst, out.dport)
    connection.passed(packet(connection.backend, CLIENT, "SA", IRS, seq.add(ISS, 7)), Hook.FORWARD)
    connection.sent = 6
    connection.from_client("A")
    connection.connect_mirror()
    connection.mirrored()
    connection.from_mirror("A", 1, 7)
    connection.from_client("FPA", b"late")
    [(letters, number, _, data), fin] = connection.mirrored()
    assert (letters, number, data) == ("PA", seq.add(ISS, 7), b"late")
    assert fin[:2] == ("FA", seq.add(ISS, 11))
    assert connection.engine.snapshot(connection.now)["mirrors"][0]["client_bytes"] == 10


def test_packets_split_overlapping_repeated_and_out_of_order_give_one_stream(connection: ClientConnection) -> None:
    connected(connection)
    stream = Stream(connection)
    text = bytes(range(200))
    connection.sent = 0
    for start, end in [(50, 100), (0, 20), (10, 60), (0, 120), (150, 200), (120, 151), (199, 200), (0, 200)]:
        connection.from_client("PA", text[start:end], at=start)
        stream.settle()
    assert stream.data == text
    assert connection.engine.snapshot(connection.now)["mirrors"][0]["client_bytes"] == 200


# Connections


@pytest.mark.parametrize("step", [100_000, -100_000, 1, -1], ids=["above", "below", "next", "before"])
def test_a_port_used_again_right_after_its_close_is_a_new_connection(connection: ClientConnection, step: int) -> None:
    connected(connection)
    connection.from_client("PA", b"first")
    connection.from_client("FA")
    connection.from_backend("FA")
    connection.from_client("A")
    connection.from_mirror("FA", 1, 7)
    connection.mirrored()
    again = ClientConnection(connection.engine, iss=seq.add(connection.iss, connection.sent + step))
    again.now = connection.now + 0.001
    again.connect()
    assert [summary(one.raw)[:2] for one in again.to_mirror] == [("S", again.iss)]
    again.connect_mirror()
    again.mirrored()
    again.from_client("PA", b"second")
    assert [data for *_, data in again.mirrored()] == [b"second"]
    [mirror] = again.engine.snapshot(again.now)["mirrors"]
    assert (mirror["legs_opened"], mirror["legs_ended"], mirror["client_bytes"]) == (2, {"closed": 1}, 11)


@pytest.mark.parametrize("step", [100_000, -100_000], ids=["above", "below"])
def test_a_new_syn_on_an_established_connection_that_its_backend_accepts(
    connection: ClientConnection, step: int
) -> None:
    connected(connection)
    connection.from_client("PA", b"first")
    connection.from_mirror("A", 1, 6)
    connection.mirrored()
    again = ClientConnection(connection.engine, iss=seq.add(connection.iss, step))
    again.connect()
    assert [summary(one.raw)[0] for one in again.to_mirror] == ["RA", "S"], "the old leg ends, a new one begins"
    again.connect_mirror()
    again.mirrored()
    again.from_client("PA", b"second")
    assert [data for *_, data in again.mirrored()] == [b"second"]
    [mirror] = again.engine.snapshot(again.now)["mirrors"]
    assert mirror["legs_ended"] == {"client-reset": 1}


def test_a_mirror_that_closes_first_still_gets_everything(connection: ClientConnection) -> None:
    connected(connection)
    connection.from_mirror("FA", 1, 1)
    assert [letters for letters, *_ in connection.mirrored()] == ["A"]
    connection.from_client("PA", b"after its farewell")
    assert [data for *_, data in connection.mirrored()] == [b"after its farewell"]
    connection.from_mirror("A", 2, 19)
    connection.from_client("FA")
    assert [letters for letters, *_ in connection.mirrored()] == ["FA"]
    connection.from_mirror("A", 2, 20)
    assert connection.engine.snapshot(connection.now)["mirrors"][0]["legs_ended"] == {"closed": 1}


# Long and many


def test_a_leg_that_stays_open_for_sixty_days(connection: ClientConnection) -> None:
    connected(connection)
    stream = Stream(connection)
    sent = bytearray()
    while connection.now < 60 * DAY:
        connection.now += TIMEOUTS[State.ESTABLISHED] / 2
        assert connection.engine.handle_timer(connection.now) == []
        connection.from_client("PA", b"hourly" * 100)
        connection.from_backend("A", b"y")
        stream.settle()
        sent += b"hourly" * 100
    assert stream.data == sent
    [flow] = connection.engine.flows(connection.now)
    assert flow["legs"][0]["retransmits"] == 0


def test_bytes_that_are_lost_after_days_of_keep_alives_are_sent_again_in_time(connection: ClientConnection) -> None:
    connected(connection)
    while connection.now < 4 * DAY:
        connection.now += 3600.0
        assert connection.engine.handle_timer(connection.now) == []
        connection.from_client("A", at=-1)
        connection.from_backend("A")
    assert connection.mirrored() == [], "keep-alives carry no byte"
    connection.from_client("PA", b"x" * 100)
    assert len(connection.mirrored()) == 1
    assert connection.engine.handle_timer(connection.now) == []
    due = connection.engine.next_timer()
    assert due is not None
    assert 0 < due - connection.now <= 1.0
    [again] = connection.engine.handle_timer(due)
    assert isinstance(again, Send)
    assert segment(again.packet).payload == b"x" * 100


def connect_client(engine: Engine, number: int) -> ClientConnection:
    """Return the connection of one of many clients, with its leg established."""
    client = at(f"10.10.0.{1 + number % 200}", 20_000 + number // 200)
    connection = ClientConnection(engine, client=client)
    connection.connect()
    connection.connect_mirror()
    connection.mirrored()
    return connection


def test_ten_thousand_legs_at_once(fast: bool) -> None:
    count = 10_000
    shared = engine(fast=fast)
    connections = [connect_client(shared, number) for number in range(count)]
    for connection in connections:
        connection.from_client("PA", b"hello")
    [mirror] = shared.snapshot(1000.0)["mirrors"]
    assert (mirror["legs"], mirror["pending_bytes"]) == (count, 5 * count)
    for connection in connections:
        connection.from_mirror("A", 1, 6)
        connection.from_client("FA")
        connection.from_backend("FA")
        connection.from_client("A")
        connection.from_mirror("FA", 1, 7)
    snapshot = shared.snapshot(1000.0)
    assert_adds_up(snapshot)
    assert snapshot["mirrors"][0]["legs_ended"] == {"closed": count}
    end = 1000.0 + TIMEOUTS[State.TIME_WAIT]
    while (due := shared.next_timer()) is not None and due <= end:
        shared.handle_timer(end)
    assert not shared.flow_ids()
    assert shared.next_timer() is None


def test_more_connections_than_the_table_holds_are_served_and_counted_as_not_mirrored(fast: bool) -> None:
    full = engine(RULES.replace("        - {name: c2, address: 10.20.0.12}\n", ""), fast=fast, max_flows=2)
    connections = [connect_client(full, number) for number in range(2)]
    third = ClientConnection(full, client=at("10.10.0.77", 7))
    third.syn()
    assert third.from_client("PA", b"refused").dst == third.backend_address
    connections[0].from_client("PA", b"mirrored")
    connections[0].from_mirror("A", 1, 9)
    snapshot = full.snapshot(1000.0)
    assert_adds_up(snapshot)
    [mirror] = snapshot["mirrors"]
    assert (mirror["client_bytes"], mirror["lost_bytes"]) == (15, {"flow-table-full": 7})


# Legs from an address of this host

OURS = at("10.20.0.1", 0)[0]
FROM_US = RULES.replace("10.20.0.13}", "10.20.0.13, source: 10.20.0.1}")


def answer(leg: Segment, letters: str, data: bytes = b"") -> bytes:
    """Return the mirror's answer to a leg's packet."""
    ack = seq.add(leg.seq, leg.seq_len)
    number = MIRROR_ISS if "S" in letters else seq.add(MIRROR_ISS, 1)
    options = bytes((OPT_MSS, 4, 5, 180)) if "S" in letters else b""
    return packet(MASTER, (leg.src, leg.sport), letters, number, ack, data, options=options)


def test_legs_from_an_address_of_this_host_have_ports_of_their_own(fast: bool) -> None:
    shared = engine(FROM_US, fast=fast)
    ports = set()
    for number in range(3):
        connection = ClientConnection(shared, client=at(f"10.10.0.{11 + number}", CLIENT[1]))
        connection.connect()
        [syn] = connection.to_mirror
        assert (syn.src, syn.dst, syn.dport) == (OURS, *MASTER)
        ports.add(syn.sport)
        connection.to_mirror.clear()
        assert connection.take(answer(syn, "SA"), Hook.PREROUTING) == Drop(DropReason.FOR_LEG)
        connection.to_mirror.clear()
        connection.from_client("PA", b"hello")
        [data] = connection.to_mirror
        assert (data.src, data.sport, data.payload) == (OURS, syn.sport, b"hello")
    assert len(ports) == 3
    assert all(10_240 <= port < 32_768 for port in ports)


def test_packets_to_this_host_that_belong_to_no_leg_go_to_its_kernel(fast: bool) -> None:
    stray = packet(MASTER, (OURS, 40_000), "SA", 1, 1)
    assert engine(FROM_US, fast=fast).receive(stray, Hook.PREROUTING, 1.0) == Decision(Accept(), [])


# After the client


def test_a_leg_that_outlives_its_flow_is_still_shown(connection: ClientConnection) -> None:
    connected(connection)
    connection.from_client("PA", b"not acknowledged yet")
    connection.from_client("FA")
    connection.from_backend("FA")
    connection.from_client("A")
    connection.now += TIMEOUTS[State.TIME_WAIT]
    connection.from_mirror("A", 1, 2)  # progress, so that it lingers longer
    connection.engine.handle_timer(connection.now)
    assert connection.engine.flows(connection.now) == []
    [gone] = connection.engine.lingering(connection.now)
    assert (gone["state"], gone["client"], gone["client_bytes"]) == ("gone", "10.10.0.11:40001", 20)
    assert [(leg["state"], leg["acked_bytes"]) for leg in gone["legs"]] == [("fin-wait-1", 1)]


def test_flows_and_legs_leave_no_reference_cycles() -> None:
    """With many connections a garbage collection would take too long."""
    shared = engine()
    gc.collect()
    gc.disable()
    try:
        for number in range(50):
            connection = connect_client(shared, number)
            connection.from_client("PA", b"x")
            connection.from_mirror("A", 1, 2)
            connection.from_client("RA" if number % 2 else "FA")
            connection.from_backend("FA")
            connection.from_client("A")
            connection.from_mirror("FA", 1, 3)
        while (due := shared.next_timer()) is not None:
            shared.handle_timer(due)
        assert len(shared.flow_ids()) == 0
        assert gc.collect() == 0
    finally:
        gc.enable()
