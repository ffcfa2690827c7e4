"""The data of SYNs on the account of memory: kept only for mirrors, and given up before a living leg is."""

import tracemalloc
from sys import getsizeof

import pytest

from natmirror._ffi import ffi
from natmirror.actions import Hook
from natmirror.engine.engine import Engine
from natmirror.fastpath import MAX_SYN_DATA
from natmirror.net import seq
from tests.helpers.client_connection import IRS, ISS, ClientConnection, engine
from tests.helpers.support import RULES, SERVICE, assert_adds_up, at, packet

GEARS = pytest.mark.parametrize("fast", [True, False])
SMALL = "mirror-memory: 1MiB\n"
LARGE = "mirror-memory: 1GiB\n"
WITHOUT_MIRRORS = RULES[: RULES.index("    mirrors:")]
ADDRESS = "10.10.0.66"
PART = (1 << 20) // 16
COST = getsizeof(bytes(MAX_SYN_DATA))
COUNT = 50


def used(one: Engine) -> int:
    return one.snapshot(1000.0)["mirror_memory"]["used_bytes"]


def opening(one: Engine, port: int, data: bytes, number: int = ISS) -> ClientConnection:
    """Return a connection whose client has sent a SYN with data."""
    connection = ClientConnection(one, client=at(ADDRESS, port), iss=number)
    out = connection.passed(packet(connection.client, SERVICE, "S", number, 0, data), Hook.PREROUTING)
    connection.backend = (out.dst, out.dport)
    return connection


def open_all(one: Engine, *, number: int = ISS, size: int = 60_000) -> int:
    """Send a SYN with data on each of COUNT connections; return how many bytes more Python has in use."""
    tracemalloc.start()
    for port in range(COUNT):
        opening(one, 20_000 + port, bytes(size), number)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return held


def answer(connection: ClientConnection, taken: int) -> None:
    """Send the backend's SYN-ACK, which takes so many bytes of the SYN's data, and the client's acknowledgement."""
    assert connection.backend is not None
    number = seq.add(connection.iss, 1 + taken)
    connection.passed(packet(connection.backend, connection.client, "SA", IRS, number), Hook.FORWARD)
    connection.sent = taken
    connection.from_client("A")


@GEARS
def test_data_of_syns_is_on_the_account_until_the_connection_is_forgotten(fast: bool) -> None:
    one = engine(LARGE + RULES, fast=fast)
    held = open_all(one)
    print(f"{held} bytes held, {used(one)} counted")
    assert used(one) == COUNT * COST
    assert held < used(one) + COUNT * 1000
    open_all(one, size=9)
    assert used(one) == COUNT * COST, "it says the same"
    while (due := one.next_timer()) is not None:
        one.handle_timer(due)
    assert (one.snapshot(1000.0)["flows"], used(one)) == (0, 0)


@GEARS
@pytest.mark.parametrize("taken", [0, 900, MAX_SYN_DATA])
def test_data_of_a_syn_is_given_back_when_its_handshake_is_complete(taken: int, fast: bool) -> None:
    one = engine(LARGE + RULES, fast=fast)
    other = opening(one, 20_000, b"")
    answer(other, 0)
    leg = used(one)
    data = bytes(range(250)) * 240
    connection = opening(one, 20_001, data)
    answer(connection, taken)
    connection.connect_mirror()
    got = b"".join(data for *_, data in connection.mirrored())
    assert got == data[:taken]
    connection.from_mirror("A", 1, 1 + taken)
    connection.from_backend("A")
    assert used(one) == 2 * leg
    assert_adds_up(one.snapshot(connection.now))


@GEARS
def test_data_of_other_syns_inside_a_connection_is_on_the_account(fast: bool) -> None:
    one = engine(LARGE + RULES, fast=fast)
    for port in range(COUNT):
        answer(opening(one, 20_000 + port, b""), 0)
    legs = used(one)
    for number in range(1, 9):
        held = open_all(one, number=seq.add(ISS, 70_000 * number))
        assert used(one) - legs == COUNT * COST, "the last one is kept"
    print(f"{held} bytes held for the last SYNs, {used(one) - legs} counted")
    assert held < COUNT * (COST + 1000)


def test_a_connection_with_other_syns_takes_what_the_documents_say() -> None:
    """The constant of docs/running.md; the unit's MemoryMax= follows from it."""
    one = engine(LARGE + RULES.replace("10.20.0.13}", "10.20.0.13, only: [10.10.0.128/25]}"))
    tracemalloc.start()
    for port in range(COUNT):
        one_more = ClientConnection(one, client=at(ADDRESS, 20_000 + port))
        one_more.now += port
        one_more.connect()
        for number in range(1, 100):
            raw = packet(one_more.client, SERVICE, "S", 70_000 * number, 0, options=bytes([1] * 40))
            one_more.take(raw, Hook.PREROUTING)
        del raw, one_more
    flow = tracemalloc.get_traced_memory()[0] / COUNT
    tracemalloc.stop()
    print(f"{flow:.0f} bytes of Python")
    assert flow + ffi.sizeof("nm_flow") + 24 < 2304


@GEARS
def test_data_of_syns_is_not_kept_where_the_service_has_no_mirrors(fast: bool) -> None:
    one = engine(LARGE + WITHOUT_MIRRORS, fast=fast)
    first, other = open_all(one), open_all(one, number=77_000)
    print(f"{first} bytes held for {COUNT} SYNs, {other} for other ones of the same connections")
    assert used(one) == 0
    assert first < COUNT * 100
    assert other < COUNT * 1500
    connection = opening(one, 30_000, b"x" * 2000, 5)
    opening(one, 30_000, b"y" * 2000, 77_000)
    connection.iss = 77_000
    answer(connection, 1000)
    assert [flow["state"] for flow in one.flows(1000.0) if flow["client"] == f"{ADDRESS}:30000"] == ["established"]


@GEARS
def test_data_of_syns_takes_no_more_than_its_clients_part(fast: bool) -> None:
    one = engine(SMALL + RULES, fast=fast)
    open_all(one)
    assert PART - COST < used(one) <= PART


@GEARS
def test_data_of_syns_is_given_up_before_a_leg_of_their_client(fast: bool) -> None:
    one = engine(SMALL + RULES, fast=fast)
    victim = opening(one, 10_000, b"")
    open_all(one)
    answer(victim, 0)
    victim.connect_mirror()
    for _ in range(5):
        victim.from_client("PA", b"x" * 5000)
        victim.from_backend("A")
    assert b"".join(data for *_, data in victim.mirrored())
    assert one.take_events() == []
    assert used(one) <= PART


@GEARS
@pytest.mark.parametrize("number", [ISS, 77_000])
@pytest.mark.parametrize("taken", [0, 5])
def test_bytes_for_which_there_was_no_memory_are_missing_if_the_backend_takes_them(
    number: int, taken: int, fast: bool
) -> None:
    one = engine(SMALL + RULES, fast=fast)
    if number != ISS:
        answer(opening(one, 10_000, b""), 0)
    others = [opening(one, 20_000 + port, bytes(MAX_SYN_DATA)) for port in range(PART // COST)]
    opening(one, 10_000, b"TRUTH" + bytes(MAX_SYN_DATA), number)
    for other in others:
        answer(other, 0)
        other.connect_mirror()
        other.from_backend("R")
    connection = opening(one, 10_000, b"LIES!", number)  # there is memory again
    one.take_events()
    answer(connection, taken)
    if number == ISS and not taken:
        connection.connect_mirror()
    connection.from_client("PA", b"LIES!hello", at=0)
    got = b"".join(data for *_, data in connection.mirrored())
    if number == ISS:
        assert got == (b"" if taken else b"LIES!hello")
        assert [event.reason for event in one.take_events()] == (["memory-full"] if taken else [])
    else:
        assert got == b"", "ambiguous: the backend may have taken either SYN"
    assert_adds_up(one.snapshot(connection.now))
