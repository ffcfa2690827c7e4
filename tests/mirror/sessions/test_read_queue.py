"""The read queue, and its losses when it is full."""

from types import SimpleNamespace
from typing import Any

import pytest

from natmirror.fastpath import Gear, Memory
from natmirror.mirror.sessions import read_queue
from natmirror.mirror.sessions.read_queue import ReadEvent, ReadQueue


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> ReadQueue:
    monkeypatch.setattr(read_queue, "_MAX_LEN", 2000)
    monkeypatch.setattr(read_queue, "_RESERVE", 800)
    monkeypatch.setattr(read_queue, "_LITTLE", 100)
    memory = Gear(1, Memory(1 << 20), bytes(16)).memory
    gear: Any = SimpleNamespace(
        add_read=lambda kind, of, data, holder: False, take_read=list, has_read=False, memory=memory
    )
    return ReadQueue(gear)


def taken(waiting: ReadQueue) -> list[tuple[ReadEvent, bytes]]:
    return [(kind, data[:1]) for kind, _, data in iter(lambda: waiting.take() if waiting.has_more else None, None)]


def test_a_loss_is_reported_once_until_more_of_its_stream_is_queued(waiting: ReadQueue) -> None:
    for letter in (b"a", b"b", b"c", b"d"):
        waiting.add(ReadEvent.ORIG, 1, 700 * letter)
    waiting.add(ReadEvent.ORIG, 2, 700 * b"e")
    assert taken(waiting) == [
        (ReadEvent.ORIG, b"a"),
        (ReadEvent.ORIG, b"b"),
        (ReadEvent.ORIG_LOST, b""),
        (ReadEvent.ORIG_LOST, b""),
    ]


def test_each_gap_of_a_stream_is_reported(waiting: ReadQueue) -> None:
    """Else the bytes on both sides of a gap would be taken for one message."""
    for letter in (b"a", b"b", b"c"):
        waiting.add(ReadEvent.ORIG, 1, 700 * letter)
    assert waiting.take()[2][:1] == b"a"
    for letter in (b"d", b"e"):
        waiting.add(ReadEvent.ORIG, 1, 700 * letter)
    assert waiting.take()[2][:1] == b"b"
    waiting.add(ReadEvent.ORIG, 1, 400 * b"f")
    expected = [(ReadEvent.ORIG_LOST, b""), (ReadEvent.ORIG, b"d"), (ReadEvent.ORIG_LOST, b""), (ReadEvent.ORIG, b"f")]
    assert taken(waiting) == expected


def test_a_stream_that_takes_long_to_read_leaves_room_for_others(waiting: ReadQueue) -> None:
    for _ in range(10):
        waiting.add(ReadEvent.ORIG, 1, 400 * b"a")
    waiting.add(ReadEvent.ORIG, 2, 50 * b"b")
    waiting.add(ReadEvent.ORIG, 2, 40 * b"c")
    waiting.add(ReadEvent.ORIG, 2, 40 * b"d")
    waiting.add(ReadEvent.REPLY, 2, 50 * b"e")
    first, *others = [
        (ReadEvent.ORIG_LOST, b""),
        (ReadEvent.ORIG, b"b"),
        (ReadEvent.ORIG, b"c"),
        (ReadEvent.ORIG_LOST, b""),
    ]
    assert taken(waiting) == [*[(ReadEvent.ORIG, b"a")] * 3, first, *others, (ReadEvent.REPLY, b"e")]
    assert not waiting._waiting_of
