"""A leg's handshake, as packet scripts: the SYN, its answer, and the negotiated options."""

import pytest

from natmirror.net import seq
from natmirror.net.packet import OPT_MSS, OPT_NOP, OPT_SACK_PERMITTED, OPT_WINDOW_SCALE
from natmirror.tcp.leg_states import LegState
from tests.helpers.leg_wire import CONNECT, FIRST, IRS, ISS, MSS, OFFSET, OPTIONS, THEIRS, Wire
from tests.helpers.support import CLIENT, MASTER, segment


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


def test_a_lost_syn_is_sent_again_with_back_off_until_the_timeout(wire: Wire) -> None:
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


def test_a_reset_with_another_number_does_not_refuse(wire: Wire) -> None:
    wire.leg.open(wire.now)
    assert wire.send("RA", 0, seq.add(FIRST, 5)) == []
    assert wire.leg.ended is None


def test_an_old_connection_at_the_mirror_is_cleared_by_a_reset(wire: Wire) -> None:
    wire.leg.open(wire.now)
    assert wire.send("A", 4242, 777) == [("R", 777, 0, b""), ("S", ISS, 0, b"")]
    assert wire.send("SA", IRS, FIRST) == [("A", FIRST, THEIRS, b"")]


def test_the_syn_follows_such_a_reset_at_once_but_not_more_often_than_allowed(wire: Wire) -> None:
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
    assert wire.leg.ended == "connect-timeout", "nothing postpones the end"


def test_a_syn_that_was_sent_again_measures_no_round_trip(wire: Wire) -> None:
    wire.leg.open(wire.now)
    wire.now += 0.4
    assert len(wire.send("A", 4242, 777)) == 2
    wire.now += 0.4
    wire.send("SA", IRS, FIRST, options=OPTIONS)
    assert wire.leg.rtt_seconds is None


def test_bytes_that_the_client_sends_meanwhile_follow_the_handshake(wire: Wire) -> None:
    wire.leg.open(wire.now)
    assert wire.write(b"hello") == []
    out = wire.send("SA", IRS, FIRST, options=OPTIONS)
    assert out == [("PA", FIRST, THEIRS, b"hello")]


@pytest.mark.parametrize(("offered", "used"), [(0, 536), (20, 48), (60, 60), (9000, 1460)])
def test_odd_segment_sizes(wire: Wire, offered: int, used: int) -> None:
    wire.connect(options=bytes((OPT_MSS, 4, offered >> 8, offered & 0xFF)))
    assert len(wire.write(b"x" * 3000)[0][3]) == used


def test_without_the_option_segments_have_the_default_size(wire: Wire) -> None:
    wire.connect(options=b"")
    assert len(wire.write(b"x" * 3000)[0][3]) == 536


def test_scaling_is_off_if_the_mirror_does_not_offer_it(wire: Wire) -> None:
    wire.connect(window=1000, options=bytes((OPT_MSS, 4, 0, MSS)))
    wire.write(b"x" * 100)
    wire.ack(100, window=100)
    assert sum(len(data) for *_, data in wire.write(b"x" * 1000)) == 100


@pytest.mark.parametrize("offered", [14, 15, 255])
def test_a_scale_above_fourteen_counts_as_fourteen(wire: Wire, offered: int) -> None:
    wire.connect(options=bytes((OPT_MSS, 4, 0, MSS, OPT_NOP, OPT_WINDOW_SCALE, 3, offered)))
    wire.write(b"x" * 500)
    wire.ack(500, window=0)
    wire.write(b"x" * 40_000)
    assert sum(len(data) for *_, data in wire.ack(500, window=1)) <= 1 << 14


def test_a_syn_ack_that_comes_again_is_acknowledged_again(wire: Wire) -> None:
    wire.connect()
    assert wire.send("SA", IRS, FIRST) == [("A", FIRST, THEIRS, b"")]
    assert wire.state() is LegState.ESTABLISHED


def test_an_unreachable_error_ends_a_leg_only_in_its_handshake() -> None:
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
