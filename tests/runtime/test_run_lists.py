"""The lists of a run: their rows' positions, and lists that go on behind one."""

from types import SimpleNamespace
from typing import Any

import pytest

from natmirror.api.lists import Position
from natmirror.events import EventKind, EventRing, EventSeverity
from natmirror.fastpath.flow_states import FlowState, State
from natmirror.runtime import engine_proxy
from natmirror.runtime.engine_proxy import EngineProxy
from natmirror.runtime.run_lists import RunLists
from natmirror.runtime.selection import names_in
from natmirror.runtime.shown import EndedLeg
from tests.helpers.client_connection import ClientConnection, engine
from tests.helpers.immediate import ImmediateThread, proxy
from tests.helpers.support import CLIENT, RULES, TIMEOUTS, at

COUNT = 130
NOW = 1001.0


@pytest.fixture
def lists(monkeypatch: pytest.MonkeyPatch) -> RunLists:
    """The lists of two threads with 130 mirrored connections each; one leg of the first has outlived its flow."""
    monkeypatch.setattr(engine_proxy, "time", SimpleNamespace(monotonic=lambda: NOW))
    engines = [engine(), engine()]
    for number, one in enumerate(engines):
        for port in range(1, COUNT + 1):
            connection = ClientConnection(one, client=(CLIENT[0], 1000 * number + port))
            connection.connect()
            if (number, port) == (0, 3):
                close(connection)
    ended: list[tuple[int, EndedLeg]] = []
    proxies = [proxy(one) for one in engines]
    ring = EventRing(lambda: NOW)
    for kind in (EventKind.BACKEND_DOWN, EventKind.MIRROR_DOWN, EventKind.BACKEND_UP):
        ring.add(kind, EventSeverity.INFO, kind)
    names = names_in([one.snapshot(NOW) for one in engines])
    return RunLists(proxies, lambda: names, lambda: ended, ring, lambda _: iter(()))


def close(connection: ClientConnection) -> None:
    """End a connection whose mirror has not acknowledged all."""
    connection.connect_mirror()
    connection.from_client("PA", b"not acknowledged yet")
    connection.from_client("FA")
    connection.from_backend("FA")
    connection.from_client("A")
    connection.now += TIMEOUTS[State.TIME_WAIT]
    connection.from_mirror("A", 1, 2)
    connection.engine.handle_timer(connection.now)


def all_rows(make: Any, arguments: dict[str, Any]) -> list[tuple[Position, Any]]:
    return [row for part in make(arguments) for row in part]


@pytest.mark.parametrize("name", ["flows", "legs"])
def test_a_list_goes_on_behind_each_of_its_rows(lists: RunLists, name: str) -> None:
    make = getattr(lists, name)
    rows = all_rows(make, {})
    positions = [position for position, _ in rows]
    assert len(rows) == 2 * COUNT
    assert positions == sorted(positions)
    for row in (0, 48, 49, 50, COUNT - 2, COUNT - 1, COUNT, 2 * COUNT - 1):
        assert all_rows(make, {"after": positions[row]}) == rows[row + 1 :]


def test_a_leg_that_has_outlived_its_flow_is_listed(lists: RunLists) -> None:
    [(position, row)] = [one for one in all_rows(lists.legs, {}) if one[1]["flow_state"] == FlowState.GONE]
    assert position[:2] == [0, True]
    assert row["client"] == "10.10.0.11:3"
    assert [one["client"] for _, one in all_rows(lists.flows, {"state": "gone"})] == [row["client"]]
    assert all_rows(lists.flows, {"state": "gone", "client": "10.10.0.11:4"}) == []


def test_events_go_on_behind_each_of_them_and_can_be_chosen(lists: RunLists) -> None:
    rows = all_rows(lists.events, {})
    assert [row["kind"] for _, row in rows] == ["backend-down", "mirror-down", "backend-up"]
    assert all_rows(lists.events, {"after": rows[0][0]}) == rows[1:]
    assert all_rows(lists.events, {"since": str(rows[1][1]["number"])}) == rows[2:]
    assert all_rows(lists.events, {"kind": "mirror-down"}) == rows[1:2]
    assert all_rows(lists.events, {"severity": "warning"}) == []
    for wrong in ({"after": ["1"]}, {"kind": "nonsense"}, {"severity": "bad"}):
        with pytest.raises(ValueError, match=r"cursor|there is no"):
            lists.events(wrong)


def test_few_questions_find_one_client_among_many() -> None:
    thread, one = ImmediateThread(), engine(RULES.replace("10.10.0.0/24", "10.10.0.0/16"))
    for port in range(1, 1001):
        ClientConnection(one, client=(bytes((10, 10, port >> 8, port & 0xFF)), port)).connect()
    shown = RunLists([proxy(one, thread)], lambda: names_in([]), list, EventRing(lambda: 0.0), lambda _: iter(()))
    [(_, row)] = all_rows(shown.flows, {"client": "10.10.0.77"})
    assert row["client"] == "10.10.0.77:77"
    assert thread.questions < 15


@pytest.mark.parametrize("wanted", [{"state": "half-closed"}, {"backend": "c3"}, {"service": "rare"}])
def test_few_questions_find_few_flows_among_many(wanted: dict[str, Any]) -> None:
    rare = (
        "  - {name: rare, address: 10.10.0.101, port: 80,\n"
        "     pool: {backends: [{name: c3, address: 10.20.0.12, port: 80}]}}\n"
    )
    rules = RULES.replace("10.10.0.0/24", "10.10.0.0/16").rstrip() + "\n" + rare
    thread, one = ImmediateThread(), engine(rules)
    for port in range(1, 1001):
        ClientConnection(one, client=(bytes((10, 10, port >> 8, port & 0xFF)), port)).connect()
    only = ClientConnection(one, client=at("10.10.9.9", 9), service=at("10.10.0.101", 80))
    only.connect()
    only.from_client("FA")
    names = names_in([one.snapshot(NOW)])
    shown = RunLists([proxy(one, thread)], lambda: names, list, EventRing(lambda: 0.0), lambda _: iter(()))
    [(_, row)] = all_rows(shown.flows, wanted)
    assert row["client"] == "10.10.9.9:9"
    assert thread.questions < 30


@pytest.mark.parametrize("position", [[], [0], [0, False, "x"], [0, 1, 2], [0, False, 1 << 40], "x", {"a": 1}])
def test_a_foreign_position_is_refused(lists: RunLists, position: Any) -> None:
    with pytest.raises(ValueError, match="the parameter cursor"):
        lists.flows({"after": position})


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"service": "opnflow"}, "there is no service opnflow: did you mean openflow?"),
        ({"backend": "c"}, "there is no backend c: did you mean c"),
        ({"mirror": "zz"}, "there is no mirror zz: there are master"),
        ({"state": "opn"}, "there is no state opn: "),
    ],
)
def test_unknown_names_are_refused_with_those_that_are_known(
    lists: RunLists, arguments: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValueError, match=why.replace("?", r"\?")):
        lists.legs(arguments)


def behind(monkeypatch: pytest.MonkeyPatch, count: int) -> tuple[RunLists, ImmediateThread]:
    """Return the lists of one thread with so many legs, of which the later ones have been behind for less long."""
    one, thread = engine(), ImmediateThread()
    for port in range(1, count + 1):
        connection = ClientConnection(one, client=(CLIENT[0], port))
        connection.now += 0.01 * port
        connection.connect()
        connection.connect_mirror()
        connection.from_client("PA", b"not acknowledged yet")
        connection.from_backend("A")
    monkeypatch.setattr(engine_proxy, "time", SimpleNamespace(monotonic=lambda: connection.now + 1.0))
    names = names_in([one.snapshot(NOW)])
    return RunLists([proxy(one, thread)], lambda: names, list, EventRing(lambda: NOW), lambda _: iter(())), thread


@pytest.mark.parametrize("wanted", [{}, {"client": "10.10.0.11:30"}, {"mirror": "master"}, {"client": "10.10.0.12"}])
def test_the_worst_legs_are_those_of_the_whole_list(monkeypatch: pytest.MonkeyPatch, wanted: dict[str, Any]) -> None:
    lists, _ = behind(monkeypatch, 200)
    arguments = {"lagging": 1.5, **wanted}
    whole = sorted(all_rows(lists.legs, arguments), key=lambda one: (one[1]["lag_seconds"], one[0]), reverse=True)
    for most in (1, 5, 64, 65, 200, 1000):
        worst = all_rows(lists.legs, {**arguments, "worst": most})
        assert sorted(worst, key=lambda one: (one[1]["lag_seconds"], one[0]), reverse=True)[:most] == whole[:most]
    assert len(whole) == {"10.10.0.11:30": 1, "10.10.0.12": 0}.get(wanted.get("client", ""), 150)


def test_few_questions_find_the_worst_legs(monkeypatch: pytest.MonkeyPatch) -> None:
    lists, thread = behind(monkeypatch, 500)
    rows = all_rows(lists.legs, {"lagging": 0.001, "worst": 12})
    assert [row["client"] for _, row in rows][:3] == ["10.10.0.11:1", "10.10.0.11:2", "10.10.0.11:3"]
    assert thread.questions == 3


def test_nothing_is_noted_of_legs_behind_that_are_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    lists, _ = behind(monkeypatch, 50)
    note, noted = EngineProxy._behind_now, list[object]()

    def count(*arguments: Any) -> Any:
        found = note(*arguments)
        noted.extend(found)
        return found

    monkeypatch.setattr(EngineProxy, "_behind_now", count)
    rows = [all_rows(lists.legs, {"lagging": 0.001, "worst": 50, "backend": backend}) for backend in ("c1", "c2")]
    assert sorted(map(len, rows)) == [0, 50]
    assert len(noted) == 50
