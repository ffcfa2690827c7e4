"""The reassembler: a stream's bytes in order, from packets in any order."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.fastpath import NO_HOLDER, Gear, Memory
from natmirror.net import seq
from natmirror.tcp.reassembler import MAX_RUNS, Reassembler

START = 0xFFFF_FF00
FAR = seq.add(START, 1 << 20)


class NothingHeld(list[int]):
    """Stands for the held bytes of a flow whose backend has acknowledged all that was in order."""


def reassembler(next_seq: int, max_waiting: int, memory: Memory, held: Any = None) -> Reassembler:
    row = SimpleNamespace(orig=SimpleNamespace(), held=SimpleNamespace(holder=NO_HOLDER))
    return Reassembler(row, "orig", next_seq, max_waiting, Gear(1, memory, bytes(16)).memory, held)


def test_in_order_bytes_come_out_at_once() -> None:
    stream = reassembler(START, 1000, Memory(10_000))
    assert stream.push(START, b"abc", FAR) == b"abc"
    assert stream.push(seq.add(START, 3), b"def", FAR) == b"def"
    assert stream.next == seq.add(START, 6)


def test_a_repetition_returns_nothing_and_a_longer_one_its_new_part() -> None:
    stream = reassembler(START, 1000, Memory(10_000))
    stream.push(START, b"abc", FAR)
    assert stream.push(START, b"abc", FAR) == b""
    assert stream.push(START, b"abcde", FAR) == b"de"


def test_a_hole_is_waited_for() -> None:
    stream = reassembler(START, 1000, Memory(10_000))
    assert stream.push(seq.add(START, 3), b"def", FAR) == b""
    assert stream.push(START, b"abc", FAR) == b"abcdef"
    assert stream.waiting_bytes == 0


def test_a_byte_past_the_window_waits_until_the_window_moves() -> None:
    stream = reassembler(START, 1000, Memory(10_000))
    edge = seq.add(START, 3)
    assert stream.push(START, b"abc", edge) == b"abc"
    assert stream.push(edge, b"d", edge) == b""
    assert stream.push(seq.add(START, 4), b"ef", FAR) == b"def"


def test_a_segment_that_begins_past_the_window_waits_because_the_window_may_be_further_at_the_receiver() -> None:
    stream = reassembler(START, 1000, Memory(10_000))
    assert stream.push(seq.add(START, 3), b"x", seq.add(START, 2)) == b""
    assert stream.push(START, b"abc", FAR) == b"abcx"


def test_waiting_bytes_are_bounded_but_bytes_in_order_always_enter() -> None:
    stream = reassembler(START, 10, Memory(10_000))
    assert stream.push(seq.add(START, 4), b"x" * 10, FAR) == b""
    assert stream.push(seq.add(START, 14), b"y", FAR) == b""
    assert stream.push(START, b"abcd", FAR) == b"abcd" + b"x" * 10


def test_a_gap_ends_at_the_first_byte_that_has_come_though_it_was_left_out() -> None:
    stream = reassembler(START, 10, Memory(10_000), NothingHeld())
    limit = seq.add(START, 20)
    assert stream.gap_end(limit) == limit
    stream.push(seq.add(START, 8), b"x" * 8, FAR)
    assert stream.gap_end(limit) == seq.add(START, 8)
    stream.push(seq.add(START, 3), b"y" * 4, FAR)
    assert stream.gap_end(limit) == seq.add(START, 3)
    assert stream.gap_end(seq.add(START, 2)) == seq.add(START, 2)


def test_repetitions_take_no_memory() -> None:
    memory = Memory(1000)
    stream = reassembler(START, 10, memory)
    for _ in range(5):
        assert stream.push(seq.add(START, 1), b"bcde", FAR) == b""
        assert stream.push(seq.add(START, 3), b"defg", FAR) == b""
    assert stream.waiting_bytes == 6
    assert memory.used > 6, "the cost of keeping a piece counts too"
    assert stream.push(START, b"a", FAR) == b"abcdefg"
    assert memory.used == 0


def test_a_piece_that_gets_no_memory_is_left_out_with_that_reason() -> None:
    stream = reassembler(START, 1000, Memory(100))
    assert stream.push(seq.add(START, 1), b"bc", FAR) == b""
    assert stream.left_out == "memory-full"
    assert stream.push(START, b"a", FAR) == b"a"


def test_thousands_of_pieces_behind_one_hole_come_out_at_once() -> None:
    memory = Memory(1 << 24)
    stream = reassembler(START, 1 << 20, memory)
    for at in range(1, 50_000):
        stream.push(seq.add(START, at), b"x", seq.add(START, 1 << 20))
    assert stream.push(START, b"x", seq.add(START, 1 << 20)) == b"x" * 50_000
    assert (memory.used, stream.waiting_bytes, stream.is_blocked) == (0, 0, False)


def test_only_a_next_byte_past_the_limit_is_blocked() -> None:
    stream = reassembler(START, 1000, Memory(1000))
    stream.push(seq.add(START, 5), b"later", seq.add(START, 8))
    assert not stream.is_blocked
    assert stream.push(START, b"01234", seq.add(START, 8)) == b"01234lat"
    assert stream.is_blocked
    assert stream.push(stream.next, b"", seq.add(START, 10)) == b"er"
    assert not stream.is_blocked


@given(st.binary(min_size=1, max_size=400), st.data())
def test_any_order_repetition_and_overlap_give_the_same_stream(stream_bytes: bytes, data: st.DataObject) -> None:
    size = len(stream_bytes)
    cuts = st.tuples(st.integers(0, size - 1), st.integers(1, size)).map(lambda cut: (cut[0], cut[0] + cut[1]))
    pieces = data.draw(st.lists(cuts, max_size=30))
    whole = [(at, at + 7) for at in range(0, size, 7)]
    order = data.draw(st.permutations(pieces + whole))
    memory = Memory(1 << 20)
    stream = reassembler(START, size, memory)  # no byte waits twice
    out = b"".join(stream.push(seq.add(START, a), stream_bytes[a:b], FAR) for a, b in order)
    assert out == stream_bytes
    assert (stream.waiting_bytes, memory.used) == (0, 0)


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257])
def test_byte_by_byte_over_the_wrap(size: int) -> None:
    stream = reassembler(START, 1000, Memory(10_000))
    data = bytes(range(256)) * 2
    out = b"".join(stream.push(seq.add(START, at), data[at : at + 1], FAR) for at in range(size))
    assert out == data[:size]


def test_of_too_many_runs_the_last_are_forgotten_with_that_reason() -> None:
    memory = Memory(1 << 20)
    stream = reassembler(START, 1 << 20, memory)
    for number in range(MAX_RUNS + 10):
        stream.push(seq.add(START, 2 + 2 * number), b"x", FAR)
    assert stream.left_out == "too-many-gaps"
    assert stream.waiting_bytes == MAX_RUNS
    used = memory.used
    stream.push(seq.add(START, 1), b"y", FAR)  # adjoins a run, and so is no new one
    assert (memory.used, stream.waiting_bytes) == (used + 1, MAX_RUNS + 1)
    out = stream.push(START, b"y" * (2 + 2 * MAX_RUNS), FAR)
    assert len(out) == 2 + 2 * MAX_RUNS
    assert stream.waiting_bytes == 0, "the pieces that arrived first are in, and the rest was left out"
    assert memory.used == 0


def test_a_piece_before_all_others_replaces_the_last_run() -> None:
    stream = reassembler(START, 1 << 20, Memory(1 << 20))
    for number in range(MAX_RUNS):
        stream.push(seq.add(START, 10 + 2 * number), b"x", FAR)
    stream.push(seq.add(START, 5), b"z", FAR)
    assert stream.push(START, b"yyyyy", FAR) == b"yyyyyz"
    assert stream.waiting_bytes == MAX_RUNS - 1


def test_a_run_that_was_forgotten_for_a_piece_without_memory_frees_its_place() -> None:
    memory = Memory(1 << 20)
    stream = reassembler(START, 1 << 20, memory)
    for number in range(MAX_RUNS):
        stream.push(seq.add(START, 2000 + 2 * number), b"x", FAR)
    while memory.take(100):
        pass
    for _ in range(2 * MAX_RUNS):
        stream.push(seq.add(START, 1), b"z" * 1900, FAR)
        while memory.take(1):  # other users take the freed memory
            pass
    assert stream.push(START, b"y", FAR)[:1] == b"y"
    memory.give(memory.used - stream.waiting_bytes)
    for number in range(MAX_RUNS):
        stream.push(seq.add(START, 10_000 + 2 * number), b"x", FAR)
    assert stream.waiting_bytes == MAX_RUNS


def test_waiting_bytes_take_little_more_memory_than_the_window() -> None:
    memory = Memory(1 << 24)
    stream = reassembler(START, 1 << 20, memory)
    edge = seq.add(START, 65_535)
    for at in [*range(1, 70_000, 3), *range(69_998, 0, -1), *range(1, 70_000)]:
        stream.push(seq.add(START, at), b"x", edge)
    assert memory.used <= 65_536 + 128 * MAX_RUNS
    assert len(stream.push(START, b"x", edge)) == 65_535


@pytest.mark.parametrize("order", [1, -1])
def test_many_waiting_bytes_come_out_in_several_calls(order: int) -> None:
    stream = reassembler(START, 1 << 22, Memory(1 << 24))
    data = bytes(range(256)) * 8000
    for at in range(1, len(data), 10_000)[::order]:
        stream.push(seq.add(START, at), data[at : at + 10_000], seq.add(START, 1 << 22))
    out = [stream.push(START, data[:1], seq.add(START, 1 << 22))]
    while stream.ready_len(seq.add(START, 1 << 22)):
        assert stream.ready_len(seq.add(START, 1 << 22)) == len(data) - sum(map(len, out))
        out.append(stream.push(stream.next, b"", seq.add(START, 1 << 22)))
    assert b"".join(out) == data
    assert max(map(len, out)) <= 384 << 10
    assert len(out) > 5


def test_bytes_that_arrive_between_these_calls_keep_their_order() -> None:
    stream = reassembler(START, 1 << 22, Memory(1 << 24))
    limit = seq.add(START, 1 << 22)
    for at in range(1, 1 << 20, 50_000):
        stream.push(seq.add(START, at), b"x" * 50_000, limit)
    out = stream.push(START, b"a", limit)
    out += stream.push(stream.next, b"y" * 10, limit)
    assert out.count(b"y") == 0, "the first copy counts"


@pytest.mark.parametrize(("skip_to", "is_known"), [(2, True), (21, False), (24, True)])
def test_bytes_that_were_left_out_are_other_versions_also_past_a_hole(skip_to: int, is_known: bool) -> None:
    stream = reassembler(START, 10, Memory(10_000), NothingHeld())
    stream.push(seq.add(START, 2), b"x" * 10, FAR)
    stream.push(seq.add(START, 20), b"left", FAR)
    stream.restart(seq.add(START, skip_to), FAR)
    assert (stream.contradiction is None) == is_known
    stream.push(stream.next, b"y" * 12, FAR)
    assert (stream.contradiction is None) == (skip_to == 24)


@pytest.mark.parametrize(("at", "after"), [(1, 24), (30, 30)])
def test_a_stream_that_begins_anew_passes_all_that_has_come(at: int, after: int) -> None:
    memory = Memory(10_000)
    stream = reassembler(START, 10, memory, NothingHeld())
    stream.push(seq.add(START, 2), b"x" * 10, FAR)
    stream.push(seq.add(START, 20), b"left", FAR)
    stream.start_anew(seq.add(START, at))
    assert (stream.next, stream.contradiction, memory.used) == (seq.add(START, after), None, 0)
    assert stream.push(stream.next, b"on", FAR) == b"on"
