"""Records of legs with the wire's own numbers, between two hosts with keys of their own."""

from typing import Any

import pytest

from natmirror.actions import Drop, Hook, Send
from natmirror.engine.engine import Engine
from natmirror.net import seq
from natmirror.net.build import finish
from natmirror.reasons import DropReason
from natmirror.rules import parse_rules
from tests.helpers.client_connection import ISS, KEY, MIRROR_ISS, ClientConnection
from tests.helpers.leg_records import adopted_connection, answer, due, end_reasons, mirror_of, records
from tests.helpers.support import MASTER, RULES, at, at_once, packet, summary

SHARED = (
    RULES
    + """
ha:
  hosts:
    - {name: lb1, switch-side: 10.10.0.2, pool-side: 10.20.0.2, priority: 200}
    - {name: lb2, switch-side: 10.10.0.3, pool-side: 10.20.0.3, priority: 100}
  switch-side: {interface: eth0, addresses: [10.10.0.100/24], vrrp-id: 10}
  pool-side: {interface: eth1, addresses: [10.20.0.100/24], vrrp-id: 20}
  state: redis://10.20.0.9:6379/0
"""
)


def host(key: bytes, rules: str = SHARED, *, fast: bool = True) -> Engine:
    """Return a host of the pair, which shows its legs by the numbers on the wire."""
    return Engine(at_once(parse_rules(rules)), key=key, fast=fast)


def establish_leg(connection: ClientConnection) -> int:
    """Establish the leg; return the number of its first byte on the wire."""
    connection.connect()
    connection.engine.read_sessions(connection.now)
    [iss] = [number for letters, number, _, _ in connection.mirrored() if letters == "S"]
    raw = packet(MASTER, connection.client, "SA", MIRROR_ISS, seq.add(iss, 1))
    assert connection.take(raw, Hook.PREROUTING) == Drop(DropReason.FOR_LEG)
    connection.mirrored()
    return seq.add(iss, 1)


def move(connection: ClientConnection, then: Engine, reported: list[dict[str, Any]]) -> None:
    """Move the connection to another host, which adopts these records."""
    then.replicated_legs.release()
    for record in reported:
        then.replicated_legs.adopt(record, connection.now)
    connection.engine.replicated_legs.release()
    then.replicated_legs.take_over(connection.now)
    connection.engine = then


def from_mirror(connection: ClientConnection, at_number: int, ack: int, data: bytes = b"") -> None:
    """Send a segment of the mirror, by the numbers on the wire."""
    connection.take(packet(MASTER, connection.client, "A", at_number, ack, data), Hook.PREROUTING)


def due_packets(connection: ClientConnection) -> list[tuple[str, int, int, bytes]]:
    """Return the packets that are due, by the numbers on the wire."""
    sends = connection.engine.handle_timer(connection.now)
    return [summary(one) for send in sends if isinstance(send, Send) for one in finish(send.packet, send.segment_len)]


@pytest.mark.parametrize("key", ["", "  key: a secret of both hosts\n"])
def test_the_other_host_goes_on_with_the_numbers_on_the_wire(fast: bool, key: str) -> None:
    one, other = (host(secret, SHARED + key, fast=fast) for secret in (KEY, bytes(16)))
    connection = ClientConnection(one)
    first = establish_leg(connection)
    connection.from_client("PA", b"hello")
    connection.from_backend("A")
    from_mirror(connection, seq.add(MIRROR_ISS, 1), seq.add(first, 5))
    move(connection, other, records(one))
    assert due_packets(connection) == [("A", seq.add(first, 4), seq.add(MIRROR_ISS, 1), b"")]
    from_mirror(connection, seq.add(MIRROR_ISS, 1), seq.add(first, 5))
    assert due_packets(connection) == []
    connection.mirrored()
    for count in range(4):
        connection.from_client("PA", b"again")
        connection.from_backend("A")
        assert connection.mirrored() == [("PA", seq.add(first, 5 + 5 * count), seq.add(MIRROR_ISS, 1), b"again")]
        from_mirror(connection, seq.add(MIRROR_ISS, 1), seq.add(first, 10 + 5 * count))
    assert mirror_of(connection)["lost_bytes"] == {}


def test_a_record_holds_no_unmasked_number() -> None:
    connection = ClientConnection(host(KEY))
    first = establish_leg(connection)
    connection.from_client("PA", b"hello")
    connection.from_backend("A")
    from_mirror(connection, seq.add(MIRROR_ISS, 1), first, b"answer")
    [record] = records(connection.engine)
    numbers = {value for leg in record["legs"] for value in leg.values()} | {
        value for name, value in record.items() if name != "legs"
    }
    offset = seq.add(first, -ISS - 1)
    near = {seq.add(start, by) for start in (ISS, first, MIRROR_ISS, offset) for by in range(-8, 9)}
    assert not numbers & (near | {seq.add(0, -offset)})


def test_only_the_same_record_has_the_same_nonce() -> None:
    connection = ClientConnection(host(KEY))
    establish_leg(connection)
    reported = [records(connection.engine, everything=True)[0] for _ in range(2)]
    assert reported[0] == reported[1]
    connection.from_client("PA", b"hello")
    reported += records(connection.engine, everything=True)
    connection.from_client("R")
    later = ClientConnection(connection.engine, iss=77, irs=5000)
    establish_leg(later)
    reported += records(connection.engine, everything=True)
    other = ClientConnection(connection.engine, client=at("10.10.0.12", 40001))
    establish_leg(other)
    reported += records(connection.engine)
    assert len({record["nonce"] for record in reported}) == 4
    assert len({record["iss"] for record in reported}) == 4


def test_a_host_with_another_key_ends_the_legs_for_no_record_and_sends_the_mirror_no_byte(fast: bool) -> None:
    """With some of 64 keys the unmasked numbers look plausible."""
    for number in range(64):
        one = host(KEY, SHARED + "  key: the secret of one\n", fast=fast)
        other = host(KEY, SHARED + f"  key: the other's secret {number}\n", fast=fast)
        connection = ClientConnection(one)
        first = establish_leg(connection)
        then = records(one)
        with pytest.raises(ValueError, match=r"ha\.key differ"):
            other.replicated_legs.adopt(then[0], connection.now)
        move(connection, other, [])
        assert due_packets(connection) == []
        assert connection.from_client("PA", b"hello").dst == connection.backend_address
        from_mirror(connection, seq.add(MIRROR_ISS, 1), first)
        assert connection.mirrored() == [("R", first, 0, b"")], "the mirror gets a RST"
        assert mirror_of(connection)["lost_bytes"] == {"no-record": 5}


def test_a_leg_younger_than_all_records_ends_for_no_record(fast: bool) -> None:
    one, other = host(KEY, fast=fast), host(bytes(16), fast=fast)
    connection = ClientConnection(one)
    first = establish_leg(connection)
    move(connection, other, [])
    connection.from_client("PA", b"hello")
    connection.from_backend("A")
    from_mirror(connection, seq.add(MIRROR_ISS, 1), first)
    assert connection.mirrored() == [("R", first, 0, b"")], "the mirror gets a RST"
    connection.from_client("PA", b"again")
    assert mirror_of(connection)["lost_bytes"] == {"no-record": 10}


@pytest.mark.parametrize("iss", [77, ISS - (1 << 24), ISS + (1 << 28), ISS + (1 << 31)])
def test_a_leg_whose_record_is_of_an_older_leg_ends_for_no_record(fast: bool, iss: int) -> None:
    one, other = host(KEY, fast=fast), host(bytes(16), fast=fast)
    connection = ClientConnection(one)
    establish_leg(connection)
    connection.from_client("PA", b"older")
    [record] = records(one)
    connection.from_client("R")
    later = ClientConnection(one, iss=iss & 0xFFFF_FFFF, irs=5000)
    later.now += 20.0
    first = establish_leg(later)
    later.from_client("PA", b"hello")
    later.from_backend("PA", b"answer")
    assert [data for *_, data in later.mirrored()] == [b"hello"]
    move(later, other, [record])
    copied = b""
    for _ in range(40):
        probes = due_packets(later)
        later.from_client("PA", b"more!")
        later.from_backend("A")
        sends = [*probes, *later.mirrored()]
        copied += b"".join(data for *_, data in sends)
        if any(letters == "A" and not data for letters, _, _, data in sends):
            from_mirror(later, seq.add(MIRROR_ISS, 1), seq.add(first, 5))
        later.now += 1.0
    assert copied == b"", "no byte of another connection"
    assert set(end_reasons(later)) <= {"no-record", "takeover-hole"}
    mirror = mirror_of(later)
    assert mirror["pending_bytes"] == 0
    assert set(mirror["lost_bytes"]) <= {"no-record", "takeover-hole"}
    assert mirror["legs"] == 0


def test_a_mirror_with_another_connection_is_recognised_at_its_second_answer(fast: bool) -> None:
    for at_number, ack in ((4, 11 + (1 << 30) + 10), (4 - (1 << 29), 11), (4 + (1 << 30) + 1, 11)):
        connection = adopted_connection(fast=fast)
        due(connection)
        answer(connection, ack, at_number)
        assert end_reasons(connection) == []
        due(connection, 1.0)
        answer(connection, ack, at_number)
        assert end_reasons(connection) == ["no-record"]


def test_a_host_without_a_pair_counts_the_bytes_as_mid_connection(fast: bool) -> None:
    connection = ClientConnection(host(KEY, RULES, fast=fast))
    connection.backend = at("10.20.0.11", 6653)
    connection.from_client("PA", b"hello")
    assert mirror_of(connection)["lost_bytes"] == {"picked-up": 5}
