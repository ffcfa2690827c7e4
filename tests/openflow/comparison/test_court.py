"""The judges of a packet thread, which are fed with statements."""

import pytest

from natmirror.openflow.comparison import court
from natmirror.openflow.comparison.court import Court
from natmirror.openflow.comparison.court_memory import CourtMemory, JudgeAccount
from natmirror.openflow.comparison.statements import StatementKind, encode, head
from natmirror.openflow.comparison.sums import Comparisons
from natmirror.openflow.messages import V13
from tests.helpers.comparison import frame, packet_in


class _Court:
    def __init__(self) -> None:
        self.memory = CourtMemory(1 << 24, 1 << 20)
        self.comparisons = Comparisons(self.memory)
        self.faults: list[Exception] = []
        self.court = Court(
            self.memory, self.comparisons, lambda *answer: None, lambda client, error: self.faults.append(error)
        )

    def say(self, kind: StatementKind, at: float, data: bytes = b"", *, number: int = 1, flag: bool = False) -> None:
        self.court.push([head(kind, number, at, len(data), flag=flag), data])

    def open(self, at: float = 0.0, number: int = 1) -> None:
        beginning = {"service": "openflow", "client": "10.10.0.11:40001", "holder": "10.10.0.11"}
        self.say(StatementKind.OPENED, at, encode({**beginning, "version": V13, "is_late": False}), number=number)
        self.say(StatementKind.NAMED, at, encode({"mirror": "master"}), number=number)

    def work(self, now: float) -> None:
        while self.court.step(now):
            pass


@pytest.fixture
def one() -> _Court:
    return _Court()


def test_a_connection_is_counted_until_it_is_closed(one: _Court) -> None:
    one.open()
    one.work(0.0)
    found = one.comparisons.since("openflow", "master", 0.0)
    assert found.tables.connections == 1
    one.say(StatementKind.CLOSED, 1.0, flag=True)
    one.work(1.0)
    assert one.comparisons.since("openflow", "master", 0.0).tables.connections == 0
    one.court.prune([("openflow", "master")])
    assert one.memory.used > 0
    one.court.prune([])
    assert (one.memory.used, one.memory.holders) == (0, 0)


def test_statements_about_other_processes_connections_are_nothing(one: _Court) -> None:
    one.say(StatementKind.FROM_SWITCH, 0.0, packet_in(frame()).raw, number=9)
    one.say(StatementKind.CLOSED, 0.0, number=9)
    one.work(0.0)
    assert (one.faults, one.memory.used) == ([], 0)


def test_a_statement_that_cannot_be_ends_one_judgement(one: _Court) -> None:
    one.open()
    one.open(number=2)
    one.say(StatementKind.JOINED, 1.0, b"nonsense")
    one.work(1.0)
    [fault] = one.faults
    assert isinstance(fault, ValueError)
    assert dict(one.comparisons.since("openflow", "master", 0.0).tables.not_followed) == {"internal-error": 1}


def test_what_comes_too_quickly_is_not_read(one: _Court, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(court, "_MAX_UNREAD_LEN", 1000)
    one.open()
    assert not one.court.is_full
    for _ in range(10):
        one.say(StatementKind.FROM_SWITCH, 0.0, packet_in(frame()).raw)
    assert one.court.is_full
    one.work(0.0)
    assert not one.court.is_full


def test_judges_leave_a_part_of_the_memory_to_sums() -> None:
    memory = CourtMemory(80_000, 1 << 20)
    account = JudgeAccount(memory, "10.10.0.11")
    while account.take(1000):
        pass
    assert 70_000 - 4096 <= memory.used <= 70_000
    assert memory.take(5000)
    account.close()
    memory.give(5000)
    assert (memory.used, memory.holders) == (0, 0)
