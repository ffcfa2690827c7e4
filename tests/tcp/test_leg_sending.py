"""A leg's sending, as packet scripts: windows, probes, retransmissions, selective acknowledgements, the path MTU."""

import pytest

from natmirror.net import seq
from natmirror.net.packet import OPT_MSS
from tests.helpers.leg_wire import FIRST, MSS, OFFSET, SACK_OPTIONS, THEIRS, Wire, numbers


def test_data_is_cut_to_the_mirrors_segment_size(wire: Wire) -> None:
    wire.connect()
    out = wire.write(b"x" * 250)
    assert [(at, len(data)) for _, at, _, data in out] == [
        (FIRST, 100),
        (seq.add(FIRST, 100), 100),
        (seq.add(FIRST, 200), 50),
    ]
    assert [letters for letters, *_ in out] == ["A", "A", "PA"]


def test_acknowledged_data_is_freed(wire: Wire) -> None:
    wire.connect()
    wire.write(b"x" * 250)
    assert wire.ack(250) == []
    assert (wire.leg.acked_bytes, wire.leg.lag_bytes, wire.leg.next_timer()) == (250, 0, None)


def test_the_mirrors_window_and_scale_are_honoured(wire: Wire) -> None:
    wire.connect(window=250)
    assert sum(len(data) for *_, data in wire.write(b"x" * 1000)) == 200, "two full segments: no silly window"
    out = wire.ack(200, window=50)  # 50 << 2
    assert sum(len(data) for *_, data in out) == 200


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
    wire.ack(0)  # its window is wider, so it is no duplicate
    assert wire.ack(0) == []
    assert wire.ack(0) == []
    assert wire.ack(0) == [("A", FIRST, THEIRS, b"x" * 100)]
    assert wire.ack(0) == [], "one retransmission for each loss"


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


def test_an_acknowledgement_of_unsent_bytes_is_challenged(wire: Wire) -> None:
    wire.connect()
    assert wire.ack(5) == [("A", FIRST, THEIRS, b"")]
    assert wire.leg.acked_bytes == 0


def test_an_old_acknowledgement_changes_nothing(wire: Wire) -> None:
    wire.connect()
    wire.write(b"x" * 200)
    wire.ack(200)
    assert wire.ack(100, window=0) == []
    assert wire.write(b"y") == [("PA", seq.add(FIRST, 200), THEIRS, b"y")]


def test_a_smaller_path_mtu_makes_smaller_segments(wire: Wire) -> None:
    wire.connect(options=bytes((OPT_MSS, 4, 5, 180)))
    wire.write(b"x" * 2000)
    wire.leg.note_path_mtu(1000, seq.add(FIRST, OFFSET))
    assert numbers(wire.timer()) == [(0, 960)]
    assert numbers(wire.ack(960)) == [(960, 960), (1920, 80)]


def test_of_several_reports_the_one_about_the_first_segment_counts(wire: Wire) -> None:
    wire.connect(options=bytes((OPT_MSS, 4, 5, 180)))
    wire.write(b"x" * 5000)
    for mtu, number in ((700, 1460), (1000, 0), (600, 2920), (1400, 5000)):
        wire.leg.note_path_mtu(mtu, seq.add(FIRST, OFFSET + number))
    assert numbers(wire.timer()) == [(0, 960)]


def test_bytes_that_the_mirror_holds_are_not_sent_again(wire: Wire) -> None:
    wire.connect(options=SACK_OPTIONS)
    wire.write(b"x" * 1000)
    assert wire.sack(0, (100, 200)) == []
    assert wire.sack(0, (100, 300)) == []
    assert numbers(wire.sack(0, (100, 400))) == [(0, 100)], "at the third duplicate"
    assert numbers(wire.sack(0, (100, 400), (500, 900))) == [(400, 100)], "the second hole, before any timer"
    assert wire.sack(400, (500, 900)) == []
    assert wire.sack(900) == []
    assert wire.leg.retransmits == 2
    assert wire.ack(1000) == []


def test_holes_with_enough_above_them_need_no_third_acknowledgement(wire: Wire) -> None:
    wire.connect(options=SACK_OPTIONS)
    wire.write(b"x" * 1000)
    assert numbers(wire.sack(0, (100, 900)))[0] == (0, 100)


def test_after_a_timeout_bytes_that_the_mirror_reports_again_are_not_sent_again(wire: Wire) -> None:
    wire.connect(options=SACK_OPTIONS)
    wire.write(b"x" * 600)
    wire.sack(0, (100, 200))
    assert numbers(wire.timer()) == [(0, 100)]
    out = wire.sack(100, (200, 500))
    assert numbers(out) == [(100, 100), (500, 100)]


def test_selective_acknowledgements_that_were_not_negotiated_are_ignored(wire: Wire) -> None:
    wire.connect()
    wire.write(b"x" * 1000)
    wire.ack(0)
    assert [wire.sack(0, (100, 900)) for _ in range(2)] == [[], []]
    assert numbers(wire.sack(0, (100, 900))) == [(0, 100)]
    assert numbers(wire.ack(100)) == [(100, 100)], "a partial acknowledgement, as without SACK"


def test_limited_transmit_sends_new_data_on_duplicate_acknowledgements(wire: Wire) -> None:
    wire.connect(window=0xFFFF)
    wire.write(b"x" * 3000)  # ten segments are in flight, the initial window
    wire.ack(0)
    assert numbers(wire.ack(0)) == [(1000, 100)], "RFC 3042"
    assert numbers(wire.ack(0)) == [(1100, 100)]
    assert numbers(wire.ack(0))[0] == (0, 100)


def test_an_acknowledgement_older_than_any_window_is_challenged(wire: Wire) -> None:
    wire.connect(window=1000)
    assert wire.send("A", THEIRS, seq.add(FIRST, -1001)) == [("A", FIRST, THEIRS, b"")]
    assert wire.send("A", THEIRS, seq.add(FIRST, -1000)) == []


def test_a_window_update_that_was_lost_is_found_by_a_probe(wire: Wire) -> None:
    wire.connect(window=100)
    wire.write(b"x" * 300)
    assert wire.ack(100, window=0) == []
    assert wire.timer() == [("A", seq.add(FIRST, 99), THEIRS, b"")]
    assert numbers(wire.ack(100, window=100)) == [(100, 100), (200, 100)]


def test_progress_undoes_back_off(wire: Wire) -> None:
    wire.connect()
    wire.write(b"x" * 1000)
    for _ in range(6):
        wire.timer()
    wire.ack(100)
    due = wire.leg.next_timer()
    assert due is not None
    assert due - wire.now <= 1.0


def test_a_hole_with_little_above_it_is_filled_before_the_timer(wire: Wire) -> None:
    wire.connect(options=SACK_OPTIONS)
    wire.write(b"x" * 1000)
    for end in range(200, 701, 100):
        wire.sack(0, (100, end))
    assert [at for _, at, _, _ in wire.sack(700, (800, 1000))] == [seq.add(FIRST, 700)]


def test_after_a_pause_the_congestion_window_starts_again(wire: Wire) -> None:
    wire.connect()
    wire.write(b"x" * 40_000)
    while wire.leg.lag_bytes:
        wire.ack(wire.leg.sent_bytes)
    assert sum(len(data) for *_, data in wire.write(b"x" * 2000)) == 20 * MSS
    wire.ack(42_000)
    wire.now += 60
    assert sum(len(data) for *_, data in wire.write(b"x" * 5000)) == 10 * MSS
