"""What networks and hosts do seldom, and a mirror has to survive: huge packets, ports used again, days of silence, tens
of thousands of connections."""

import gc
from collections.abc import Iterator

import pytest

from natmirror.actions import Accept, Decision, Drop, Hook, Send
from natmirror.engine.engine import Engine
from natmirror.fastpath.flow_states import TIMEOUTS, State
from natmirror.net import seq
from natmirror.net.packet import OPT_MSS, Segment
from natmirror.reasons import DropReason
from tests.helpers.session import IRS, ISS, MIRROR_ISS, Session, engine
from tests.helpers.support import CLIENT, MASTER, RULES, SERVICE, assert_adds_up, at, packet, segment, told

DAY = 86_400.0


@pytest.fixture
def session(fast: bool) -> Iterator[Session]:
    session = Session(engine(fast=fast))
    yield session
    assert_adds_up(session.engine.snapshot(session.now))


def connected(session: Session) -> Session:
    session.connect()
    session.connect_mirror()
    session.mirrored()
    return session


class Stream:
    """What a mirror that acknowledges everything at once makes of its leg's packets."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.data = bytearray()
        self.largest = 0

    def settle(self) -> None:
        """Take everything and acknowledge it until the leg is quiet."""
        while self.session.to_mirror:
            for one in self.session.to_mirror:
                ahead = seq.diff(one.seq, seq.add(self.session.iss, 1 + len(self.data)))
                assert ahead == 0 or not one.payload_len, "in order, and nothing twice"
                self.data += one.payload
                self.largest = max(self.largest, len(one.raw))
            self.session.to_mirror.clear()
            self.session.from_mirror("A", 1, 1 + len(self.data))


# Packets


def test_client_packets_of_64_kib_are_cut_to_the_mirrors_size(session: Session) -> None:
    connected(session)
    stream = Stream(session)
    sent = bytearray()
    for number in range(20):
        piece = bytes([number]) * 65_000
        session.from_client("PA", piece)
        session.from_backend("A")
        stream.settle()
        sent += piece
    assert stream.data == sent
    assert stream.largest == 40 + 1460


def test_the_numbers_wrap_in_the_middle_of_a_transfer(fast: bool) -> None:
    for begin in (0xFFFF_FFFF, 0xFFFF_FFFE, 0xFFFF_FFFF - 3000, 0x7FFF_FFFF - 3000):
        session = connected(Session(engine(fast=fast), iss=begin))
        stream = Stream(session)
        sent = bytearray()
        for number in range(50):
            session.from_client("PA", bytes([number]) * 1001)
            session.from_backend("A", b"y" * 777)
            stream.settle()
            sent += bytes([number]) * 1001
        assert stream.data == sent


def test_data_with_the_syn_and_with_the_fin_is_not_lost(session: Session) -> None:
    out = session.passed(packet(CLIENT, SERVICE, "S", ISS, 0, b"early "), Hook.PREROUTING)
    session.backend = (out.dst, out.dport)
    session.passed(packet(session.backend, CLIENT, "SA", IRS, seq.add(ISS, 7)), Hook.FORWARD)
    session.sent = 6
    session.from_client("A")
    session.connect_mirror()
    session.mirrored()
    session.from_mirror("A", 1, 7)
    session.from_client("FPA", b"late")
    [(letters, number, _, data), fin] = session.mirrored()
    assert (letters, number, data) == ("PA", seq.add(ISS, 7), b"late")
    assert fin[:2] == ("FA", seq.add(ISS, 11))
    assert session.engine.snapshot(session.now)["mirrors"][0]["client_bytes"] == 10


def test_packets_split_overlapping_repeated_and_out_of_order_give_one_stream(session: Session) -> None:
    connected(session)
    stream = Stream(session)
    text = bytes(range(200))
    session.sent = 0
    for start, end in [(50, 100), (0, 20), (10, 60), (0, 120), (150, 200), (120, 151), (199, 200), (0, 200)]:
        session.from_client("PA", text[start:end], at=start)
        stream.settle()
    assert stream.data == text
    assert session.engine.snapshot(session.now)["mirrors"][0]["client_bytes"] == 200


# Connections


@pytest.mark.parametrize("step", [100_000, -100_000, 1, -1], ids=["above", "below", "next", "before"])
def test_a_port_used_again_right_after_its_close_is_a_new_connection(session: Session, step: int) -> None:
    connected(session)
    session.from_client("PA", b"first")
    session.from_client("FA")
    session.from_backend("FA")
    session.from_client("A")
    session.from_mirror("FA", 1, 7)
    session.mirrored()
    again = Session(session.engine, iss=seq.add(session.iss, session.sent + step))
    again.now = session.now + 0.001
    again.connect()
    assert [told(one.raw)[:2] for one in again.to_mirror] == [("S", again.iss)]
    again.connect_mirror()
    again.mirrored()
    again.from_client("PA", b"second")
    assert [data for *_, data in again.mirrored()] == [b"second"]
    [mirror] = again.engine.snapshot(again.now)["mirrors"]
    assert (mirror["legs_opened"], mirror["legs_ended"], mirror["client_bytes"]) == (2, {"closed": 1}, 11)


@pytest.mark.parametrize("step", [100_000, -100_000], ids=["above", "below"])
def test_a_new_syn_on_a_living_connection_that_its_backend_takes(session: Session, step: int) -> None:
    connected(session)
    session.from_client("PA", b"first")
    session.from_mirror("A", 1, 6)
    session.mirrored()
    again = Session(session.engine, iss=seq.add(session.iss, step))
    again.connect()
    assert [told(one.raw)[0] for one in again.to_mirror] == ["RA", "S"], "the old leg ends, a new one begins"
    again.connect_mirror()
    again.mirrored()
    again.from_client("PA", b"second")
    assert [data for *_, data in again.mirrored()] == [b"second"]
    [mirror] = again.engine.snapshot(again.now)["mirrors"]
    assert mirror["legs_ended"] == {"client-reset": 1}


def test_a_mirror_that_closes_first_still_gets_everything(session: Session) -> None:
    connected(session)
    session.from_mirror("FA", 1, 1)
    assert [letters for letters, *_ in session.mirrored()] == ["A"]
    session.from_client("PA", b"after its farewell")
    assert [data for *_, data in session.mirrored()] == [b"after its farewell"]
    session.from_mirror("A", 2, 19)
    session.from_client("FA")
    assert [letters for letters, *_ in session.mirrored()] == ["FA"]
    session.from_mirror("A", 2, 20)
    assert session.engine.snapshot(session.now)["mirrors"][0]["legs_ended"] == {"closed": 1}


# Long and many


def test_a_leg_that_stays_open_for_sixty_days(session: Session) -> None:
    connected(session)
    stream = Stream(session)
    sent = bytearray()
    while session.now < 60 * DAY:
        session.now += TIMEOUTS[State.ESTABLISHED] / 2
        assert session.engine.handle_timer(session.now) == []
        session.from_client("PA", b"hourly" * 100)
        session.from_backend("A", b"y")
        stream.settle()
        sent += b"hourly" * 100
    assert stream.data == sent
    [flow] = session.engine.flows(session.now)
    assert flow["legs"][0]["retransmits"] == 0


def test_what_is_lost_after_days_of_keep_alives_is_sent_again_in_time(session: Session) -> None:
    connected(session)
    while session.now < 4 * DAY:
        session.now += 3600.0
        assert session.engine.handle_timer(session.now) == []
        session.from_client("A", at=-1)
        session.from_backend("A")
    assert session.mirrored() == [], "keep-alives carry nothing that a mirror would miss"
    session.from_client("PA", b"x" * 100)
    assert len(session.mirrored()) == 1
    assert session.engine.handle_timer(session.now) == []
    due = session.engine.next_timer()
    assert due is not None
    assert 0 < due - session.now <= 1.0
    [again] = session.engine.handle_timer(due)
    assert isinstance(again, Send)
    assert segment(again.packet).payload == b"x" * 100


def call(engine: Engine, number: int) -> Session:
    """One of many clients, from its SYN to the mirror's answer."""
    client = at(f"10.10.0.{1 + number % 200}", 20_000 + number // 200)
    session = Session(engine, client=client)
    session.connect()
    session.connect_mirror()
    session.mirrored()
    return session


def test_ten_thousand_legs_at_once(fast: bool) -> None:
    count = 10_000
    shared = engine(fast=fast)
    sessions = [call(shared, number) for number in range(count)]
    for session in sessions:
        session.from_client("PA", b"hello")
    [mirror] = shared.snapshot(1000.0)["mirrors"]
    assert (mirror["legs"], mirror["pending_bytes"]) == (count, 5 * count)
    for session in sessions:
        session.from_mirror("A", 1, 6)
        session.from_client("FA")
        session.from_backend("FA")
        session.from_client("A")
        session.from_mirror("FA", 1, 7)
    snapshot = shared.snapshot(1000.0)
    assert_adds_up(snapshot)
    assert snapshot["mirrors"][0]["legs_ended"] == {"closed": count}
    end = 1000.0 + TIMEOUTS[State.TIME_WAIT]
    while (due := shared.next_timer()) is not None and due <= end:
        shared.handle_timer(end)
    assert shared.snapshot(1100.0)["flows"] == 0
    assert shared.next_timer() is None


def test_more_connections_than_the_table_holds_are_served_and_counted_as_not_mirrored(fast: bool) -> None:
    full = engine(RULES.replace("        - {name: c2, address: 10.20.0.12}\n", ""), fast=fast, max_flows=2)
    sessions = [call(full, number) for number in range(2)]
    third = Session(full, client=at("10.10.0.77", 7))
    third.syn()
    assert third.from_client("PA", b"refused").dst == third.backend_address
    sessions[0].from_client("PA", b"mirrored")
    sessions[0].from_mirror("A", 1, 9)
    snapshot = full.snapshot(1000.0)
    assert_adds_up(snapshot)
    [mirror] = snapshot["mirrors"]
    assert (mirror["client_bytes"], mirror["lost_bytes"]) == (15, {"flow-table-full": 7})


# Legs from an address of ours

OURS = at("10.20.0.1", 0)[0]
FROM_US = RULES.replace("10.20.0.13}", "10.20.0.13, source: 10.20.0.1}")


def answer(leg: Segment, letters: str, data: bytes = b"") -> bytes:
    """The mirror's answer to a leg's packet."""
    ack = seq.add(leg.seq, leg.seq_len)
    number = MIRROR_ISS if "S" in letters else seq.add(MIRROR_ISS, 1)
    options = bytes((OPT_MSS, 4, 5, 180)) if "S" in letters else b""
    return packet(MASTER, (leg.src, leg.sport), letters, number, ack, data, options=options)


def test_legs_from_an_address_of_ours_have_ports_of_their_own(fast: bool) -> None:
    shared = engine(FROM_US, fast=fast)
    ports = set()
    for number in range(3):
        session = Session(shared, client=at(f"10.10.0.{11 + number}", CLIENT[1]))
        session.connect()
        [syn] = session.to_mirror
        assert (syn.src, syn.dst, syn.dport) == (OURS, *MASTER)
        ports.add(syn.sport)
        session.to_mirror.clear()
        assert session.take(answer(syn, "SA"), Hook.PREROUTING) == Drop(DropReason.FOR_LEG)
        session.to_mirror.clear()
        session.from_client("PA", b"hello")
        [data] = session.to_mirror
        assert (data.src, data.sport, data.payload) == (OURS, syn.sport, b"hello")
    assert len(ports) == 3
    assert all(10_240 <= port < 32_768 for port in ports)


def test_what_reaches_our_address_and_belongs_to_no_leg_is_our_kernels(fast: bool) -> None:
    stray = packet(MASTER, (OURS, 40_000), "SA", 1, 1)
    assert engine(FROM_US, fast=fast).receive(stray, Hook.PREROUTING, 1.0) == Decision(Accept(), [])


# After the client


def test_a_leg_that_outlives_its_flow_is_still_shown(session: Session) -> None:
    connected(session)
    session.from_client("PA", b"not acknowledged yet")
    session.from_client("FA")
    session.from_backend("FA")
    session.from_client("A")
    session.now += TIMEOUTS[State.TIME_WAIT]
    session.from_mirror("A", 1, 2)  # progress, so that it lingers on
    session.engine.handle_timer(session.now)
    assert session.engine.flows(session.now) == []
    [gone] = session.engine.lingering(session.now)
    assert (gone["state"], gone["client"], gone["client_bytes"]) == ("gone", "10.10.0.11:40001", 20)
    assert [(leg["state"], leg["acked_bytes"]) for leg in gone["legs"]] == [("fin-wait-1", 1)]


def test_flows_and_legs_leave_no_circles_behind() -> None:
    """A natmirror with many connections cannot afford a collector of garbage."""
    shared = engine()
    gc.collect()
    gc.disable()
    try:
        for number in range(50):
            session = call(shared, number)
            session.from_client("PA", b"x")
            session.from_mirror("A", 1, 2)
            session.from_client("RA" if number % 2 else "FA")
            session.from_backend("FA")
            session.from_client("A")
            session.from_mirror("FA", 1, 3)
        while (due := shared.next_timer()) is not None:
            shared.handle_timer(due)
        assert len(shared.flow_ids()) == 0
        assert gc.collect() == 0
    finally:
        gc.enable()
