"""What a packet thread sends to the judges, without ever waiting."""

import socket
from collections.abc import Iterator

import pytest

from natmirror.fastpath import NEVER
from natmirror.mirror.sessions.statement_queue import FLUSH_INTERVAL, StatementQueue
from natmirror.openflow.comparison.statements import StatementKind, StatementReader
from natmirror.runtime.statement_pipe import StatementPipe
from tests.helpers.client_connection import engine


class _Pipe:
    """A pipe of an engine, and its other end."""

    def __init__(self) -> None:
        self.engine = engine()
        self.engine.statements.close()
        self.queue: StatementQueue = self.engine.statements
        self.pipe = StatementPipe(self.queue)
        ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)
        self.pipe.connect(ours)
        self._reader = StatementReader()

    def say(self, length: int, at: float = 0.0, kind: StatementKind = StatementKind.FROM_SWITCH) -> bool:
        return self.queue.add(kind, 1, at, bytes(length), is_message=True)

    def read(self) -> list[int]:
        """Return the lengths of what has come."""
        found: list[int] = []
        while True:
            try:
                self._reader.push([self.theirs.recv(1 << 20)])
            except BlockingIOError:
                return found
            while (one := self._reader.next()) is not None:
                found.append(len(one.data))


@pytest.fixture
def one() -> Iterator[_Pipe]:
    made = _Pipe()
    yield made
    made.pipe.connect(None)
    made.theirs.close()
    assert (made.queue.held, made.engine._gear.memory.used) == ({}, 0)


def test_statements_are_sent_together_after_a_while(one: _Pipe) -> None:
    assert one.pipe.next_at == NEVER
    one.say(10, at=5.0)
    one.say(20, at=5.01)
    assert one.pipe.next_at == 5.0 + FLUSH_INTERVAL
    assert one.engine._gear.memory.used > 30
    one.pipe.send(5.0 + FLUSH_INTERVAL)
    assert one.read() == [10, 20]
    assert (one.pipe.next_at, one.engine._gear.memory.used) == (NEVER, 0)


@pytest.mark.parametrize(("length", "kind"), [(70_000, StatementKind.FROM_SWITCH), (10, StatementKind.ASKED)])
def test_much_and_questions_are_sent_at_once(one: _Pipe, length: int, kind: StatementKind) -> None:
    one.say(length, at=5.0, kind=kind)
    assert one.pipe.next_at == 5.0


def test_a_full_stream_takes_the_rest_later(one: _Pipe) -> None:
    lengths = [10_000 + number for number in range(100)]
    for length in lengths:
        assert one.say(length)
    found: list[int] = []
    now = 1.0
    for _ in range(1000):
        one.pipe.send(now)
        if one.pipe.next_at > now:
            found += one.read()
        now = min(one.pipe.next_at, now + 1.0)
        if not one.queue.held:
            break
    assert found + one.read() == lengths


def test_an_end_of_the_process_closes_the_stream(one: _Pipe) -> None:
    one.theirs.close()
    one.say(10)
    one.pipe.send(1.0)
    assert (one.pipe.next_at, one.queue.is_open) == (NEVER, False)
    assert not one.say(10)


def test_a_queue_that_is_closed_ends_the_process(one: _Pipe) -> None:
    one.queue.close()
    assert one.pipe.next_at == 0.0
    one.pipe.send(1.0)
    assert one.theirs.recv(1) == b"", "the process ends when it reads that"
    assert one.pipe.next_at == NEVER
