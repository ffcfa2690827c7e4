"""Copies that begin again get no byte of which their backend may have another version.

The backend may have bytes that do not count as sent here: past the window that is known, of a SYN, or of a packet that
natmirror has not followed. The copy begins behind them.
"""

import pytest

from natmirror._ffi import lib
from natmirror.actions import Drop, Hook
from natmirror.engine.engine import Engine
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import URG
from natmirror.reasons import DropReason
from natmirror.rules import Release, parse_rules
from tests.helpers.client_connection import IRS, ISS, MIRROR_ISS, ClientConnection, engine
from tests.helpers.support import CLIENT, MASTER, RULES, SERVICE, assert_adds_up, packet

AGAIN = RULES.replace("{name: master, address: 10.20.0.13}", "{name: m, address: 10.20.0.13, reconnect: next-segment}")
WATCHED = AGAIN[: AGAIN.index("    pool:")] + AGAIN[AGAIN.index("    mirrors:") :]
WINDOW = 0xFFFF
SAID = 6
"""The client's bytes before the break at which the copy waits."""


def connected(of: Engine, client: Endpoint = CLIENT) -> ClientConnection:
    """Return a connection whose copy is open."""
    one = ClientConnection(of, client=client)
    one.connect()
    one.take(packet(MASTER, client, "SA", MIRROR_ISS, seq.add(ISS, 1)), Hook.PREROUTING)
    return one


def waiting(*, fast: bool, rules: str = AGAIN) -> ClientConnection:
    """Return a connection whose copy waits to begin again, at a break."""
    one = connected(engine(rules, fast=fast, release=Release.ACKNOWLEDGED))
    one.now += 10
    one.from_client("PA", b"one")
    one.from_backend("A")
    one.from_mirror("A", 1, 4)
    one.from_mirror("RA", 1, 1)
    one.from_client("PA", b"two")
    one.from_backend("A")
    one.now += 0.01
    one.to_mirror.clear()
    return one


def acknowledge(one: ClientConnection, upto: int) -> None:
    """Send the backend's acknowledgement of the client's first bytes, with a window of WINDOW."""
    assert one.backend is not None
    raw = packet(one.backend, CLIENT, "A", seq.add(IRS, 1), seq.add(ISS, 1 + upto), window=WINDOW)
    one.passed(raw, Hook.FORWARD)


def fill_window(one: ClientConnection) -> None:
    """Fill the backend's window behind a gap, and then the gap; no acknowledgement comes yet."""
    for at in range(SAID + 2, SAID + WINDOW, 30_000):
        one.from_client("PA", b"h" * min(30_000, SAID + WINDOW - at), at=at)
    one.from_client("PA", b"hh", at=SAID)


def urgent(one: ClientConnection, pointer: int, letters: str = "A", data: bytes = b"", *, at: int = SAID) -> None:
    """Send a client's segment with an urgent pointer."""
    raw = bytearray(packet(CLIENT, SERVICE, letters, seq.add(ISS, 1 + at), seq.add(IRS, 1), data))
    raw[33] |= URG
    raw[38:40] = pointer.to_bytes(2)
    one.passed(bytes(raw), Hook.PREROUTING)


def begins_at(one: ClientConnection) -> list[int]:
    """Return where legs have begun since the last call, as an offset in the client's stream."""
    return [seq.diff(number, ISS) for letters, number, *_ in one.mirrored() if letters == "S"]


@pytest.mark.parametrize("covered", [False, True])
def test_no_copy_begins_before_bytes_past_the_window_that_is_known(fast: bool, covered: bool) -> None:
    one, edge = waiting(fast=fast), SAID + WINDOW
    acknowledge(one, SAID)
    fill_window(one)
    one.from_client("PA", b"TRUTHTRUTH", at=edge + 1)  # the backend's window is open, and its acknowledgement under way
    acknowledge(one, edge)
    if covered:
        one.from_client("PA", b"xLIELIELIE!", at=edge)
    else:
        one.from_client("PA", b"x", at=edge)
        acknowledge(one, edge + 11)
        one.from_client("PA", b"LIELIELIE!", at=edge + 1)
    acknowledge(one, edge + 11)
    assert begins_at(one) == []
    one.from_client("PA", b"new", at=edge + 11)
    assert begins_at(one) == [edge + 11]


def test_bytes_past_the_window_count_from_before_the_copys_end(fast: bool) -> None:
    one = ClientConnection(engine(AGAIN, fast=fast, release=Release.ACKNOWLEDGED))
    one.establish()
    one.from_client("PA", b"h", at=10)
    one.from_client("PA", b"TRUTH", at=WINDOW + 1)
    one.from_mirror("RA", 1, 1)
    one.mirrored()
    one.now += 10
    for at in range(0, WINDOW, 30_000):
        one.from_client("PA", b"h" * min(30_000, WINDOW - at), at=at)
        acknowledge(one, min(at + 30_000, WINDOW))
    one.from_client("PA", b"x", at=WINDOW)
    assert begins_at(one) == []
    one.from_client("PA", b"LIES!", at=WINDOW + 1)
    acknowledge(one, WINDOW + 6)
    one.from_client("PA", b"new", at=WINDOW + 6)
    assert begins_at(one) == [WINDOW + 6]


def test_a_fin_past_the_window_is_no_byte_of_a_copy(fast: bool) -> None:
    one, edge = waiting(fast=fast), SAID + WINDOW
    acknowledge(one, SAID)
    fill_window(one)
    one.from_client("FA", at=edge + 1)
    acknowledge(one, edge)
    one.from_client("PA", b"x", at=edge)
    one.from_client("PA", b"!", at=edge + 1)
    acknowledge(one, edge + 2)
    assert begins_at(one) == []


@pytest.mark.parametrize(("letters", "data"), [("A", b""), ("PA", b"ab")])
def test_no_copy_begins_before_an_urgent_byte(fast: bool, letters: str, data: bytes) -> None:
    one = waiting(fast=fast)
    urgent(one, 3, letters, data)
    one.from_client("PA", b"abCde"[len(data) :], at=SAID + len(data))  # the backend's program reads abde
    acknowledge(one, SAID + 5)
    assert begins_at(one) == []
    one.from_client("PA", b"new", at=SAID + 5)
    assert begins_at(one) == [SAID + 5]


def test_an_urgent_pointer_that_ends_a_copy_counts_for_the_next_one(fast: bool) -> None:
    one = ClientConnection(engine(AGAIN, fast=fast, release=Release.ACKNOWLEDGED))
    one.establish()
    one.now += 10
    urgent(one, 8, at=0)
    for at in range(0, 20, 5):
        one.from_client("PA", b"abcde", at=at)
        acknowledge(one, at + 5)
        begun = begins_at(one)
        if begun:
            break
    assert begun == [10]


def test_no_copy_begins_before_bytes_of_the_syn(fast: bool) -> None:
    one = ClientConnection(engine(RULES[: RULES.index("    mirrors:")], fast=fast))
    out = one.passed(packet(CLIENT, SERVICE, "S", ISS, data=b"TRUTH"), Hook.PREROUTING)
    one.backend = out.dst, out.dport
    one.syn_ack()  # of the SYN alone: the backend may take its data nevertheless (RFC 9293, 3.10.7.2)
    one.from_client("A")
    one.engine.reload(parse_rules(AGAIN))
    one.engine.follow_mirrors(one.engine.flow_ids(), one.now)
    one.now += 10
    one.from_client("PA", b"LIES!", at=0)
    acknowledge(one, 5)
    assert begins_at(one) == []
    one.from_client("PA", b"new", at=5)
    assert begins_at(one) == [5]


def test_bytes_past_the_window_count_from_before_the_service_had_a_mirror(fast: bool) -> None:
    one = ClientConnection(engine(RULES[: RULES.index("    mirrors:")], fast=fast))
    one.connect()
    one.from_client("PA", b"h", at=10)
    one.from_client("PA", b"TRUTH", at=WINDOW + 1)
    one.from_client("PA", b"LIES!", at=1 << 30)  # nor is that in any window
    one.engine.reload(parse_rules(AGAIN))
    one.engine.follow_mirrors(one.engine.flow_ids(), one.now)
    one.now += 10
    one.from_client("PA", b"h" * 60_000, at=0)
    acknowledge(one, 60_000)
    assert begins_at(one) == []
    one.from_client("PA", b"h" * (WINDOW + 6 - 60_000), at=60_000)
    acknowledge(one, WINDOW + 6)
    one.from_client("PA", b"new", at=WINDOW + 6)
    assert begins_at(one) == [WINDOW + 6]


def test_no_copy_begins_before_bytes_that_passed_a_watch_queue_over_the_limit() -> None:
    one = waiting(fast=True, rules=WATCHED)
    busy = connected(one.engine, (CLIENT[0], CLIENT[1] + 1))
    busy.now = one.now
    for number in range(int(lib.NM_TURNS_BURST)):
        busy.from_client("PA", b"x", at=10 + 2 * number)
    raw = packet(CLIENT, SERVICE, "FPA", seq.add(ISS, 1 + SAID), seq.add(IRS, 1), b"TRUTH")
    assert one.take(raw, Hook.PREROUTING) == Drop(DropReason.OVER_LIMIT)
    one.now += 0.1
    one.from_client("PA", b"LIE", at=SAID)
    acknowledge(one, SAID + 3)
    assert begins_at(one) == []
    assert_adds_up(one.engine.snapshot(one.now))


def test_no_copy_begins_at_a_break_behind_which_the_client_has_sent(fast: bool) -> None:
    one = waiting(fast=fast)
    one.from_client("A", at=SAID + 1)  # the byte before did not pass here
    one.from_client("PA", b"LIES!", at=SAID)
    assert begins_at(one) == []
    acknowledge(one, SAID + 5)
    one.from_client("PA", b"new", at=SAID + 5)
    assert begins_at(one) == [SAID + 5]
