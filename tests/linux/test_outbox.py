"""The outbox: when packets are written, and which of them are joined."""

import itertools
import socket
import struct
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror._ffi import ffi, lib
from natmirror.fastpath import NEVER, Gear, Memory
from natmirror.net.build import synthesise
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import ACK, FIN, PSH, Segment, parse
from tests.helpers.support import C1, CLIENT

HEADER_LEN = struct.calcsize("=BBHHHH")
MSS = 1460
PAUSE = 0.005
NEIGHBOUR = (CLIENT[0], CLIENT[1] + 1)


class Output:
    """An outbox, its input, and the socket that it writes to. It has just written when a test begins."""

    def __init__(self) -> None:
        self.end, self._writing_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.end.setblocking(False)
        self.end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._writing_end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 23)
        fields = {"fd": self._writing_end.fileno(), "gather_time": PAUSE, "due_at": NEVER, "written_at": 1.0}
        self.outbox: Any = ffi.new("nl_outbox *", fields)
        self._gear = Gear(4, Memory(1 << 20), bytes(16))
        self.out: Any = ffi.addressof(self._gear.handle, "out")

    def close(self) -> None:
        self.end.close()
        self._writing_end.close()

    def add(self, *packets: bytes, segment_len: int = MSS) -> None:
        for packet in packets:
            assert lib.nm_out_add(self.out, packet, len(packet), segment_len)

    def gather(self, now: float) -> list[Segment]:
        """Run the outbox at a time; return the packets that it writes."""
        lib.nl_outbox_gather(self.outbox, self.out, now)
        return self.written()

    def written(self) -> list[Segment]:
        found: list[Segment] = []
        while True:
            try:
                written = self.end.recv(1 << 17)
            except BlockingIOError:
                return found
            segment = parse(written[HEADER_LEN:])
            assert isinstance(segment, Segment)
            found.append(segment)


@pytest.fixture
def output() -> Iterator[Output]:
    output = Output()
    yield output
    output.close()


def small_segment(
    seq: int, data: bytes, *, client: Endpoint = CLIENT, ack: int = 1, window: int = 100, flags: int = ACK | PSH
) -> bytes:
    return synthesise(client, C1, seq=seq, ack=ack, flags=flags, window=window, payload=data)


def data_of(segments: list[Segment]) -> list[bytes]:
    return [bytes(segment.payload) for segment in segments]


def test_a_small_segment_is_written_at_once_if_the_last_write_was_long_ago(output: Output) -> None:
    output.add(small_segment(10, b"a"))
    assert data_of(output.gather(1 + 2 * PAUSE)) == [b"a"]
    assert output.outbox.due_at == NEVER


def test_small_segments_soon_after_a_write_wait_and_are_written_as_one(output: Output) -> None:
    output.add(small_segment(10, b"one,", ack=1, window=7))
    assert output.gather(1.001) == []
    output.add(small_segment(14, b"two,", ack=2, window=8), small_segment(18, b"three", ack=3, window=9))
    assert output.gather(1.002) == []
    assert output.outbox.due_at == 1 + PAUSE
    (whole,) = output.gather(output.outbox.due_at)
    assert whole.raw == small_segment(10, b"one,two,three", ack=3, window=9), "its checksums are right"
    assert (output.outbox.due_at, output.outbox.written_at) == (NEVER, 1 + PAUSE)
    assert (output.outbox.counters.packets_sent, output.outbox.counters.packets_joined) == (1, 2)
    output.add(small_segment(23, b"four"))
    assert output.gather(1 + 1.5 * PAUSE) == [], "the last write was just now"
    assert data_of(output.gather(2.0)) == [b"four"]
    output.add(small_segment(27, b"", flags=ACK))
    assert len(output.gather(2.001)) == 1


def test_without_a_gather_time_no_packet_waits(output: Output) -> None:
    output.outbox.gather_time = 0.0
    for number in range(2):
        output.add(small_segment(10 + number, b"a"))
        assert len(output.gather(1.0)) == 1


@pytest.mark.parametrize(
    "packet",
    [
        small_segment(11, b"", flags=ACK),
        small_segment(11, b"b", flags=ACK | FIN),
        small_segment(11, b"b", flags=ACK),
        small_segment(11, bytes(MSS)),
        synthesise(CLIENT, C1, seq=11, ack=1, flags=ACK, window=1, options=b"\1" * 4, payload=b"b"),
    ],
)
def test_any_other_packet_is_written_at_once_behind_those_that_wait(output: Output, packet: bytes) -> None:
    output.add(small_segment(10, b"a"))
    assert output.gather(1.001) == []
    output.add(packet)
    first, second = output.gather(1.001)
    assert (first.payload, second.payload) == (b"a", parse(packet).payload)  # type: ignore[union-attr]


def test_only_adjacent_segments_of_one_stream_are_joined(output: Output) -> None:
    output.add(
        small_segment(10, b"a"),
        small_segment(10, b"A", client=NEIGHBOUR),
        small_segment(11, b"b"),
        small_segment(11, b"B", client=NEIGHBOUR),
    )
    output.add(small_segment(13, b"d"), small_segment(11, b"b"), small_segment(12, b"c"))
    assert data_of(output.gather(2.0)) == [b"ab", b"AB", b"d", b"bc"]


def test_a_joined_packet_is_at_most_one_segment_long(output: Output) -> None:
    output.add(*(small_segment(100 * number, bytes(100)) for number in range(15)))
    assert [len(data) for data in data_of(output.gather(2.0))] == [1400, 100]


def test_a_joined_packet_has_a_bounded_number_of_parts(output: Output) -> None:
    output.add(*(small_segment(number, b"a") for number in range(100)))
    assert [len(data) for data in data_of(output.gather(2.0))] == [63, 37]


def test_many_packets_or_bytes_do_not_wait(output: Output) -> None:
    for length, most in ((1, 512), (1300, 49)):
        output.add(*(small_segment(2000 * number, bytes(length)) for number in range(most - 1)))
        assert output.gather(1.001) == []
        output.add(small_segment(2000 * most, bytes(length)))
        assert len(output.gather(1.001)) == most
        output.outbox.written_at = 1.0


def test_a_packet_that_the_kernel_refuses_is_counted_and_delays_no_other(output: Output) -> None:
    output.add(small_segment(10, b"a"), small_segment(11, b"b"))
    fd, output.outbox.fd = output.outbox.fd, -1
    assert output.gather(2.0) == []
    assert (output.outbox.counters.packets_sent, output.outbox.counters.packets_refused) == (0, 1)
    output.outbox.fd = fd
    output.add(small_segment(12, b"c"))
    assert data_of(output.gather(3.0)) == [b"c"]


streams = st.sampled_from([(CLIENT[0], CLIENT[1] + step) for step in (0, 1, 512)])  # two have the same hash
skips = st.sampled_from([0, 0, 0, 1, -1])
lengths = st.sampled_from([0, 1, 32, 700, 1460, 3000])
steps = st.lists(st.tuples(streams, skips, lengths, st.sampled_from([ACK, ACK | PSH, ACK | FIN])), max_size=100)


@given(steps)
def test_each_streams_bytes_are_written_in_order(steps: list[tuple[Endpoint, int, int, int]]) -> None:
    output = Output()
    ends: defaultdict[Endpoint, int] = defaultdict(lambda: 0xFFFFFFFF - 500)
    came: defaultdict[Endpoint, list[tuple[int, int]]] = defaultdict(list)
    counter = itertools.count()
    try:
        for client, skip, length, flags in steps:
            data = bytes(next(counter) % 251 for _ in range(length))
            seq = (ends[client] + skip) % (1 << 32)
            output.add(small_segment(seq, data, client=client, flags=flags))
            came[client] += [((seq + place) % (1 << 32), byte) for place, byte in enumerate(data)]
            ends[client] = (seq + length) % (1 << 32)
        check_written(output, came)
    finally:
        output.close()


def check_written(output: Output, came: defaultdict[Endpoint, list[tuple[int, int]]]) -> None:
    got: defaultdict[Endpoint, list[tuple[int, int]]] = defaultdict(list)
    for segment in output.gather(output.outbox.written_at + 1):
        assert segment.payload_len <= 3000
        got[segment.src, segment.sport] += [
            ((segment.seq + place) % (1 << 32), byte) for place, byte in enumerate(segment.payload)
        ]
    assert {client: found for client, found in got.items() if found} == {c: b for c, b in came.items() if b}
