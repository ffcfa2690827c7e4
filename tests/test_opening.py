"""New flows in C: what Python would choose, and room for them."""

from collections import Counter

import pytest

from natmirror.attempts import ANSWER_TIMEOUT, AVOID_TIMEOUT
from natmirror.engine import Engine, Hook
from natmirror.fastpath import PUNT
from natmirror.packet import Checksum, Endpoint, parse
from natmirror.tcp import TIMEOUTS, State
from tests.session import Session, engine
from tests.support import RULES, SERVICE, at, packet

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


def in_python(one: Engine) -> dict[str, int]:
    """How many packets C has left to Python, by reason."""
    return dict(one.snapshot(0.0)["punts"])


def many(balance: str = "balance: maglev", *, fast: bool) -> Engine:
    return engine(MANY.replace("BALANCE", balance), fast=fast)


@pytest.mark.parametrize("balance", ["balance: maglev", "hash: address-port", "balance: round-robin"])
def test_c_chooses_as_python_does(balance: str) -> None:
    chosen = []
    for fast in (True, False):
        one = many(balance, fast=fast)
        services = [at("10.10.0.100", port) for port in (6653, 80)]
        sessions = [Session(one, client=client, service=service) for client in CLIENTS for service in services]
        for session in sessions:
            session.syn()
        chosen.append([session.backend for session in sessions])
        assert one.snapshot(1000.0)["counters"]["flows_opened"] == len(sessions)
        assert in_python(one) == {}
    assert chosen[0] == chosen[1]
    assert len(Counter(chosen[0])) == 5


def test_a_connection_without_mirrors_never_concerns_python() -> None:
    one = engine(UNMIRRORED)
    session = Session(one)
    session.connect()
    session.from_client("PA", b"request")
    session.from_backend("PA", b"reply")
    session.from_client("FA")
    session.from_backend("FA")
    session.from_client("A")
    [flow] = one.flows(session.now)
    assert (flow["state"], flow["client_bytes"], flow["server_bytes"]) == ("time-wait", 7, 5)
    assert [backend["connections"] for backend in one.snapshot(session.now)["backends"]].count(1) == 1
    session.now += TIMEOUTS[State.TIME_WAIT]
    assert one.handle_timer(session.now) == []
    assert (one.flows(session.now), one.next_timer(), in_python(one)) == ([], None, {})


def test_the_next_connection_of_the_same_port_takes_the_place_of_one_that_is_over(fast: bool) -> None:
    one = engine(UNMIRRORED, fast=fast)
    for iss in (1, 1 << 20, 1 << 30):
        session = Session(one, iss=iss)
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
def test_what_is_no_plain_syn_of_a_client_is_pythons(source: Endpoint, destination: Endpoint, letters: str) -> None:
    one = many(fast=True)
    one.receive(packet(source, destination, letters, 1), Hook.PREROUTING, 1.0, Checksum.VALID)
    assert in_python(one) == {"control": 1}


def test_a_syn_with_a_wrong_checksum_opens_nothing(fast: bool) -> None:
    one = many(fast=fast)
    raw = bytearray(packet(CLIENTS[0], SERVICE, "S", 1))
    raw[37] ^= 1
    one.receive(bytes(raw), Hook.PREROUTING, 1.0, Checksum.UNVERIFIED)
    assert one.flows(1.0) == []


def refused(one: Engine, session: Session) -> None:
    """The backend of a session says no."""
    session.syn()
    assert session.backend
    session.passed(packet(session.backend, session.client, "RA", 0, session.iss + 1), Hook.FORWARD)


def test_a_client_that_was_refused_concerns_python_until_it_is_served(fast: bool) -> None:
    one = engine(UNMIRRORED, fast=fast)
    first = Session(one, client=at("10.10.0.11", 1025))
    refused(one, first)
    second = Session(one, client=at("10.10.0.11", 1026))
    second.syn()
    assert second.backend != first.backend
    one.handle_timer(second.now + ANSWER_TIMEOUT)
    third = Session(one, client=at("10.10.0.11", 1027))
    third.connect()
    assert third.backend == first.backend, "both have failed: begin again"
    fourth = Session(one, client=at("10.10.0.11", 1028))
    before = in_python(one)
    fourth.connect()
    assert in_python(one) == before


def test_a_silent_backend_is_avoided_by_the_clients_next_port_too(fast: bool) -> None:
    one = engine(UNMIRRORED, fast=fast)
    first = Session(one, client=at("10.10.0.11", 1025))
    first.syn()
    due = one.next_timer()
    assert due == first.now + ANSWER_TIMEOUT
    one.handle_timer(due)
    second = Session(one, client=at("10.10.0.11", 1026))
    second.now = due
    second.syn()
    assert second.backend != first.backend
    later = Session(one, client=at("10.10.0.11", 1027))
    later.now = due + AVOID_TIMEOUT
    one.handle_timer(later.now)
    later.syn()
    assert later.backend == first.backend


def test_syns_that_nobody_completes_give_way_and_connections_stay(fast: bool) -> None:
    one = engine(UNMIRRORED, fast=fast, max_flows=40)
    kept = [Session(one, client=at("10.10.0.9", 1025 + number)) for number in range(20)]
    for session in kept:
        session.connect()
    for number in range(1000):
        Session(one, client=at(f"10.10.0.{10 + number % 100}", 2000 + number)).syn()
    snapshot = one.snapshot(1000.0)
    assert snapshot["flows"] == 20 + 11
    assert snapshot["counters"]["flows_evicted"] == 1000 - 11
    assert "flows_refused" not in snapshot["counters"]
    for session in kept:
        assert session.from_client("PA", b"still here").dst == session.backend_address
    late = Session(one, client=at("10.10.0.10", 7))
    late.connect()
    assert one.snapshot(1000.0)["flows"] == 20 + 11


def test_a_flood_opens_no_leg(fast: bool) -> None:
    one = engine(fast=fast, max_flows=40)
    for number in range(200):
        session = Session(one, client=at(f"10.10.0.{10 + number % 100}", 2000 + number))
        session.syn()
        session.syn_ack()
        assert session.to_mirror == []
    assert one.snapshot(1000.0)["mirrors"][0]["opened"] == 0
    assert in_python(one) == {}


def test_with_a_table_full_of_connections_a_syn_is_refused_a_flow(fast: bool) -> None:
    one = engine(UNMIRRORED, fast=fast, max_flows=3)
    for number in range(3):
        Session(one, client=at("10.10.0.9", 1025 + number)).connect()
    out = Session(one, client=at("10.10.0.9", 7)).syn()
    assert parse(out.raw)
    counters = one.snapshot(1000.0)["counters"]
    assert (counters["flows_refused"], counters["flows_evicted"]) == (1, 0)


def test_the_reasons_of_punts_have_names() -> None:
    one = engine()
    one.receive(b"", Hook.PREROUTING, 1.0, Checksum.VALID)
    assert in_python(one) == {"malformed": 1}
    assert PUNT == 3
