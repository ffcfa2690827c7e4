"""SYNs in the name of a client that knows nothing of them: its connections stay, and stay where they are."""

import pytest

from natmirror.actions import Accept, Drop, Hook
from natmirror.engine.counters import EngineCounter
from natmirror.engine.engine import Engine
from natmirror.fastpath import SYN_ANSWER_TIMEOUT
from natmirror.net import seq
from natmirror.net.checksum import Checksum
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import OPT_NOP, OPT_WINDOW_SCALE
from natmirror.reasons import DropReason
from natmirror.tcp.tracker import LONGEST_PAUSE
from tests.helpers.acknowledged import Connection
from tests.helpers.client_connection import IRS, ISS, ClientConnection, engine
from tests.helpers.support import C1, C2, CLIENT, RULES, SERVICE, at, packet, segment

UNMIRRORED = RULES[: RULES.index("    mirrors:")]
WITHOUT_POOL = RULES[: RULES.index("    pool:")] + RULES[RULES.index("    mirrors:") :]
ROUND_ROBIN = RULES.replace("pool:", "pool:\n      balance: round-robin")
MD5 = bytes((19, 18, *range(16), OPT_NOP, OPT_NOP))
"""An MD5 signature (RFC 2385): Linux drops such a SYN silently, unless its program has asked for signatures."""
PAUSES = (0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 120.0, 120.0)
"""Seconds between Linux's transmissions of data that is not acknowledged (net.ipv4.tcp_retries2)."""


def blind_syn(
    number: int = 0x1234_5678, client: Endpoint = CLIENT, *, options: bytes = MD5, data: bytes = b"", ttl: int = 64
) -> bytes:
    """Return a SYN that no backend answers."""
    raw = bytearray(packet(client, SERVICE, "S", number, 0, data, options=options))
    raw[8] = ttl
    return bytes(raw)


def counter(one: ClientConnection, which: EngineCounter) -> int:
    return one.engine.snapshot(one.now)["counters"].get(which, 0)


def states(one: ClientConnection) -> list[str]:
    return [flow["state"] for flow in one.engine.flows(one.now)]


# An established connection


@pytest.mark.parametrize("rules", [RULES, ROUND_ROBIN, WITHOUT_POOL])
@pytest.mark.parametrize(("options", "ttl"), [(MD5, 64), (b"", 1), (b"", 2)])
def test_blind_syns_end_no_copy_of_a_silent_connection(fast: bool, rules: str, options: bytes, ttl: int) -> None:
    one = Connection(rules, fast=fast).open()
    one.says(0, b"hello")
    one.acks(5)
    backend = one.backend
    for number in range(1000):
        one.passed(blind_syn(number // 3 * 4_000_037, options=options, ttl=ttl), Hook.PREROUTING)
        one.now += 1.0
        one.engine.handle_timer(one.now)
    out = one.passed(packet(CLIENT, SERVICE, "PA", seq.add(ISS, 6), seq.add(IRS, 1), b" again"), Hook.PREROUTING)
    one.acks(11)
    assert ((out.dst, out.dport), one.got, one.ended) == (backend, b"hello again", [])


@pytest.mark.parametrize("has_handshake", [True, False])
def test_blind_syns_move_no_connection(fast: bool, has_handshake: bool) -> None:
    one = ClientConnection(engine(UNMIRRORED, fast=fast))
    one.syn()
    one.syn_ack()
    if has_handshake:
        one.from_client("A")
    for _ in range(100):
        one.passed(blind_syn(), Hook.PREROUTING)
        one.now += 1.0
        one.engine.handle_timer(one.now)
    assert one.from_client("PA", b"request").dst == one.backend_address
    assert counter(one, EngineCounter.FLOWS_OPENED) == 1


def test_blind_syns_move_no_connection_whose_backend_is_out_of_reach_for_minutes(fast: bool) -> None:
    one = ClientConnection(engine(UNMIRRORED, fast=fast))
    one.connect()
    one.from_client("PA", b"request")
    for pause in PAUSES:
        until = one.now + pause
        while one.now < until:
            one.passed(blind_syn(), Hook.PREROUTING)
            one.now = min(one.now + 1.0, until)
            one.engine.handle_timer(one.now)
        assert one.from_client("PA", b"request", at=0).dst == one.backend_address
    assert counter(one, EngineCounter.FLOWS_OPENED) == 1


def test_a_client_that_starts_again_gets_another_backend_if_its_own_is_dead(fast: bool) -> None:
    one = ClientConnection(engine(UNMIRRORED, fast=fast))
    one.connect()
    one.from_client("PA", b"request")
    one.now += LONGEST_PAUSE - 1.0
    dead = one.backend
    again = ClientConnection(one.engine, iss=seq.add(ISS, 77_000))
    again.now = one.now
    for pause in (1.0, 2.0):
        again.syn()
        again.now += pause
        again.engine.handle_timer(again.now)
    again.syn()
    assert {dead, again.backend} == {C1, C2}
    again.syn_ack()
    again.from_client("A")
    assert again.from_client("PA", b"request").dst == again.backend_address


def test_a_client_that_starts_again_is_served_by_a_backend_that_has_started_again(fast: bool) -> None:
    one = ClientConnection(engine(UNMIRRORED, fast=fast))
    one.connect()
    again = ClientConnection(one.engine, iss=seq.add(ISS, 77_000))
    again.now += 1.0
    for _ in range(5):
        again.syn()
        again.now += 1.0
    again.syn_ack()
    again.from_client("A")
    assert counter(again, EngineCounter.FLOWS_OPENED) == 2
    assert again.from_client("PA", b"request").dst == again.backend_address


# A SYN whose TTL ends at this host


def test_a_syn_that_expires_here_opens_no_flow(fast: bool) -> None:
    one = ClientConnection(engine(fast=fast))
    for data in (b"", b"early"):
        assert one.passed(blind_syn(data=data, ttl=1), Hook.PREROUTING).dst in (C1[0], C2[0])
    assert (states(one), one.engine.next_timer()) == ([], None)
    assert counter(one, EngineCounter.PACKETS_WITHOUT_FLOW) == 2
    assert one.engine.snapshot(one.now)["mirrors"][0]["client_bytes"] == 0
    one.engine.receive(blind_syn(), Hook.PREROUTING, one.now, Checksum.VALID)
    assert states(one) == ["syn-sent"]


def test_a_service_without_a_pool_may_be_this_hosts_own(fast: bool) -> None:
    one = ClientConnection(engine(WITHOUT_POOL, fast=fast))
    assert one.take(blind_syn(ttl=1), Hook.PREROUTING) == Accept()
    assert states(one) == ["syn-sent"]


@pytest.mark.parametrize("number", [ISS, ISS + 7])
def test_a_syn_that_expires_here_changes_no_connection(fast: bool, number: int) -> None:
    one = Connection(fast=fast)
    forged = blind_syn(number, options=bytes((OPT_NOP, OPT_WINDOW_SCALE, 3, 14)), data=b"LIES!", ttl=1)
    plain = blind_syn(number, options=bytes((OPT_NOP, OPT_WINDOW_SCALE, 3, 14)), ttl=1)

    def passes() -> None:
        for raw in (forged, plain):
            one.now += SYN_ANSWER_TIMEOUT
            assert one.passed(raw, Hook.PREROUTING).dst == one.backend_address

    one.syn()
    passes()
    one.syn_ack()
    passes()
    one.from_client("A")
    one.connect_mirror()
    one.mirrored()
    passes()
    one.says(0, b"hello")
    one.acks(5)
    one.says(5, b"", "FA")
    passes()
    one.acks(6, letters="FA")
    one.says(6, b"", "A", ack=1)
    assert states(one) == ["time-wait"]
    passes()
    assert (one.got, states(one)) == (b"hello", ["time-wait"])
    assert counter(one, EngineCounter.SYNS_UNANSWERED) == 0


def test_a_syn_that_expires_here_forgets_no_killed_connection(fast: bool) -> None:
    one = ClientConnection(engine(UNMIRRORED, fast=fast))
    one.connect()
    for name in ("c1", "c2"):
        one.engine.kill("openflow", name, one.engine.flow_ids(), one.now)
    one.passed(blind_syn(ttl=1), Hook.PREROUTING)
    late = packet(CLIENT, SERVICE, "PA", seq.add(ISS, 1), seq.add(IRS, 1), b"late")
    assert one.take(late, Hook.PREROUTING) == Drop(DropReason.FLOW_RESET)


# The client's other connections


def backends_of(one: Engine, now: float) -> set[Endpoint]:
    """Return the backends that 20 new connections of the client go to."""
    found = set()
    for port in range(31_000, 31_020):
        verdict = one.receive(blind_syn(client=(CLIENT[0], port)), Hook.PREROUTING, now, Checksum.VALID).verdict
        assert isinstance(verdict, Accept) and verdict.packet is not None
        out = segment(verdict.packet)
        found.add((out.dst, out.dport))
    return found


def connected(one: Engine, client: Endpoint, now: float) -> Endpoint:
    """Complete a connection; return its backend."""
    other = ClientConnection(one, client=client)
    other.now = now
    other.connect()
    assert other.backend is not None
    return other.backend


@pytest.mark.parametrize("ttl", [1, 64])
def test_blind_syns_move_no_other_connection_of_the_client(fast: bool, ttl: int) -> None:
    one = engine(UNMIRRORED, fast=fast)
    backend = connected(one, CLIENT, 1000.0)
    for now in (1000.0, 1001.0, 1002.0):
        one.receive(blind_syn(client=(CLIENT[0], 7), ttl=ttl), Hook.PREROUTING, now, Checksum.VALID)
        one.handle_timer(now + SYN_ANSWER_TIMEOUT)
    if ttl > 1:  # a connection of any client shows that the backend lives
        others = (at(f"10.10.0.{number}", 7) for number in range(20, 99))
        assert any(connected(one, other, 1003.0) == backend for other in others)
    assert backends_of(one, 1003.5) == {backend}
