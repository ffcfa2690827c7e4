"""What the judge of a connection gets to know through a whole engine, and what ends its work. The judge only takes
notes."""

from collections.abc import Iterator
from typing import Any

import pytest

from natmirror.actions import Send
from natmirror.engine.counters import EngineCounter
from natmirror.mirror.faults import MAX_OF_ONE_KIND
from natmirror.mirror.sessions import statement_queue
from natmirror.net.endpoint import Endpoint, endpoint_of, show
from natmirror.openflow import messages
from natmirror.openflow.comparison import judge_set, judged_connection
from natmirror.openflow.comparison.found import nothing_found
from natmirror.openflow.comparison.judge_memory import _STEP
from natmirror.openflow.comparison.judged_connection import JUDGE_COST, PAIR_COST
from natmirror.openflow.messages import Type, build
from natmirror.rules import OverrideKind, Overrides, parse_rules
from tests.helpers.client_connection import ClientConnection, engine
from tests.helpers.judged_engine import JudgedEngine
from tests.helpers.openflow_sessions import AGAIN, FEATURES, OF, Master, began, hello, introduced, packet_in, request
from tests.helpers.overrides import override
from tests.helpers.recording_judge import RecordingJudge
from tests.helpers.support import CLIENT, MASTER, RULES, assert_adds_up, at

COST = JUDGE_COST + PAIR_COST
ON = OF.replace("protocol: openflow", "protocol: openflow, verdict: on")
ON_AGAIN = AGAIN.replace("protocol: openflow", "protocol: openflow, verdict: on, warm-up: 7s")
SAME = at("10.20.0.15", 6653)
TWO = ON_AGAIN.replace(
    "      - {name: master",
    "      - {name: same, address: 10.20.0.15, protocol: openflow, verdict: on, reconnect: next-message}\n"
    "      - {name: master",
)
FLOW_MOD = bytes(40)


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[RecordingJudge]]:
    """The judges that were made, which only take notes."""
    monkeypatch.setattr(judged_connection, "Judge", RecordingJudge)
    monkeypatch.setattr(RecordingJudge, "made", [])
    yield RecordingJudge.made


def follow_rules(one: JudgedEngine, text: str, now: float, *paused: str) -> list[Send]:
    """Apply rules as a thread does; return the packets that it sends."""
    rules = parse_rules(text)
    pauses = [override(rules, OverrideKind.PAUSE, name) for name in paused]
    one.reload(Overrides({pause.key: pause for pause in pauses}).applied(rules))
    sent = [*one.end_removed(one.leg_ids(), now), *one.follow_mirrors(one.flow_ids(), now)]
    one.prune()
    one.read_sessions(now)
    masters = [(service.name, it) for service in rules.services for it in service.mirrors if it.is_compared]
    one.judges.prune({(service, it.name, show(endpoint_of(it))) for service, it in masters})
    return sent


def settle(connection: ClientConnection) -> None:
    """Let the time pass after which judges work."""
    connection.now += judge_set.DELAY
    connection.engine.handle_timer(connection.now)
    connection.engine.read_sessions(connection.now)


def compared(one: JudgedEngine) -> list[tuple[str, str]]:
    """The masters about which something is found."""
    return [key for key, _ in one.comparisons]


def not_followed(one: JudgedEngine, name: str = "master") -> dict[str, int]:
    sums = one.comparisons.get("openflow", name)
    assert sums is not None
    return dict(sums.since(0.0).tables.not_followed)


def test_without_a_verdict_no_judge_is_made(made: list[RecordingJudge]) -> None:
    one = engine(OF)
    connection, _ = introduced(one)
    connection.from_client("PA", packet_in(1))
    assert (made, compared(one)) == ([], [])


def test_a_judge_gets_all_messages_that_matter_in_their_order(made: list[RecordingJudge]) -> None:
    one = engine(ON)
    connection, master = introduced(one)
    connection.from_client("PA", packet_in(1))
    connection.from_backend("PA", request(Type.FLOW_MOD, 8, FLOW_MOD) + request(Type.BARRIER_REQUEST, 9))
    connection.from_client("PA", build(messages.V13, Type.BARRIER_REPLY, 9))
    master.take()
    master.say(request(Type.PACKET_OUT, 70, bytes(16)))
    [judge] = made
    assert [line for line in judge.log if line[0] != "settle"] == [
        ("made", messages.V13, False),
        ("joined", "master", 30.0),
        ("from_switch", "packet_in", 0),
        ("told", "master", "packet_in", 0),
        ("from_controller", "flow_mod", 8),
        ("from_controller", "barrier_request", 9),
        ("from_switch", "barrier_reply", 9),
        ("from_master", "master", "packet_out", 70),
    ]
    assert compared(one) == [("openflow", "master")]
    assert judge.steps == []
    settle(connection)
    assert judge.steps == [6]
    connection.from_client("FA")
    connection.from_backend("FA")
    connection.from_client("A")
    assert judge.log[-1] == ("close",)
    assert_adds_up(one.snapshot(connection.now))


def test_a_message_that_waits_for_the_masters_question_is_told_later(made: list[RecordingJudge]) -> None:
    connection, master = began(engine(ON))
    connection.from_backend("PA", request(Type.FEATURES_REQUEST, 5))
    connection.from_client("PA", build(messages.V13, Type.FEATURES_REPLY, 5, FEATURES) + packet_in(1))
    [judge] = made
    assert judge.of("told") == []
    master.take()
    master.say(hello(), request(Type.FEATURES_REQUEST, 77))
    assert judge.of("told", "withheld") == [("told", "master", "packet_in", 0)]


def test_a_judge_knows_what_a_master_does_not_get(made: list[RecordingJudge]) -> None:
    connection, master = introduced(engine(ON_AGAIN.replace("openflow,", "openflow, buffer: 64KiB,")))
    [judge] = made
    unwanted = bytes(8) + b"\0\0\0\x03" * 2 + bytes(8)  # SET_ASYNC: no PACKET_INs
    master.say(request(Type.SET_ASYNC, 71, unwanted))
    connection.from_client("PA", packet_in(1))
    assert judge.of("told", "withheld") == [("withheld", "master", "packet_in", 0)]
    master.say(request(Type.SET_ASYNC, 72, b"\0\0\0\x03" * 6))
    for number in range(100):  # the master acknowledges none of them
        connection.from_client("PA", packet_in(number, 1000))
        connection.from_backend("A")
    told = judge.of("told", "withheld")[1:]
    assert (told[0][0], told[-1][0]) == ("told", "withheld")
    master.take()
    before = len(judge.of("withheld"))
    master.close()
    connection.from_client("PA", packet_in(7))
    assert len(judge.of("withheld")) == before + 1, "there is no session"


def test_orders_that_a_session_refuses_are_no_orders(made: list[RecordingJudge]) -> None:
    _, master = introduced(engine(ON))
    slave = request(Type.ROLE_REQUEST, 70, b"\0\0\0\x03" + bytes(12))
    master.say(request(Type.FLOW_MOD, 69, FLOW_MOD), slave, request(Type.FLOW_MOD, 71, FLOW_MOD))
    [judge] = made
    assert judge.log[-1] == ("from_master", "master", "flow_mod", 69)


def test_missing_bytes_are_reported(made: list[RecordingJudge]) -> None:
    connection, _ = introduced(engine(ON_AGAIN))
    connection.sent += 30
    connection.from_client("PA", packet_in(1))
    connection.from_backend("A")
    [judge] = made
    assert ("missed",) in judge.log
    assert judge.of("ended") == [("ended", "master", "hole", False)]


@pytest.mark.parametrize(
    ("end", "reason", "is_fault"),
    [
        (lambda master: master.close(), "closed", True),
        (lambda master: master._send("RA"), "mirror-reset", True),
        (lambda master: master.say(bytes(8)), "mirror-bad-length", True),
    ],
)
def test_the_end_of_a_session_is_the_masters_fault(
    end: Any, reason: str, is_fault: bool, made: list[RecordingJudge]
) -> None:
    connection, master = introduced(engine(ON_AGAIN))
    master.say(request(Type.FLOW_MOD, 71, FLOW_MOD))
    end(master)
    [judge] = made
    assert judge.of("ended") == [("ended", "master", reason, is_fault)]
    connection.now += 2.0
    connection.from_client("PA", packet_in(1))
    master.take()
    assert len(judge.of("joined")) == 1
    master.say(hello(), request(Type.FEATURES_REQUEST, 90))
    assert judge.of("joined") == [("joined", "master", 7.0)] * 2
    assert judge.log.index(("ended", "master", reason, is_fault)) < len(judge.log) - 4
    assert len(made) == 1


def test_a_session_that_no_master_has_answered_never_begins(made: list[RecordingJudge]) -> None:
    connection, master = began(engine(ON_AGAIN))
    master._send("RA")
    connection.from_client("PA", packet_in(1))
    [judge] = made
    assert judge.of("joined", "ended") == []
    sums = connection.judged.comparisons.get("openflow", "master")
    assert sums is not None
    tables = sums.since(0.0).tables
    assert (tables.connections, tables.sessions) == (1, 0), "the verdict has to say that the switch is not compared"


def test_a_session_that_has_ended_before_it_was_read_is_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    one = engine(ON_AGAIN)
    connection, master = began(one)
    with monkeypatch.context() as busy:
        busy.setattr(one._sessions, "read", lambda now, is_spent: None)
        master.say(hello())
        master._send("RA")
    one.read_sessions(connection.now)
    sums = one.comparisons.get("openflow", "master")
    assert sums is not None
    assert sums.since(0.0).tables.sessions == 0


def test_the_end_of_the_switchs_connection_is_nobodys_fault(made: list[RecordingJudge]) -> None:
    connection, _ = introduced(engine(ON_AGAIN))
    connection.from_client("RA")
    [judge] = made
    assert [one[0] for one in judge.log[-2:]] == ["settle", "close"]
    assert judge.of("ended") == []
    assert connection.engine.snapshot(connection.now)["mirror_memory"]["used_bytes"] >= 0


def test_a_pause_ends_a_session_without_fault_and_the_judge_goes_on(made: list[RecordingJudge]) -> None:
    one = engine(ON_AGAIN)
    connection, _ = introduced(one)
    follow_rules(one, ON_AGAIN, connection.now, "master")
    connection.from_client("PA", packet_in(1))
    [judge] = made
    assert judge.of("ended", "withheld") == [
        ("ended", "master", "mirror-paused", False),
        ("withheld", "master", "packet_in", 0),
    ]
    follow_rules(one, ON_AGAIN, connection.now)
    connection.now += 2.0
    connection.from_client("PA", packet_in(2))
    master = Master(connection)
    master.take()
    master.say(hello(), request(Type.FEATURES_REQUEST, 90))
    assert len(judge.of("joined")) == 2


def test_a_verdict_that_is_switched_on_begins_with_the_open_session(made: list[RecordingJudge]) -> None:
    one = engine(AGAIN)
    connection, master = introduced(one)
    follow_rules(one, ON_AGAIN, connection.now)
    connection.from_client("PA", packet_in(1))
    master.take()
    master.say(request(Type.FLOW_MOD, 71, FLOW_MOD))
    [judge] = made
    assert judge.log[0] == ("made", messages.V13, True), "as if it was picked up"
    assert [one for one in judge.log if one[0] != "settle"][1:] == [
        ("joined", "master", 7.0, "open"),
        ("from_switch", "packet_in", 0),
        ("told", "master", "packet_in", 0),
        ("from_master", "master", "flow_mod", 71),
    ]
    follow_rules(one, ON_AGAIN, connection.now)
    assert len(judge.of("joined")) == 1
    master.close()
    assert judge.of("ended") == [("ended", "master", "closed", True)]


def test_a_verdict_that_is_switched_off_and_on_again_begins_anew(made: list[RecordingJudge]) -> None:
    one = engine(TWO)
    connection, _ = introduced(one)
    follow_rules(one, TWO.replace("verdict: on, warm-up: 7s", "verdict: off"), connection.now)
    follow_rules(one, TWO, connection.now)
    [judge] = made
    assert judge.of("joined", "removed") == [
        ("joined", "master", 7.0),
        ("removed", "master"),
        ("joined", "master", 7.0, "open"),
    ]


@pytest.mark.parametrize("text", [ON_AGAIN, TWO])
def test_a_mirror_with_another_address_is_another_master(text: str, made: list[RecordingJudge]) -> None:
    one = engine(text)
    connection, first = introduced(one)
    other, _ = introduced(one, client=at("10.10.0.99", 40_001), features=_features(99))
    first.say(request(Type.FLOW_MOD, 71, FLOW_MOD))
    assert one.comparisons.since("openflow", "master", show(MASTER), 0.0).tables.sessions == 2
    follow_rules(one, text.replace("10.20.0.13", "10.20.0.17"), connection.now)
    assert not one.comparisons.since("openflow", "master", show(MASTER), 0.0).has_begun
    connection.from_client("PA", packet_in(1))
    moved = _Of(connection, at("10.20.0.17", 6653))
    moved.take()
    moved.say(hello(), request(Type.FEATURES_REQUEST, 90))
    connection.from_client("PA", packet_in(2))
    found = one.comparisons.since("openflow", "master", show(moved.endpoint), 0.0)
    assert (found.has_begun, found.tables.sessions, found.window.sessions_ended) == (True, 1, 0)
    lines = [line for judge in made for line in judge.of("joined", "removed", "from_master")]
    assert lines.count(("joined", "master", 7.0)) == 3, "two at the former address"
    assert lines.count(("from_master", "master", "flow_mod", 71)) == 1
    assert lines.count(("removed", "master")) == (2 if text == TWO else 0), "else the whole judge ends"
    assert not any(is_fault for judge in made for *_, is_fault in judge.of("ended"))
    for ended in (connection, other):
        ended.from_client("RA")
    assert _used(one) == 0


def test_a_master_that_is_added_is_judged_and_is_missed_until_it_has_a_session(made: list[RecordingJudge]) -> None:
    one = engine(AGAIN)
    connection, _ = introduced(one)
    follow_rules(one, TWO.replace("verdict: on, warm-up: 7s", "verdict: off"), connection.now)
    [judge] = made
    sums = one.comparisons.get("openflow", "same")
    assert sums is not None
    tables = sums.since(0.0).tables
    assert (tables.sessions, tables.connections) == (0, 1)
    connection.from_client("PA", packet_in(1))
    added = _Of(connection, SAME)
    added.take()
    added.say(hello(), request(Type.FEATURES_REQUEST, 90))
    connection.from_client("PA", packet_in(2))
    assert judge.of("joined", "told") == [
        ("joined", "same", 30.0),
        ("told", "same", "packet_in", 0),
        ("told", "same", "packet_in", 0),
    ]
    assert sums.since(0.0).tables.sessions == 1


@pytest.mark.parametrize(("more", "connections"), [("", 1), (", only: [10.10.0.99/32]", 0)])
def test_a_master_that_gets_no_session_by_a_reload_is_missed_unless_the_rules_leave_the_client_out(
    more: str, connections: int
) -> None:
    one = engine(ON_AGAIN)
    connection, _ = introduced(one)
    follow_rules(one, TWO.replace("verdict: on, reconnect: next-message", f"verdict: on{more}"), connection.now)
    connection.from_client("PA", packet_in(1))
    sums = one.comparisons.get("openflow", "same")
    tables = nothing_found(0.0).tables if sums is None else sums.since(0.0).tables
    assert (tables.sessions, tables.connections) == (0, connections)


def test_a_verdict_that_is_switched_off_is_forgotten(made: list[RecordingJudge]) -> None:
    one = engine(TWO)
    connection, master = introduced(one)
    same = Master(connection, SAME)
    connection.from_client("PA", packet_in(1))
    [judge] = made
    assert judge.of("removed") == []
    off = ON_AGAIN.replace("verdict: on", "verdict: off")
    follow_rules(one, TWO.replace("warm-up: 7s", "warm-up: 9s"), connection.now)
    assert judge.of("removed", "close") == []
    follow_rules(one, TWO.replace("verdict: on, warm-up: 7s", "verdict: off"), connection.now)
    assert judge.of("removed", "close") == [("removed", "master")]
    assert compared(one) == [("openflow", "same")]
    count = len(judge.log)
    master.take()
    master.say(request(Type.FLOW_MOD, 71, FLOW_MOD))
    assert [one for one in judge.log[count:] if one[0] != "settle"] == []
    follow_rules(one, off, connection.now)
    assert judge.log[-1] == ("close",)
    assert same.ended == ""


def test_a_mirror_that_is_removed_is_forgotten(made: list[RecordingJudge]) -> None:
    one = engine(ON_AGAIN)
    connection, _ = introduced(one)
    assert compared(one) == [("openflow", "master")]
    follow_rules(one, RULES, connection.now)
    [judge] = made
    assert judge.of("close") == [("close",)]
    one.read_sessions(connection.now)
    assert compared(one) == []


def test_a_picked_up_connection_is_judged_from_then_on(made: list[RecordingJudge]) -> None:
    before = engine(AGAIN)
    connection, _ = introduced(before)
    [known] = [
        before.directory.plain(client, connection.now) for client in before.directory.connections(connection.now)
    ]
    assert known is not None
    connection.engine = engine(ON_AGAIN)
    connection.engine.directory.restore(known, connection.now)
    connection.to_mirror.clear()
    connection.from_client("PA", packet_in(0))
    connection.from_backend("A")
    connection.from_client("PA", packet_in(1))
    [judge] = made
    assert judge.log[:2] == [("made", messages.V13, True), ("from_switch", "packet_in", 0)]


def test_a_new_connection_from_the_same_port_has_a_judge_of_its_own(made: list[RecordingJudge]) -> None:
    one = engine(ON_AGAIN)
    connection, _ = introduced(one)
    connection.from_client("RA")
    later, _ = introduced(one, iss=connection.iss + 1_000_000, irs=connection.irs + 1_000_000)
    later.from_client("PA", packet_in(1))
    older, younger = made
    assert older.log[-1] == ("close",)
    assert younger.log[0] == ("made", messages.V13, False)
    assert younger.of("joined") == [("joined", "master", 7.0)]


# When it works


def test_a_judge_works_at_its_deadline(made: list[RecordingJudge], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RecordingJudge, "deadline", 1002.5)
    one = engine(ON)
    connection, _ = introduced(one)
    connection.from_client("PA", packet_in(1))
    [judge] = made
    assert judge.of("settle") == []
    settle(connection)
    assert len(judge.of("settle")) == 1
    one.read_sessions(1002.4)
    assert len(judge.of("settle")) == 1
    assert one.judges.next_due() == 1002.5
    monkeypatch.setattr(RecordingJudge, "deadline", 1.0)
    one.read_sessions(1002.5)
    connection.now = 1002.5
    assert len(judge.of("settle")) == 2
    later = one.judges.next_due()
    assert later is not None
    assert later > 1002.5, "a deadline that has passed does not keep the process busy"
    connection.from_client("PA", packet_in(1))
    assert one.judges.next_due() == later
    assert one.next_own_timer() is None, "no packet thread works for a judge"


def test_a_judge_with_much_to_read_works_at_once(made: list[RecordingJudge]) -> None:
    connection, _ = introduced(engine(ON))
    [judge] = made
    connection.from_client("PA", packet_in(1, 40_000))
    assert judge.steps == []
    connection.from_backend("A")
    connection.from_client("PA", packet_in(2, 30_000))
    assert judge.steps != []


def test_judges_work_before_they_get_more_if_they_are_behind(
    made: list[RecordingJudge], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge_set, "_MAX_ALL_WAITING_LEN", 2000)
    connection, _ = introduced(engine(ON))
    [judge] = made
    connection.from_client("PA", packet_in(1) * 9)
    assert judge.steps == [5, 5, 5]
    assert judge.of("give_up", "lost") == []


def test_what_a_full_queue_leaves_out_is_said(made: list[RecordingJudge], monkeypatch: pytest.MonkeyPatch) -> None:
    connection, master = introduced(engine(ON))
    [judge] = made
    with monkeypatch.context() as full:
        full.setattr(statement_queue, "_MAX_LEN", 2000)
        connection.from_client("PA", packet_in(1, 500) * 9)
    connection.from_client("PA", packet_in(2))
    log = [one[0] for one in judge.of("from_switch", "told", "lost")]
    assert log.count("lost") >= 1
    assert log[-2:] == ["from_switch", "told"], "what has room again is said again"
    assert log.count("from_switch") < 10
    sums = connection.judged.comparisons.get("openflow", "master")
    assert sums is not None
    tables = sums.since(0.0).tables
    assert (tables.left_out, tables.lacked_memory) == (1, 0)
    counters = connection.engine.snapshot(connection.now)["counters"]
    assert counters[EngineCounter.VERDICT_MESSAGES_LEFT_OUT] == 20 - log.count("from_switch") - log.count("told")
    connection.from_backend("A")
    master.take()
    assert [kind for kind, *_ in master.messages()].count(Type.PACKET_IN) == 10
    assert not_followed(connection.judged) == {}


class _ShortMemory:
    """Has no memory for messages."""

    def take(self, holder: int, count: int) -> bool:
        return False

    def take_urgently(self, holder: int, count: int) -> bool:
        return True

    def give(self, holder: int, count: int) -> None:
        """Keep no count."""


def test_what_is_left_out_because_memory_is_short_is_said_to_be(
    made: list[RecordingJudge], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = engine(ON)
    connection, _ = introduced(one)
    with monkeypatch.context() as short:
        short.setattr(one.statements, "_memory", _ShortMemory())
        connection.from_client("PA", packet_in(1))
    [judge] = made
    assert judge.of("from_switch", "lost") == [("lost",)]
    tables = one.comparisons.since("openflow", "master", show(MASTER), 0.0).tables
    assert (tables.left_out, tables.lacked_memory) == (0, 1)


def test_a_queue_without_room_for_what_cannot_be_left_out_is_closed(
    made: list[RecordingJudge], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = engine(ON)
    with monkeypatch.context() as full:
        full.setattr(statement_queue, "_MAX_LEN_OF_ALL", 10)
        connection, master = introduced(one)
    assert (made, one.statements.is_open) == ([], False)
    connection.from_client("PA", packet_in(1))
    assert not one.statements.held
    one.begin_judges()
    one.judge(one.flow_ids(), connection.now)
    connection.from_client("PA", packet_in(2))
    [judge] = made
    assert [line for line in judge.log if line[0] != "settle"] == [
        ("made", messages.V13, True),
        ("joined", "master", 30.0, "open"),
        ("from_switch", "packet_in", 0),
        ("told", "master", "packet_in", 0),
    ]
    assert master.ended == ""


def test_another_process_judges_what_goes_on_from_then_on(made: list[RecordingJudge]) -> None:
    one = engine(TWO)
    connection, master = introduced(one)
    connection.from_client("PA", packet_in(1))
    one.statements.close()  # the process has ended
    connection.from_client("PA", packet_in(2))
    master.take()
    master.say(request(Type.FLOW_MOD, 71, FLOW_MOD))
    one.begin_judges()
    connection.from_client("PA", packet_in(3))
    one.judge(one.flow_ids(), connection.now)
    one.judge(one.flow_ids(), connection.now)
    connection.from_client("PA", packet_in(4))
    _, judge = made
    assert [line for line in judge.log if line[0] != "settle"] == [
        ("made", messages.V13, True),
        ("joined", "master", 7.0, "open"),
        ("from_switch", "packet_in", 0),
        ("told", "master", "packet_in", 0),
    ]
    connection.from_client("RA")
    assert judge.log[-1] == ("close",)
    assert_adds_up(one.snapshot(connection.now))


def test_no_judge_works_because_of_an_echo(made: list[RecordingJudge]) -> None:
    one = engine(ON)
    connection, master = introduced(one)
    settle(connection)
    [judge] = made
    connection.from_client("PA", build(messages.V13, Type.ECHO_REQUEST, 3))
    connection.from_backend("PA", build(messages.V13, Type.ECHO_REPLY, 3))
    master.say(request(Type.ECHO_REQUEST, 70))
    settle(connection)
    assert not any("echo" in str(line) for line in judge.log)
    assert len(judge.of("settle")) == 1


def test_a_master_gets_statistics_of_its_own_rules(made: list[RecordingJudge]) -> None:
    connection, master = introduced(engine(ON))
    [judge] = made
    flow = bytes((0xFF, 0, 0, 0)) + b"\xff" * 8 + bytes(4) + bytes(16) + b"\0\1\0\4" + bytes(4)
    master.say(request(Type.MULTIPART_REQUEST, 80, b"\0\1\0\0" + bytes(4) + flow))
    assert master.messages()[-1] == (Type.MULTIPART_REPLY, 80, b"\0\1\0\0" + bytes(4))
    assert judge.log[-3:] == [("from_master", "master", "multipart_request", 80), ("settle",), ("model_of", "master")]
    follow_rules(connection.judged, OF, connection.now)
    connection.now += 3.0
    master.say(request(Type.MULTIPART_REQUEST, 81, b"\0\1\0\0" + bytes(4) + flow))
    assert master.messages()[-1][:2] == (Type.ERROR, 81), "its controller has not asked for statistics"


# Faults and memory

METHODS = ["from_switch", "from_controller", "told", "from_master", "joined", "settle", "model_of", "made"]


@pytest.mark.parametrize("method", METHODS)
def test_a_fault_in_a_judge_costs_only_the_verdict(
    method: str, made: list[RecordingJudge], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RecordingJudge, "broken", method)
    one = engine(ON_AGAIN)
    connection, master = introduced(one)
    connection.from_client("PA", packet_in(1))
    connection.from_backend("PA", request(Type.FLOW_MOD, 8, FLOW_MOD))
    master.take()
    master.say(request(Type.FLOW_MOD, 71, FLOW_MOD), request(Type.MULTIPART_REQUEST, 81, b"\0\1\0\0" + bytes(4)))
    connection.from_client("PA", packet_in(2))
    master.take()
    kinds = [kind for kind, *_ in master.messages()]
    assert kinds[:2] == [Type.HELLO, Type.FEATURES_REPLY]
    assert kinds.count(Type.PACKET_IN) == 2
    snapshot = one.snapshot(connection.now)
    assert set(snapshot["faults"]["internal_errors"]) == {"verdicts"}
    assert snapshot["mirrors"][0]["legs"] == 1
    if compared(one):
        assert not_followed(one) == {"internal-error": 1}
    assert_adds_up(snapshot)


def test_repeated_faults_switch_verdicts_off(made: list[RecordingJudge], monkeypatch: pytest.MonkeyPatch) -> None:
    one = engine(ON_AGAIN)
    healthy, _ = introduced(one, client=at("10.10.0.99", 40_001), features=_features(99))
    [judge] = made
    monkeypatch.setattr(RecordingJudge, "broken", "joined")
    connections = []
    for number in range(MAX_OF_ONE_KIND):
        connection, master = introduced(one, client=at(f"10.10.0.{number + 20}", 40_001), features=_features(number))
        connections.append((connection, master))
    monkeypatch.setattr(RecordingJudge, "broken", "")
    one.handle_timer(healthy.now)
    snapshot = one.snapshot(healthy.now)
    assert [off["work"] for off in snapshot["faults"]["off"]] == ["verdicts"]
    assert judge.log[-1] == ("close",), "a verdict without faults ends too"
    count = len(made)
    introduced(one, client=at("10.10.0.50", 40_001), features=_features(50))
    assert len(made) == count
    one.faults.resume()
    introduced(one, client=at("10.10.0.51", 40_001), features=_features(51))
    assert len(made) == count + 1
    assert one.snapshot(healthy.now)["mirrors"][0]["legs"] == MAX_OF_ONE_KIND + 3


def _features(datapath: int) -> bytes:
    return datapath.to_bytes(8, "big") + FEATURES[8:]


def _chunks(count: int) -> int:
    return -(-count // _STEP) * _STEP


def _used(one: JudgedEngine) -> int:
    """Return what judges hold."""
    return one.judge_memory.used - one.comparisons.held


def test_what_a_judge_holds_is_on_its_clients_account(made: list[RecordingJudge]) -> None:
    one = engine(ON)
    connection, master = introduced(one)
    master.say(request(Type.FLOW_MOD, 71, FLOW_MOD))
    settle(connection)
    [judge] = made
    assert _used(one) == _chunks(COST)
    judge.held = 10_000
    assert judge.account.take(5000)
    master.say(request(Type.FLOW_MOD, 71, FLOW_MOD))
    settle(connection)
    assert _used(one) == _chunks(COST + 10_000) + _chunks(5000)
    connection.from_client("RA")
    assert (_used(one), one.judge_memory.holders) == (0, 0)
    judge.account.give(5000)
    assert _used(one) == 0
    assert not one.statements.held


def test_a_judge_holds_a_quarter_of_its_clients_part(made: list[RecordingJudge]) -> None:
    one = engine("mirror-memory: 64MiB\n" + ON)
    connection, master = introduced(one)
    [judge] = made
    master.say(request(Type.FLOW_MOD, 70, FLOW_MOD))
    settle(connection)
    most = (4 << 20) // 4 - _chunks(COST)
    assert not judge.account.take(most + 1)
    judge.held = (4 << 20) // 4 - COST
    master.say(request(Type.FLOW_MOD, 71, FLOW_MOD))
    settle(connection)
    assert judge.of("give_up") == []
    assert not judge.account.take(_STEP)
    judge.held += _STEP
    master.say(request(Type.FLOW_MOD, 72, FLOW_MOD))
    settle(connection)
    assert judge.of("give_up", "close") == [("give_up",)]
    sums = one.comparisons.get("openflow", "master")
    assert sums is not None
    assert sums.since(0.0).tables.lacked_memory == 1
    judge.held, judge.gives_up = (4 << 20) // 4, False
    master.say(request(Type.FLOW_MOD, 73, FLOW_MOD))
    settle(connection)
    assert judge.log[-1] == ("close",)
    assert not_followed(one) == {"no-memory": 1}
    connection.from_client("PA", packet_in(1))
    master.take()
    assert master.messages()[-1][0] is Type.PACKET_IN


def test_a_connection_without_memory_for_a_judge_is_not_followed_and_the_verdict_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(judged_connection, "JUDGE_COST", 1 << 30)
    one = engine(ON_AGAIN)
    connection, master = introduced(one)
    connection.from_client("PA", packet_in(1))
    settle(connection)
    sums = one.comparisons.get("openflow", "master")
    assert sums is not None
    tables = sums.since(0.0).tables
    assert (tables.connections, tables.sessions) == (1, 1)
    assert not_followed(one) == {"no-memory": 1}
    monkeypatch.undo()
    master.close()
    connection.now += 2.0
    connection.from_client("PA", packet_in(2))
    master.take()
    master.say(hello(), request(Type.FEATURES_REQUEST, 90))
    assert sums.since(0.0).tables.connections == 1
    connection.from_client("RA")
    assert sums.since(0.0).tables.connections == 0


def test_judges_leave_nothing_behind(made: list[RecordingJudge]) -> None:
    one = engine(TWO)
    for number in range(20):
        connection, master = introduced(one, client=(CLIENT[0], 41_000 + number))
        if number % 3 == 0:
            master.close()
        connection.from_client("RA")
    assert (_used(one), one.judge_memory.holders, one.judges._connections) == (0, 0, {})
    assert [judge.log[-1] for judge in made] == [("close",)] * len(made)
    while (due := one.next_timer()) is not None:
        one.handle_timer(due)
    assert one._sessions._judges._sessions == {}
    assert not one.statements.held
    for key in compared(one):
        sums = one.comparisons.get(*key)
        assert sums is not None
        assert sums.since(0.0).tables.connections == 0


def test_both_masters_of_a_switch_have_one_judge(made: list[RecordingJudge]) -> None:
    one = engine(TWO)
    connection = ClientConnection(one)
    connection.connect()
    connection.from_client("PA", hello())
    connection.from_backend("PA", hello() + request(Type.FEATURES_REQUEST, 5))
    connection.from_client("PA", build(messages.V13, Type.FEATURES_REPLY, 5, FEATURES))
    packets = list(connection.to_mirror)
    for endpoint in (MASTER, SAME):
        connection.to_mirror = [one for one in packets if (one.dst, one.dport) == endpoint]
        master = _Of(connection, endpoint)
        master.take()
        master.say(hello(), request(Type.FEATURES_REQUEST, 77))
    connection.from_client("PA", packet_in(1))
    [judge] = made
    assert judge.of("joined") == [("joined", "master", 7.0), ("joined", "same", 30.0)]
    assert sorted(judge.of("told")) == [("told", "master", "packet_in", 0), ("told", "same", "packet_in", 0)]
    assert sorted(compared(one)) == [("openflow", "master"), ("openflow", "same")]


class _Of(Master):
    """A master among several: it takes only its own packets."""

    def __init__(self, connection: ClientConnection, endpoint: Endpoint) -> None:
        super().__init__(connection, endpoint)

    def take(self) -> None:
        own = [one for one in self.connection.to_mirror if (one.dst, one.dport) == self.endpoint]
        others = [one for one in self.connection.to_mirror if (one.dst, one.dport) != self.endpoint]
        self.connection.to_mirror = own
        super().take()
        self.connection.to_mirror += others
