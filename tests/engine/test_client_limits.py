"""Limits per client: what a client over one gets, what counts, and what a forger can do."""

import random
from typing import Any

import pytest

from natmirror._ffi import ffi, lib
from natmirror.actions import Accept, Decision, Drop, Hook
from natmirror.engine.counters import EngineCounter
from natmirror.engine.engine import Engine
from natmirror.engine.shown import Snapshot
from natmirror.fastpath import CLAIM_ALL
from natmirror.nat.new_connections import Opening
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint
from natmirror.reasons import ClientLimit, DropReason
from natmirror.rules import parse_rules
from tests.helpers.client_connection import IRS, ISS, ClientConnection, engine
from tests.helpers.declared import assert_declared
from tests.helpers.support import CLIENT, RULES, SERVICE, at, packet, summary

NOW = 1000.0
WINDOW = int(lib.NM_HALF_OPEN_WINDOW)
PLAIN = RULES[: RULES.index("    mirrors:")]
REFUSED = Drop(DropReason.CLIENT_MAX_CONNECTIONS)
TOO_FAST = Drop(DropReason.CLIENT_NEW_CONNECTIONS)


def limited(limits: str, rules: str = PLAIN) -> str:
    """Return rules with limits per client."""
    return rules.replace("    pool:\n", f"    per-client: {{{limits}}}\n    pool:\n")


MOST_3 = limited("max-connections: 3")
RATE_4 = limited("new-connections: 4/s")
BOTH = limited("max-connections: 3, new-connections: 4/s")


def syn(one: Engine, port: int, now: float = NOW, address: bytes = CLIENT[0], data: bytes = b"") -> Decision:
    """Send a client's SYN."""
    return one.receive(packet((address, port), SERVICE, "S", ISS, data=data), Hook.PREROUTING, now)


def connect(one: Engine, port: int, now: float = NOW, client: bytes = CLIENT[0]) -> ClientConnection:
    """Open a connection of the client."""
    connection = ClientConnection(one, client=(client, port))
    connection.now = now
    connection.connect()
    return connection


def reset(connection: ClientConnection) -> None:
    """Have the client reset its connection."""
    connection.passed(packet(connection.client, SERVICE, "R", seq.add(ISS, 1 + connection.sent)), Hook.PREROUTING)


def counts(one: Engine, now: float = NOW, client: Endpoint = CLIENT) -> int:
    """Return how many of the client's connections count."""
    [found] = one.explanation.foresee(client[0], client[1], "openflow", now)
    assert found["per_client"] is not None
    return found["per_client"]["connections"]


def drops(one: Engine) -> dict[DropReason, int]:
    return one.snapshot(NOW)["drops"]


# The number of connections


def test_a_client_with_all_its_connections_is_refused_with_a_rst(fast: bool) -> None:
    one = engine(MOST_3, fast=fast)
    open_ones = [connect(one, port) for port in (1, 2, 3)]
    refused = syn(one, 4)
    assert refused.verdict == REFUSED
    [rst] = refused.sends
    assert summary(rst.packet) == ("RA", 0, seq.add(ISS, 1), b"")
    assert isinstance(syn(one, 4, address=at("10.10.0.12", 0)[0]).verdict, Accept), "another client's is opened"
    for connection in open_ones:
        connection.from_client("PA", b"data")
        connection.from_backend("PA", b"answer")
    assert drops(one) == {DropReason.CLIENT_MAX_CONNECTIONS: 1}
    assert one.snapshot(NOW)["counters"][EngineCounter.FLOWS_OPENED] == 4


@pytest.mark.parametrize("how", ["reset", "closed"])
def test_a_connection_that_ends_makes_room(how: str, fast: bool) -> None:
    one = engine(MOST_3, fast=fast)
    first, *_ = [connect(one, port) for port in (1, 2, 3)]
    assert syn(one, 4).verdict == REFUSED
    if how == "reset":
        reset(first)
    else:
        first.from_client("FA")
        first.from_backend("FA")
        assert counts(one) == 3
        first.from_client("A")
    assert counts(one) == 2
    connect(one, 4)
    assert syn(one, 5).verdict == REFUSED


def test_a_connection_that_expires_makes_room(fast: bool) -> None:
    one = engine(MOST_3, fast=fast)
    connection = connect(one, 1)
    assert counts(one) == 1
    connection.outlive()
    assert counts(one, connection.now) == 0


def test_a_refused_syn_leaves_what_the_client_had(fast: bool) -> None:
    one = engine(MOST_3, fast=fast)
    first, *_ = [connect(one, port) for port in (1, 2, 3)]
    reset(first)
    connect(one, 4)
    assert syn(one, 1).verdict == REFUSED, "its port has a connection that is over"
    assert len(one.flows(NOW)) == 4
    assert counts(one) == 3


def test_a_client_of_another_service_has_all_its_connections_there(fast: bool) -> None:
    other = MOST_3.partition("services:\n")[2].replace("openflow", "other").replace("10.10.0.100", "10.10.0.101")
    one = engine(MOST_3 + other.replace("10.20.0.1", "10.20.0.2"), fast=fast)
    for port in (1, 2, 3):
        connect(one, port)
    to_other = packet(CLIENT, at("10.10.0.101", 6653), "S", ISS)
    assert isinstance(one.receive(to_other, Hook.PREROUTING, NOW).verdict, Accept)
    assert syn(one, 4).verdict == REFUSED


# Forged SYNs


def test_forged_syns_count_for_a_while_only(fast: bool) -> None:
    one = engine(MOST_3, fast=fast)
    begin = WINDOW * 100.0
    for port in (1, 2, 3):
        assert isinstance(syn(one, port, begin).verdict, Accept)
    assert syn(one, 4, begin + 2 * WINDOW - 0.1).verdict == REFUSED
    assert isinstance(syn(one, 4, begin + 2 * WINDOW).verdict, Accept)
    assert counts(one, begin + 2 * WINDOW) == 1


def test_a_forged_syn_counts_no_longer_once_the_client_has_reset_it(fast: bool) -> None:
    one = engine(MOST_3, fast=fast)
    for port in range(1, 20):
        connection = ClientConnection(one, client=(CLIENT[0], port))
        connection.syn()
        connection.syn_ack()
        reset(connection)  # the client knows of no SYN
    assert counts(one) == 0


def test_a_handshake_that_completes_late_counts_again(fast: bool) -> None:
    one = engine(MOST_3, fast=fast)
    begin = WINDOW * 100.0
    connection = ClientConnection(one)
    connection.now = begin
    connection.syn()
    connection.syn_ack()
    connection.now = begin + 2 * WINDOW
    assert counts(one, connection.now) == 0
    connection.from_client("A")
    assert counts(one, connection.now) == 1
    reset(connection)
    assert counts(one, connection.now) == 0


def test_half_open_connections_that_end_are_not_subtracted_twice(fast: bool) -> None:
    one = engine(MOST_3, fast=fast)
    begin = WINDOW * 100.0
    old = ClientConnection(one, client=(CLIENT[0], 1))
    old.now = begin
    old.syn()
    old.syn_ack()
    for port in (2, 3):
        syn(one, port, begin + 2 * WINDOW)
    reset(old)
    assert counts(one, begin + 2 * WINDOW) == 2


# The rate


def test_a_client_that_opens_too_fast_loses_syns_until_its_tokens_come_back(fast: bool) -> None:
    one = engine(RATE_4, fast=fast)
    for port in range(1, 5):
        assert isinstance(syn(one, port).verdict, Accept)
    lost = syn(one, 5)
    assert (lost.verdict, lost.sends) == (TOO_FAST, [])
    assert syn(one, 5, NOW + 0.2).verdict == TOO_FAST
    assert isinstance(syn(one, 5, NOW + 0.25).verdict, Accept), "the client has sent it again"
    assert syn(one, 6, NOW + 0.26).verdict == TOO_FAST
    assert isinstance(syn(one, 6, NOW + 1.0, at("10.10.0.12", 0)[0]).verdict, Accept)
    later = NOW + 100.0
    assert [isinstance(syn(one, 10 + port, later).verdict, Accept) for port in range(5)] == [True] * 4 + [False]
    assert drops(one) == {DropReason.CLIENT_NEW_CONNECTIONS: 4}


@pytest.mark.parametrize("rate", ["2/m", "2/h"])
def test_a_rate_may_be_for_a_minute_or_an_hour(rate: str, fast: bool) -> None:
    one, period = engine(limited(f"new-connections: {rate}"), fast=fast), 60.0 if rate == "2/m" else 3600.0
    for port in (1, 2):
        assert isinstance(syn(one, port).verdict, Accept)
    assert syn(one, 3, NOW + period / 2 - 0.1).verdict == TOO_FAST
    assert isinstance(syn(one, 3, NOW + period / 2).verdict, Accept)


def test_a_repeated_syn_counts_once(fast: bool) -> None:
    one = engine(limited("max-connections: 1, new-connections: 1/h"), fast=fast)
    for after in (0.0, 0.1, 0.9, 1.0, 3.0, 7.0, 15.0, 31.0):  # from 0.8 s on it may get another backend
        assert isinstance(syn(one, 1, NOW + after).verdict, Accept)
    assert counts(one, NOW + 31.0) == 1
    assert syn(one, 2, NOW + 31.0).verdict == TOO_FAST


def test_a_refused_syn_takes_a_token_so_that_a_client_that_hammers_is_dropped_in_c() -> None:
    one = engine(BOTH)
    for port in (1, 2, 3):
        connect(one, port)
    python = one.snapshot(NOW)["packets_decided_in_python"]
    verdicts = [syn(one, 100 + port).verdict for port in range(50)]
    assert verdicts == [REFUSED] + [TOO_FAST] * 49
    decided = one.snapshot(NOW)["packets_decided_in_python"]
    assert sum(decided.values()) - sum(python.values()) == 1


def test_syns_that_c_leaves_to_python_are_limited_alike(fast: bool) -> None:
    least = RATE_4.replace("    pool:\n", "    pool:\n      balance: least-connections\n")
    one = engine(least, fast=fast)
    lost = [port for port in range(1, 7) if syn(one, port, data=b"x" * (port % 2)).verdict == TOO_FAST]
    assert lost == [5, 6]


def test_a_dropped_syn_takes_no_backends_turn(fast: bool) -> None:
    one = engine(RATE_4.replace("    pool:\n", "    pool:\n      balance: round-robin\n"), fast=fast)
    found = []
    for port in range(1, 7):
        verdict = syn(one, port, NOW + (1.0 if port == 6 else 0.0)).verdict
        found.append(verdict.packet[19] if isinstance(verdict, Accept) and verdict.packet is not None else None)
    assert found == [11, 12, 11, 12, None, 11]


# What else may change


def test_limits_that_a_reload_lowers_end_nothing(fast: bool) -> None:
    one = engine(limited("max-connections: 5, new-connections: 1000/s"), fast=fast)
    connections = [connect(one, port) for port in range(1, 6)]
    one.reload(parse_rules(limited("max-connections: 2, new-connections: 10/s")))
    one.bindings.sweep(0, 1000, 0, NOW)
    for connection in connections:
        connection.from_client("PA", b"data")
        connection.from_backend("PA", b"answer")
    assert syn(one, 9).verdict == REFUSED
    for connection in connections[:4]:
        reset(connection)
    connect(one, 10)
    assert syn(one, 11).verdict == REFUSED


def test_limits_that_a_reload_adds_count_older_connections(fast: bool) -> None:
    one = engine(PLAIN, fast=fast)
    connections = [connect(one, port) for port in (1, 2, 3, 4)]
    one.reload(parse_rules(MOST_3))
    one.bindings.sweep(0, 1000, 0, NOW)
    assert counts(one) == 4
    assert syn(one, 5).verdict == REFUSED
    for connection in connections[:2]:
        reset(connection)
    connect(one, 5)
    one.reload(parse_rules(PLAIN))
    one.bindings.sweep(0, 1000, 0, NOW)
    for port in (6, 7, 8):
        connect(one, port)


def test_connections_that_are_picked_up_pass_and_count_once_their_ends_agree(fast: bool) -> None:
    one = engine(MOST_3, fast=fast)
    found = []
    for port in range(1, 6):
        connection = ClientConnection(one, client=(CLIENT[0], port))
        connection.backend = (connection.from_client("PA", b"data").dst, 6653)
        found.append(connection)
    assert counts(one) == 0, "anyone can forge data"
    for connection in found:
        connection.from_backend("PA", b"answer")
        connection.from_client("PA", b"more")
        connection.from_backend("A")
    assert counts(one) == 5
    assert syn(one, 9).verdict == REFUSED


def test_connections_that_the_other_host_passes_do_not_count_until_they_come_here(fast: bool) -> None:
    one = engine(MOST_3, fast=fast)
    derived = one.explanation.foresee(CLIENT[0], 1, "openflow", NOW)[0]["first_choice"]
    pinned = at("10.20.0.12" if derived == "c1" else "10.20.0.11", 6653)
    for port in (1, 2, 3):
        one.bindings.adopt("openflow", (CLIENT[0], port), pinned, NOW)
    assert counts(one) == 0
    one.bindings.sweep(0, 1000, CLAIM_ALL, NOW)
    connection = ClientConnection(one, client=(CLIENT[0], 1))
    connection.backend = pinned
    connection.from_client("PA", b"data")
    connection.from_backend("PA", b"answer")
    connection.from_client("PA", b"more")
    assert counts(one) == 1


def test_a_released_connection_counts_no_more(fast: bool) -> None:
    one = engine(MOST_3, fast=fast)
    for port in (1, 2, 3):
        connect(one, port)
    one.release_flows(one.flow_ids(), NOW)
    assert counts(one) == 0


def test_a_removed_service_refuses_without_limits(fast: bool) -> None:
    one = engine(MOST_3, fast=fast)
    for port in (1, 2, 3):
        connect(one, port)
    one.reload(parse_rules(MOST_3.replace("10.10.0.100", "10.10.0.101")))
    one.bindings.sweep(0, 1000, 0, NOW)
    assert syn(one, 4).verdict == Drop(DropReason.NO_BACKEND)
    assert [entry["refused_syns"] for entry in one.snapshot(NOW)["client_limits"]] == [0]


def test_direct_connections_to_a_backend_do_not_count(fast: bool) -> None:
    one = engine(MOST_3, fast=fast)
    for port in range(1, 6):
        ends = at("10.20.0.11", 6653), (CLIENT[0], port)
        assert one.receive(packet(*ends, "SA", IRS, ISS), Hook.FORWARD, NOW).verdict == Accept()
    assert counts(one) == 0


def test_a_killed_connections_port_is_limited_in_both_gears_alike(fast: bool) -> None:
    one = engine(BOTH, fast=fast)
    for port in (1, 2, 3):
        connect(one, port)
    for backend in ("c1", "c2"):
        one.kill("openflow", backend, one.flow_ids(), NOW)
    assert counts(one) == 0
    assert isinstance(syn(one, 1).verdict, Accept)
    assert syn(one, 2).verdict == TOO_FAST
    assert len(one.flows(NOW)) == 2, "a SYN ends what is known of the killed connection"


# Many clients


def test_as_many_clients_as_flows_are_remembered(fast: bool) -> None:
    one = engine(BOTH, fast=fast, max_flows=64)
    for number in range(1000):
        address = bytes((10, 10, 0, number % 250))
        syn(one, 1 + number, NOW + number / 1000, address)
    idle: Any = ffi.new("uint32_t *")
    library: Any = lib
    assert library.nm_clients_rows(library.nm_flows_clients(one._gear.handle.flows), idle) <= 64


def test_a_crowd_takes_no_clients_count(fast: bool) -> None:
    one = engine(limited("max-connections: 1", PLAIN.replace("10.10.0.0/24", "10.10.0.0/16")), fast=fast, max_flows=64)
    connect(one, 1)
    for number in range(1000):
        syn(one, 1, NOW, bytes((10, 10, 1 + number // 250, number % 250)))
    assert syn(one, 2).verdict == REFUSED
    assert counts(one) == 1


# What is shown


def test_what_is_counted_and_explained(fast: bool) -> None:
    one = engine(BOTH, fast=fast)
    for port in (1, 2, 3):
        connect(one, port)
    [entry] = one.explanation.foresee(CLIENT[0], 9, "openflow", NOW)
    assert entry["opening"] == Opening.CLIENT_FULL
    assert entry["per_client"] == {
        **{"connections": 3, "max_connections": 3, "new_connections": "4/s", "new_connections_left": 1}
    }
    for port in (4, 5, 6):
        syn(one, port)
    assert one.explanation.foresee(CLIENT[0], 9, "openflow", NOW)[0]["opening"] == Opening.CLIENT_TOO_FAST
    shown = one.snapshot(NOW + 2)
    assert shown["client_limits"] == [
        {
            **{"service": "openflow", "limit": limit, "value": value, "refused_syns": count, "limited_clients": 1},
            **{"last_client": "10.10.0.11", "last_seconds": 2.0},
        }
        for limit, value, count in ((ClientLimit.MAX_CONNECTIONS, "3", 1), (ClientLimit.NEW_CONNECTIONS, "4/s", 2))
    ]
    assert_declared(Snapshot, shown)
    syn(one, 7, NOW + 5)
    syn(one, 7, NOW + 5 + lib.NM_LIMITED_QUIET)
    assert one.snapshot(NOW)["client_limits"][0]["limited_clients"] == 2, "ten minutes later it begins again"


# Both gears


@pytest.mark.parametrize("seed", range(30))
def test_both_gears_do_the_same_and_count_what_there_is(seed: int) -> None:
    draw = random.Random(seed)
    rules = draw.choice((MOST_3, RATE_4, BOTH, limited("max-connections: 2", RULES)))
    max_flows = draw.choice((12, 1000))
    engines = [engine(rules, fast=fast, max_flows=max_flows) for fast in (True, False)]
    now = NOW
    for _ in range(300):
        now += draw.choice((0.0, 0.0, 0.1, 1.0, 11.0))
        client = bytes((10, 10, 0, 20 + draw.randrange(3))), 1000 + draw.randrange(5)
        backend = at(f"10.20.0.{draw.choice((11, 12))}", 6653)
        letters = draw.choice(("S", "S", "S", "A", "PA", "FA", "R", "RA"))
        iss = ISS + draw.choice((0, 0, 0, 7))
        if draw.random() < 0.5:
            number = iss if letters == "S" else seq.add(ISS, 1)
            raw, hook = packet(client, SERVICE, letters, number, seq.add(IRS, 1)), Hook.PREROUTING
        else:
            raw = packet(backend, client, draw.choice(("SA", "SA", "A", "PA", "FA", "RA")), IRS, seq.add(ISS, 1))
            hook = Hook.FORWARD
        if draw.random() < 0.05:
            for one in engines:
                one.reload(parse_rules(rules.replace("max-connections: 3", "max-connections: 2")))
                one.bindings.sweep(0, 1000, 0, now)
        fast, slow = ([one.receive(raw, hook, now), *one.handle_timer(now)] for one in engines)
        assert fast == slow
        states = [[{**flow, "idle_seconds": 0} for flow in one.flows(now)] for one in engines]
        assert states[0] == states[1]
    shown = [one.snapshot(now) for one in engines]
    assert shown[0]["client_limits"] == shown[1]["client_limits"]
    assert shown[0]["drops"] == shown[1]["drops"]
