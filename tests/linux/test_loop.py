"""The hot loop over a socket that plays the kernel's part."""

import os
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from natmirror._ffi import ffi, lib
from natmirror.fastpath import NEVER
from natmirror.fastpath.flow_states import TIMEOUTS, State
from natmirror.fastpath.leg_flags import set_steady
from natmirror.linux.loop import LoopEvent
from natmirror.net.build import build, synthesise
from natmirror.net.packet import ACK, parse
from tests.helpers.loop import FAR, PREROUTING, Stage, data
from tests.helpers.nfqueue import queued
from tests.helpers.support import C1, CLIENT, SERVICE

HEADER = struct.Struct("=BBHHHH")


def test_a_loop_lingers_for_an_answer_while_it_has_credit_and_nobody_wants_its_core(stage: Stage) -> None:
    flow = stage.gear.flows.insert(CLIENT, 0, 0)
    assert flow is not None
    flow.state = lib.NM_STATE_ESTABLISHED
    stage.loop.spin_credit, stage.loop.no_spin_until = 2, NEVER
    for number in range(3):
        stage.queue(number, data(10 + number))
        assert stage.run(time.monotonic() + 0.01) is LoopEvent.TIMER
    assert stage.loop.spin_credit == 2, "others want the core"
    stage.loop.no_spin_until, stage.loop.preemptions = 0.0, -1
    stage.run(0.0)
    assert stage.loop.no_spin_until > time.monotonic(), "the thread was taken off its core since it last looked"
    while stage.loop.spin_credit:
        stage.loop.no_spin_until = 0.0  # also where another program wants the core
        stage.queue(1, data(20))
        stage.run(time.monotonic() + 0.01)
    stage.loop.spins_skipped = 0
    for _ in range(10_000):  # a slow machine is too late for some
        stage.loop.no_spin_until = 0.0
        stage.queue(1, data(20))
        stage.run(time.monotonic() + 0.001)
        if stage.loop.spins_skipped >= 130:
            break
    assert stage.loop.spins_skipped >= 130, "it counts, so that it tries again now and then"
    assert stage.loop.spin_credit == 0


def attributes_of_verdict(sent: bytes) -> tuple[int, bytes]:
    """The kind and value of what follows a verdict's header."""
    length, kind = struct.unpack_from("=HH", sent, 32)
    return kind, sent[36 : 32 + length]


def test_the_kernel_translates_where_it_can_and_nobody_loses_a_mark_of_theirs(stage: Stage) -> None:
    flow = stage.gear.flows.insert(CLIENT, 0, 0)
    assert flow is not None
    flow.state = lib.NM_STATE_ESTABLISHED
    for length, mark, its_mark, is_ours in (
        (2000, 0, 0, True),
        (2000, 0x6E6D0001, 0, False),
        (2000, 0x6E6D0001, 5, True),
        (2000, 0, 5, True),
        (500, 0x6E6D0001, 0, True),  # which costs less
    ):
        packet, translated = (
            build(CLIENT, end, seq=10, ack=1, flags=ACK, window=100, payload=bytes(length)) for end in (SERVICE, C1)
        )
        stage.plan.set_mark(0, mark)
        stage.queue(1, packet, mark=its_mark)
        assert stage.run(time.monotonic()) is LoopEvent.TIMER
        expected = (10, translated) if is_ours else (3, struct.pack("!I", mark))
        assert attributes_of_verdict(stage.kernel.recv(1 << 20)) == expected
    assert flow.orig.packets == 5, "whoever translates"


def test_a_watched_queues_packets_carry_no_mark(stage: Stage) -> None:
    flow = stage.gear.flows.insert(CLIENT, 0, 0)
    assert flow is not None
    flow.state = lib.NM_STATE_ESTABLISHED
    stage.plan.set_mark(0, 0x6E6D0001)
    stage.loop.watched[0] = True
    stage.queue(1, data(10))
    assert stage.run(time.monotonic()) is LoopEvent.TIMER
    assert len(stage.kernel.recv(1 << 20)) == 32


def test_a_punt_sends_the_verdicts_before_it_and_holds_what_comes_behind(stage: Stage) -> None:
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


def test_what_was_synthesised_leaves_with_the_header_that_a_tun_device_wants(stage: Stage) -> None:
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


def test_what_waits_for_company_leaves_though_nothing_else_comes(stage: Stage) -> None:
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


def test_nothing_waits_while_python_is_at_work(stage: Stage) -> None:
    packet = synthesise(CLIENT, C1, seq=1, ack=2, flags=ACK, window=3, payload=b"x")
    out = ffi.addressof(stage.gear.handle, "out")
    for until, why in ((0.0, LoopEvent.TIMER), (FAR, LoopEvent.WAKE)):
        stage.loop.outbox.written_at = FAR
        if why is LoopEvent.WAKE:
            os.write(stage.wake_write.fileno(), b"?")
        assert lib.nm_out_add(out, packet, len(packet), 1460)
        assert stage.run(until) is why
        assert stage.out.recv(1 << 17)[10:] == packet


def test_a_loop_that_is_punted_one_packet_after_the_other_still_hears_who_wakes_it(stage: Stage) -> None:
    os.write(stage.wake_write.fileno(), b"?")
    stage.queue(1, b"E" + bytes(27))
    for number in range(2, 100):
        if stage.run() is LoopEvent.WAKE:
            return
        stage.queue(number, b"E" + bytes(27))  # the next one is here before this one is decided
        stage.drop()
        stage.verdicts()
    pytest.fail("nobody was heard")


def test_a_packet_that_the_kernel_gave_only_in_part_is_never_written_back(stage: Stage) -> None:
    raw = queued(7, data(1), hook=PREROUTING, cut=True)
    for watched, verdict in ((0, 0), (1, 1)):
        stage.loop.watched[0] = watched
        stage.kernel.send(raw)
        assert stage.run(time.monotonic() + 0.05) is LoopEvent.TIMER
        assert stage.verdicts() == [(7, verdict)]


def test_what_is_due_in_c_does_not_come_back_to_python(stage: Stage) -> None:
    """Acknowledgements that are owed, and flows that are over."""
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


def test_a_deadline_that_was_put_off_is_not_looked_at_before_it_would_have_come(stage: Stage) -> None:
    """Else each packet of a leg would have it sink through all others, and rise again."""
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


def test_however_much_is_due_packets_have_their_turn(stage: Stage) -> None:
    flow = stage.gear.flows.insert(CLIENT, 0, 0)
    assert flow is not None
    flow.state = lib.NM_STATE_ESTABLISHED
    for number in range(5):
        stage.queue(number, data(10 + number))
        assert stage.run(0.0) is LoopEvent.TIMER
        assert stage.run(0.0) is LoopEvent.TIMER
        assert stage.verdicts() == [(number, 1)]
