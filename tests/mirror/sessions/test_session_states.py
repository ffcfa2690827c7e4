"""The table of a session's states: what each event leads to, and what cannot happen."""

from unittest.mock import Mock

import pytest

from natmirror.mirror.sessions import master_session
from natmirror.mirror.sessions.master_session import MasterSession
from natmirror.mirror.sessions.session_states import HAS_LEG, IS_OPEN, TRANSITIONS, SessionEvent, SessionState
from natmirror.reasons import EndReason

CALLED, CLOSED, LEG_ENDED = SessionEvent.CALLED, SessionEvent.CLOSED, SessionEvent.LEG_ENDED


def after(*events: SessionEvent) -> SessionState:
    master = MasterSession(Mock(), Mock())
    for event in events:
        master.move(event)
    return master.state


def test_a_master_is_called_again_when_its_leg_has_ended() -> None:
    assert after() is SessionState.WAITING
    assert after(CALLED) is SessionState.OPEN
    assert after(CALLED, CLOSED) is SessionState.CLOSING
    assert after(CALLED, LEG_ENDED) is SessionState.WAITING
    assert after(CALLED, CLOSED, LEG_ENDED, CALLED) is SessionState.OPEN


def test_none_follows_a_session_that_was_given_up() -> None:
    master = MasterSession(Mock(), Mock())
    master.move(CALLED)
    master.give_up(EndReason.NEWER_CONNECTION)
    assert (master.state, master.why_absent, master.lives) == (SessionState.LAST, "newer-connection", True)
    master.move(CLOSED)
    assert master.state is SessionState.LAST_CLOSING
    master.move(LEG_ENDED)
    assert (master.state, master.lives) == (SessionState.OVER, False)


def test_one_that_has_no_leg_is_over_at_once() -> None:
    assert after(SessionEvent.GIVEN_UP) is SessionState.OVER


@pytest.mark.parametrize("events", [(CLOSED,), (LEG_ENDED,), (CALLED, CALLED), (SessionEvent.GIVEN_UP, CALLED)])
def test_an_illegal_transition_raises(monkeypatch: pytest.MonkeyPatch, events: tuple[SessionEvent, ...]) -> None:
    monkeypatch.setattr(master_session, "TRANSITIONS", TRANSITIONS)
    with pytest.raises(KeyError):
        after(*events)


def test_a_fault_ends_a_session_in_every_state() -> None:
    assert {TRANSITIONS[state, SessionEvent.FAILED] for state in SessionState} == {SessionState.OVER}


def test_a_leg_begins_with_a_call_and_ends_with_its_end() -> None:
    assert IS_OPEN <= HAS_LEG
    for (state, event), following in TRANSITIONS.items():
        if event is CALLED:
            assert following in HAS_LEG
        elif event is LEG_ENDED:
            assert following not in HAS_LEG
        elif event is not SessionEvent.FAILED:
            assert (following in HAS_LEG) == (state in HAS_LEG)
