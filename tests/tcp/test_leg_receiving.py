"""A leg's answers to its mirror, as packet scripts: acknowledgements, challenges, the mirror's FIN."""

from natmirror.net import seq
from natmirror.tcp.leg_states import LegState
from tests.helpers.leg_wire import FIRST, OFFSET, SACK_OPTIONS, THEIRS, Wire
from tests.helpers.support import CLIENT, MASTER, packet, segment


def test_the_mirrors_data_is_acknowledged_and_discarded(wire: Wire) -> None:
    wire.connect()
    assert wire.send("PA", THEIRS, FIRST, b"answer") == []
    assert wire.timer() == [("A", FIRST, seq.add(THEIRS, 6), b"")]
    assert wire.leg.consumed_bytes == 6
    assert wire.leg.next_timer() is None
    assert wire.send("PA", THEIRS, FIRST, b"answer") == [("A", FIRST, seq.add(THEIRS, 6), b"")]
    assert wire.send("PA", THEIRS, FIRST, b"answers") == [("A", FIRST, seq.add(THEIRS, 7), b"")]
    assert wire.leg.consumed_bytes == 7


def test_every_second_segment_of_the_mirror_is_acknowledged_at_once(wire: Wire) -> None:
    wire.connect()
    reported = [wire.send("PA", seq.add(THEIRS, number), FIRST, b"x") for number in range(4)]
    assert reported == [[], [("A", FIRST, seq.add(THEIRS, 2), b"")], [], [("A", FIRST, seq.add(THEIRS, 4), b"")]]
    many = bytes(2 * 1460)
    assert wire.send("PA", seq.add(THEIRS, 4), FIRST, many) == [("A", FIRST, seq.add(THEIRS, 2924), b"")]


def test_a_delayed_acknowledgement_goes_with_data(wire: Wire) -> None:
    wire.connect()
    wire.send("PA", THEIRS, FIRST, b"answer")
    assert wire.write(b"next") == [("PA", FIRST, seq.add(THEIRS, 6), b"next")]
    wire.send("A", seq.add(THEIRS, 6), seq.add(FIRST, 4))
    assert wire.leg.next_timer() is None


def test_a_segment_that_fills_a_gap_is_acknowledged_at_once(wire: Wire) -> None:
    wire.connect()
    wire.send("PA", seq.add(THEIRS, 2), FIRST, b"c")
    assert wire.send("PA", THEIRS, FIRST, b"a")[0][:3] == ("A", FIRST, seq.add(THEIRS, 1))
    assert wire.send("PA", seq.add(THEIRS, 1), FIRST, b"b") == [("A", FIRST, seq.add(THEIRS, 3), b"")]


def test_an_out_of_order_answer_is_requested_again(wire: Wire) -> None:
    wire.connect()
    assert wire.send("PA", seq.add(THEIRS, 10), FIRST, b"later") == [("A", FIRST, THEIRS, b"")]
    assert wire.leg.consumed_bytes == 0


def test_keep_alives_are_answered(wire: Wire) -> None:
    wire.connect()
    assert wire.send("A", seq.add(THEIRS, -1), FIRST) == [("A", FIRST, THEIRS, b"")]


def test_out_of_order_data_is_reported_and_counted_once_in_order(wire: Wire) -> None:
    wire.connect(options=SACK_OPTIONS)
    raw = packet(MASTER, CLIENT, "A", seq.add(THEIRS, 5), seq.add(FIRST, OFFSET), b"later")
    [ack] = [segment(out) for out in wire.leg.receive(segment(raw), wire.now)]
    assert (ack.ack, ack.sack_blocks()) == (THEIRS, [(seq.add(THEIRS, 5), seq.add(THEIRS, 10))])
    assert wire.send("A", THEIRS, FIRST, b"first") == [("A", FIRST, seq.add(THEIRS, 10), b"")]
    assert wire.leg.consumed_bytes == 10


def test_data_without_an_acknowledgement_is_ignored(wire: Wire) -> None:
    wire.connect()
    assert wire.send("", THEIRS, 0, b"data") == []
    assert wire.leg.consumed_bytes == 0


def test_challenges_are_limited_and_data_is_acknowledged_all_the_same(wire: Wire) -> None:
    wire.connect()
    wrong = seq.add(THEIRS, 100)
    assert [letters for letters, *_ in wire.send("R", wrong, 0)] == ["A"]
    assert wire.send("R", wrong, 0) == wire.send("A", seq.add(THEIRS, -1), FIRST) == []
    assert [letters for letters, *_ in wire.send("A", seq.add(THEIRS, -1), FIRST, b"x")] == ["A"]
    wire.now += 0.5
    assert [letters for letters, *_ in wire.send("A", seq.add(THEIRS, -1), FIRST)] == ["A"]


def test_a_fin_with_data_counts_with_its_data(wire: Wire) -> None:
    wire.connect()
    assert wire.send("FPA", THEIRS, FIRST, b"bye") == [("A", FIRST, seq.add(THEIRS, 4), b"")]
    assert (wire.state(), wire.leg.consumed_bytes) == (LegState.CLOSE_WAIT, 3)


def test_an_out_of_order_fin_waits(wire: Wire) -> None:
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


def test_after_the_window_has_shrunk_an_acknowledgement_lies_inside_it(wire: Wire) -> None:
    wire.connect()
    wire.write(b"x" * 1000)
    wire.ack(0, window=50)
    wire.send("PA", THEIRS, FIRST, b"y", window=50)
    assert wire.send("PA", seq.add(THEIRS, 1), FIRST, b"z", window=50) == [
        ("A", seq.add(FIRST, 200), seq.add(THEIRS, 2), b"")
    ]
