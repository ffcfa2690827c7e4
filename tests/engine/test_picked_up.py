"""Connections that are picked up: what a loose flow may do, and what an attacker or a wrong backend may not."""

from random import Random

import pytest

from natmirror.actions import Accept, Drop, Hook
from natmirror.engine.engine import Engine
from natmirror.fastpath import UNCONFIRMED_TIMEOUT
from natmirror.fastpath.flow_states import State
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint
from natmirror.openflow.messages import Type
from natmirror.reasons import DropReason
from tests.helpers.client_connection import IRS, ISS, ClientConnection, engine
from tests.helpers.leg_records import adopted_connection, answer, due, end_reasons, mirror_of, sent_to_mirror
from tests.helpers.openflow_sessions import AGAIN, Master, hello, introduced, packet_in, request
from tests.helpers.support import C1, C2, CLIENT, RULES, SERVICE, TIMEOUTS, assert_adds_up, at, packet

BLIND = 1000


def derived_of(client: Endpoint) -> Endpoint:
    """Return the backend that the rules alone give a client."""
    out = ClientConnection(engine(), client=client).syn()
    return out.dst, out.dport


DERIVED = derived_of(CLIENT)
PINNED = C1 if DERIVED == C2 else C2


@pytest.fixture
def moved(connection: ClientConnection) -> ClientConnection:
    """A connection that comes to this host in its middle, with a backend that the rules do not give."""
    connection.backend = PINNED
    connection.sent, connection.answered = 400, 700
    return connection


def blind(connection: ClientConnection, count: int = BLIND, seed: int = 4) -> None:
    """Send packets of an attacker who knows the endpoints, and no number: data, RSTs and FINs, some of which continue
    others."""
    random = Random(seed)
    for _ in range(count):
        number, ack = random.getrandbits(32), random.getrandbits(32)
        for letters, data in (("PA", b"!"), ("RA", b""), ("R", b""), ("FA", b"")):
            passed = connection.take(
                packet(CLIENT, SERVICE, letters, number, ack, data, window=random.getrandbits(16)), Hook.PREROUTING
            )
            assert isinstance(passed, Accept)
            number = seq.add(number, len(data))


def states(connection: ClientConnection) -> list[tuple[str | None, str]]:
    """Return backend and state of each flow."""
    return [(flow["backend"], flow["state"]) for flow in connection.engine.flows(connection.now)]


def name_of(backend: Endpoint) -> str:
    return {C1: "c1", C2: "c2"}[backend]


def numbers(connection: ClientConnection) -> tuple[int, ...]:
    """Return the numbers by which the only flow judges a packet."""
    [flow] = connection.engine._nat.by_ids(connection.engine.flow_ids())
    return tuple(number for half in (flow.row.orig, flow.row.reply) for number in (half.end, half.ack, half.flags))


def close(connection: ClientConnection) -> None:
    connection.from_client("FA")
    connection.from_backend("FA")
    connection.from_client("A")


def test_blind_packets_change_neither_state_nor_binding_once_both_ends_were_heard(moved: ClientConnection) -> None:
    moved.from_backend("PA", b"echo?")
    assert moved.from_client("PA", b"echo!").dst == PINNED[0]
    moved.from_backend("A")
    known = numbers(moved)
    blind(moved)
    assert (states(moved), numbers(moved)) == ([(name_of(PINNED), "established")], known)
    moved.now += UNCONFIRMED_TIMEOUT + 1
    moved.engine.handle_timer(moved.now)
    assert moved.from_client("PA", b"hello again").dst == PINNED[0]
    close(moved)
    assert states(moved) == [(name_of(PINNED), "time-wait")]


@pytest.mark.parametrize("is_client_first", [True, False])
def test_blind_packets_before_the_other_end_answers_steer_nothing(
    moved: ClientConnection, *, is_client_first: bool
) -> None:
    moved.backend = DERIVED if is_client_first else PINNED
    if is_client_first:
        moved.from_client("PA", b"echo?")
    else:
        moved.from_backend("PA", b"echo?")
    blind(moved, BLIND if is_client_first else 10)  # Python decides on the latter, and limits their number
    assert states(moved) == [(name_of(moved.backend), "established")]
    if is_client_first:
        moved.from_backend("PA", b"echo!")
    assert moved.from_client("PA", b"on").dst == moved.backend[0]
    moved.from_backend("A")
    known = numbers(moved)
    blind(moved, 10)
    assert (states(moved), numbers(moved)) == ([(name_of(moved.backend), "established")], known)
    close(moved)
    assert states(moved) == [(name_of(moved.backend), "time-wait")]


def test_the_first_numbers_may_be_an_attackers(moved: ClientConnection) -> None:
    moved.backend = DERIVED
    blind(moved, 1)
    assert moved.from_client("PA", b"real").dst == DERIVED[0]
    moved.from_backend("PA", b"answer")
    moved.from_client("A")
    assert moved.engine.flows(moved.now)[0]["backend_bytes"] == 6
    close(moved)
    assert states(moved) == [(name_of(DERIVED), "time-wait")]


def test_a_large_window_in_flight_in_one_direction_is_an_agreement(moved: ClientConnection) -> None:
    moved.from_backend("PA", b"x" * 1000)
    behind = seq.add(IRS, 1 + 700 - (1 << 29))
    raw = packet(CLIENT, SERVICE, "A", seq.add(ISS, 401), behind)
    assert moved.passed(raw, Hook.PREROUTING).dst == PINNED[0]
    assert moved.engine.next_timer() == moved.now + TIMEOUTS[State.ESTABLISHED]


def test_a_reset_of_a_loose_flow_changes_nothing_and_it_expires_soon(moved: ClientConnection) -> None:
    moved.from_backend("PA", b"data")
    moved.from_backend("RA")
    assert states(moved) == [(name_of(PINNED), "established")]
    assert moved.from_client("R", at=5).dst == DERIVED[0], "not the number that the backend expects"
    assert moved.from_client("R").dst == PINNED[0]
    assert states(moved) == [(name_of(PINNED), "established")]
    moved.engine.handle_timer(moved.now + UNCONFIRMED_TIMEOUT)
    assert states(moved) == []


# A backend's claims


def test_a_client_that_calls_goes_to_its_own_backend_whatever_another_claimed(fast: bool) -> None:
    one = engine(fast=fast)
    clients = [at("10.10.0.11", port) for port in range(40_000, 40_200)]
    for client in clients:
        connection = ClientConnection(one, client=client)
        wrong = C1 if derived_of(client) == C2 else C2
        connection.passed(packet(wrong, client, "PA", 1, 1, b"!"), Hook.FORWARD)
        out = connection.syn()
        assert (out.dst, out.dport) == derived_of(client)
        connection.syn_ack()
        connection.from_client("A")
        stale = connection.take(packet(wrong, client, "PA", 2, 1, b"!"), Hook.FORWARD)
        assert stale == Drop(DropReason.FORMER_BACKEND)
    assert {flow["backend"] for flow in one.flows(1000.0)} == {name_of(derived_of(clients[0]))}


def test_claims_expire_and_take_at_most_a_quarter_of_the_table(fast: bool) -> None:
    one = engine(fast=fast, max_flows=400)
    for port in range(40_000, 41_000):
        client = at("10.10.0.11", port)
        one.receive(packet(PINNED, client, "PA", 1, 1, b"!"), Hook.FORWARD, 1000.0)
    assert one.snapshot(1000.0)["flows"] == 101
    expire(one, 1000.0 + UNCONFIRMED_TIMEOUT)
    assert one.snapshot(1010.0)["flows"] == 0


def test_a_claim_that_the_client_does_not_confirm_costs_its_connection_nothing(moved: ClientConnection) -> None:
    moved.backend = DERIVED
    for number in range(5):
        wrong = packet(PINNED, CLIENT, "PA", 77_000_000 + number, 99_000_000, b"!")
        moved.passed(wrong, Hook.FORWARD)
        assert moved.from_client("PA", b"real").dst == DERIVED[0]
        assert moved.from_client("A").dst == DERIVED[0]
        assert (moved.from_backend("A").src, moved.from_backend("A").sport) == SERVICE
        assert states(moved) == [(name_of(PINNED), "established")], "an attacker may have sent the client's packets"
    moved.from_backend("PA", b"answer")
    assert moved.from_client("A").dst == DERIVED[0]
    assert states(moved) == [(name_of(DERIVED), "established")]
    assert moved.take(wrong, Hook.FORWARD) == Drop(DropReason.FORMER_BACKEND)
    assert_adds_up(moved.engine.snapshot(moved.now))


def test_a_claim_does_not_take_a_connection_whose_client_was_heard(moved: ClientConnection) -> None:
    moved.backend = DERIVED
    moved.from_client("PA", b"real")
    moved.passed(packet(PINNED, CLIENT, "PA", 77_000_000, 99_000_000, b"!"), Hook.FORWARD)
    assert moved.from_client("PA", b"real").dst == DERIVED[0]
    moved.from_backend("PA", b"answer")
    assert moved.from_client("PA", b"real").dst == DERIVED[0]
    assert states(moved) == [(name_of(DERIVED), "established")]


def test_a_confirmed_connection_is_not_reopened_by_a_blind_syn(moved: ClientConnection) -> None:
    moved.from_backend("PA", b"echo?")
    moved.from_client("PA", b"echo!")
    assert moved.passed(packet(CLIENT, SERVICE, "S", 77), Hook.PREROUTING).dst == PINNED[0]
    moved.now += 20
    assert moved.from_client("PA", b"on").dst == PINNED[0]


# No answer


@pytest.mark.parametrize(
    "rules", [RULES, RULES.replace("10.20.0.13}", "10.20.0.13, protocol: openflow, reconnect: next-message}")]
)
def test_flows_that_no_backend_answers_expire_and_take_at_most_a_quarter_of_the_table(
    rules: str, *, fast: bool
) -> None:
    one = engine(rules, fast=fast, max_flows=400)
    now = 1000.0
    empty = one.snapshot(now)["mirror_memory"]["used_bytes"]
    for number in range(1000):
        client = at(f"10.10.0.{number % 250 + 1}", 1024 + number // 250)
        one.receive(packet(client, SERVICE, "PA", number * 7919, number, b"x"), Hook.PREROUTING, now)
    snapshot = one.snapshot(now)
    assert (snapshot["flows"], snapshot["mirror_memory"]["used_bytes"] > empty) == (101, "protocol" in rules)
    expire(one, now + UNCONFIRMED_TIMEOUT)
    snapshot = one.snapshot(now + UNCONFIRMED_TIMEOUT)
    assert (snapshot["flows"], snapshot["mirror_memory"]["used_bytes"]) == (0, empty)
    assert_adds_up(snapshot)


def expire(one: Engine, now: float) -> None:
    """Let everything expire that is due, a bounded number of flows with each call."""
    while (timer := one.next_timer()) is not None and timer <= now:
        one.handle_timer(now)


def test_a_client_that_is_answered_late_is_picked_up_again(connection: ClientConnection) -> None:
    connection.backend = DERIVED
    for _ in range(3):
        assert connection.from_client("PA", b"hello?").dst == DERIVED[0]
        connection.now += UNCONFIRMED_TIMEOUT
        expire(connection.engine, connection.now)
        assert states(connection) == []
    assert (connection.from_backend("PA", b"yes").src, 6653) == SERVICE
    assert connection.from_client("A").dst == DERIVED[0]
    assert connection.engine.next_timer() == connection.now + TIMEOUTS[State.ESTABLISHED]


# Sessions


def test_blind_packets_tell_a_master_nothing(fast: bool) -> None:
    before = engine(AGAIN)
    session, _ = introduced(before)
    [known] = [before.directory.plain(client, session.now) for client in before.directory.connections(session.now)]
    assert known is not None
    session.engine = engine(AGAIN, fast=fast)
    session.engine.directory.restore(known, session.now)
    session.to_mirror.clear()
    blind(session, 100)
    session.from_client("PA", packet_in(0))
    blind(session, 100, seed=5)
    session.from_backend("A")
    session.from_client("PA", packet_in(1))
    session.from_backend("A")
    master = Master(session)
    master.take()
    master.say(hello(), request(Type.FEATURES_REQUEST, 90))
    blind(session)
    session.from_client("PA", packet_in(2))
    session.from_backend("A")
    master.take()
    got = [body for kind, _, body in master.messages() if kind is Type.PACKET_IN]
    assert got == [packet_in(1)[8:], packet_in(2)[8:]]
    assert_adds_up(session.engine.snapshot(session.now))


@pytest.mark.parametrize("has_data", [True, False])
def test_the_end_of_a_client_that_no_backend_has_answered_is_followed_once_one_does(*, has_data: bool) -> None:
    """Both gears begin the client's stream at its FIN, by an acknowledgement that agrees with it and no other."""
    followed = []
    for fast in (True, False):
        moved = ClientConnection(engine(AGAIN, fast=fast))
        moved.backend, moved.sent, moved.answered = DERIVED, 400, 700
        moved.from_client("FPA", packet_in(1))
        fin = seq.add(ISS, moved.sent)
        moved.passed(packet(DERIVED, CLIENT, "A", 123_456, seq.add(fin, 5000), b"!" * has_data), Hook.FORWARD)
        [flow] = moved.engine._nat.by_ids(moved.engine.flow_ids())
        assert (flow.row.orig.next, flow.state) == (0, State.ESTABLISHED)
        moved.from_backend("PA" if has_data else "A", b"answer" * has_data)
        assert (flow.row.orig.next, flow.state) == (fin, State.HALF_CLOSED)
        followed.append((flow.row.flags, numbers(moved)))
    assert followed[0] == followed[1]


# Another host's record


@pytest.mark.parametrize("is_heard", [True, False])
def test_blind_packets_cost_an_adopted_connection_no_byte(fast: bool, *, is_heard: bool) -> None:
    connection = adopted_connection(fast=fast)
    due(connection)
    answer(connection, 11)
    due(connection)
    if is_heard:
        connection.from_client("PA", b"abc")
        connection.from_backend("A")
    else:
        connection.now += 3600
    blind(connection)
    connection.from_client("PA", b"def")
    connection.from_backend("A")
    assert b"".join(data for *_, data in sent_to_mirror(connection)) == (b"abcdef" if is_heard else b"def")
    connection.from_client("FA")
    connection.from_mirror("A", 4, 17 if is_heard else 14)
    assert sent_to_mirror(connection)[-1][0] == "FA"
    connection.from_mirror("FA", 4, 18 if is_heard else 15)
    assert end_reasons(connection) == ["closed"]
    assert mirror_of(connection)["lost_bytes"] == {}


@pytest.mark.parametrize("end", ["client", "backend"])
def test_an_adopted_connection_is_reset_at_the_numbers_of_its_record(fast: bool, end: str) -> None:
    connection = adopted_connection(fast=fast)
    due(connection)
    if end == "client":
        connection.from_client("RA")
    else:
        connection.from_backend("RA")
    assert [flow["state"] for flow in connection.engine.flows(connection.now)] == ["reset"]
