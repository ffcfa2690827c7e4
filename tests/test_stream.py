"""The client's stream out of its packets."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror import seq
from natmirror.fastpath import Memory
from natmirror.stream import Reassembler

START = 0xFFFF_FF00
FAR = seq.add(START, 1 << 20)


def reassembler(next_seq: int, max_waiting: int, memory: Memory) -> Reassembler:
    return Reassembler(SimpleNamespace(orig=SimpleNamespace()), "orig", next_seq, max_waiting, memory)


def test_in_order_bytes_come_out_at_once() -> None:
    stream = reassembler(START, 1000, Memory(10_000))
    assert stream.push(START, b"abc", FAR) == b"abc"
    assert stream.push(seq.add(START, 3), b"def", FAR) == b"def"
    assert stream.next == seq.add(START, 6)


def test_a_repetition_gives_nothing_and_a_longer_one_its_new_part() -> None:
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


def test_what_begins_past_the_window_is_left_out() -> None:
    stream = reassembler(START, 1000, Memory(10_000))
    assert stream.push(seq.add(START, 10), b"x", seq.add(START, 9)) == b""
    assert stream.waiting_bytes == 0


def test_waiting_bytes_are_bounded_but_what_is_in_order_always_enters() -> None:
    stream = reassembler(START, 10, Memory(10_000))
    assert stream.push(seq.add(START, 4), b"x" * 10, FAR) == b""
    assert stream.push(seq.add(START, 14), b"y", FAR) == b""
    assert stream.push(START, b"abcd", FAR) == b"abcd" + b"x" * 10


def test_repetitions_take_no_room() -> None:
    memory = Memory(1000)
    stream = reassembler(START, 10, memory)
    for _ in range(5):
        assert stream.push(seq.add(START, 1), b"bcde", FAR) == b""
        assert stream.push(seq.add(START, 3), b"defg", FAR) == b""
    assert stream.waiting_bytes == 6
    assert memory.used > 6, "what keeping a piece costs counts as well"
    assert stream.push(START, b"a", FAR) == b"abcdefg"
    assert memory.used == 0


def test_a_piece_that_finds_no_memory_is_left_out_and_that_is_known() -> None:
    stream = reassembler(START, 1000, Memory(100))
    assert stream.push(seq.add(START, 1), b"bc", FAR) == b""
    assert stream.left_out == "memory-full"
    assert stream.push(START, b"a", FAR) == b"a"


def test_thousands_of_pieces_behind_one_hole_come_out_in_one_go() -> None:
    memory = Memory(1 << 24)
    stream = reassembler(START, 1 << 20, memory)
    for at in range(1, 50_000):
        stream.push(seq.add(START, at), b"x", seq.add(START, 1 << 20))
    assert stream.push(START, b"x", seq.add(START, 1 << 20)) == b"x" * 50_000
    assert (memory.used, stream.waiting_bytes, stream.blocked) == (0, 0, False)


def test_the_next_byte_past_the_limit_is_blocked_and_nothing_else_is() -> None:
    stream = reassembler(START, 1000, Memory(1000))
    stream.push(seq.add(START, 5), b"later", seq.add(START, 8))
    assert not stream.blocked
    assert stream.push(START, b"01234", seq.add(START, 8)) == b"01234lat"
    assert stream.blocked
    assert stream.push(stream.next, b"", seq.add(START, 10)) == b"er"
    assert not stream.blocked


@given(st.binary(min_size=1, max_size=400), st.data())
def test_any_order_repetition_and_overlap_give_the_same_stream(stream_bytes: bytes, data: st.DataObject) -> None:
    size = len(stream_bytes)
    cuts = st.tuples(st.integers(0, size - 1), st.integers(1, size)).map(lambda cut: (cut[0], cut[0] + cut[1]))
    pieces = data.draw(st.lists(cuts, max_size=30))
    whole = [(at, at + 7) for at in range(0, size, 7)]
    order = data.draw(st.permutations(pieces + whole))
    memory = Memory(1 << 20)
    stream = reassembler(START, size, memory)  # nothing waits twice
    out = b"".join(stream.push(seq.add(START, a), stream_bytes[a:b], FAR) for a, b in order)
    assert out == stream_bytes
    assert (stream.waiting_bytes, memory.used) == (0, 0)


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257])
def test_byte_by_byte_over_the_wrap(size: int) -> None:
    stream = reassembler(START, 1000, Memory(10_000))
    data = bytes(range(256)) * 2
    out = b"".join(stream.push(seq.add(START, at), data[at : at + 1], FAR) for at in range(size))
    assert out == data[:size]
