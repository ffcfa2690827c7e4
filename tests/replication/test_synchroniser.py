"""Hosts that share records, through a store in memory."""

from collections.abc import Iterator, Sequence

import pytest

from natmirror.replication import synchroniser as module
from natmirror.replication.overrides import Entry, OverrideRecords
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
        self.synchroniser = Synchroniser(self.store)
        self.things = Things(self.synchroniser)
        self.synchroniser.set_active(active)
        self.synchroniser.start([self.things])

    @property
    def state(self) -> str:
        return str(self.synchroniser.status()["state"])

    def complete(self) -> "Host":
        eventually(lambda: self.state == "complete", f"{self.name} to be complete")
        return self


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSES", (0.01, 0.02))
    monkeypatch.setattr(module, "_WRITE_INTERVAL", 0.001)
    monkeypatch.setattr(module, "_SCAN_INTERVAL", 0.001)
    monkeypatch.setattr(module, "RELEASE_DELAY", 0.01)


@pytest.fixture
def world() -> Iterator[World]:
    yield World()


@pytest.fixture
def pair(world: World) -> Iterator[tuple[Host, Host]]:
    one, other = Host(world, "one", active=True).complete(), Host(world, "other").complete()
    yield one, other
    for host in (one, other):
        host.synchroniser.stop()


def test_the_other_host_adopts_records_and_forgets_them_when_they_are_removed(pair: tuple[Host, Host]) -> None:
    one, other = pair
    one.things.put(a="1", b="2")
    eventually(lambda: other.things.others == {"a": "1", "b": "2"})
    one.things.remove("a")
    one.things.remove("b", ended=False)
    eventually(lambda: not other.things.others)
    assert other.things.withdrawn == {"a": True, "b": False}
    assert one.things.others == {}
    status = other.synchroniser.status()
    assert (status["records"], status["records_rejected"], status["lag_seconds"], status["error"]) == (0, 0, 0.0, None)
    assert status["last_change_seconds"] is not None


KEY = bytes(16)


class Holder:
    """Holds entries of overrides."""

    def __init__(self, *names: str) -> None:
        self.own: list[Entry] = [_entry(name) for name in names]
        self.adopted: list[Entry] = []

    def entries(self) -> list[Entry]:
        return self.own

    def adopt(self, entries: Sequence[Entry]) -> None:
        self.adopted += entries


def _entry(name: str) -> Entry:
    return {"kind": "drain", "service": "openflow", "name": name, "at": 1.0}


def test_overrides_go_to_the_other_host_whatever_the_role_and_are_not_withdrawn(world: World) -> None:
    one, other = Holder("c1"), Holder()
    synchronisers = []
    for name, holder in (("one", one), ("other", other)):
        synchroniser = Synchroniser(FakeStore(world, name))
        synchroniser.start([OverrideRecords(holder, synchroniser, KEY)])
        synchronisers.append(synchroniser)
        eventually(lambda found=synchroniser: found.status()["state"] == "complete", name)  # type: ignore[misc]
    eventually(lambda: other.adopted == [_entry("c1")])
    OverrideRecords(other, synchronisers[1], KEY).report([_entry("c2")])
    eventually(lambda: one.adopted == [_entry("c2")])
    assert set(world.records) == {"override drain openflow/c1", "override drain openflow/c2"}
    assert [synchroniser.status()["records"] for synchroniser in synchronisers] == [0, 0]
    with world.lock:
        value = next(iter(world.values().values()))
        world.records["override drain openflow/c3"] = "third", value.replace("c1", "c3").replace("c2", "c3")
        world.records["override drain openflow/c4"] = "third", "{"
    synchronisers[0].refresh()
    eventually(lambda: synchronisers[0].status()["records_rejected"] == 2, "no record without the key's seal to hold")
    assert {entry["name"] for entry in one.adopted} == {"c2"}
    for synchroniser in synchronisers:
        synchroniser.stop()


def test_a_host_that_starts_later_reads_all_records_before_it_is_complete(world: World) -> None:
    world.records = {f"thing {number}": ("gone", str(number)) for number in range(500)}
    world.records |= {"thing x": ("gone", "nonsense"), "mystery y": ("gone", "1")}
    host = Host(world, "late")
    assert host.synchroniser.why_incomplete() is None or "shared state" in str(host.synchroniser.why_incomplete())
    host.complete()
    assert host.synchroniser.first_attempt_done.is_set()
    assert host.synchroniser.why_incomplete() is None
    assert host.things.others == {str(number): str(number) for number in range(500)} | {"x": "nonsense"}
    assert (host.synchroniser.status()["records"], host.synchroniser.status()["records_rejected"]) == (502, 1)
    host.synchroniser.stop()


def test_a_host_that_becomes_active_makes_all_records_its_own(pair: tuple[Host, Host], world: World) -> None:
    one, other = pair
    one.things.put(a="1", b="2")
    eventually(lambda: len(other.things.others) == 2)
    one.synchroniser.stop()
    other.synchroniser.set_active(True)
    other.synchroniser.wait_until_role_applied(5.0)
    eventually(lambda: world.of("other") == {"thing a": "1", "thing b": "2"})


def test_a_host_that_starts_active_makes_the_records_of_its_earlier_run_its_own(world: World) -> None:
    world.records = {"thing a": ("the run before", "1")}
    host = Host(world, "again", active=True).complete()
    assert host.things.own == {"a": "1"}
    eventually(lambda: world.of("again") == {"thing a": "1"})
    host.synchroniser.stop()


def test_a_host_that_is_no_longer_active_reads_all_records_again(pair: tuple[Host, Host], world: World) -> None:
    one, _ = pair
    world.records["thing late"] = "other", "1"  # written without a notice on the channel
    one.synchroniser.set_active(False)
    eventually(lambda: one.things.others == {"late": "1"})
    assert one.things.log[-3:] == ["activate", "write last changes", "release"]


def test_a_host_that_is_active_again_at_once_releases_nothing(
    pair: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """This host has passed all packets in between, so its flows are current."""
    monkeypatch.setattr(module, "RELEASE_DELAY", 60.0)
    one, other = pair
    one.things.put(a="1")
    one.synchroniser.set_active(False)
    eventually(lambda: one.things.log[-1] == "write last changes")
    one.synchroniser.set_active(True)
    one.synchroniser.wait_until_role_applied(5.0)
    assert one.things.log[-1] == "write last changes"
    assert one.things.own == {"a": "1"}
    one.things.put(b="2")
    eventually(lambda: other.things.others == {"a": "1", "b": "2"})


@pytest.mark.parametrize("is_emptied", [False, True], ids=["kept", "emptied"])
def test_after_an_outage_all_records_are_written_and_read_again(
    pair: tuple[Host, Host], world: World, is_emptied: bool
) -> None:
    one, other = pair
    one.things.put(old="1", kept="2")
    eventually(lambda: len(other.things.others) == 2)
    world.is_down = True
    eventually(lambda: (one.state, other.state) == ("connecting", "connecting"))
    one.things.put(new="3")
    one.things.remove("old")
    if is_emptied:
        world.records.clear()
    assert other.things.others["kept"] == "2", "a standby keeps what it has adopted"
    world.is_down = False
    eventually(lambda: world.values() == {"thing kept": "2", "thing new": "3"})
    eventually(lambda: {"kept", "new"} <= other.things.others.keys())
    other.complete()
    assert (other.synchroniser.status()["outages"], other.synchroniser.status()["error"]) == (1, None)


def test_a_standby_adopts_its_records_again_when_the_rules_change_during_an_outage(
    pair: tuple[Host, Host], world: World
) -> None:
    one, other = pair
    one.things.put(a="1", b="2")
    eventually(lambda: len(other.things.others) == 2)
    world.is_down = True
    eventually(lambda: (one.state, other.state) == ("connecting", "connecting"))
    other.things.others.clear()  # as if the rules of that time had pinned none of them
    other.synchroniser.refresh()
    eventually(lambda: other.things.others == {"a": "1", "b": "2"})
    other.synchroniser.set_active(True)
    other.synchroniser.wait_until_role_applied(5.0)
    assert other.things.own == {"a": "1", "b": "2"}


def test_a_record_that_the_store_has_lost_is_forgotten_at_the_second_synchronisation_without_it(world: World) -> None:
    world.records = {"thing a": ("dead", "1"), "thing b": ("dead", "1")}
    host = Host(world, "host").complete()
    del world.records["thing a"]
    host.synchroniser.refresh()
    eventually(lambda: host.synchroniser._missing)
    assert set(host.things.others) == {"a", "b"}
    host.synchroniser.refresh()
    eventually(lambda: set(host.things.others) == {"b"})
    host.synchroniser.stop()


def test_if_two_hosts_believe_they_are_active_the_later_write_wins_and_each_removes_only_its_own_records(
    pair: tuple[Host, Host], world: World
) -> None:
    one, other = pair
    one.things.put(both="1", ones="1")
    eventually(lambda: len(other.things.others) == 2)
    other.things.put(both="2", others="2")
    eventually(lambda: one.things.others == {"both": "2", "others": "2"})
    one.things.remove("both", ended=False)  # expired here for want of packets, but not on the other host
    one.things.put(last="1")
    eventually(lambda: "thing last" in world.records)
    assert world.values()["thing both"] == "2"
    one.synchroniser.refresh()
    other.synchroniser.refresh()
    one.things.put(later="1")
    eventually(lambda: "thing later" in world.records)
    assert world.values() == {
        "thing both": "2",
        "thing ones": "1",
        "thing others": "2",
        "thing last": "1",
        "thing later": "1",
    }


def test_after_the_queue_was_full_all_records_are_written_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_LEN", 2000)
    host = Host(world, "host", active=True).complete()
    things = {f"t{number}": "1" for number in range(200)}
    host.things.put(**things)
    eventually(lambda: len(world.records) == 200)
    host.complete()
    assert host.synchroniser.status()["outages"] == 0
    host.synchroniser.stop()


def test_an_exception_in_a_kind_of_record_costs_one_attempt(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = ["once"]

    async def write_all(self: Things) -> None:
        if failures:
            raise ZeroDivisionError(failures.pop())

    monkeypatch.setattr(Things, "write_all", write_all)
    host = Host(world, "host").complete()
    host.synchroniser.stop()


def test_a_change_of_role_that_fails_is_tried_again(pair: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = pair
    one.things.put(a="1")
    eventually(lambda: other.things.others == {"a": "1"})
    begin, failures = Things.activate, ["once"]

    async def failing(self: Things) -> None:
        if failures:
            raise ZeroDivisionError(failures.pop())
        await begin(self)

    monkeypatch.setattr(Things, "activate", failing)
    other.synchroniser.set_active(True)
    eventually(lambda: other.things.own == {"a": "1"})


def test_a_store_that_does_not_answer_does_not_delay_the_start(world: World) -> None:
    world.is_down = True
    host = Host(world, "host")
    assert host.synchroniser.first_attempt_done.wait(5.0)
    assert host.synchroniser.status()["error"] == "it is down"
    assert host.synchroniser.why_incomplete() is None, "without the store no host can know more"
    host.synchroniser.stop()


# The write queue


def open_queue(most: int = 10_000) -> WriteQueue:
    queue = WriteQueue(most)
    queue.open()
    return queue


def test_a_write_queue_keeps_the_order_of_ops_and_knows_how_long_they_have_waited() -> None:
    queue = open_queue()
    ops = [Op(PUT, "a", "1"), Op(ENDED, "a", "1"), Op(PUT, "a", "2")]
    queue.add(ops[:2], 5.0)
    queue.add(ops[2:], 6.0)
    assert (queue.waiting(), queue.age(7.0)) == (3, 2.0)
    assert [*queue.take(2), *queue.take(2)] == ops
    assert (queue.waiting(), queue.age(7.0), queue.take(2)) == (0, 0.0, [])


def test_a_full_write_queue_reports_the_loss_and_a_closed_one_keeps_nothing() -> None:
    queue = open_queue(2 * Op(PUT, "a").cost)
    queue.add([Op(PUT, "a")], 0.0)
    queue.add([Op(PUT, "b"), Op(PUT, "c")], 0.0)
    assert queue.take(9) == [Op(PUT, "a")]
    assert (queue.take_missed(), queue.take_missed()) == (True, False)
    queue.close()
    queue.add([Op(PUT, "d")], 0.0)
    queue.open()
    assert (queue.take(9), queue.take_missed()) == ([], False)


def test_a_write_queue_notes_the_keys_that_are_put_since_watch_puts() -> None:
    queue = open_queue()
    queue.add([Op(PUT, "before")], 0.0)
    queue.watch_puts()
    queue.add([Op(PUT, "a"), Op(GONE, "b")], 0.0)
    assert queue.take_puts() == {"a"}
    assert queue.take_puts() == set()
