"""What hosts share, through a store that is made for the test."""

from collections.abc import Iterator

import pytest

from natmirror.replication import synchroniser as module
from natmirror.replication.store import ENDED, GONE, PUT, Op
from natmirror.replication.synchroniser import Synchroniser
from natmirror.replication.write_queue import WriteQueue
from tests.helpers.ha import FakeStore, Things, World, eventually


class Host:
    """A host that shares things."""

    def __init__(self, world: World, name: str, *, active: bool = False) -> None:
        self.world = world
        self.name = name
        self.store = FakeStore(world, name)
        self.sharing = Synchroniser(self.store)
        self.things = Things(self.sharing)
        self.sharing.set_active(active)
        self.sharing.start([self.things])

    @property
    def state(self) -> str:
        return str(self.sharing.status()["state"])

    def complete(self) -> "Host":
        eventually(lambda: self.state == "complete", f"{self.name} to be complete")
        return self


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSES", (0.01, 0.02))
    monkeypatch.setattr(module, "_WRITE_INTERVAL", 0.001)
    monkeypatch.setattr(module, "_LOOK_INTERVAL", 0.001)
    monkeypatch.setattr(module, "SETTLE_TIME", 0.01)


@pytest.fixture
def world() -> Iterator[World]:
    yield World()


@pytest.fixture
def pair(world: World) -> Iterator[tuple[Host, Host]]:
    one, other = Host(world, "one", active=True).complete(), Host(world, "other").complete()
    yield one, other
    for host in (one, other):
        host.sharing.stop()


def test_what_one_host_tells_the_other_one_has_and_loses(pair: tuple[Host, Host]) -> None:
    one, other = pair
    one.things.put(a="1", b="2")
    eventually(lambda: other.things.others == {"a": "1", "b": "2"})
    one.things.remove("a")
    one.things.remove("b", ended=False)
    eventually(lambda: not other.things.others)
    assert other.things.withdrawn == {"a": True, "b": False}
    assert one.things.others == {}
    status = other.sharing.status()
    assert (status["records"], status["records_rejected"], status["lag_seconds"], status["error"]) == (0, 0, 0.0, None)
    assert status["last_change_seconds"] is not None


def test_a_host_that_comes_later_reads_everything_before_it_is_complete(world: World) -> None:
    world.records = {f"thing {number}": ("gone", str(number)) for number in range(500)}
    world.records |= {"thing x": ("gone", "nonsense"), "mystery y": ("gone", "1")}
    host = Host(world, "late")
    assert host.sharing.why_incomplete() is None or "shared state" in str(host.sharing.why_incomplete())
    host.complete()
    assert host.sharing.settled.is_set()
    assert host.sharing.why_incomplete() is None
    assert host.things.others == {str(number): str(number) for number in range(500)} | {"x": "nonsense"}
    assert (host.sharing.status()["records"], host.sharing.status()["records_rejected"]) == (502, 1)
    host.sharing.stop()


def test_a_host_that_becomes_active_makes_everything_its_own(pair: tuple[Host, Host], world: World) -> None:
    one, other = pair
    one.things.put(a="1", b="2")
    eventually(lambda: len(other.things.others) == 2)
    one.sharing.stop()
    other.sharing.set_active(True)
    other.sharing.wait_until_role_taken(5.0)
    eventually(lambda: world.of("other") == {"thing a": "1", "thing b": "2"})


def test_a_host_that_starts_as_the_active_one_goes_on_with_what_the_run_before_it_has_left(world: World) -> None:
    world.records = {"thing a": ("the run before", "1")}
    host = Host(world, "again", active=True).complete()
    assert host.things.own == {"a": "1"}
    eventually(lambda: world.of("again") == {"thing a": "1"})
    host.sharing.stop()


def test_a_host_that_is_active_no_longer_reads_everything_anew(pair: tuple[Host, Host], world: World) -> None:
    one, _ = pair
    world.records["thing late"] = "other", "1"  # that was told while nobody listened
    one.sharing.set_active(False)
    eventually(lambda: one.things.others == {"late": "1"})
    assert one.things.log[-3:] == ["become active", "write last changes", "become standby"]


def test_a_role_that_comes_back_at_once_was_never_lost(
    pair: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its packets have passed here all the time."""
    monkeypatch.setattr(module, "SETTLE_TIME", 60.0)
    one, other = pair
    one.things.put(a="1")
    one.sharing.set_active(False)
    eventually(lambda: one.things.log[-1] == "write last changes")
    one.sharing.set_active(True)
    one.sharing.wait_until_role_taken(5.0)
    assert one.things.log[-1] == "write last changes"
    assert one.things.own == {"a": "1"}
    one.things.put(b="2")
    eventually(lambda: other.things.others == {"a": "1", "b": "2"})


@pytest.mark.parametrize("is_emptied", [False, True], ids=["kept", "emptied"])
def test_after_an_outage_all_is_written_and_read_anew(pair: tuple[Host, Host], world: World, is_emptied: bool) -> None:
    one, other = pair
    one.things.put(old="1", kept="2")
    eventually(lambda: len(other.things.others) == 2)
    world.is_down = True
    eventually(lambda: (one.state, other.state) == ("connecting", "connecting"))
    one.things.put(new="3")
    one.things.remove("old")
    if is_emptied:
        world.records.clear()
    assert other.things.others["kept"] == "2", "what it knows it keeps"
    world.is_down = False
    eventually(lambda: world.values() == {"thing kept": "2", "thing new": "3"})
    eventually(lambda: {"kept", "new"} <= other.things.others.keys())
    other.complete()
    assert (other.sharing.status()["outages"], other.sharing.status()["error"]) == (1, None)


def test_a_standby_takes_in_anew_what_it_knows_when_the_rules_change_during_an_outage(
    pair: tuple[Host, Host], world: World
) -> None:
    one, other = pair
    one.things.put(a="1", b="2")
    eventually(lambda: len(other.things.others) == 2)
    world.is_down = True
    eventually(lambda: (one.state, other.state) == ("connecting", "connecting"))
    other.things.others.clear()  # under the rules of then it had to keep nothing of them
    other.sharing.refresh()
    eventually(lambda: other.things.others == {"a": "1", "b": "2"})
    other.sharing.set_active(True)
    other.sharing.wait_until_role_taken(5.0)
    assert other.things.own == {"a": "1", "b": "2"}


def test_what_the_store_has_lost_goes_when_it_is_still_missing_at_the_next_time(world: World) -> None:
    world.records = {"thing a": ("dead", "1"), "thing b": ("dead", "1")}
    host = Host(world, "host").complete()
    del world.records["thing a"]
    host.sharing.refresh()
    eventually(lambda: host.sharing._missing)
    assert set(host.things.others) == {"a", "b"}
    host.sharing.refresh()
    eventually(lambda: set(host.things.others) == {"b"})
    host.sharing.stop()


def test_of_two_that_believe_they_are_active_the_later_is_right_and_each_removes_only_its_own(
    pair: tuple[Host, Host], world: World
) -> None:
    one, other = pair
    one.things.put(both="1", ones="1")
    eventually(lambda: len(other.things.others) == 2)
    other.things.put(both="2", others="2")
    eventually(lambda: one.things.others == {"both": "2", "others": "2"})
    one.things.remove("both", ended=False)  # it has heard nothing of it for long, but the other one has
    one.things.put(last="1")
    eventually(lambda: "thing last" in world.records)
    assert world.values()["thing both"] == "2"
    one.sharing.refresh()
    other.sharing.refresh()
    one.things.put(later="1")
    eventually(lambda: "thing later" in world.records)
    assert world.values() == {
        "thing both": "2",
        "thing ones": "1",
        "thing others": "2",
        "thing last": "1",
        "thing later": "1",
    }


def test_too_much_at_once_means_that_all_is_written_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_WAITING", 10)
    host = Host(world, "host", active=True).complete()
    things = {f"t{number}": "1" for number in range(200)}
    host.things.put(**things)
    eventually(lambda: len(world.records) == 200)
    host.complete()
    assert host.sharing.status()["outages"] == 0
    host.sharing.stop()


def test_a_fault_of_a_parts_costs_one_attempt(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = ["once"]

    async def write_all(self: Things) -> None:
        if failures:
            raise ZeroDivisionError(failures.pop())

    monkeypatch.setattr(Things, "write_all", write_all)
    host = Host(world, "host").complete()
    host.sharing.stop()


def test_a_fault_at_a_change_of_role_does_not_leave_the_host_half_way(
    pair: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    one.things.put(a="1")
    eventually(lambda: other.things.others == {"a": "1"})
    begin, failures = Things.become_active, ["once"]

    async def failing(self: Things) -> None:
        if failures:
            raise ZeroDivisionError(failures.pop())
        await begin(self)

    monkeypatch.setattr(Things, "become_active", failing)
    other.sharing.set_active(True)
    eventually(lambda: other.things.own == {"a": "1"})


def test_a_store_that_does_not_answer_at_the_start_holds_nobody_up(world: World) -> None:
    world.is_down = True
    host = Host(world, "host")
    assert host.sharing.settled.wait(5.0)
    assert host.sharing.status()["error"] == "it is down"
    assert host.sharing.why_incomplete() is None, "nobody could tell more"
    host.sharing.stop()


# The outbox


def outbox(most: int = 10) -> WriteQueue:
    box = WriteQueue(most)
    box.open()
    return box


def test_an_outbox_gives_what_came_in_its_order_and_knows_how_long_it_has_waited() -> None:
    box = outbox()
    ops = [Op(PUT, "a", "1"), Op(ENDED, "a", "1"), Op(PUT, "a", "2")]
    box.add(ops[:2], 5.0)
    box.add(ops[2:], 6.0)
    assert (box.waiting(), box.age(7.0)) == (3, 2.0)
    assert [*box.take(2), *box.take(2)] == ops
    assert (box.waiting(), box.age(7.0), box.take(2)) == (0, 0.0, [])


def test_a_full_outbox_tells_that_something_is_missing_and_one_that_is_closed_keeps_nothing() -> None:
    box = outbox(2)
    box.add([Op(PUT, "a")], 0.0)
    box.add([Op(PUT, "b"), Op(PUT, "c")], 0.0)
    assert box.take(9) == [Op(PUT, "a")]
    assert (box.take_missed(), box.take_missed()) == (True, False)
    box.close()
    box.add([Op(PUT, "d")], 0.0)
    box.open()
    assert (box.take(9), box.take_missed()) == ([], False)


def test_an_outbox_knows_what_was_put_since_it_was_asked_to() -> None:
    box = outbox()
    box.add([Op(PUT, "before")], 0.0)
    box.watch_puts()
    box.add([Op(PUT, "a"), Op(GONE, "b")], 0.0)
    assert box.take_puts() == {"a"}
    assert box.take_puts() == set()
