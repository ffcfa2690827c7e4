"""The table of a stream's states: the state after each event, and impossible events."""

from unittest.mock import Mock

import pytest

from natmirror.mirror import copies
from natmirror.mirror.copies import MirroredStream
from natmirror.mirror.copy_states import HAS_END, IS_ASKING, TRANSITIONS, StreamEvent, StreamState


def after(*events: StreamEvent) -> StreamState:
    stream = MirroredStream(Mock(), Mock())
    for event in events:
        stream.move(event)
    return stream.state


def test_a_stream_is_copied_finished_ended_and_forgotten() -> None:
    assert after() is StreamState.COPYING
    assert after(StreamEvent.FIN) is StreamState.FINISHED
    assert after(StreamEvent.FIN, StreamEvent.ENDED) is StreamState.ENDED_FINISHED
    assert after(StreamEvent.FIN, StreamEvent.ENDED, StreamEvent.FORGOTTEN) is StreamState.FORGOTTEN
    assert after(StreamEvent.ENDED) is StreamState.ENDED_UNFINISHED


def test_an_adopted_stream_is_standby_and_asks_before_it_is_copied() -> None:
    adopted = (StreamEvent.ADOPTED, StreamEvent.ACTIVATED)
    assert after(StreamEvent.ADOPTED) is StreamState.STANDBY
    assert after(*adopted) is StreamState.ASKING
    assert after(*adopted, StreamEvent.ANSWERED) is StreamState.COPYING
    assert after(*adopted, StreamEvent.ENDED, StreamEvent.ANSWERED) is StreamState.ENDED_UNFINISHED
    assert after(*adopted, StreamEvent.ANSWERED, StreamEvent.ASKED) is StreamState.ASKING


@pytest.mark.parametrize(
    "events",
    [
        (StreamEvent.FIN, StreamEvent.FIN),
        (StreamEvent.FIN, StreamEvent.ASKED),
        (StreamEvent.ENDED, StreamEvent.ENDED),
        (StreamEvent.ACTIVATED,),
        (StreamEvent.ADOPTED, StreamEvent.FIN),
        (StreamEvent.FORGOTTEN, StreamEvent.FORGOTTEN),
    ],
)
def test_an_illegal_transition_raises(monkeypatch: pytest.MonkeyPatch, events: tuple[StreamEvent, ...]) -> None:
    monkeypatch.setattr(copies, "TRANSITIONS", TRANSITIONS)
    with pytest.raises(KeyError):
        after(*events)


def test_every_state_leads_to_forgotten_and_no_event_leaves_it() -> None:
    assert not [state for state, _ in TRANSITIONS if state is StreamState.FORGOTTEN]
    assert {state for state, event in TRANSITIONS if event is StreamEvent.FORGOTTEN} == set(StreamState) - {
        StreamState.FORGOTTEN
    }


def test_an_ended_connection_stays_ended() -> None:
    for (state, _), following in TRANSITIONS.items():
        if state >= StreamState.ENDED_ASKING:
            assert following >= StreamState.ENDED_ASKING


def test_no_state_asks_and_is_finished() -> None:
    assert not IS_ASKING & HAS_END
