"""The account of memory: one client holds at most a sixteenth, all that is held is on it, and what waits goes before a
living leg does."""

import tracemalloc
from collections.abc import Callable
from struct import pack

import pytest

from natmirror._ffi import ffi
from natmirror.actions import Hook
from natmirror.engine.engine import Engine
from natmirror.fastpath import UNCONFIRMED_TIMEOUT
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint
from natmirror.openflow import messages
from natmirror.openflow.messages import Type, build
from natmirror.reasons import EndReason, NotKeptReason
from tests.helpers.client_connection import ISS, ClientConnection, engine
from tests.helpers.leg_records import SPARE, TWO
from tests.helpers.openflow_sessions import AGAIN, OF, Master, began, hello, introduced, packet_in, request
from tests.helpers.support import C1, RULES, SERVICE, assert_adds_up, at, packet

LIMIT = 1 << 20
SMALL = "mirror-memory: 1MiB\n"
LARGE = "mirror-memory: 1GiB\n"
GEARS = pytest.mark.parametrize("fast", [True, False])
DESC = pack("!HH4x", 0, 0)
MORE = pack("!HH4x", 0, 1)


def used(one: Engine) -> int:
    return one.snapshot(1000.0)["mirror_memory"]["used_bytes"]


def not_opened(one: Engine) -> int:
    """Return how many connections have no session with the only master for want of memory."""
    [mirror] = one.snapshot(1000.0)["mirrors"]
    assert mirror["sessions"] is not None
    return mirror["sessions"]["not_opened"][EndReason.MEMORY_FULL]


def copied(one: Engine, client: Endpoint) -> ClientConnection:
    """Return a connection with a leg."""
    connection = ClientConnection(one, client=client)
    connection.establish()
    return connection


def leave_gaps(connection: ClientConnection, length: int = 60_000) -> None:
    """Have the client send ``length`` bytes behind a gap."""
    for start in range(0, length, 20_000):
        connection.from_client("A", bytes(20_000), at=1000 + start)


@GEARS
def test_one_client_holds_at_most_a_sixteenth(fast: bool) -> None:
    one = engine(SMALL + RULES, fast=fast)
    for port in range(20):
        connection = ClientConnection(one, client=at("10.10.0.66", 20_000 + port))
        connection.connect()
        leave_gaps(connection)
        assert used(one) <= LIMIT // 16
    other = copied(one, at("10.10.0.11", 40_000))
    other.from_client("PA", b"x" * 1000)
    assert [data for *_, data in other.mirrored()] == [b"x" * 1000]
    assert_adds_up(one.snapshot(other.now))


@GEARS
def test_bytes_behind_gaps_are_given_up_before_a_living_leg_of_another_client(fast: bool) -> None:
    one = engine(SMALL + RULES, fast=fast)
    victim = copied(one, at("10.10.0.11", 40_000))
    hostile = []
    for number in range(17):
        hostile.append(copied(one, at(f"10.10.0.{100 + number}", 20_000)))
        leave_gaps(hostile[-1])
    assert used(one) > LIMIT - (64 << 10)
    for _ in range(6):
        victim.from_client("PA", b"x" * 7000)
        victim.from_backend("A")
    assert b"".join(data for *_, data in victim.mirrored()) and victim.engine.take_events() == []
    assert used(one) <= LIMIT
    for connection in hostile:  # the backend has the bytes, and no client sends them again
        connection.sent = 61_000
        connection.from_client("A", b"y" * 1000, at=0)
        connection.from_backend("A")
        connection.from_client("A", b"z")
    reasons = {event.reason for event in one.take_events()}
    assert reasons == {"memory-full"}
    assert_adds_up(one.snapshot(victim.now))


@GEARS
def test_a_leg_without_memory_costs_no_other_copy(fast: bool) -> None:
    """The bytes are held first, with ``release: seen`` too, and then each leg takes its memory."""
    one = engine(SMALL + TWO, fast=fast)
    connection = copied(one, at("10.10.0.66", 20_000))
    connection.take(packet(SPARE, connection.client, "SA", 1, seq.add(ISS, 1)), Hook.PREROUTING)
    connection.from_client("PA", b"x" * 20_481)  # six pieces of memory of the fifteen that are left
    events = [(event.mirror, event.reason) for event in one.take_events()]
    assert events == [("spare", "memory-full")]


@GEARS
def test_what_waits_of_a_client_with_a_full_part_is_given_up_before_its_own_leg(fast: bool) -> None:
    one = engine(SMALL + RULES, fast=fast)
    client = at("10.10.0.66", 20_000)
    victim = copied(one, client)
    leave_gaps(copied(one, (client[0], 20_001)), 40_000)
    for _ in range(8):
        victim.from_client("PA", b"x" * 5000)
        victim.from_backend("A")
    assert one.take_events() == []
    for _ in range(8):
        victim.from_client("PA", b"x" * 5000)
        victim.from_backend("A")
    assert [event.reason for event in one.take_events()] == ["memory-full"], "nothing else was left to give up"
    assert used(one) <= LIMIT // 16


def unfinished_answer(connection: ClientConnection) -> None:
    connection.from_backend("PA", request(Type.MULTIPART_REQUEST, 3, DESC))
    for _ in range(10):
        connection.from_client("PA", build(messages.V13, Type.MULTIPART_REPLY, 3, MORE + bytes(30_000)))


def unfinished_messages(connection: ClientConnection) -> None:
    connection.from_client("PA", packet_in(1, 60_000)[:-1])
    connection.from_backend("PA", build(messages.V13, Type.PACKET_OUT, 1, bytes(60_000))[:-1])


def open_questions(connection: ClientConnection) -> None:
    for xid in range(10, 1010):
        connection.from_backend("PA", request(Type.MULTIPART_REQUEST, xid, DESC))


def experiments(connection: ClientConnection) -> None:
    for xid in range(10, 1010):
        connection.from_backend("PA", request(Type.EXPERIMENTER, xid, bytes(8)))


def decisions(connection: ClientConnection) -> None:
    for xid in range(64):
        connection.from_client("PA", packet_in(xid, 1000))
        connection.from_backend("PA", request(Type.FLOW_MOD, xid, bytes(1500)))


def early_messages(connection: ClientConnection) -> None:
    for number in range(100):
        connection.from_client("PA", build(messages.V13, Type.FLOW_REMOVED, number, bytes(40)))


@pytest.mark.parametrize(
    "hold", [unfinished_answer, unfinished_messages, open_questions, experiments, decisions, early_messages]
)
def test_what_a_session_holds_is_on_the_account(hold: Callable[[ClientConnection], None]) -> None:
    one = engine(LARGE + OF)
    connections = [began(one, client=at("10.10.0.11", 20_000 + number))[0] for number in range(10)]
    tracemalloc.start()
    before = used(one)
    for connection in connections:
        hold(connection)
        connection.to_mirror.clear()
    held, counted = tracemalloc.get_traced_memory()[0], used(one) - before
    tracemalloc.stop()
    print(f"{hold.__name__}: {held} bytes held, {counted} counted")
    assert counted > 50_000
    assert 0.7 * held <= counted


@GEARS
def test_connections_whose_answers_never_end_hold_no_more_than_their_clients_part(fast: bool) -> None:
    one = engine("mirror-memory: 16MiB\n" + OF, fast=fast)
    connections = [began(one, client=at("10.10.0.66", 20_000 + number))[0] for number in range(10)]
    tracemalloc.start()
    for connection in connections:
        unfinished_answer(connection)
        assert used(one) <= one.snapshot(1000.0)["mirror_memory"]["client_limit_bytes"] == 1 << 20
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    print(f"{held} bytes held, {used(one)} counted")
    assert held < used(one)
    assert one.snapshot(1000.0)["answers_not_kept"][NotKeptReason.NO_MEMORY] > 5
    assert one.snapshot(1000.0)["mirrors"][0]["legs_ended"] == {}
    other, master = began(one, client=at("10.10.0.11", 40_000))
    other.from_backend("PA", request(Type.FEATURES_REQUEST, 5))
    assert master.stream


@GEARS
def test_a_hundred_connections_whose_answers_never_end_hold_a_sixteenth_of_a_small_account(fast: bool) -> None:
    one, part = engine(SMALL + OF, fast=fast), LIMIT // 16
    connections = [ClientConnection(one, client=at("10.10.0.66", 20_000 + number)) for number in range(100)]
    for connection in connections:
        connection.connect()
        connection.from_client("PA", hello())
        connection.from_backend("PA", hello())
        connection.to_mirror.clear()
    tracemalloc.start()
    for connection in connections:
        unfinished_answer(connection)
        connection.to_mirror.clear()
        assert used(one) <= part
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    print(f"{held} bytes held, {used(one)} counted")
    assert 0 < held < part
    assert used(one) > 0


@GEARS
def test_an_unanswered_hello_is_on_the_account(fast: bool) -> None:
    one = engine(LARGE + OF, fast=fast)
    connection = ClientConnection(one)
    connection.connect()
    before = used(one)
    connection.from_client("PA", build(messages.V13, Type.HELLO, 1, bytes(60_000)))
    assert used(one) - before > 60_000
    connection.from_backend("PA", hello())
    assert used(one) - before < 60_000, "the version is known"


@GEARS
def test_picked_up_flows_of_one_client_get_sessions_within_its_part(fast: bool) -> None:
    one = engine("mirror-memory: 4MiB\n" + AGAIN, fast=fast)
    tracemalloc.start()
    for port in range(200):
        connection = ClientConnection(one, client=at("10.10.0.66", 20_000 + port))
        connection.from_client("PA", b"x")
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    print(f"{held / 200:.0f} bytes held for each flow")
    assert 100_000 < used(one) <= 4 << 16
    assert held < 1 << 20
    assert not_opened(one) > 140


@GEARS
@pytest.mark.parametrize("addresses", [1, 40])
def test_data_of_invented_connections_takes_nothing_from_others(addresses: int, fast: bool) -> None:
    rules = RULES + "      - {name: of, address: 10.20.0.14, protocol: openflow, reconnect: next-message}\n"
    one = engine("mirror-memory: 16MiB\n" + rules, fast=fast)
    for number in range(40):
        client = at(f"10.10.0.{100 + number % addresses}", 1024 + number)
        for place, data in ((1000, b"x"), *((100_000 + 40_001 * gap, bytes(40_000)) for gap in range(25))):
            one.receive(packet(client, SERVICE, "PA", place, 1, data), Hook.PREROUTING, 1000.0)
    held = used(one)
    other = copied(one, at("10.10.0.11", 40_000))
    other.from_client("PA", b"x" * 1000)
    assert b"".join(data for *_, data in other.mirrored()) == b"x" * 1000
    print(f"{held} bytes held for 1,040 packets of 40 invented connections")
    assert held < 1 << 20
    other.from_client("R")
    one.handle_timer(1000.0 + UNCONFIRMED_TIMEOUT)
    one.read_sessions(1000.0 + UNCONFIRMED_TIMEOUT)
    assert used(one) < 1 << 14


@GEARS
def test_invented_connections_are_given_up_before_a_session_of_their_client(fast: bool) -> None:
    one = engine("mirror-memory: 16MiB\n" + AGAIN, fast=fast)
    connection, master = introduced(one)
    for number in range(400):
        raw = packet(at("10.10.0.11", 1024 + number), SERVICE, "PA", number * 7919, number, b"x")
        one.receive(raw, Hook.PREROUTING, connection.now)
        one.read_sessions(connection.now)
    assert used(one) > (1 << 20) - 5000, "the client's part is full"
    before, refused = len(master.stream), not_opened(one)
    for number in range(60):
        connection.from_client("PA", packet_in(number, 900))
        connection.from_backend("PA", request(Type.FLOW_MOD, number, bytes(900)))
        master.take()
    assert len(master.stream) - before == 60 * len(packet_in(1, 900))
    assert one.snapshot(connection.now)["mirrors"][0]["legs_ended"] == {}
    assert not_opened(one) > refused
    _, others_master = introduced(one, client=at("10.10.0.11", 9), features=bytes(7) + b"\x09" + bytes(16))
    assert others_master.stream, "a new connection of the client has a session too"
    one.handle_timer(connection.now + UNCONFIRMED_TIMEOUT)
    one.read_sessions(connection.now + UNCONFIRMED_TIMEOUT)
    assert used(one) < 1 << 18
    assert_adds_up(one.snapshot(connection.now))


@GEARS
def test_a_connection_is_counted_whole_before_and_after_it_is_confirmed(fast: bool) -> None:
    one = engine(LARGE + AGAIN, fast=fast)
    empty = used(one)
    connection = ClientConnection(one)
    connection.backend, connection.sent, connection.answered = C1, 400, 700
    connection.from_backend("PA", b"x")
    one.read_sessions(connection.now)
    assert used(one) - empty == 5000
    connection.from_client("A")
    connection.from_client("PA", packet_in(1))
    connection.from_backend("A")
    one.read_sessions(connection.now)
    assert used(one) - empty >= 5000
    one.read_sessions(connection.now)
    connection.from_client("RA")
    one.handle_timer(connection.now + 100.0)
    one.read_sessions(connection.now + 100.0)
    assert used(one) == empty


def test_a_mirrored_flow_and_its_leg_take_what_the_documents_say() -> None:
    """The constants of docs/running.md; the unit's MemoryMax= follows from them."""
    one = engine(LARGE + RULES)
    without_leg = engine(LARGE + RULES.replace("10.20.0.13}", "10.20.0.13, only: [10.10.0.128/25]}"))
    taken = []
    for engine_ in (without_leg, one):
        tracemalloc.start()
        for port in range(300):
            connection = ClientConnection(engine_, client=at("10.10.0.11", 20_000 + port))
            connection.connect()
        taken.append(tracemalloc.get_traced_memory()[0] / 300)
        tracemalloc.stop()
    flow, with_leg = taken
    print(f"{flow:.0f} bytes of Python for a mirrored flow, {with_leg - flow:.0f} for its leg")
    indexes_and_row = ffi.sizeof("nm_flow") + 24
    assert flow + indexes_and_row < 1536
    counted = used(one) / 300
    assert 0.9 * (with_leg - flow + ffi.sizeof("nm_leg")) < counted


@GEARS
def test_everything_is_given_back(fast: bool) -> None:
    one = engine(LARGE + OF, fast=fast)
    for number in range(5):
        connection, _ = began(one, client=at("10.10.0.66", 20_000 + number))
        for hold in (open_questions, decisions, unfinished_answer, unfinished_messages):
            hold(connection)
        connection.from_client("R")
    assert used(one) > 0
    one.handle_timer(1000.0 + 100_000.0)
    one.read_sessions(1000.0 + 100_000.0)
    assert (one.snapshot(1000.0)["flows"], used(one)) == (0, 0)


def test_a_masters_questions_count_for_the_client() -> None:
    one = engine("mirror-memory: 1MiB\n" + OF)
    connection = ClientConnection(one)
    connection.connect()
    connection.from_client("PA", hello())
    connection.from_backend("PA", hello())
    master = Master(connection)
    master.take()
    master.say(hello())
    for xid in range(200):
        if master.ended:
            break
        master.say(request(Type.FEATURES_REQUEST, xid, bytes(1000)))
    assert master.ended
    [mirror] = one.snapshot(1000.0)["mirrors"]
    assert mirror["legs_ended"] == {"hole": 1}, "its next bytes had no room"
    assert used(one) <= 1 << 16
