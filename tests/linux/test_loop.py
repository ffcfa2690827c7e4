"""The packet loop over a socket that plays the kernel's part."""

import os
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from natmirror._ffi import ffi, lib
from natmirror.fastpath import NEVER
from natmirror.fastpath.flow_flags import set_python_state
from natmirror.fastpath.flow_states import State
from natmirror.fastpath.leg_flags import set_steady
from natmirror.linux.loop import LoopEvent
from natmirror.net.build import build, synthesise
from natmirror.net.packet import ACK, parse
from tests.helpers.loop import FAR, PREROUTING, Stage, data
from tests.helpers.nfqueue import queued
from tests.helpers.support import C1, CLIENT, SERVICE, TIMEOUTS

HEADER = struct.Struct("=BBHHHH")


def test_the_loop_busy_polls_for_an_answer_while_it_has_credit_and_is_not_preempted(stage: Stage) -> None:
    flow = stage.gear.flows.insert(CLIENT, 0, 0)
    assert flow is not None
    flow.state = lib.NM_STATE_ESTABLISHED
    stage.loop.spin_credit, stage.loop.no_spin_until = 2, NEVER
    for number in range(3):
        stage.queue(number, data(10 + number))
        assert stage.run(time.monotonic() + 0.01) is LoopEvent.TIMER
    assert stage.loop.spin_credit == 2, "no busy polling before no_spin_until"
    stage.loop.no_spin_until, stage.loop.preemptions = 0.0, -1
    stage.run(0.0)
    assert stage.loop.no_spin_until > time.monotonic(), "the thread was preempted since the last poll"
    while stage.loop.spin_credit:
        stage.loop.no_spin_until = 0.0  # even if another program wants the core
        stage.queue(1, data(20))
        stage.run(time.monotonic() + 0.01)
    stage.loop.spins_skipped = 0
    for _ in range(10_000):  # a slow machine comes too late for some requests
        stage.loop.no_spin_until = 0.0
        stage.queue(1, data(20))
        stage.run(time.monotonic() + 0.001)
        if stage.loop.spins_skipped >= 130:
            break
    assert stage.loop.spins_skipped >= 130, "it counts skipped polls, so that it tries again from time to time"
    assert stage.loop.spin_credit == 0


def attributes_of_verdict(sent: bytes) -> tuple[int, bytes]:
    """Return the kind and value of the attribute behind a verdict's header."""
    length, kind = struct.unpack_from("=HH", sent, 32)
    return kind, sent[36 : 32 + length]


def test_the_kernel_translates_where_it_can_and_a_foreign_mark_stays(stage: Stage) -> None:
    flow = stage.gear.flows.insert(CLIENT, 0, 0)
    assert flow is not None
    flow.state = lib.NM_STATE_ESTABLISHED
    for length, mark, foreign_mark, is_rewritten in (
        (2000, 0, 0, True),
        (2000, 0x6E6D0001, 0, False),
        (2000, 0x6E6D0001, 5, True),
        (2000, 0, 5, True),
        (500, 0x6E6D0001, 0, True),  # for a small packet that costs less
    ):
        packet, translated = (
            build(CLIENT, end, seq=10, ack=1, flags=ACK, window=100, payload=bytes(length)) for end in (SERVICE, C1)
        )
        stage.plan.set_mark(0, mark)
        stage.queue(1, packet, mark=foreign_mark)
        assert stage.run(time.monotonic()) is LoopEvent.TIMER
        expected = (10, translated) if is_rewritten else (3, struct.pack("!I", mark))
        assert attributes_of_verdict(stage.kernel.recv(1 << 20)) == expected
    assert flow.orig.packets == 5, "in both cases"


def test_a_thread_is_swamped_while_more_packets_wait_than_two_batches_have(stage: Stage) -> None:
    flow = stage.gear.flows.insert(CLIENT, 0, 0)
    assert flow is not None
    flow.state = lib.NM_STATE_ESTABLISHED
    for count, is_swamped in ((2 * lib.NQ_BATCH - 1, False), (2 * lib.NQ_BATCH, True), (1, False)):
        for number in range(count):
            stage.queue(number, data(10))
        for _ in range(2):
            assert stage.run(time.monotonic()) is LoopEvent.TIMER
        assert bool(stage.gear.handle.is_swamped) == is_swamped


def test_full_batches_between_which_the_queue_is_empty_swamp_no_thread(stage: Stage) -> None:
    flow = stage.gear.flows.insert(CLIENT, 0, 0)
    assert flow is not None
    flow.state = lib.NM_STATE_ESTABLISHED
    for _ in range(3):
        for number in range(lib.NQ_BATCH):
            stage.queue(number, data(10))
        for _ in range(2):
            assert stage.run(time.monotonic()) is LoopEvent.TIMER
        assert not stage.gear.handle.is_swamped
    for number in range(2 * lib.NQ_BATCH):
        stage.queue(number, data(10))
    for _ in range(3):
        assert stage.run(time.monotonic()) is LoopEvent.TIMER
    assert not stage.gear.handle.is_swamped, "and a thread without packets is not swamped any more"


def test_a_swamped_thread_sheds_strays_also_a_while_after(stage: Stage) -> None:
    assert stage.gear.handle.sheds_until == 0
    flow = stage.gear.flows.insert(CLIENT, 0, 0)
    assert flow is not None
    flow.state = lib.NM_STATE_ESTABLISHED
    before = time.monotonic()
    for number in range(2 * lib.NQ_BATCH):
        stage.queue(number, data(10))
    for _ in range(3):
        assert stage.run(time.monotonic()) is LoopEvent.TIMER
    assert not stage.gear.handle.is_swamped
    assert before <= stage.gear.handle.sheds_until - lib.NM_SHED_TIME <= time.monotonic()


def test_packets_of_a_watched_queue_get_no_mark(stage: Stage) -> None:
    flow = stage.gear.flows.insert(CLIENT, 0, 0)
    assert flow is not None
    flow.state = lib.NM_STATE_ESTABLISHED
    stage.plan.set_mark(0, 0x6E6D0001)
    stage.loop.watched[0] = True
    stage.queue(1, data(10))
    assert stage.run(time.monotonic()) is LoopEvent.TIMER
    assert len(stage.kernel.recv(1 << 20)) == 32


def test_a_punt_sends_the_verdicts_before_it_and_holds_the_packets_behind_it(stage: Stage) -> None:
    flow = stage.gear.flows.insert(CLIENT, 0, 0)
    assert flow is not None
    flow.state = lib.NM_STATE_ESTABLISHED
    stage.queue(1, data(10))
    stage.queue(2, b"E" + bytes(27))
    stage.queue(3, data(11))
    assert stage.run() is LoopEvent.PUNT
    assert stage.verdicts() == [(1, 1)]
    stage.drop()
    assert stage.run(time.monotonic()) is LoopEvent.TIMER
    assert stage.verdicts() == [(2, 0), (3, 1)]


def test_synthesised_packets_are_written_with_the_header_that_a_tun_device_needs(stage: Stage) -> None:
    small = synthesise(C1, CLIENT, seq=1, ack=2, flags=ACK, window=3)
    large = synthesise(C1, CLIENT, seq=1, ack=2, flags=ACK, window=3, payload=bytes(3000))
    for packet in (small, large):
        assert lib.nm_out_add(ffi.addressof(stage.gear.handle, "out"), packet, len(packet), 1460)
    assert stage.run(time.monotonic()) is LoopEvent.TIMER
    for packet, gso in ((small, (0, 0, 0)), (large, (1, 40, 1460))):
        written = stage.out.recv(1 << 17)
        assert HEADER.unpack(written[:10]) == (1, *gso, 20, 16)
        assert written[10:] == packet
        assert parse(packet)
    assert stage.loop.outbox.counters.packets_sent == 2


def test_a_small_segment_that_waits_is_written_even_if_no_other_packet_comes(stage: Stage) -> None:
    packet = synthesise(CLIENT, C1, seq=1, ack=2, flags=ACK, window=3, payload=b"x")
    assert lib.nm_out_add(ffi.addressof(stage.gear.handle, "out"), packet, len(packet), 1460)
    stage.loop.outbox.written_at = time.monotonic()
    stage.out.settimeout(5)
    with ThreadPoolExecutor() as pool:
        why = pool.submit(stage.run)
        try:
            assert stage.out.recv(1 << 17)[10:] == packet
        finally:
            os.write(stage.wake_write.fileno(), b"?")
        assert why.result() is LoopEvent.WAKE


def test_no_packet_waits_in_the_outbox_while_python_works(stage: Stage) -> None:
    packet = synthesise(CLIENT, C1, seq=1, ack=2, flags=ACK, window=3, payload=b"x")
    out = ffi.addressof(stage.gear.handle, "out")
    for until, why in ((0.0, LoopEvent.TIMER), (FAR, LoopEvent.WAKE)):
        stage.loop.outbox.written_at = FAR
        if why is LoopEvent.WAKE:
            os.write(stage.wake_write.fileno(), b"?")
        assert lib.nm_out_add(out, packet, len(packet), 1460)
        assert stage.run(until) is why
        assert stage.out.recv(1 << 17)[10:] == packet


def test_a_loop_that_punts_packet_after_packet_still_returns_when_it_is_woken(stage: Stage) -> None:
    os.write(stage.wake_write.fileno(), b"?")
    stage.queue(1, b"E" + bytes(27))
    for number in range(2, 100):
        if stage.run() is LoopEvent.WAKE:
            return
        stage.queue(number, b"E" + bytes(27))  # the next one is here before this one is decided
        stage.drop()
        stage.verdicts()
    pytest.fail("the loop did not return WAKE")


def test_a_packet_of_which_the_kernel_sent_only_a_part_is_never_rewritten(stage: Stage) -> None:
    raw = queued(7, data(1), hook=PREROUTING, cut=True)
    for watched, verdict in ((0, 0), (1, 1)):
        stage.loop.watched[0] = watched
        stage.kernel.send(raw)
        assert stage.run(time.monotonic() + 0.05) is LoopEvent.TIMER
        assert stage.verdicts() == [(7, verdict)]


def test_packets_above_64_kib_are_cut_by_the_kernel_and_so_are_later_ones_for_a_while(stage: Stage) -> None:
    stage.kernel.send(queued(8, data(2), hook=PREROUTING, cut=True, info=2))
    assert stage.run(time.monotonic() + 0.05) is LoopEvent.TIMER
    assert (8, 1 << 16 | 3) in stage.verdicts(), "queued again, in segments"
    assert 9 < stage.loop.cuts_until[0] - time.monotonic() < 10
    stage.queue(9, data(2))
    stage.run(time.monotonic())
    assert len(stage.verdicts()) == 1
    stage.loop.cuts_until[0] = time.monotonic()
    for number, messages in ((10, 2), (11, 1)):
        stage.queue(number, data(2))
        stage.run(time.monotonic())
        assert len(stage.verdicts()) == messages, "the queue's flag, once"


@pytest.mark.parametrize("watched", [False, True])
def test_packets_that_passed_a_watch_queue_unseen_are_noted_before_the_next_packet_is_decided(
    stage: Stage, watched: bool
) -> None:
    stage.loop.watched[0] = watched
    for number, unseen in ((1, 0), (2, 0), (7, 1), (8, 1), (10, 2)):
        stage.queue(number, data(number))
        assert stage.run(time.monotonic()) is LoopEvent.TIMER
        assert stage.gear.handle.unseen == unseen * watched
    assert lib.nq_queue_counters(stage.codec).packets_missed == 5
    stage.kernel.send(queued(11, data(11), hook=PREROUTING, cut=True))
    assert stage.run(time.monotonic()) is LoopEvent.TIMER
    assert stage.gear.handle.unseen == 3 * watched


def test_timers_in_c_do_not_return_to_python(stage: Stage) -> None:
    """Delayed acknowledgements, and flows that expire."""
    now = time.monotonic()
    for port in range(4):
        flow = stage.gear.flows.insert((CLIENT[0], 1 + port), 0, 0)
        assert flow is not None
        flow.state = lib.NM_STATE_TIME_WAIT
        stage.gear.flows.touch(flow, now - TIMEOUTS[State.TIME_WAIT] + 0.001, moved=True)
        leg = stage.gear.legs.insert(C1, (CLIENT[0], 1 + port))
        set_steady(leg, True)
        leg.ack_at = now + 0.002
        stage.gear.legs.set_due(leg, leg.ack_at)
    assert stage.run(now + 0.05) is LoopEvent.TIMER
    assert time.monotonic() >= now + 0.05
    assert (len(stage.gear.flows), stage.loop.outbox.counters.packets_sent) == (0, 4)


def test_packets_pass_between_slices_in_which_python_expires_flows(stage: Stage) -> None:
    """Thousands of flows that expire at once would otherwise take every other moment of the thread."""
    for port in (1, 2):
        flow = stage.gear.flows.insert((CLIENT[0], port), 0, 0)
        assert flow is not None
        flow.state = lib.NM_STATE_TIME_WAIT
        set_python_state(flow)
        stage.gear.flows.touch(flow, 0.0, moved=True)
    began_at = time.monotonic()
    assert stage.run() is LoopEvent.TIMER
    assert stage.loop.expire_at > began_at
    stage.loop.expire_at = began_at + 60.0
    until = time.monotonic() + 0.01
    stage.queue(1, data(10))
    assert stage.run(until) is LoopEvent.TIMER
    assert time.monotonic() >= until, "the flows are still due, but it does not return for them"
    assert stage.verdicts() == [(1, 1)]
    stage.loop.expire_at = 0.0
    assert stage.run() is LoopEvent.TIMER


def test_a_postponed_deadline_moves_in_the_heap_only_when_its_old_time_comes(stage: Stage) -> None:
    """Otherwise each packet of a leg would move its entry down through all others, and up again."""
    now = time.monotonic()
    leg = stage.gear.legs.insert(C1, CLIENT)
    set_steady(leg, True)
    leg.ack_at = NEVER
    leg.rto_at = leg.heard_at = leg.idle_timeout = FAR
    soon = now + 0.05
    stage.gear.legs.set_due(leg, soon)
    stage.gear.legs.set_due(leg, FAR)
    assert stage.run(now + 0.01) is LoopEvent.TIMER
    assert leg.due.queued_at == soon
    assert stage.run(now + 0.1) is LoopEvent.TIMER
    assert leg.due.queued_at == FAR


def test_packets_are_received_however_much_is_due(stage: Stage) -> None:
    flow = stage.gear.flows.insert(CLIENT, 0, 0)
    assert flow is not None
    flow.state = lib.NM_STATE_ESTABLISHED
    for number in range(5):
        stage.queue(number, data(10 + number))
        assert stage.run(0.0) is LoopEvent.TIMER
        assert stage.run(0.0) is LoopEvent.TIMER
        assert stage.verdicts() == [(number, 1)]
