"""The judges of a packet thread, which are fed with statements."""

import pytest

from natmirror.openflow.comparison import judge_set
from natmirror.openflow.comparison.judge_memory import JudgeAccount, JudgeMemory
from natmirror.openflow.comparison.judge_set import JudgeSet
from natmirror.openflow.comparison.statements import StatementKind, encode, head
from natmirror.openflow.comparison.sums import Comparisons
from natmirror.openflow.messages import V13
from tests.helpers.comparison import flow_mod_message, frame, packet_in, to_host

ADDRESS, OTHER = "10.20.0.13:6653", "10.20.0.15:6653"


class _Fed:
    def __init__(self) -> None:
        self.memory = JudgeMemory(1 << 24, 1 << 20)
        self.comparisons = Comparisons(self.memory)
        self.faults: list[Exception] = []
        self.judges = JudgeSet(
            self.memory, self.comparisons, lambda *answer: None, lambda client, error: self.faults.append(error)
        )

    def say(self, kind: StatementKind, at: float, data: bytes = b"", *, number: int = 1, flag: bool = False) -> None:
        self.judges.push([head(kind, number, at, len(data), flag=flag), data])

    def open(self, at: float = 0.0, number: int = 1, address: str = ADDRESS) -> None:
        beginning = {"service": "openflow", "client": "10.10.0.11:40001", "holder": "10.10.0.11"}
        self.say(StatementKind.OPENED, at, encode({**beginning, "version": V13, "is_late": False}), number=number)
        self.say(StatementKind.NAMED, at, encode({"mirror": "master", "address": address}), number=number)

    def work(self, now: float) -> None:
        while self.judges.step(now):
            pass


@pytest.fixture
def one() -> _Fed:
    return _Fed()


def test_a_connection_is_counted_until_it_is_closed(one: _Fed) -> None:
    one.open()
    one.work(0.0)
    found = one.comparisons.since("openflow", "master", ADDRESS, 0.0)
    assert found.tables.connections == 1
    one.say(StatementKind.CLOSED, 1.0, flag=True)
    one.work(1.0)
    assert one.comparisons.since("openflow", "master", ADDRESS, 0.0).tables.connections == 0
    one.judges.prune([("openflow", "master", ADDRESS)])
    assert one.memory.used > 0
    one.judges.prune([])
    assert (one.memory.used, one.memory.holders) == (0, 0)


def test_a_master_at_another_address_begins_anew(one: _Fed) -> None:
    one.open()
    one.open(number=2)
    one.say(StatementKind.REMOVED, 1.0)
    one.say(StatementKind.NAMED, 1.0, encode({"mirror": "master", "address": OTHER}))
    one.work(1.0)
    one.judges.prune([("openflow", "master", ADDRESS)])
    assert one.comparisons.since("openflow", "master", OTHER, 0.0).tables.connections == 1, "it is just becoming known"
    assert not one.comparisons.since("openflow", "master", ADDRESS, 0.0).has_begun
    for number in (1, 2):
        one.say(StatementKind.CLOSED, 2.0, number=number, flag=True)
    one.work(2.0)
    one.judges.prune([("openflow", "master", OTHER)])
    assert one.memory.used > 0
    one.judges.prune([("openflow", "master", ADDRESS)])
    assert (one.memory.used, one.memory.holders, one.faults) == (0, 0, [])


def test_statements_about_other_processes_connections_are_nothing(one: _Fed) -> None:
    one.say(StatementKind.FROM_SWITCH, 0.0, packet_in(frame()).raw, number=9)
    one.say(StatementKind.CLOSED, 0.0, number=9)
    one.work(0.0)
    assert (one.faults, one.memory.used) == ([], 0)


def test_a_statement_that_cannot_be_ends_one_judgement(one: _Fed) -> None:
    one.open()
    one.open(number=2)
    one.say(StatementKind.JOINED, 1.0, b"nonsense")
    one.work(1.0)
    [fault] = one.faults
    assert isinstance(fault, ValueError)
    assert dict(one.comparisons.since("openflow", "master", ADDRESS, 0.0).tables.not_followed) == {"internal-error": 1}


def test_a_fault_leaves_no_message_waiting(one: _Fed) -> None:
    for number in (1, 2):
        one.open(number=number)
        one.say(StatementKind.FROM_SWITCH, 0.0, packet_in(frame()).raw, number=number)
    one.work(0.0)
    waiting = one.judges._waiting_len
    one.say(StatementKind.JOINED, 0.0, b"nonsense")
    one.work(0.0)
    assert len(one.faults) == 1
    assert one.judges._waiting_len == waiting / 2, "those of the other connection"


def test_former_times_of_judges_take_no_memory(one: _Fed) -> None:
    one.open()
    one.say(StatementKind.FROM_CONTROLLER, 0.0, flow_mod_message(to_host(1, 2, hard_timeout=60_000)).raw)
    for second in range(11, 1000):
        one.say(StatementKind.FROM_SWITCH, float(second), packet_in(frame()).raw)
        one.work(float(second))
        assert one.judges.next_due() is not None
    assert len(one.judges._due) < 100, "the rule ends hours later"


def test_what_comes_too_quickly_is_not_read(one: _Fed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_set, "_MAX_UNREAD_LEN", 1000)
    one.open()
    assert not one.judges.is_full
    for _ in range(10):
        one.say(StatementKind.FROM_SWITCH, 0.0, packet_in(frame()).raw)
    assert one.judges.is_full
    one.work(0.0)
    assert not one.judges.is_full


def test_judges_leave_a_part_of_the_memory_to_sums() -> None:
    memory = JudgeMemory(80_000, 1 << 20)
    account = JudgeAccount(memory, "10.10.0.11")
    while account.take(1000):
        pass
    assert 70_000 - 4096 <= memory.used <= 70_000
    assert memory.take(5000)
    account.close()
    memory.give(5000)
    assert (memory.used, memory.holders) == (0, 0)
