"""A leg from another host, as packet scripts: standby, probes, the mirror's answer, and missing bytes."""

from dataclasses import replace

import pytest

from natmirror.net import seq
from natmirror.net.endpoint import show
from natmirror.reasons import EndReason
from natmirror.tcp.leg_record import LegRecord
from natmirror.tcp.leg_states import LegState
from natmirror.tcp.receiver import SCALE
from natmirror.tcp.resumption import Resumption
from tests.helpers.leg_wire import CONNECT, FIRST, MSS, OFFSET, THEIRS, Wire, numbers
from tests.helpers.support import CLIENT, MASTER

RECORD = LegRecord(
    mirror="master",
    address=show(MASTER),
    local=show(CLIENT),
    scale=2,
    our_scale=SCALE,
    mss=MSS,
    sack=False,
    rcv_nxt=THEIRS,
    snd_una=FIRST,
    offset=OFFSET,
)
PROBE = [("A", seq.add(FIRST, -1), THEIRS, b"")]


@pytest.fixture
def resumed() -> Wire:
    return Wire(record=RECORD)


def resumption_of(wire: Wire) -> Resumption:
    assert wire.leg.resumption is not None
    return wire.leg.resumption


def activated() -> Wire:
    wire = Wire(record=RECORD)
    resumption_of(wire).activate(wire.now)
    return wire


def test_on_standby_a_leg_has_no_timer_and_sends_nothing_even_at_its_end(resumed: Wire) -> None:
    assert (resumed.state(), resumption_of(resumed).is_standby) == (LegState.RESUMING, True)
    assert resumed.leg.next_timer() is None
    assert resumed.leg.abort(EndReason.MIRROR_REMOVED) == []
    assert resumed.leg.ended == "mirror-removed"


def test_an_active_leg_probes_with_back_off_until_the_mirror_answers() -> None:
    wire = activated()
    times = []
    for _ in range(4):
        assert wire.timer() == PROBE
        times.append(wire.now - 100.0)
    assert times == [0, 1, 3, 7]
    assert wire.leg.awaits_answer
    wire.ack(0)
    assert (wire.state(), wire.leg.awaits_answer, wire.leg.next_timer()) == (LegState.ESTABLISHED, False, None)


def test_a_mirror_that_never_answers_ends_the_leg_without_a_reset() -> None:
    wire = activated()
    while wire.leg.ended is None:
        out = wire.timer()
    assert (wire.leg.ended, wire.now - 100.0, out) == ("resume-timeout", CONNECT, [])


def test_a_packet_of_its_mirror_activates_the_leg(resumed: Wire) -> None:
    resumed.ack(0)
    assert (resumed.state(), resumption_of(resumed).activated_at) == (LegState.ESTABLISHED, resumed.now)


def test_a_reset_counts_with_the_next_number_only(resumed: Wire) -> None:
    assert [letters for letters, *_ in resumed.send("R", seq.add(THEIRS, 1), 0)] == ["A"], "a challenge ACK"
    assert resumed.send("R", seq.add(THEIRS, -1), 0) == []
    assert resumed.state() is LegState.RESUMING
    assert resumed.send("R", THEIRS, 0) == []
    assert resumed.leg.ended == "mirror-reset"


def test_the_leg_goes_on_from_the_answer_and_sends_only_the_missing_bytes() -> None:
    wire = activated()
    data = b"x" * 50 + b"y" * 50
    assert wire.write(resumption_of(wire).missing_part(data, FIRST)) == [], "no byte before the answer"
    assert wire.timer() == PROBE
    assert wire.send("A", seq.add(THEIRS, 7), seq.add(FIRST, 50)) == [
        ("PA", seq.add(FIRST, 50), seq.add(THEIRS, 7), b"y" * 50)
    ]
    assert wire.leg.acked_bytes == 50
    assert numbers(wire.write(resumption_of(wire).missing_part(b"z" * 10, seq.add(FIRST, 100)))) == [(100, 10)]


def test_bytes_that_the_mirror_has_already_are_not_written() -> None:
    wire = activated()
    wire.ack(80)
    resumption = resumption_of(wire)
    assert resumption.missing_part(b"x" * 50, FIRST) == b""
    assert not resumption.is_in_step, "the mirror has bytes that have not passed here"
    assert resumption.missing_part(b"y" * 50, seq.add(FIRST, 50)) == b"y" * 20
    assert resumption.is_in_step


def test_acknowledgements_of_the_other_hosts_bytes_are_accepted_for_a_while() -> None:
    wire = activated()
    wire.ack(0)
    wire.now += 59
    wire.ack(30)
    assert wire.leg.una == seq.add(FIRST, 30)
    wire.now += 1
    assert [letters for letters, *_ in wire.ack(60)] == ["A"], "a challenge ACK"
    assert wire.leg.una == seq.add(FIRST, 30)


def test_an_answer_that_contradicts_the_record_twice_ends_the_leg() -> None:
    wire = activated()
    for _ in range(2):
        wire.timer()
        out = wire.send("A", THEIRS, seq.add(FIRST, -1))
    assert [letters for letters, *_ in out] == ["RA"]
    assert wire.leg.ended == "no-record"


def test_a_hole_makes_the_leg_probe_once_more_a_second_later() -> None:
    wire = activated()
    wire.ack(0)
    resumption = resumption_of(wire)
    assert resumption.ask_again(wire.now)
    assert not resumption.ask_again(wire.now)
    begun = wire.now
    assert wire.timer() == PROBE
    assert wire.now - begun == 1.0
    wire.ack(0)
    assert not wire.leg.awaits_answer
    assert wire.leg.hole_reason == "takeover-hole"
    resumption.missing_part(b"", FIRST)
    assert wire.leg.hole_reason == "hole", "the leg has all bytes that passed here"


def test_a_later_record_counts_while_the_leg_is_on_standby(resumed: Wire) -> None:
    assert resumed.leg.uses_sack is False
    resumption_of(resumed).renew(replace(RECORD, snd_una=FIRST + 9, sack=True))
    assert (resumed.leg.una, resumed.leg.uses_sack) == (FIRST + 9, True)


def test_a_fin_that_another_host_has_sent_is_not_sent_again() -> None:
    wire = activated()
    wire.ack(11)
    assert wire.on_the_wire(wire.leg.note_foreign_fin(seq.add(FIRST, 10))) == []
    assert (wire.state(), wire.leg.acked_bytes) == (LegState.FIN_WAIT_2, 10)
    assert [letters for letters, *_ in wire.send("FA", THEIRS, seq.add(FIRST, 11))] == ["A"]
    assert wire.leg.ended == "closed"


def test_an_own_leg_has_no_resumption_and_awaits_no_answer(wire: Wire) -> None:
    wire.connect()
    assert (wire.leg.resumption, wire.leg.awaits_answer, wire.leg.hole_reason) == (None, False, "hole")
