"""Ranges, the scoreboard of a mirror's selective acknowledgements, and the receiver's own."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.net import seq
from natmirror.net.ranges import Ranges
from natmirror.tcp.receiver import Receiver
from natmirror.tcp.sack import Scoreboard
from tests.helpers.support import CLIENT, MASTER, packet, segment

UNA = 0xFFFF_FF80
MSS = 100


def at(offset: int) -> int:
    return seq.add(UNA, offset)


def blocks(*ranges: tuple[int, int]) -> list[tuple[int, int]]:
    return [(at(start), at(end)) for start, end in ranges]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=20), st.integers(0, 60))
def test_ranges_are_a_set_of_numbers(pieces: list[tuple[int, int]], floor: int) -> None:
    ranges = Ranges()
    held: set[int] = set()
    for start, end in pieces:
        fresh = set(range(start, end)) - held
        assert ranges.add(at(start), at(end)) == bool(fresh)
        held |= fresh
    ranges.cut(at(floor))
    held = {number for number in held if number >= floor}
    shown = [(seq.diff(start, UNA), seq.diff(end, UNA)) for start, end in ranges]
    assert {number for start, end in shown for number in range(start, end)} == held
    assert shown == sorted(shown)
    assert all(left[1] < right[0] for left, right in pairwise(shown)), "adjacent ranges are merged"
    free, _ = ranges.gap(UNA)
    assert seq.diff(free, UNA) == next(number for number in range(100) if number not in held)


def test_ranges_are_bounded() -> None:
    ranges = Ranges()
    assert sum(ranges.add(at(2 * number), at(2 * number + 1)) for number in range(1000)) == 256


def test_a_range_before_all_others_finds_room_however_many_there_are() -> None:
    ranges = Ranges()
    for number in range(256):
        ranges.add(at(1000 + 2 * number), at(1001 + 2 * number))
    assert ranges.add(at(0), at(10))
    assert ranges.gap(at(0)) == (at(10), at(1000))
    assert len(list(ranges)) == 256


def board(*ranges: tuple[int, int], highest: int = 1000) -> Scoreboard:
    scoreboard = Scoreboard(UNA)
    scoreboard.take(blocks(*ranges), UNA, at(highest), MSS)
    return scoreboard


def test_without_blocks_all_sent_bytes_are_in_the_network() -> None:
    assert board().pipe(UNA, at(500)) == 500
    assert board().next_hole(UNA, MSS) is None
    assert not board().is_lost(UNA)


def test_held_and_lost_bytes_are_not_in_the_network() -> None:
    scoreboard = board((100, 300))
    assert not scoreboard.is_lost(UNA), "two segments above it are not enough"
    assert scoreboard.pipe(UNA, at(500)) == 300
    assert scoreboard.take(blocks((300, 350)), UNA, at(1000), MSS)
    assert scoreboard.is_lost(UNA)
    assert scoreboard.pipe(UNA, at(500)) == 150
    assert scoreboard.next_hole(UNA, MSS) == (UNA, 100)
    scoreboard.note_resent(at(100))
    assert scoreboard.pipe(UNA, at(500)) == 250
    assert scoreboard.next_hole(UNA, MSS) is None


def test_three_ranges_above_a_hole_are_enough_however_small() -> None:
    scoreboard = board((100, 101), (110, 111), (120, 121))
    assert scoreboard.is_lost(UNA)
    assert scoreboard.is_lost(at(99))
    assert not scoreboard.is_lost(at(105))


def test_holes_are_sent_again_in_order_a_segment_each() -> None:
    scoreboard = board((250, 300), (400, 650))
    holes = []
    while (hole := scoreboard.next_hole(UNA, MSS)) is not None:
        holes.append((seq.diff(hole[0], UNA), hole[1]))
        scoreboard.note_resent(seq.add(*hole))
    assert holes == [(0, 100), (100, 100), (200, 50), (300, 100)]


@pytest.mark.parametrize("one", [(-50, 10), (0, 50), (900, 1001), (50, 20)])
def test_blocks_outside_the_unacknowledged_range_are_ignored(one: tuple[int, int]) -> None:
    assert not Scoreboard(UNA).take(blocks(one), UNA, at(1000), MSS)


def test_after_a_timeout_all_blocks_are_forgotten() -> None:
    scoreboard = board((100, 600))
    scoreboard.forget()
    assert scoreboard.pipe(UNA, at(600)) == 600
    assert scoreboard.skip(at(200)) == (at(200), None)


def listening() -> Receiver:
    receiver = Receiver(SimpleNamespace(consumed_bytes=0))
    receiver.start(at(-1))
    return receiver


def received(receiver: Receiver, letters: str, offset: int, data: bytes = b"") -> None:
    receiver.take(segment(packet(MASTER, CLIENT, letters, at(offset), 1, data)))


def test_a_first_gap_of_several_segments_is_filled_however_many_follow() -> None:
    """Otherwise a mirror would send its first segment again for ever."""
    receiver = listening()
    for number in range(300):
        received(receiver, "A", 200 + 40 * number, b"x" * 20)
    assert receiver.row.rcv_nxt == UNA
    for start in (0, 100):
        received(receiver, "A", start, b"y" * 100)
    assert receiver.row.rcv_nxt == at(220)
    for number in range(600):
        received(receiver, "A", 200 + 20 * number, b"z" * 20)
    assert receiver.row.rcv_nxt == at(200 + 20 * 600)
    assert receiver.is_steady


def test_out_of_order_data_is_reported_latest_first_and_not_requested_again() -> None:
    receiver = listening()
    for offset in (10, 30, 50, 70, 90):
        received(receiver, "A", offset, b"x" * 5)
    assert receiver.row.rcv_nxt == UNA
    option = receiver.sack_option()
    assert option[:4] == bytes((1, 1, 5, 34)), "four blocks"
    assert option[4:12] == at(90).to_bytes(4, "big") + at(95).to_bytes(4, "big")
    received(receiver, "A", 0, b"x" * 10)
    assert receiver.row.rcv_nxt == at(15)
    received(receiver, "A", 15, b"x" * 100)
    assert (receiver.row.rcv_nxt, receiver.row.consumed_bytes, receiver.sack_option()) == (at(115), 115, b"")


def test_an_out_of_order_fin_waits_for_the_data_before_it() -> None:
    receiver = listening()
    received(receiver, "FA", 5, b"x" * 5)
    assert not receiver.is_finished
    received(receiver, "A", 0, b"x" * 5)
    assert receiver.is_finished
    assert (receiver.row.rcv_nxt, receiver.row.consumed_bytes) == (at(11), 10)
    received(receiver, "A", 11, b"more")
    assert receiver.row.rcv_nxt == at(11), "nothing follows a FIN"


@given(st.permutations(range(12)), st.integers(0, 11))
def test_any_order_of_the_mirrors_segments_has_the_same_result(order: list[int], again: int) -> None:
    receiver = listening()
    for number in (*order[:6], again, *order):
        received(receiver, "FA" if number == 11 else "A", number * 20, b"x" * 20)
    assert receiver.is_finished
    assert (receiver.row.consumed_bytes, receiver.row.rcv_nxt) == (240, at(241))
