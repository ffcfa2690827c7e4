"""New flows in C: the same choices as in Python, and room for them."""

import gc
from collections import Counter

import pytest

from natmirror.actions import Accept, Decision, Hook
from natmirror.engine.counters import EngineCounter
from natmirror.engine.engine import Engine
from natmirror.fastpath import SYN_ANSWER_TIMEOUT
from natmirror.fastpath.flow_states import State
from natmirror.fastpath.punt_reasons import PuntReason
from natmirror.nat.failed_attempts import AVOID_TIMEOUT
from natmirror.net.checksum import Checksum
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import parse
from tests.helpers.client_connection import ClientConnection, engine
from tests.helpers.support import C1, RULES, SERVICE, TIMEOUTS, at, packet

MANY = """
switches: [10.10.0.0/16, 192.0.2.0/25]
services:
  - name: openflow
    address: 10.10.0.100
    port: 6653
    pool:
      BALANCE
      backends:
        - {name: c3, address: 10.20.0.13, weight: 5}
        - {name: c1, address: 10.20.0.11}
        - {name: c2, address: 10.20.0.12, weight: 3}
  - name: web
    address: 10.10.0.100
    port: 80
    pool:
      balance: round-robin
      backends:
        - {name: w1, address: 10.20.0.21}
        - {name: w2, address: 10.20.0.22}
"""
CLIENTS = [at(f"10.10.{number // 200}.{1 + number % 200}", 20_000 + 7 * number) for number in range(500)]
UNMIRRORED = RULES[: RULES.index("    mirrors:")]


def in_python(one: Engine) -> dict[PuntReason, int]:
    return one.snapshot(0.0)["packets_decided_in_python"]


def many(balance: str = "balance: maglev", *, fast: bool) -> Engine:
    return engine(MANY.replace("BALANCE", balance), fast=fast)


@pytest.mark.parametrize("balance", ["balance: maglev", "hash: address-port", "balance: round-robin"])
def test_c_chooses_as_python_does(balance: str) -> None:
    chosen = []
    for fast in (True, False):
        one = many(balance, fast=fast)
        services = [at("10.10.0.100", port) for port in (6653, 80)]
        sessions = [ClientConnection(one, client=client, service=service) for client in CLIENTS for service in services]
        for session in sessions:
            session.syn()
        chosen.append([session.backend for session in sessions])
        assert one.snapshot(1000.0)["counters"][EngineCounter.FLOWS_OPENED] == len(sessions)
        assert in_python(one) == {}
    assert chosen[0] == chosen[1]
    assert len(Counter(chosen[0])) == 5


def test_a_connection_without_mirrors_is_never_punted() -> None:
    one = engine(UNMIRRORED)
    session = ClientConnection(one)
    session.connect()
    session.from_client("PA", b"request")
    session.from_backend("PA", b"reply")
    session.from_client("FA")
    session.from_backend("FA")
    session.from_client("A")
    [flow] = one.flows(session.now)
    assert (flow["state"], flow["client_bytes"], flow["backend_bytes"]) == ("time-wait", 7, 5)
    assert [backend["connections"] for backend in one.snapshot(session.now)["backends"]].count(1) == 1
    session.now += TIMEOUTS[State.TIME_WAIT]
    assert one.handle_timer(session.now) == []
    assert (one.flows(session.now), one.next_timer(), in_python(one)) == ([], None, {})


def test_the_next_connection_of_a_port_replaces_the_closed_one(fast: bool) -> None:
    one = engine(UNMIRRORED, fast=fast)
    for iss in (1, 1 << 20, 1 << 30):
        session = ClientConnection(one, iss=iss)
        session.connect()
        session.from_client("FA")
        session.from_backend("FA")
        session.from_client("A")
    assert in_python(one) == {}
    assert len(one.flows(session.now)) == 1


@pytest.mark.parametrize(
    ("source", "destination", "letters"),
    [
        (at("10.11.0.1", 5), SERVICE, "S"),
        (at("192.0.2.128", 5), SERVICE, "S"),
        (at("10.10.0.1", 5), at("10.10.0.100", 81), "S"),
        (at("10.10.0.1", 5), SERVICE, "SF"),
        (at("10.10.0.1", 5), SERVICE, "SA"),
        (at("10.10.0.1", 5), SERVICE, "SR"),
    ],
)
def test_only_a_clients_plain_syn_opens_a_flow_in_c(source: Endpoint, destination: Endpoint, letters: str) -> None:
    one = many(fast=True)
    one.receive(packet(source, destination, letters, 1), Hook.PREROUTING, 1.0, Checksum.VALID)
    assert in_python(one) == ({"opening-or-closing": 1} if letters == "SF" else {})
    assert one.snapshot(1.0)["counters"][EngineCounter.FLOWS_OPENED] == (letters == "SF")


def test_a_syn_with_a_wrong_checksum_opens_nothing(fast: bool) -> None:
    one = many(fast=fast)
    raw = bytearray(packet(CLIENTS[0], SERVICE, "S", 1))
    raw[37] ^= 1
    one.receive(bytes(raw), Hook.PREROUTING, 1.0, Checksum.UNVERIFIED)
    assert one.flows(1.0) == []


def refused(one: Engine, session: ClientConnection) -> None:
    """The backend of a session refuses."""
    session.syn()
    assert session.backend
    session.passed(packet(session.backend, session.client, "RA", 0, session.iss + 1), Hook.FORWARD)


def test_a_refused_clients_syns_are_punted_until_a_backend_serves_it(fast: bool) -> None:
    one = engine(UNMIRRORED, fast=fast)
    first = ClientConnection(one, client=at("10.10.0.11", 1025))
    refused(one, first)
    second = ClientConnection(one, client=at("10.10.0.11", 1026))
    second.syn()
    assert second.backend != first.backend
    one.handle_timer(second.now + SYN_ANSWER_TIMEOUT)
    third = ClientConnection(one, client=at("10.10.0.11", 1027))
    third.connect()
    assert third.backend == first.backend, "both have failed: begin again"
    fourth = ClientConnection(one, client=at("10.10.0.11", 1028))
    before = in_python(one)
    fourth.connect()
    assert in_python(one) == before


def test_a_silent_backend_is_avoided_by_the_clients_next_port_too(fast: bool) -> None:
    one = engine(UNMIRRORED, fast=fast)
    first = ClientConnection(one, client=at("10.10.0.11", 1025))
    first.syn()
    due = one.next_timer()
    assert due == first.now + SYN_ANSWER_TIMEOUT
    one.handle_timer(due)
    second = ClientConnection(one, client=at("10.10.0.11", 1026))
    second.now = due
    second.syn()
    assert second.backend != first.backend
    later = ClientConnection(one, client=at("10.10.0.11", 1027))
    later.now = due + AVOID_TIMEOUT
    one.handle_timer(later.now)
    later.syn()
    assert later.backend == first.backend


def test_half_open_flows_are_evicted_and_connections_stay(fast: bool) -> None:
    one = engine(UNMIRRORED, fast=fast, max_flows=40)
    kept = [ClientConnection(one, client=at("10.10.0.9", 1025 + number)) for number in range(20)]
    for session in kept:
        session.connect()
    for number in range(1000):
        ClientConnection(one, client=at(f"10.10.0.{10 + number % 100}", 2000 + number)).syn()
    snapshot = one.snapshot(1000.0)
    assert snapshot["flows"] == 20 + 11
    assert snapshot["counters"][EngineCounter.FLOWS_EVICTED] == 1000 - 11
    assert snapshot["counters"][EngineCounter.FLOWS_UNTRACKED] == 0
    for session in kept:
        assert session.from_client("PA", b"still here").dst == session.backend_address
    late = ClientConnection(one, client=at("10.10.0.10", 7))
    late.connect()
    assert one.snapshot(1000.0)["flows"] == 20 + 11


def test_a_flood_opens_no_leg(fast: bool) -> None:
    one = engine(fast=fast, max_flows=40)
    for number in range(200):
        session = ClientConnection(one, client=at(f"10.10.0.{10 + number % 100}", 2000 + number))
        session.syn()
        session.syn_ack()
        assert session.to_mirror == []
    assert one.snapshot(1000.0)["mirrors"][0]["legs_opened"] == 0
    assert in_python(one) == {}


def test_with_a_table_full_of_connections_a_syn_is_refused_a_flow(fast: bool) -> None:
    one = engine(UNMIRRORED, fast=fast, max_flows=3)
    for number in range(3):
        ClientConnection(one, client=at("10.10.0.9", 1025 + number)).connect()
    out = ClientConnection(one, client=at("10.10.0.9", 7)).syn()
    assert parse(out.raw)
    counters = one.snapshot(1000.0)["counters"]
    assert (counters[EngineCounter.FLOWS_UNTRACKED], counters[EngineCounter.FLOWS_EVICTED]) == (1, 0)


def test_the_reasons_of_punts_have_names() -> None:
    one = engine()
    one.receive(b"", Hook.PREROUTING, 1.0, Checksum.VALID)
    assert in_python(one) == {"not-tcp": 1}


def syn_ack(backend: Endpoint, client: Endpoint, iss: int) -> bytes:
    """Return a backend's answer."""
    return packet(backend, client, "SA", 77, iss + 1)


def rows(one: Engine) -> int:
    """Return the number of flows in the table."""
    return len(one.flow_ids())


def test_answers_to_evicted_syns_take_no_room(fast: bool) -> None:
    """They come late, or repeatedly, and look like answers to clients that connect to a backend directly."""
    one = engine(UNMIRRORED, fast=fast, max_flows=40)
    flood = [ClientConnection(one, client=at(f"10.10.0.{10 + number % 100}", 2000 + number)) for number in range(200)]
    for session in flood:
        session.syn()
    for session in flood[:-20]:
        assert session.backend
        answer = session.passed(syn_ack(session.backend, session.client, session.iss), Hook.FORWARD)
        assert (answer.src, answer.sport) == SERVICE, "it is mapped all the same"
    assert rows(one) == 11
    assert one.snapshot(1000.0)["counters"][EngineCounter.PACKETS_WITHOUT_FLOW] == 180
    assert one.snapshot(1000.0)["counters"][EngineCounter.DIRECT_CONNECTIONS] == 0


def test_an_answer_is_not_taken_for_another_backends_answer(fast: bool) -> None:
    one = engine(UNMIRRORED.replace("pool:", "pool:\n      balance: round-robin"), fast=fast, max_flows=40)
    client = ClientConnection(one)
    client.syn()
    first = client.backend
    assert first
    for number in range(12):
        ClientConnection(one, client=at("10.10.0.77", 2000 + number)).syn()
    client.syn()
    assert client.backend != first
    assert one.receive(syn_ack(first, client.client, client.iss), Hook.FORWARD, 1000.0) == Decision(Accept(), [])
    client.connect()


def test_a_direct_connection_is_half_open_until_its_backend_goes_on(fast: bool) -> None:
    one = engine(UNMIRRORED, fast=fast, max_flows=40)
    for number in range(10):
        client = at("10.10.0.9", 2000 + number)
        assert one.receive(syn_ack(C1, client, 5), Hook.FORWARD, 1.0, Checksum.VALID) == Decision(Accept(), [])
    assert rows(one) == 10
    assert one.receive(packet(C1, client, "PA", 78, 6, b"x"), Hook.FORWARD, 1.0, Checksum.VALID) == Decision(
        Accept(), []
    )
    while (due := one.next_timer()) is not None and due < 1.0 + TIMEOUTS[State.ESTABLISHED]:
        one.handle_timer(due)
    assert rows(one) == 1, "that one is established"


def test_closed_connections_are_evicted_first(fast: bool) -> None:
    one = engine(UNMIRRORED, fast=fast, max_flows=20)
    kept = ClientConnection(one, client=at("10.10.0.8", 7))
    kept.connect()
    for number in range(100):
        session = ClientConnection(one, client=at("10.10.0.9", 2000 + number))
        session.connect()
        if number % 2:
            session.from_client("RA")
        else:
            session.from_client("FA")
            session.from_backend("FA")
            session.from_client("A")
    counters = one.snapshot(1000.0)["counters"]
    assert (counters[EngineCounter.FLOWS_OPENED], counters.get(EngineCounter.FLOWS_UNTRACKED, 0)) == (101, 0)
    assert kept.from_client("PA", b"still here").dst == kept.backend_address


def test_data_without_a_connection_takes_no_room_for_long(fast: bool) -> None:
    """Data without a connection makes a picked up flow; unless its backend answers, it is evicted first."""
    one = engine(UNMIRRORED, fast=fast, max_flows=20)
    real = at("10.10.0.8", 7)
    out = ClientConnection(one).passed(packet(real, SERVICE, "PA", 1, 1, b"real"), Hook.PREROUTING)
    backend = (out.dst, out.dport)
    ClientConnection(one).passed(packet(backend, real, "PA", 1, 5, b"answer"), Hook.FORWARD)
    for number in range(100):
        client = at("10.10.0.9", 2000 + number)
        one.receive(packet(client, SERVICE, "PA", 1, 1, b"made up"), Hook.PREROUTING, 1.0, Checksum.VALID)
    late = ClientConnection(one, client=at("10.10.0.10", 7))
    late.connect()
    assert one.snapshot(1.0)["counters"][EngineCounter.FLOWS_UNTRACKED] == 0
    assert [flow["client"] for flow in one.flows(1.0) if flow["backend_bytes"]] == ["10.10.0.8:7"]


def test_neither_a_repeated_syn_nor_a_reset_in_the_handshake_is_punted() -> None:
    one = engine()
    for number in range(50):
        session = ClientConnection(one, client=at("10.10.0.9", 2000 + number))
        session.syn()
        session.syn()
        session.syn_ack()
        session.syn()
        session.from_client("R")
    assert in_python(one) == {}
    assert {flow["state"] for flow in one.flows(1000.0)} == {"reset"}


def test_picked_up_flows_without_mirrors_leave_nothing_behind() -> None:
    one = engine(UNMIRRORED)
    gc.collect()
    before = len(gc.get_objects())
    for number in range(200):
        client = at("10.10.0.9", 2000 + number)
        one.receive(packet(client, SERVICE, "PA", 1, 1, b"x"), Hook.PREROUTING, 1.0, Checksum.VALID)
        one.receive(packet(client, SERVICE, "RA", 2, 1), Hook.PREROUTING, 1.0, Checksum.VALID)
    while (due := one.next_timer()) is not None:
        one.handle_timer(due)
    gc.collect()
    assert rows(one) == 0
    assert len(gc.get_objects()) < before + 50
