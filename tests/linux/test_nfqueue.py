"""The queues' codec with messages as the kernel sends them, and with damaged ones."""

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror._ffi import ffi, lib
from tests.helpers.nfqueue import CONFIG, ERROR, NUMBER, PACKET, VERDICT, Codec, attribute, message, queued


def test_packets_are_parsed_with_their_metadata() -> None:
    codec = Codec()
    assert codec.parse(queued(5, b"payload", hook=3, info=0)) == [(5, 3, b"payload", 1, 0)]
    assert codec.parse(queued(6, b"x", info=1) + queued(7, b"y", info=4) + queued(8, b"z")) == [
        (6, 2, b"x", 2, 0),
        (7, 2, b"y", 0, 0),
        (8, 2, b"z", 1, 0),
    ]
    assert codec.parse(queued(9, b"part", cut=True)) == [(9, 2, b"part", 1, 1)]
    assert (
        codec.counters().packets_received,
        codec.counters().packets_truncated,
        codec.counters().messages_malformed,
    ) == (5, 1, 0)
    codec.close()


def test_a_batch_is_read_without_blocking() -> None:
    codec = Codec()
    assert codec.receive() == []
    for number in range(40):
        codec.kernel.send(queued(number, b"x"))
    got = codec.receive() + codec.receive() + codec.receive()
    assert [one[0] for one in got] == list(range(40))
    codec.close()


def test_a_socket_that_fails_is_an_error() -> None:
    codec = Codec()
    codec.close()
    packets = ffi.new("nq_packet[]", lib.NQ_BATCH)
    assert lib.nq_receive(codec.queue, packets, False) < 0


def test_verdicts_are_sent_in_order_in_one_datagram() -> None:
    codec = Codec()
    lib.nq_accept(codec.queue, 1, ffi.NULL, 0)
    lib.nq_accept(codec.queue, 2, b"rewritten", 9)
    lib.nq_drop(codec.queue, 3)
    lib.nq_flush(codec.queue)
    lib.nq_flush(codec.queue)
    sent = codec.kernel.recv(1 << 20)
    verdicts = []
    while sent:
        length, kind = struct.unpack_from("=IH", sent)
        family, _, number = struct.unpack_from("!BBH", sent, 16)
        _, _, verdict, packet_id = struct.unpack_from("=HHII", sent, 20)
        payload = sent[36 : 36 + struct.unpack_from("=H", sent, 32)[0] - 4] if length > 32 else b""
        assert (kind, family, number) == (VERDICT, 0, NUMBER)
        verdicts.append((socket.ntohl(packet_id), socket.ntohl(verdict), payload))
        sent = sent[length:]
    assert verdicts == [(1, 1, b""), (2, 1, b"rewritten"), (3, 0, b"")]
    codec.kernel.setblocking(False)
    codec.close()


def test_a_packet_above_64_kib_is_cut_by_the_kernel_if_it_consists_of_segments() -> None:
    codec = Codec()
    packets = ffi.new("nq_packet[]", lib.NQ_BATCH)
    found = []
    for info, cut in ((2, True), (3, True), (0, True), (2, False)):
        datagram = queued(1, b"x", info=info, cut=cut)
        assert lib.nq_parse(codec.queue, datagram, len(datagram), packets, lib.NQ_BATCH) == 1
        found.append((packets[0].truncated, packets[0].can_cut))
    assert found == [(1, 1), (1, 1), (1, 0), (0, 0)]
    lib.nq_cut(codec.queue, 5)
    lib.nq_stop_cutting(codec.queue)
    lib.nq_drop(codec.queue, 6)
    lib.nq_flush(codec.queue)
    gso, head = struct.pack("!I", 4), struct.pack("!BBH", 0, 0, NUMBER)
    expected = [
        (CONFIG, attribute(5, bytes(4)) + attribute(4, gso)),
        (VERDICT, attribute(2, struct.pack("!II", NUMBER << 16 | 3, 5))),
        (CONFIG, attribute(5, gso) + attribute(4, gso)),
        (VERDICT, attribute(2, struct.pack("!II", 0, 6))),
    ]
    sent = b"".join(struct.pack("=IHHII", 20 + len(body), kind, 1, 0, 0) + head + body for kind, body in expected)
    assert codec.kernel.recv(1 << 20) == sent
    assert codec.counters().packets_cut == 1
    codec.close()


def test_packets_and_verdicts_carry_marks() -> None:
    codec = Codec()
    packets = ffi.new("nq_packet[]", lib.NQ_BATCH)
    for datagram, mark in ((queued(1, b"x", mark=0xDEADBEEF), 0xDEADBEEF), (queued(2, b"x"), 0)):
        assert lib.nq_parse(codec.queue, datagram, len(datagram), packets, lib.NQ_BATCH) == 1
        assert packets[0].mark == mark
    short = message(PACKET, struct.pack("!BBH", 2, 0, NUMBER) + attribute(3, b"\0\1"))
    assert codec.parse(short) == []
    lib.nq_accept_marked(codec.queue, 5, 0x6E6D0001)
    lib.nq_drop(codec.queue, 6)
    lib.nq_flush(codec.queue)
    sent = codec.kernel.recv(1 << 20)
    head = struct.pack("!BBH", 0, 0, NUMBER)
    verdicts = [attribute(2, struct.pack("!II", 1, 5)) + attribute(3, struct.pack("!I", 0x6E6D0001))]
    verdicts += [attribute(2, struct.pack("!II", 0, 6))]
    assert sent == b"".join(struct.pack("=IHHII", 20 + len(body), VERDICT, 1, 0, 0) + head + body for body in verdicts)
    assert codec.counters().packets_translated_by_kernel == 1
    codec.close()


def test_the_kernels_answers_are_counted_by_errno() -> None:
    codec = Codec()

    def answer(error: int, number: int) -> bytes:
        return message(ERROR, struct.pack("=i", error) + struct.pack("=IHHII", 16, VERDICT, 0, number, 0))

    assert codec.parse(answer(-2, 0) + answer(-1, 0) + answer(0, 0)) == []
    assert (codec.counters().verdicts_late, codec.counters().verdicts_refused) == (1, 1)
    codec.parse(answer(-95, 3))
    assert (lib.nq_acknowledged(codec.queue), lib.nq_answer(codec.queue)) == (3, 95)
    codec.close()


@pytest.mark.parametrize("error", [1, -4096, -(1 << 31)])
def test_an_answer_that_is_no_errno_is_malformed(error: int) -> None:
    codec = Codec()
    codec.parse(message(ERROR, struct.pack("=i", error) + struct.pack("=IHHII", 16, VERDICT, 0, 3, 0)))
    assert (codec.counters().messages_malformed, lib.nq_acknowledged(codec.queue)) == (1, 0)
    codec.close()


@given(st.binary(max_size=300))
def test_the_parser_survives_random_bytes(raw: bytes) -> None:
    codec = Codec()
    codec.parse(raw)
    codec.close()


@given(st.data())
def test_the_parser_survives_damaged_messages(data: st.DataObject) -> None:
    raw = bytearray(queued(1, b"payload", info=1) + queued(2, b"more"))
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), max_size=6)):
        raw[at] = value
    codec = Codec()
    for one in codec.parse(bytes(raw[: data.draw(st.integers(0, len(raw)))])):
        assert len(one[2]) <= len(raw)
    codec.close()
