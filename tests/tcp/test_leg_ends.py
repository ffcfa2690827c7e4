"""Ends of a leg, as packet scripts: full buffers, timeouts, and its owner's decisions."""

from natmirror.fastpath.constants import CHUNK_LEN
from natmirror.fastpath.tables import LEG_COST
from natmirror.net import seq
from natmirror.reasons import EndReason
from natmirror.rules import WhenBehind
from tests.helpers.leg_wire import FIRST, LINGER, STALL, THEIRS, Wire


def test_a_full_buffer_ends_the_leg_with_a_reset() -> None:
    wire = Wire(buffer=1000)
    wire.connect(window=0)
    assert wire.write(b"x" * 1000) == []
    assert [letters for letters, *_ in wire.write(b"x")] == ["RA"]
    assert wire.leg.ended == "buffer-full"


def test_a_mirror_that_has_acknowledged_everything_is_not_behind_however_much_comes_at_once() -> None:
    wire = Wire(buffer=1 << 16)
    wire.connect()
    assert wire.write(b"x" * (1 << 17)) != []
    assert wire.leg.ended is None
    wire.write(b"x")
    assert wire.leg.ended == "buffer-full"


def test_a_leg_that_gets_no_memory_is_ended() -> None:
    wire = Wire(memory=LEG_COST + 2 * CHUNK_LEN)
    wire.connect(window=0)
    assert wire.write(b"x" * CHUNK_LEN) == []  # in two chunks, or in one if its number allows
    assert [letters for letters, *_ in wire.write(b"x" * (CHUNK_LEN + 1))] == ["RA"]
    assert (wire.leg.ended, wire.memory.used) == ("memory-full", 0)


def test_an_abandoned_leg_sends_nothing(wire: Wire) -> None:
    wire.connect()
    wire.write(b"x" * 100)
    assert wire.leg.abandon(EndReason.PORT_REUSED) == []
    assert wire.leg.ended == "port-reused"


def test_a_window_that_stays_closed_is_probed_for_a_while(wire: Wire) -> None:
    wire.connect(window=0)
    wire.write(b"hello")
    begun = wire.now
    while wire.leg.ended is None:
        assert len(wire.timer()) == 1
        wire.ack(0, window=0)
    assert (wire.leg.ended, wire.now - begun) == ("stalled", STALL)


def test_unanswered_probes_end_the_leg(wire: Wire) -> None:
    wire.connect(window=0)
    wire.write(b"hello")
    begun = wire.now
    while wire.leg.ended is None:
        wire.timer()
    assert wire.leg.ended == "stalled"
    assert wire.now - begun >= STALL


def test_a_mirror_that_falls_silent_ends_the_leg(wire: Wire) -> None:
    wire.connect()
    wire.write(b"first")
    wire.ack(5)
    wire.now += 10_000
    wire.write(b"x")
    begun = wire.now
    wire.timer()
    assert wire.leg.ended is None, "earlier silence does not count"
    while wire.leg.ended is None:
        wire.timer()
    assert wire.leg.ended == "stalled"
    assert STALL <= wire.now - begun <= STALL + 61


def test_after_the_client_has_gone_the_leg_lives_as_long_as_it_progresses(wire: Wire) -> None:
    wire.connect()
    wire.write(b"x" * 5000)
    wire.leg.client_gone(wire.now)
    wire.now += LINGER - 1
    wire.ack(100)
    wire.now += LINGER - 1
    wire.leg.handle_timer(wire.now)
    assert wire.leg.ended is None
    while wire.leg.ended is None:
        out = wire.timer()
    assert wire.leg.ended == "linger-timeout"
    assert [letters for letters, *_ in out] == ["RA"]


def test_a_mirror_that_keeps_its_side_open_after_all_was_delivered_counts_as_closed(wire: Wire) -> None:
    wire.connect()
    wire.leg.finish(wire.now)
    wire.leg.client_gone(wire.now)
    wire.ack(1)
    assert [letters for letters, *_ in wire.timer()] == ["RA"]
    assert wire.leg.ended == "closed"


def test_an_idle_leg_is_ended_if_the_rules_say_so() -> None:
    wire = Wire(idle_timeout=60.0)
    wire.connect()
    wire.write(b"x")
    wire.ack(1)
    wire.now += 50
    wire.send("A", THEIRS, seq.add(FIRST, 1), b"heard")
    begun = wire.now
    assert [letters for _ in range(2) for letters, *_ in wire.timer()] == ["A", "RA"]
    assert (wire.leg.ended, wire.now - begun) == ("idle-timeout", 60.0)


def test_without_an_idle_timeout_an_idle_leg_has_no_timer(wire: Wire) -> None:
    wire.connect()
    assert wire.leg.next_timer() is None


def test_a_client_is_not_throttled_for_longer_than_the_limit() -> None:
    wire = Wire(when_behind=WhenBehind.THROTTLE, buffer=1 << 16)
    wire.connect(window=0)
    wire.write(b"x" * (1 << 14))
    wire.now += 1
    begun = wire.now
    wire.write(b"x" * ((1 << 15) + (1 << 13)))
    wire.leg.client_waits = True
    while wire.leg.ended is None:
        wire.timer()
        wire.ack(0, window=0)
    assert (wire.leg.ended, wire.now - begun) == ("throttle-limit", 2.0)


def test_a_client_is_not_throttled_longer_for_a_mirror_that_does_not_answer() -> None:
    wire = Wire(when_behind=WhenBehind.THROTTLE, buffer=1 << 16)
    wire.leg.open(wire.now)
    wire.now += 5
    begun = wire.now
    wire.write(b"x" * (1 << 16))
    wire.leg.client_waits = True
    while wire.leg.ended is None:
        wire.timer()
    assert (wire.leg.ended, wire.now - begun) == ("throttle-limit", 2.0)


def test_the_lag_is_the_age_of_the_oldest_byte(wire: Wire) -> None:
    wire.connect()
    wire.write(b"x" * 10)
    wire.now += 3
    wire.write(b"y" * 10)
    wire.now += 1
    assert wire.leg.lag_seconds(wire.now) == 4
    wire.ack(10)
    assert wire.leg.lag_seconds(wire.now) == 1
    wire.ack(20)
    assert wire.leg.lag_seconds(wire.now) == 0
