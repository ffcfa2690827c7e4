"""Verdicts that the kernel refuses: they are kept, and sent later, in order and complete."""

import os
import socket
import struct
import time
from collections.abc import Iterator
from errno import ENOBUFS, ENOENT

import pytest

from natmirror._ffi import ffi, lib
from natmirror.actions import Accept, Drop
from natmirror.errors import HostError
from natmirror.linux.counters import QueueCounter
from natmirror.linux.loop import LoopEvent
from natmirror.linux.nfqueue import Queue
from natmirror.reasons import DropReason
from tests.helpers.loop import Stage, data, new_loop
from tests.helpers.nfqueue import (
    BATCH,
    ERROR,
    NUMBER,
    VERDICT,
    Codec,
    answer,
    fill,
    message,
    messages,
    queued,
)
from tests.helpers.support import CLIENT

LONGEST_PAUSE = 0.02  # seconds
SHORT_PAUSES = 10
"""The first pauses are shorter."""


@pytest.fixture
def codec() -> Iterator[Codec]:
    codec = Codec()
    yield codec
    codec.close()


def test_a_refused_batch_is_kept_and_sent_later_complete_and_in_order(codec: Codec) -> None:
    packets = ffi.new("nq_packet[]", lib.NQ_BATCH)
    codec.kernel.send(queued(1, b"where it lies"))
    assert lib.nq_receive(codec.queue, packets, False) == 1
    fill(codec.ours)
    codec.kernel.send(queued(5, b"next"))
    lib.nq_accept_packet(codec.queue, packets)
    lib.nq_accept(codec.queue, 2, b"copied", 6)
    lib.nq_drop(codec.queue, 3)
    for _ in range(3):
        assert not lib.nq_flush(codec.queue)
        assert lib.nq_is_refused(codec.queue)
        assert codec.receive() == [], "its buffer still holds the first packet's payload"
    lib.nq_drop(codec.queue, 4)
    assert (lib.nq_waiting(codec.queue), lib.nq_failure(codec.queue)) == (4, 0)
    assert messages(codec.kernel) == []
    assert lib.nq_flush(codec.queue)
    assert messages(codec.kernel) == [
        (VERDICT, 1, 1, b"where it lies"),
        (VERDICT, 2, 1, b"copied"),
        (VERDICT, 3, 0, b""),
        (VERDICT, 4, 0, b""),
    ]
    assert (
        codec.counters().verdict_sends_refused,
        codec.counters().verdicts_not_sent,
        lib.nq_waiting(codec.queue),
    ) == (
        3,
        0,
        0,
    )
    assert [one[0] for one in codec.receive()] == [5]


def test_verdicts_that_are_too_large_for_one_datagram_are_sent_in_several(codec: Codec) -> None:
    codec.ours.setblocking(False)
    codec.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    payloads = [bytes([number]) * (3000 + number) for number in range(4)]  # at most one of them is not aligned
    for number, payload in enumerate(payloads):
        lib.nq_accept(codec.queue, number, payload, len(payload))
    found = []
    for _ in range(10):
        lib.nq_flush(codec.queue)
        found += messages(codec.kernel)
    assert [(number, payload) for _, number, _, payload in found] == list(enumerate(payloads))
    assert lib.nq_waiting(codec.queue) == 0


def test_large_refused_verdicts_fill_the_buffer_and_no_more(codec: Codec) -> None:
    fill(codec.ours)
    payload = bytes(60_000)
    count = 0
    while lib.nq_has_room(codec.queue):
        lib.nq_accept(codec.queue, count, payload, len(payload))
        lib.nq_flush(codec.queue)
        count += 1
    packet = ffi.new("nq_packet *", {"payload": ffi.from_buffer(payload), "len": len(payload) - 1})
    for number in range(lib.NQ_BATCH):  # as if a batch had been received before
        packet.id = count + number
        lib.nq_accept_packet(codec.queue, packet)
    assert codec.counters().verdicts_not_sent == 0
    for number in range(10 * lib.NQ_BATCH):
        lib.nq_accept(codec.queue, number, payload, len(payload))
    assert codec.counters().verdicts_not_sent == 10 * lib.NQ_BATCH, "the caller must not give these"
    found = []
    while lib.nq_waiting(codec.queue):
        found += messages(codec.kernel)
        lib.nq_flush(codec.queue)
    found += messages(codec.kernel)
    assert [number for _, number, _, _ in found] == list(range(count + lib.NQ_BATCH))
    assert {len(sent) for *_, sent in found} == {60_000, 59_999}


def test_many_small_verdicts_fill_the_buffer_and_no_more(codec: Codec) -> None:
    fill(codec.ours)
    count = 0
    while lib.nq_has_room(codec.queue):
        lib.nq_drop(codec.queue, count)
        count += 1
    for number in range(lib.NQ_BATCH):
        lib.nq_accept_marked(codec.queue, count + number, 7)
    assert lib.nq_waiting(codec.queue) == count + lib.NQ_BATCH
    assert codec.counters().verdicts_not_sent == 0


def test_a_permanent_refusal_is_an_error_and_loses_no_verdict(codec: Codec) -> None:
    codec.kernel.close()
    lib.nq_drop(codec.queue, 1)
    assert not lib.nq_flush(codec.queue)
    assert lib.nq_failure(codec.queue) > 0
    assert lib.nq_waiting(codec.queue) == 1


def test_the_loop_sends_refused_verdicts_again_and_receives_no_packets_meanwhile() -> None:
    stage = Stage()
    flow = stage.gear.flows.insert(CLIENT, 0, 0)
    assert flow is not None
    flow.state = lib.NM_STATE_ESTABLISHED
    fill(stage.socket)
    stage.queue(1, data(10))
    stage.queue(2, data(11))
    before, began_at = time.process_time(), time.monotonic()
    counters = lib.nq_queue_counters(stage.codec)
    for _ in range(100):
        assert stage.run(time.monotonic() + 0.1) is LoopEvent.TIMER
        if counters.verdict_sends_refused >= 10:
            break
    assert counters.verdict_sends_refused >= 10
    pauses = (time.monotonic() - began_at) / LONGEST_PAUSE
    assert counters.verdict_sends_refused < pauses + SHORT_PAUSES, "it pauses between its attempts"
    assert time.process_time() - before < 0.1
    stage.queue(3, data(12))
    os.write(stage.wake_write.fileno(), b"?")
    assert stage.run() is LoopEvent.WAKE, "other threads can wake it"
    stage.wake_read.recv(1)
    assert messages(stage.kernel) == []
    sent = []
    for _ in range(100):
        assert stage.run(time.monotonic() + 0.1) is LoopEvent.TIMER
        sent += [number for _, number, _, _ in messages(stage.kernel)]
        if len(sent) >= 3:
            break
    assert sent == [1, 2, 3]
    stage.close()


def test_the_loop_returns_an_error_for_a_queue_that_takes_no_verdicts() -> None:
    stage = Stage()
    lib.nq_drop(stage.codec, 1)
    stage.kernel.close()
    assert lib.nl_run(stage.loop, time.monotonic() + 5) < 0
    assert stage.loop.failed == 0
    stage.close()


def test_a_request_is_sent_again_if_its_answer_was_lost(kernels: list[socket.socket]) -> None:
    queue = Queue(NUMBER)
    kernels[0].send(queued(1, b"early") + message(ERROR, struct.pack("=iIHHII", 0, 16, 0, 0, 2, 0)))
    queue._request(b"")
    kernels[0].setblocking(False)
    assert [struct.unpack_from("=I", kernels[0].recv(100), 8) for _ in range(2)] == [(1,), (2,)]
    assert [packet.payload for packet in queue.early()] == [b"early"]
    with pytest.raises(HostError, match="does not answer"):
        queue._request(b"")
    queue.close()


def test_verdicts_without_room_wait_for_the_next_flush(kernels: list[socket.socket]) -> None:
    queue = Queue(NUMBER)
    fill(socket.fromfd(queue.fd, socket.AF_UNIX, socket.SOCK_SEQPACKET))
    payload = bytes(60_000)
    for number in range(40):
        queue.accept(number, payload)
        queue.flush()
    queue.drop(40)
    assert queue.is_refused
    assert queue.has_backlog
    found = []
    while queue.is_refused:
        found += messages(kernels[0])
        queue.flush()
    found += messages(kernels[0])
    assert [(number, verdict) for _, number, verdict, _ in found] == [*((number, 1) for number in range(40)), (40, 0)]
    assert queue.counters[QueueCounter.VERDICTS_NOT_SENT] == 0
    queue.close()


@pytest.mark.parametrize(("fail_open", "verdict"), [(False, 0), (True, 1)])
def test_a_probe_covers_the_packets_that_were_decided(
    kernels: list[socket.socket], fail_open: bool, verdict: int
) -> None:
    queue = Queue(NUMBER, fail_open=fail_open)
    for number in (7, 8, 9):
        kernels[0].send(queued(number, b"x"))
    assert len(queue.receive()) == 3
    assert queue.take_answer() is None
    queue.defer(8, 100.0)
    queue.probe(101.0)
    assert messages(kernels[0]) == [(BATCH, 7, verdict, b"")], "another thread decides the next one"
    queue.accept(8)
    queue.probe(102.0)
    assert not queue.is_unanswered
    assert [sent[:2] for sent in messages(kernels[0])] == [(VERDICT, 8), (BATCH, 9)]
    queue.receive()
    assert queue.is_unanswered
    queue.probe(103.0)
    answer(kernels[0], ENOENT)
    queue.receive()
    assert (queue.take_answer(), queue.take_answer(), queue.is_unanswered) == (ENOENT, None, False)
    queue.defer(9, 104.0)
    queue.probe(200.0)
    assert messages(kernels[0]) == [(BATCH, 9, verdict, b"")], "a deferred packet is forgotten after a timeout"
    queue.close()


def test_a_verdict_for_a_queue_that_is_bound_again_does_not_reach_the_new_one(kernels: list[socket.socket]) -> None:
    queue, stage = Queue(NUMBER), Stage()
    loop = new_loop(stage, queue)
    bound = loop.queues[0]
    queue.drop(1)
    fresh = loop.bind_again(0)
    bound.set_verdict(1, Drop(DropReason.INTERNAL_ERROR))
    bound.set_verdict(2, Accept(b"late"))
    loop.flush()
    assert messages(kernels[1]) == []
    assert (fresh.counters[QueueCounter.VERDICTS_NOT_SENT], fresh.counters[QueueCounter.REBINDS]) == (1, 1)
    assert loop.queues[0].queue is fresh
    loop.close()
    fresh.close()
    stage.close()


def test_the_loop_goes_on_without_a_queue_that_fails(kernels: list[socket.socket]) -> None:
    queue, stage = Queue(NUMBER), Stage()
    loop = new_loop(stage, queue)
    kernels[0].close()
    queue.drop(1)
    assert loop.run(time.monotonic() + 5) is LoopEvent.TIMER
    assert (queue.is_closed, queue.failure) == (True, "its socket fails: EPIPE")
    assert loop.run(time.monotonic() + 0.01) is LoopEvent.TIMER
    fresh = loop.bind_again(0)
    fresh.drop(2)
    assert loop.run(time.monotonic() + 0.01) is LoopEvent.TIMER
    assert [number for _, number, _, _ in messages(kernels[1])] == [2]
    loop.close()
    fresh.close()
    stage.close()


def test_a_lack_of_memory_for_a_queue_leaks_nothing(
    kernels: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(ENOBUFS, "No buffer space available")

    queue, stage = Queue(NUMBER), Stage()
    loop = new_loop(stage, queue)
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patched:
        patched.setattr(Queue, "_configure", refuse)
        for _ in range(3):
            with pytest.raises(HostError, match="No buffer space"):
                loop.bind_again(0)
    kernels[1].close()
    kernels[2].close()
    kernels[3].close()
    assert len(os.listdir("/proc/self/fd")) == before - 2, "the queue itself is closed"
    assert loop.bind_again(0) is loop.queues[0].queue
    loop.queues[0].queue.close()
    loop.close()
    stage.close()
