"""The table of a session's states: the state after each event, and impossible events."""

from unittest.mock import Mock

import pytest

from natmirror.mirror.sessions import master_session
from natmirror.mirror.sessions.master_session import MasterSession
from natmirror.mirror.sessions.session_states import HAS_LEG, IS_OPEN, TRANSITIONS, SessionEvent, SessionState
from natmirror.reasons import EndReason

LEG_OPENED, CLOSED, LEG_ENDED = SessionEvent.LEG_OPENED, SessionEvent.CLOSED, SessionEvent.LEG_ENDED


def after(*events: SessionEvent) -> SessionState:
    master = MasterSession(Mock(), Mock())
    for event in events:
        master.move(event)
    return master.state


def test_a_session_opens_another_leg_when_its_leg_has_ended() -> None:
    assert after() is SessionState.WAITING
    assert after(LEG_OPENED) is SessionState.OPEN
    assert after(LEG_OPENED, CLOSED) is SessionState.CLOSING
    assert after(LEG_OPENED, LEG_ENDED) is SessionState.WAITING
    assert after(LEG_OPENED, CLOSED, LEG_ENDED, LEG_OPENED) is SessionState.OPEN


def test_no_leg_follows_after_a_session_was_given_up() -> None:
    master = MasterSession(Mock(), Mock())
    master.move(LEG_OPENED)
    master.give_up(EndReason.NEWER_CONNECTION)
    assert (master.state, master.why_absent, master.has_leg) == (SessionState.LAST, "newer-connection", True)
    master.move(CLOSED)
    assert master.state is SessionState.LAST_CLOSING
    master.move(LEG_ENDED)
    assert (master.state, master.has_leg) == (SessionState.ENDED, False)


def test_a_session_without_a_leg_ends_at_once() -> None:
    assert after(SessionEvent.GIVEN_UP) is SessionState.ENDED


@pytest.mark.parametrize(
    "events", [(CLOSED,), (LEG_ENDED,), (LEG_OPENED, LEG_OPENED), (SessionEvent.GIVEN_UP, LEG_OPENED)]
)
def test_an_illegal_transition_raises(monkeypatch: pytest.MonkeyPatch, events: tuple[SessionEvent, ...]) -> None:
    monkeypatch.setattr(master_session, "TRANSITIONS", TRANSITIONS)
    with pytest.raises(KeyError):
        after(*events)


def test_a_fault_ends_a_session_in_every_state() -> None:
    assert {TRANSITIONS[state, SessionEvent.FAILED] for state in SessionState} == {SessionState.ENDED}


def test_a_session_has_a_leg_from_leg_opened_to_leg_ended() -> None:
    assert IS_OPEN <= HAS_LEG
    for (state, event), following in TRANSITIONS.items():
        if event is LEG_OPENED:
            assert following in HAS_LEG
        elif event is LEG_ENDED:
            assert following not in HAS_LEG
        elif event is not SessionEvent.FAILED:
            assert (following in HAS_LEG) == (state in HAS_LEG)
