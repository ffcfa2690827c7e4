"""The states of a leg, as packet scripts: closing from either side, and resets and SYNs in each state."""

import pytest

from natmirror.net import seq
from natmirror.reasons import EndReason
from natmirror.tcp.leg_states import ENDS, TRANSITIONS, LegEvent, LegState
from tests.helpers.leg_wire import FIRST, THEIRS, Wire
from tests.helpers.support import summary


def in_state(wire: Wire, state: LegState) -> None:
    """Bring a leg to a state, with nothing unacknowledged but perhaps its FIN."""
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


def test_the_fin_follows_the_last_byte_and_both_sides_close(wire: Wire) -> None:
    wire.connect()
    wire.write(b"bye")
    assert wire.finish() == [("FA", seq.add(FIRST, 3), THEIRS, b"")]
    assert wire.state() is LegState.FIN_WAIT_1
    assert wire.ack(4) == []
    assert wire.state() is LegState.FIN_WAIT_2
    assert wire.send("FA", THEIRS, seq.add(FIRST, 4)) == [("A", seq.add(FIRST, 4), seq.add(THEIRS, 1), b"")]
    assert wire.leg.ended == "closed"


def test_after_a_half_close_answers_go_on(wire: Wire) -> None:
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
    assert [summary(raw)[0] for raw in wire.leg.finish(wire.now)] == ["FA"]
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


SYNCHRONIZED = [state for state in LegState if state not in (LegState.SYN_SENT, LegState.RESUMING, LegState.CLOSED)]


@pytest.mark.parametrize("state", SYNCHRONIZED)
def test_a_reset_counts_in_every_state_with_the_next_number_only(state: LegState) -> None:
    wire = Wire()
    in_state(wire, state)
    following = THEIRS if state in (LegState.ESTABLISHED, LegState.FIN_WAIT_1, LegState.FIN_WAIT_2) else THEIRS + 1
    assert [letters for letters, *_ in wire.send("R", seq.add(following, 1), 0)] == ["A"], "a challenge ACK"
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
def test_an_abort_or_abandon_leaves_nothing_in_any_state(state: LegState) -> None:
    wire = Wire()
    in_state(wire, state)
    wire.leg.write(b"x" * 1000, wire.now)
    assert [summary(raw)[0] for raw in wire.leg.abort(EndReason.STOPPED)] == [
        "R" if state is LegState.SYN_SENT else "RA"
    ]
    assert (wire.leg.next_timer(), wire.leg.lag_bytes, wire.memory.used) == (None, 0, 0)
    assert wire.leg.abort(EndReason.HOLE) == wire.leg.handle_timer(wire.now + 1e6) == []
    assert wire.leg.ended == "natmirror-stopped"


# The tables


def test_every_living_state_ends_by_a_reset_an_abort_or_abandoning() -> None:
    ends = (LegEvent.RST, LegEvent.ABORT, LegEvent.ABANDON)
    for state in LegState:
        following = {TRANSITIONS.get((state, event)) for event in ends}
        assert following == ({None} if state is LegState.CLOSED else {LegState.CLOSED})


def test_every_state_is_reachable_and_the_last_is_final() -> None:
    begun = {LegState.SYN_SENT, LegState.RESUMING}
    assert set(TRANSITIONS.values()) | begun == set(LegState)
    assert LegState.CLOSED not in {state for state, _ in TRANSITIONS}


def test_every_other_end_is_an_abort_or_an_abandonment() -> None:
    assert set(ENDS.values()) == {LegEvent.ABORT, LegEvent.ABANDON}


@pytest.mark.parametrize("reason", ENDS)
def test_a_leg_sends_a_reset_for_each_reason_except_abandonments(reason: EndReason) -> None:
    wire = Wire()
    wire.connect()
    said = [summary(raw)[0] for raw in wire.leg.abort(reason)]
    assert said == (["RA"] if ENDS[reason] is LegEvent.ABORT else [])
    assert (wire.leg.ended, wire.state()) == (reason, LegState.CLOSED)
