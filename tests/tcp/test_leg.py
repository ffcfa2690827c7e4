"""Legs as packet scripts: this segment at this time, exactly these packets back."""

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest

from natmirror.fastpath import Gear, Memory
from natmirror.net import seq
from natmirror.net.build import finish
from natmirror.net.packet import OPT_MSS, OPT_NOP, OPT_SACK, OPT_SACK_PERMITTED, OPT_WINDOW_SCALE
from natmirror.rules import Mirror, WhenBehind
from natmirror.tcp.leg import Leg
from natmirror.tcp.leg_states import LegState
from tests.helpers.support import CLIENT, MASTER, packet, segment, told

ISS = 0xFFFF_FF00
IRS = 0xFFFF_FFF0
OFFSET = 0x9E37_79B9
"""Of the leg's numbers on the wire; the tests have them as they are inside."""
FIRST = seq.add(ISS, 1)
THEIRS = seq.add(IRS, 1)
MSS = 100
CONNECT, STALL, LINGER = 30.0, 120.0, 5.0
OPTIONS = bytes((OPT_MSS, 4, 0, MSS, OPT_NOP, OPT_WINDOW_SCALE, 3, 2))
SACK_OPTIONS = OPTIONS + bytes((OPT_NOP, OPT_NOP, OPT_SACK_PERMITTED, 2))


class Wire:
    """A leg and the other end of its wire, with a manual clock."""

    def __init__(self, *, memory: int = 1 << 30, **settings: Any) -> None:
        self.now = 100.0
        self.memory = Memory(memory)
        self.settings = Mirror("master", IPv4Address(MASTER[0]), MASTER[1], **settings)
        self.gear = Gear(1, self.memory, bytes(16))
        self.leg = Leg(self.gear.legs, CLIENT, self.settings, iss=ISS, offset=OFFSET)

    def on_the_wire(self, packets: list[bytes]) -> list[tuple[str, int, int, bytes]]:
        """What is sent, with the leg's numbers as they are inside."""
        shown = [told(one) for raw in packets for one in finish(raw, self.leg.segment_len)]
        return [(letters, seq.add(at, -OFFSET), ack, data) for letters, at, ack, data in shown]

    def connect(self, *, window: int = 0xFFFF, options: bytes = OPTIONS) -> list[tuple[str, int, int, bytes]]:
        assert [told(raw)[:2] for raw in self.leg.open(self.now)] == [("S", seq.add(ISS, OFFSET))]
        return self.send("SA", IRS, FIRST, window=window, options=options)

    def send(
        self, letters: str, at: int, ack: int, data: bytes = b"", *, window: int = 0xFFFF, options: bytes = b""
    ) -> list[tuple[str, int, int, bytes]]:
        raw = packet(MASTER, CLIENT, letters, at, seq.add(ack, OFFSET), data, window=window, options=options)
        return self.on_the_wire(self.leg.receive(segment(raw), self.now))

    def ack(self, count: int, *, window: int = 0xFFFF) -> list[tuple[str, int, int, bytes]]:
        return self.send("A", THEIRS, seq.add(FIRST, count), window=window)

    def sack(self, count: int, *blocks: tuple[int, int]) -> list[tuple[str, int, int, bytes]]:
        numbers = b"".join(seq.add(FIRST + OFFSET, number).to_bytes(4, "big") for block in blocks for number in block)
        options = bytes((OPT_NOP, OPT_NOP, OPT_SACK, 2 + len(numbers))) + numbers
        return self.send("A", THEIRS, seq.add(FIRST, count), options=options)

    def finish(self) -> list[tuple[str, int, int, bytes]]:
        return self.on_the_wire(self.leg.finish(self.now))

    def write(self, data: bytes) -> list[tuple[str, int, int, bytes]]:
        return self.on_the_wire(self.leg.write(data, self.now))

    def state(self) -> LegState:
        return self.leg.state

    def timer(self) -> list[tuple[str, int, int, bytes]]:
        due = self.leg.next_timer()
        assert due is not None
        self.now = max(self.now, due)
        return self.on_the_wire(self.leg.handle_timer(self.now))


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    if wire.leg.ended is not None:
        assert wire.leg.next_timer() is None
        assert wire.leg.lag_bytes == 0
        assert wire.write(b"late") == []
        assert wire.memory.used == 0


def test_handshake(wire: Wire) -> None:
    assert wire.connect() == [("A", FIRST, THEIRS, b"")]
    assert wire.state() is LegState.ESTABLISHED
    assert wire.leg.next_timer() is None


def test_the_syn_offers_a_segment_size_and_a_scale_and_no_timestamps() -> None:
    wire = Wire()
    syn = segment(wire.leg.open(0.0)[0])
    assert syn.options() == {OPT_MSS: b"\x05\xb4", OPT_WINDOW_SCALE: b"\x07", OPT_SACK_PERMITTED: b""}
    assert (syn.src, syn.sport) == CLIENT
    assert (syn.dst, syn.dport) == MASTER


def test_a_lost_syn_is_sent_again_with_back_off_and_given_up(wire: Wire) -> None:
    wire.leg.open(wire.now)
    begun = wire.now
    times = []
    while wire.leg.ended is None:
        out = wire.timer()
        times.append(wire.now - begun)
    assert times == [1, 3, 7, 15, CONNECT]
    assert [flags for flags, *_ in out] == ["R"]
    assert wire.leg.ended == "connect-timeout"


def test_refused(wire: Wire) -> None:
    wire.leg.open(wire.now)
    assert wire.send("RA", 0, FIRST) == []
    assert wire.leg.ended == "refused"


def test_a_reset_with_a_foreign_number_does_not_refuse(wire: Wire) -> None:
    wire.leg.open(wire.now)
    assert wire.send("RA", 0, seq.add(FIRST, 5)) == []
    assert wire.leg.ended is None


def test_an_old_connection_at_the_mirror_is_cleared_by_a_reset(wire: Wire) -> None:
    wire.leg.open(wire.now)
    assert wire.send("A", 4242, 777) == [("R", 777, 0, b""), ("S", ISS, 0, b"")]
    assert wire.send("SA", IRS, FIRST) == [("A", FIRST, THEIRS, b"")]


def test_the_syn_follows_such_a_reset_at_once_but_not_as_often_as_a_mirror_wants(wire: Wire) -> None:
    wire.leg.open(wire.now)
    syns = 0
    for _ in range(1000):
        wire.now += 0.01
        answer = wire.send("A", 4242, 777)
        assert [letters for letters, *_ in answer] in (["R"], ["R", "S"])
        syns += len(answer) - 1
    assert syns == 20, "in ten seconds"
    assert wire.send("A", 4242, 777, b"data")[0] == ("R", 777, 0, b"")
    assert wire.leg.retransmits == syns
    wire.now = 131.0
    assert wire.timer() == [("R", FIRST, 0, b"")]
    assert wire.leg.ended == "connect-timeout", "none of it puts off the end"


def test_a_syn_that_was_sent_again_measures_no_round_trip(wire: Wire) -> None:
    wire.leg.open(wire.now)
    wire.now += 0.4
    assert len(wire.send("A", 4242, 777)) == 2
    wire.now += 0.4
    wire.send("SA", IRS, FIRST, options=OPTIONS)
    assert wire.leg.rtt_seconds is None


def test_what_the_client_sends_meanwhile_follows_the_handshake(wire: Wire) -> None:
    wire.leg.open(wire.now)
    assert wire.write(b"hello") == []
    out = wire.send("SA", IRS, FIRST, options=OPTIONS)
    assert out == [("PA", FIRST, THEIRS, b"hello")]


def test_data_is_cut_to_the_mirrors_segment_size(wire: Wire) -> None:
    wire.connect()
    out = wire.write(b"x" * 250)
    assert [(at, len(data)) for _, at, _, data in out] == [
        (FIRST, 100),
        (seq.add(FIRST, 100), 100),
        (seq.add(FIRST, 200), 50),
    ]
    assert [letters for letters, *_ in out] == ["A", "A", "PA"]


def test_acknowledged_data_is_let_go(wire: Wire) -> None:
    wire.connect()
    wire.write(b"x" * 250)
    assert wire.ack(250) == []
    assert (wire.leg.acked_bytes, wire.leg.lag_bytes, wire.leg.next_timer()) == (250, 0, None)


def test_the_mirrors_window_and_scale_are_honoured(wire: Wire) -> None:
    wire.connect(window=250)
    assert sum(len(data) for *_, data in wire.write(b"x" * 1000)) == 200, "two whole segments: no silly window"
    out = wire.ack(200, window=50)  # 50 << 2
    assert sum(len(data) for *_, data in out) == 200


def test_scaling_is_off_when_the_mirror_does_not_offer_it(wire: Wire) -> None:
    wire.connect(window=1000, options=bytes((OPT_MSS, 4, 0, MSS)))
    wire.write(b"x" * 100)
    wire.ack(100, window=100)
    assert sum(len(data) for *_, data in wire.write(b"x" * 1000)) == 100


@pytest.mark.parametrize(("offered", "used"), [(0, 536), (20, 48), (60, 60), (9000, 1460)])
def test_odd_segment_sizes(wire: Wire, offered: int, used: int) -> None:
    wire.connect(options=bytes((OPT_MSS, 4, offered >> 8, offered & 0xFF)))
    assert len(wire.write(b"x" * 3000)[0][3]) == used


def test_without_the_option_segments_have_the_default_size(wire: Wire) -> None:
    wire.connect(options=b"")
    assert len(wire.write(b"x" * 3000)[0][3]) == 536


def test_a_closed_window_is_probed_until_it_opens(wire: Wire) -> None:
    wire.connect(window=0)
    assert wire.write(b"hello") == []
    begun = wire.now
    probe = [("A", seq.add(FIRST, -1), THEIRS, b"")]
    assert wire.timer() == probe
    first = wire.now - begun
    assert wire.ack(0, window=0) == []
    assert wire.timer() == probe
    assert wire.now - begun == pytest.approx(3 * first), "the interval doubles"
    assert wire.ack(0, window=100) == [("PA", FIRST, THEIRS, b"hello")]


def test_a_window_that_stays_closed_is_probed_for_a_while(wire: Wire) -> None:
    wire.connect(window=0)
    wire.write(b"hello")
    begun = wire.now
    while wire.leg.ended is None:
        assert len(wire.timer()) == 1
        wire.ack(0, window=0)
    assert (wire.leg.ended, wire.now - begun) == ("stalled", STALL)


def test_probes_without_any_answer_end_the_leg(wire: Wire) -> None:
    wire.connect(window=0)
    wire.write(b"hello")
    begun = wire.now
    while wire.leg.ended is None:
        wire.timer()
    assert wire.leg.ended == "stalled"
    assert wire.now - begun >= STALL


def test_lost_data_is_sent_again_by_the_timer_with_back_off(wire: Wire) -> None:
    wire.connect()
    wire.write(b"x" * 100)
    begun = wire.now
    assert wire.timer() == [("PA", FIRST, THEIRS, b"x" * 100)]
    first = wire.now - begun
    assert wire.timer() == [("PA", FIRST, THEIRS, b"x" * 100)]
    assert wire.now - begun == pytest.approx(3 * first)
    assert wire.leg.retransmits == 2
    wire.ack(100)
    assert wire.leg.next_timer() is None
    assert wire.leg.sent_bytes == 100, "counted once"


def test_after_a_timeout_all_in_flight_is_sent_again_as_the_window_opens(wire: Wire) -> None:
    wire.connect()
    wire.write(b"x" * 500)
    assert len(wire.timer()) == 1
    out = wire.ack(100)
    assert [(at, len(data)) for _, at, _, data in out] == [(seq.add(FIRST, 100), 100), (seq.add(FIRST, 200), 100)]
    assert wire.ack(500) == []
    assert wire.leg.acked_bytes == 500


def test_the_third_duplicate_acknowledgement_brings_the_first_segment_again(wire: Wire) -> None:
    wire.connect()
    wire.write(b"x" * 1000)
    wire.ack(0)  # brings a wider window, and so is no duplicate
    assert wire.ack(0) == []
    assert wire.ack(0) == []
    assert wire.ack(0) == [("A", FIRST, THEIRS, b"x" * 100)]
    assert wire.ack(0) == [], "once for each loss"


def test_a_partial_acknowledgement_brings_the_next_hole(wire: Wire) -> None:
    wire.connect()
    wire.write(b"x" * 1000)
    for _ in range(4):
        wire.ack(0)
    assert wire.ack(300)[0] == ("A", seq.add(FIRST, 300), THEIRS, b"x" * 100)
    assert wire.ack(1000) == []
    assert wire.leg.acked_bytes == 1000


def test_a_retransmission_never_goes_past_what_was_sent(wire: Wire) -> None:
    wire.connect(window=40)
    wire.write(b"x" * 1000)
    for _ in range(3):
        out = wire.ack(0, window=10)
    assert out == [("A", FIRST, THEIRS, b"x" * 40)]


def test_an_acknowledgement_of_what_was_never_sent_is_challenged(wire: Wire) -> None:
    wire.connect()
    assert wire.ack(5) == [("A", FIRST, THEIRS, b"")]
    assert wire.leg.acked_bytes == 0


def test_an_old_acknowledgement_changes_nothing(wire: Wire) -> None:
    wire.connect()
    wire.write(b"x" * 200)
    wire.ack(200)
    assert wire.ack(100, window=0) == []
    assert wire.write(b"y") == [("PA", seq.add(FIRST, 200), THEIRS, b"y")]


def test_what_the_mirror_sends_is_acknowledged_and_consumed(wire: Wire) -> None:
    wire.connect()
    assert wire.send("PA", THEIRS, FIRST, b"answer") == []
    assert wire.timer() == [("A", FIRST, seq.add(THEIRS, 6), b"")]
    assert wire.leg.consumed_bytes == 6
    assert wire.leg.next_timer() is None
    assert wire.send("PA", THEIRS, FIRST, b"answer") == [("A", FIRST, seq.add(THEIRS, 6), b"")]
    assert wire.send("PA", THEIRS, FIRST, b"answers") == [("A", FIRST, seq.add(THEIRS, 7), b"")]
    assert wire.leg.consumed_bytes == 7


def test_each_second_segment_of_the_mirrors_is_acknowledged_at_once(wire: Wire) -> None:
    wire.connect()
    told = [wire.send("PA", seq.add(THEIRS, number), FIRST, b"x") for number in range(4)]
    assert told == [[], [("A", FIRST, seq.add(THEIRS, 2), b"")], [], [("A", FIRST, seq.add(THEIRS, 4), b"")]]
    many = bytes(2 * 1460)
    assert wire.send("PA", seq.add(THEIRS, 4), FIRST, many) == [("A", FIRST, seq.add(THEIRS, 2924), b"")]


def test_an_acknowledgement_that_is_owed_goes_with_data(wire: Wire) -> None:
    wire.connect()
    wire.send("PA", THEIRS, FIRST, b"answer")
    assert wire.write(b"next") == [("PA", FIRST, seq.add(THEIRS, 6), b"next")]
    wire.send("A", seq.add(THEIRS, 6), seq.add(FIRST, 4))
    assert wire.leg.next_timer() is None


def test_what_fills_a_gap_is_acknowledged_at_once(wire: Wire) -> None:
    wire.connect()
    wire.send("PA", seq.add(THEIRS, 2), FIRST, b"c")
    assert wire.send("PA", THEIRS, FIRST, b"a")[0][:3] == ("A", FIRST, seq.add(THEIRS, 1))
    assert wire.send("PA", seq.add(THEIRS, 1), FIRST, b"b") == [("A", FIRST, seq.add(THEIRS, 3), b"")]


def test_an_answer_ahead_of_its_turn_is_asked_for_again(wire: Wire) -> None:
    wire.connect()
    assert wire.send("PA", seq.add(THEIRS, 10), FIRST, b"later") == [("A", FIRST, THEIRS, b"")]
    assert wire.leg.consumed_bytes == 0


def test_keep_alives_are_answered(wire: Wire) -> None:
    wire.connect()
    assert wire.send("A", seq.add(THEIRS, -1), FIRST) == [("A", FIRST, THEIRS, b"")]


def test_the_fin_follows_the_last_byte_and_both_sides_close(wire: Wire) -> None:
    wire.connect()
    wire.write(b"bye")
    assert wire.finish() == [("FA", seq.add(FIRST, 3), THEIRS, b"")]
    assert wire.state() is LegState.FIN_WAIT_1
    assert wire.ack(4) == []
    assert wire.state() is LegState.FIN_WAIT_2
    assert wire.send("FA", THEIRS, seq.add(FIRST, 4)) == [("A", seq.add(FIRST, 4), seq.add(THEIRS, 1), b"")]
    assert wire.leg.ended == "closed"


def test_half_close_then_more_answers(wire: Wire) -> None:
    wire.connect()
    wire.leg.finish(wire.now)
    wire.ack(1)
    assert wire.send("PA", THEIRS, seq.add(FIRST, 1), b"more") == []
    assert wire.timer() == [("A", seq.add(FIRST, 1), seq.add(THEIRS, 4), b"")]
    assert wire.leg.ended is None


def test_the_mirror_closes_first_and_still_gets_everything(wire: Wire) -> None:
    wire.connect()
    assert wire.send("FA", THEIRS, FIRST) == [("A", FIRST, seq.add(THEIRS, 1), b"")]
    assert wire.state() is LegState.CLOSE_WAIT
    assert wire.write(b"still") == [("PA", FIRST, seq.add(THEIRS, 1), b"still")]
    wire.send("A", seq.add(THEIRS, 1), seq.add(FIRST, 5))
    assert [told(raw)[0] for raw in wire.leg.finish(wire.now)] == ["FA"]
    assert wire.state() is LegState.LAST_ACK
    wire.send("A", seq.add(THEIRS, 1), seq.add(FIRST, 6))
    assert wire.leg.ended == "closed"


def test_both_close_at_once(wire: Wire) -> None:
    wire.connect()
    wire.leg.finish(wire.now)
    assert wire.send("FA", THEIRS, FIRST) == [("A", seq.add(FIRST, 1), seq.add(THEIRS, 1), b"")]
    assert wire.state() is LegState.CLOSING
    wire.send("A", seq.add(THEIRS, 1), seq.add(FIRST, 1))
    assert wire.leg.ended == "closed"


def test_a_lost_fin_is_sent_again(wire: Wire) -> None:
    wire.connect()
    wire.write(b"bye")
    wire.leg.finish(wire.now)
    wire.ack(3)
    assert wire.timer() == [("FA", seq.add(FIRST, 3), THEIRS, b"")]
    wire.ack(4)
    assert wire.state() is LegState.FIN_WAIT_2
    assert wire.leg.next_timer() is None


def test_a_lost_last_segment_and_fin_are_both_sent_again(wire: Wire) -> None:
    wire.connect()
    wire.write(b"bye")
    wire.leg.finish(wire.now)
    assert wire.timer() == [("PA", FIRST, THEIRS, b"bye"), ("FA", seq.add(FIRST, 3), THEIRS, b"")]


def test_a_reset_of_the_client_follows_the_last_byte(wire: Wire) -> None:
    wire.connect()
    wire.write(b"bye")
    assert wire.leg.reset(wire.now) == []
    assert wire.ack(3) == [("RA", seq.add(FIRST, 3), THEIRS, b"")]
    assert wire.leg.ended == "client-reset"


def test_the_mirrors_reset_counts_only_with_the_next_number(wire: Wire) -> None:
    wire.connect()
    assert wire.send("R", seq.add(THEIRS, 10), 0) == [("A", FIRST, THEIRS, b"")], "in the window: challenged"
    assert wire.send("R", seq.add(THEIRS, -10), 0) == []
    assert wire.leg.ended is None
    assert wire.send("R", THEIRS, 0) == []
    assert wire.leg.ended == "mirror-reset"


def test_a_syn_on_the_leg_is_challenged(wire: Wire) -> None:
    wire.connect()
    assert wire.send("S", seq.add(THEIRS, 100), 0) == [("A", FIRST, THEIRS, b"")]


def test_a_full_buffer_ends_the_leg_with_a_reset() -> None:
    wire = Wire(buffer=1000)
    wire.connect(window=0)
    assert wire.write(b"x" * 1000) == []
    assert [letters for letters, *_ in wire.write(b"x")] == ["RA"]
    assert wire.leg.ended == "buffer-full"


def test_a_mirror_that_falls_silent_ends_the_leg(wire: Wire) -> None:
    wire.connect()
    wire.write(b"first")
    wire.ack(5)
    wire.now += 10_000
    wire.write(b"x")
    begun = wire.now
    wire.timer()
    assert wire.leg.ended is None, "the silence before counts for nothing"
    while wire.leg.ended is None:
        wire.timer()
    assert wire.leg.ended == "stalled"
    assert STALL <= wire.now - begun <= STALL + 61


def test_after_the_client_the_leg_lives_as_long_as_it_progresses(wire: Wire) -> None:
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


def test_a_smaller_path_makes_smaller_segments(wire: Wire) -> None:
    wire.connect(options=bytes((OPT_MSS, 4, 5, 180)))
    wire.write(b"x" * 2000)
    out = wire.on_the_wire(wire.leg.path_mtu(1000, seq.add(FIRST, OFFSET), wire.now))
    assert [(at, len(data)) for _, at, _, data in out] == [
        (FIRST, 960),
        (seq.add(FIRST, 960), 960),
        (seq.add(FIRST, 1920), 80),
    ]


def test_a_path_mtu_about_nothing_in_flight_or_absurdly_small_is_not_believed(wire: Wire) -> None:
    wire.connect(options=bytes((OPT_MSS, 4, 5, 180)))
    wire.write(b"x" * 2000)
    assert wire.leg.path_mtu(1000, seq.add(FIRST, OFFSET + 5000), wire.now) == []
    assert len(told(wire.leg.path_mtu(68, seq.add(FIRST, OFFSET), wire.now)[0])[3]) == 512


def test_unreachable_ends_only_an_attempt() -> None:
    wire = Wire()
    wire.leg.open(wire.now)
    wire.leg.unreachable(seq.add(ISS, OFFSET + 77))
    assert wire.leg.ended is None
    wire.leg.unreachable(seq.add(ISS, OFFSET))
    assert wire.leg.ended == "unreachable"
    wire = Wire()
    wire.connect()
    wire.write(b"x")
    wire.leg.unreachable(seq.add(FIRST, OFFSET))
    assert wire.leg.ended is None


def numbers(out: list[tuple[str, int, int, bytes]]) -> list[tuple[int, int]]:
    """Where each segment begins in the stream, and its length."""
    return [(seq.diff(at, FIRST), len(data)) for _, at, _, data in out]


# Selective acknowledgements


def test_what_the_mirror_holds_is_not_sent_again(wire: Wire) -> None:
    wire.connect(options=SACK_OPTIONS)
    wire.write(b"x" * 1000)
    assert wire.sack(0, (100, 200)) == []
    assert wire.sack(0, (100, 300)) == []
    assert numbers(wire.sack(0, (100, 400))) == [(0, 100)], "the third"
    assert numbers(wire.sack(0, (100, 400), (500, 900))) == [(400, 100)], "the second hole, before any timer"
    assert wire.sack(400, (500, 900)) == []
    assert wire.sack(900) == []
    assert wire.leg.retransmits == 2
    assert wire.ack(1000) == []


def test_holes_with_enough_above_them_need_no_third_acknowledgement(wire: Wire) -> None:
    wire.connect(options=SACK_OPTIONS)
    wire.write(b"x" * 1000)
    assert numbers(wire.sack(0, (100, 900)))[0] == (0, 100)


def test_after_a_timeout_what_the_mirror_tells_anew_is_left_out(wire: Wire) -> None:
    wire.connect(options=SACK_OPTIONS)
    wire.write(b"x" * 600)
    wire.sack(0, (100, 200))
    assert numbers(wire.timer()) == [(0, 100)]
    out = wire.sack(100, (200, 500))
    assert numbers(out) == [(100, 100), (500, 100)]


def test_selective_acknowledgements_that_were_not_agreed_on_are_not_heeded(wire: Wire) -> None:
    wire.connect()
    wire.write(b"x" * 1000)
    wire.ack(0)
    assert [wire.sack(0, (100, 900)) for _ in range(2)] == [[], []]
    assert numbers(wire.sack(0, (100, 900))) == [(0, 100)]
    assert numbers(wire.ack(100)) == [(100, 100)], "as without: a partial acknowledgement"


def test_what_came_ahead_is_told_and_counted_once_its_turn_has_come(wire: Wire) -> None:
    wire.connect(options=SACK_OPTIONS)
    raw = packet(MASTER, CLIENT, "A", seq.add(THEIRS, 5), seq.add(FIRST, OFFSET), b"later")
    [ack] = [segment(out) for out in wire.leg.receive(segment(raw), wire.now)]
    assert (ack.ack, ack.sack_blocks()) == (THEIRS, [(seq.add(THEIRS, 5), seq.add(THEIRS, 10))])
    assert wire.send("A", THEIRS, FIRST, b"first") == [("A", FIRST, seq.add(THEIRS, 10), b"")]
    assert wire.leg.consumed_bytes == 10


def test_limited_transmit_keeps_the_acknowledgements_coming(wire: Wire) -> None:
    wire.connect(window=0xFFFF)
    wire.write(b"x" * 3000)  # ten segments are out, the initial window
    wire.ack(0)
    assert numbers(wire.ack(0)) == [(1000, 100)], "RFC 3042"
    assert numbers(wire.ack(0)) == [(1100, 100)]
    assert numbers(wire.ack(0))[0] == (0, 100)


# Numbers that cannot be


@pytest.mark.parametrize("offered", [14, 15, 255])
def test_a_scale_above_fourteen_counts_as_fourteen(wire: Wire, offered: int) -> None:
    wire.connect(options=bytes((OPT_MSS, 4, 0, MSS, OPT_NOP, OPT_WINDOW_SCALE, 3, offered)))
    wire.write(b"x" * 500)
    wire.ack(500, window=0)
    wire.write(b"x" * 40_000)
    assert sum(len(data) for *_, data in wire.ack(500, window=1)) <= 1 << 14


def test_an_acknowledgement_older_than_any_window_is_challenged(wire: Wire) -> None:
    wire.connect(window=1000)
    assert wire.send("A", THEIRS, seq.add(FIRST, -1001)) == [("A", FIRST, THEIRS, b"")]
    assert wire.send("A", THEIRS, seq.add(FIRST, -1000)) == []


def test_data_without_an_acknowledgement_is_nobodys(wire: Wire) -> None:
    wire.connect()
    assert wire.send("", THEIRS, 0, b"data") == []
    assert wire.leg.consumed_bytes == 0


def test_a_syn_ack_that_comes_again_is_acknowledged_again(wire: Wire) -> None:
    wire.connect()
    assert wire.send("SA", IRS, FIRST) == [("A", FIRST, THEIRS, b"")]
    assert wire.state() is LegState.ESTABLISHED


def in_state(wire: Wire, state: LegState) -> None:
    """Bring a leg there, with nothing of ours unacknowledged but a FIN."""
    if state is LegState.SYN_SENT:
        wire.leg.open(wire.now)
        return
    wire.connect()
    if state in (LegState.CLOSE_WAIT, LegState.LAST_ACK):
        wire.send("FA", THEIRS, FIRST)
    if state not in (LegState.ESTABLISHED, LegState.CLOSE_WAIT):
        wire.finish()
    if state is LegState.FIN_WAIT_2:
        wire.ack(1)
    if state is LegState.CLOSING:
        wire.send("FA", THEIRS, FIRST)
    assert wire.state() is state


SYNCHRONIZED = [state for state in LegState if state not in (LegState.SYN_SENT, LegState.RESUMING, LegState.CLOSED)]


@pytest.mark.parametrize("state", SYNCHRONIZED)
def test_a_reset_counts_in_every_state_with_the_next_number_only(state: LegState) -> None:
    wire = Wire()
    in_state(wire, state)
    following = THEIRS if state in (LegState.ESTABLISHED, LegState.FIN_WAIT_1, LegState.FIN_WAIT_2) else THEIRS + 1
    assert [letters for letters, *_ in wire.send("R", seq.add(following, 1), 0)] == ["A"], "a challenge"
    assert wire.send("R", seq.add(following, -1), 0) == []
    assert wire.send("R", seq.add(following, 1 << 24), 0) == []
    assert wire.state() is state
    assert wire.send("R", following, 0) == []
    assert (wire.leg.ended, wire.leg.next_timer()) == ("mirror-reset", None)


@pytest.mark.parametrize("state", SYNCHRONIZED)
def test_a_syn_is_challenged_in_every_state(state: LegState) -> None:
    wire = Wire()
    in_state(wire, state)
    assert [letters for letters, *_ in wire.send("S", seq.add(THEIRS, 5000), 0)] == ["A"]
    assert wire.state() is state


@pytest.mark.parametrize("state", [LegState.SYN_SENT, *SYNCHRONIZED])
def test_an_end_from_outside_leaves_nothing_in_any_state(state: LegState) -> None:
    wire = Wire()
    in_state(wire, state)
    wire.leg.write(b"x" * 1000, wire.now)
    assert [told(raw)[0] for raw in wire.leg.abort("shutdown")] == ["R" if state is LegState.SYN_SENT else "RA"]
    assert (wire.leg.next_timer(), wire.leg.lag_bytes, wire.memory.used) == (None, 0, 0)
    assert wire.leg.abort("again") == wire.leg.handle_timer(wire.now + 1e6) == []
    assert wire.leg.ended == "shutdown"


# The mirror's FIN


def test_a_fin_with_data_takes_both(wire: Wire) -> None:
    wire.connect()
    assert wire.send("FPA", THEIRS, FIRST, b"bye") == [("A", FIRST, seq.add(THEIRS, 4), b"")]
    assert (wire.state(), wire.leg.consumed_bytes) == (LegState.CLOSE_WAIT, 3)


def test_a_fin_ahead_of_its_turn_waits(wire: Wire) -> None:
    wire.connect()
    assert wire.send("FA", seq.add(THEIRS, 3), FIRST) == [("A", FIRST, THEIRS, b"")]
    assert wire.state() is LegState.ESTABLISHED
    assert wire.send("A", THEIRS, FIRST, b"bye") == [("A", FIRST, seq.add(THEIRS, 4), b"")]
    assert wire.state() is LegState.CLOSE_WAIT


def test_a_fin_that_comes_again_is_acknowledged_again(wire: Wire) -> None:
    wire.connect()
    for _ in range(2):
        assert wire.send("FA", THEIRS, FIRST) == [("A", FIRST, seq.add(THEIRS, 1), b"")]
    assert wire.state() is LegState.CLOSE_WAIT


# Giving up


def test_a_window_update_that_was_lost_is_found_by_a_probe(wire: Wire) -> None:
    wire.connect(window=100)
    wire.write(b"x" * 300)
    assert wire.ack(100, window=0) == []
    assert wire.timer() == [("A", seq.add(FIRST, 99), THEIRS, b"")]
    assert numbers(wire.ack(100, window=100)) == [(100, 100), (200, 100)]


def test_an_idle_leg_is_ended_where_the_rules_say_so() -> None:
    wire = Wire(idle_timeout=60.0)
    wire.connect()
    wire.write(b"x")
    wire.ack(1)
    wire.now += 50
    wire.send("A", THEIRS, seq.add(FIRST, 1), b"heard")
    begun = wire.now
    assert [letters for _ in range(2) for letters, *_ in wire.timer()] == ["A", "RA"]
    assert (wire.leg.ended, wire.now - begun) == ("idle-timeout", 60.0)


def test_without_such_a_rule_an_idle_leg_has_no_timer(wire: Wire) -> None:
    wire.connect()
    assert wire.leg.next_timer() is None


def test_a_client_is_not_held_back_for_longer_than_the_limit() -> None:
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


def test_nor_for_a_mirror_that_does_not_answer_at_all() -> None:
    wire = Wire(when_behind=WhenBehind.THROTTLE, buffer=1 << 16)
    wire.leg.open(wire.now)
    wire.now += 5
    begun = wire.now
    wire.write(b"x" * (1 << 16))
    wire.leg.client_waits = True
    while wire.leg.ended is None:
        wire.timer()
    assert (wire.leg.ended, wire.now - begun) == ("throttle-limit", 2.0)


def test_a_mirror_that_has_everything_is_not_behind_however_much_comes_at_once() -> None:
    wire = Wire(buffer=1 << 16)
    wire.connect()
    assert wire.write(b"x" * (1 << 17)) != []
    assert wire.leg.ended is None
    wire.write(b"x")
    assert wire.leg.ended == "buffer-full"


def test_challenges_are_limited_and_data_is_acknowledged_all_the_same(wire: Wire) -> None:
    wire.connect()
    wrong = seq.add(THEIRS, 100)
    assert [letters for letters, *_ in wire.send("R", wrong, 0)] == ["A"]
    assert wire.send("R", wrong, 0) == wire.send("A", seq.add(THEIRS, -1), FIRST) == []
    assert [letters for letters, *_ in wire.send("A", seq.add(THEIRS, -1), FIRST, b"x")] == ["A"]
    wire.now += 0.5
    assert [letters for letters, *_ in wire.send("A", seq.add(THEIRS, -1), FIRST)] == ["A"]


def test_progress_undoes_back_off(wire: Wire) -> None:
    wire.connect()
    wire.write(b"x" * 1000)
    for _ in range(6):
        wire.timer()
    wire.ack(100)
    due = wire.leg.next_timer()
    assert due is not None
    assert due - wire.now <= 1.0


def test_a_hole_with_little_above_it_is_mended_before_the_timer(wire: Wire) -> None:
    wire.connect(options=SACK_OPTIONS)
    wire.write(b"x" * 1000)
    for end in range(200, 701, 100):
        wire.sack(0, (100, end))
    assert [at for _, at, _, _ in wire.sack(700, (800, 1000))] == [seq.add(FIRST, 700)]


def test_after_the_window_has_shrunk_an_acknowledgement_lies_inside_it(wire: Wire) -> None:
    wire.connect()
    wire.write(b"x" * 1000)
    wire.ack(0, window=50)
    wire.send("PA", THEIRS, FIRST, b"y", window=50)
    assert wire.send("PA", seq.add(THEIRS, 1), FIRST, b"z", window=50) == [
        ("A", seq.add(FIRST, 200), seq.add(THEIRS, 2), b"")
    ]


def test_a_leg_that_gives_way_says_nothing(wire: Wire) -> None:
    wire.connect()
    wire.write(b"x" * 100)
    assert wire.leg.abandon("port-reused") == []
    assert wire.leg.ended == "port-reused"


def test_a_leg_that_finds_no_memory_is_ended() -> None:
    wire = Wire(memory=4096)
    wire.connect(window=0)
    assert wire.write(b"x" * 4096) == []
    assert [letters for letters, *_ in wire.write(b"x")] == ["RA"]
    assert (wire.leg.ended, wire.memory.used) == ("memory-full", 0)


def test_after_a_pause_the_path_is_tried_anew(wire: Wire) -> None:
    wire.connect()
    wire.write(b"x" * 40_000)
    while wire.leg.lag_bytes:
        wire.ack(wire.leg.sent_bytes)
    assert sum(len(data) for *_, data in wire.write(b"x" * 2000)) == 20 * MSS
    wire.ack(42_000)
    wire.now += 60
    assert sum(len(data) for *_, data in wire.write(b"x" * 5000)) == 10 * MSS


def test_its_age_is_that_of_the_oldest_byte(wire: Wire) -> None:
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
