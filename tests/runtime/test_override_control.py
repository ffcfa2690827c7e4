"""Commands that hold: what follows them, what is kept over a restart, and what is refused."""

import json
from concurrent.futures import Future
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from natmirror.backends.admission import Share
from natmirror.errors import HostError
from natmirror.events import EventKind, EventRing, EventSeverity
from natmirror.fastpath import ConnectionCounts
from natmirror.findings import Findings, OwnCode
from natmirror.linux.reachability import Reachability
from natmirror.linux.vrf import ProductionVrf
from natmirror.rules import Backend, Override, OverrideKind, Overrides, Rules, parse_rules
from natmirror.runtime import whole_file
from natmirror.runtime.backend_control import BackendControl
from natmirror.runtime.event_file import EventFile, read_events
from natmirror.runtime.mailbox import Mailbox
from natmirror.runtime.override_control import Obey, OverrideControl
from natmirror.runtime.override_file import OverrideFile
from natmirror.runtime.shown import OverrideEntry
from tests.helpers.declared import assert_declared
from tests.helpers.overrides import override
from tests.helpers.support import RULES

HOST = Reachability(ProductionVrf())
BASE = parse_rules(RULES)
C1 = {"service": "openflow", "backend": "c1"}
MASTER = {"service": "openflow", "mirror": "master"}
TODAY = 1.6e9


class Engine:
    """Records what an engine gets."""

    def __init__(self) -> None:
        self.shares: list[Share] = []
        self.rules: list[Rules] = []
        self.set_share, self.reload = self.shares.append, self.rules.append

    @property
    def paused(self) -> list[bool]:
        return [mirror.is_paused for mirror in self.rules[-1].services[0].mirrors]


class Run:
    """A run's overrides, with one engine; the test obeys the threads' requests."""

    def __init__(self, path: Path | None = None, rules: Rules = BASE) -> None:
        self.engine, self.ring = Engine(), EventRing(lambda: TODAY)
        self.mailbox, self.file = Mailbox(lambda: None), OverrideFile(path)
        engines: Any = [self.engine]
        restored = self.file.restore()
        running = restored.fitting(rules).applied(rules)
        self.began_with = running
        backends = BackendControl(
            *(running, self.mailbox, Findings(), self.ring, ConnectionCounts(), HOST), is_active=True
        )
        backends.attach(engines)
        self.one = OverrideControl(
            *(rules, backends, engines, self.mailbox, self.ring, self.file, restored), today=lambda: TODAY
        )
        self.one.start()

    def give(self, obey: Obey, **arguments: Any) -> str:
        """Give a command, and do what all threads have to do for it; return what it says."""
        answer: Future[Any] = self.one.command(obey, arguments)
        self.mailbox.read()
        self.file.thread._mailbox.read()
        return str(answer.result(0)["done"])

    def shown(self) -> list[OverrideEntry]:
        found = self.one.show()
        assert_declared(list[OverrideEntry], found)
        return found

    def kinds(self) -> list[EventKind]:
        return [event.kind for event in self.ring.all()]


def test_what_holds_over_a_crash_has_its_event_on_disk_when_the_command_is_answered(tmp_path: Path) -> None:
    run = Run(tmp_path / "overrides.json")
    events = EventFile(tmp_path / "events.jsonl", run.ring)
    answer = run.one.command(run.one.pause, {**MASTER, "persist": True})
    run.mailbox.read()
    run.file.thread._mailbox.read()
    assert not answer.done()
    events.thread._mailbox.read()
    assert answer.result(0)["done"].endswith("; it holds over a restart, too")
    assert [one.kind for one in read_events(tmp_path / "events.jsonl")] == [EventKind.MIRROR_PAUSED]


def test_a_command_does_not_fail_because_its_event_cannot_be_written(tmp_path: Path) -> None:
    run = Run(tmp_path / "overrides.json")
    events = EventFile(tmp_path, run.ring)  # a directory
    answer = run.one.command(run.one.drain, {**C1, "persist": True})
    run.mailbox.read()
    run.file.thread._mailbox.read()
    events.thread._mailbox.read()
    assert "openflow/c1 gets no new connections" in answer.result(0)["done"]


def test_a_weight_goes_to_the_engines_and_is_taken_back() -> None:
    run = Run()
    assert run.give(run.one.weigh, **C1, weight=3) == (
        "openflow/c1 has weight 3 for new connections, instead of 1 in the rules; open connections stay where they are"
    )
    assert run.engine.shares == [Share("openflow", "c1", 1.0, 3)]
    [shown] = run.shown()
    assert (shown["kind"], shown["backend"], shown["weight"], shown["kept"]) == ("weight", "c1", 3, False)
    assert shown["since"].startswith("2020-09-13T12:26:40")
    assert run.give(run.one.weigh, **C1, weight=None) == "openflow/c1 has the weight of the rules: 1"
    assert run.engine.shares[1:] == [Share("openflow", "c1", 1.0)]
    assert run.shown() == []
    run.give(run.one.weigh, **C1, weight=None)
    assert run.kinds() == [EventKind.WEIGHT_CHANGED] * 2


def test_a_mirror_is_paused_in_the_engines_rules_until_it_is_resumed() -> None:
    run = Run()
    assert run.give(run.one.pause, **MASTER) == (
        "mirror openflow/master is paused: its copies have ended, and no new ones begin until natmirror mirror resume"
        " openflow/master"
    )
    assert run.engine.paused == [True]
    run.give(run.one.pause, **MASTER)
    assert len(run.engine.rules) == 1
    assert run.give(run.one.resume, **MASTER).endswith("those that are open now stay without one")
    assert run.engine.paused == [False]
    assert run.give(run.one.resume, **MASTER) == "mirror openflow/master was not paused"
    assert run.kinds() == [EventKind.MIRROR_PAUSED, EventKind.MIRROR_RESUMED]


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    run = Run()
    for obey, arguments, error in (
        (run.one.drain, {**C1, "backend": "c9"}, "there is no backend c9 in openflow: it has c1, c2"),
        (run.one.weigh, {**C1, "service": "http", "weight": 2}, "there is no service http: there are openflow"),
        (run.one.pause, {**MASTER, "mirror": "m"}, "there is no mirror m in openflow: it has master"),
        (run.one.drain, {**C1, "persist": True}, "there is no directory to keep it in"),
    ):
        with pytest.raises(ValueError, match=error):
            run.give(obey, **arguments)
    assert (run.shown(), run.kinds()) == ([], [])
    by_order = Run(rules=parse_rules(RULES.replace("    pool:\n", "    pool:\n      balance: priority\n")))
    with pytest.raises(ValueError, match="balance: priority, in which weights have no effect"):
        by_order.give(by_order.one.weigh, **C1, weight=2)
    watched = Run(rules=parse_rules(RULES[: RULES.index("    pool:")] + RULES[RULES.index("    mirrors:") :]))
    with pytest.raises(ValueError, match="service openflow has no pool"):
        watched.give(watched.one.drain, **C1)


def test_what_is_to_be_kept_holds_after_a_restart_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "state" / "overrides.json"
    run = Run(path)
    run.give(run.one.drain, **C1, deadline=60.0, persist=True)
    run.give(run.one.weigh, service="openflow", backend="c2", weight=7)
    assert run.give(run.one.pause, **MASTER, persist=True).endswith("; it holds over a restart, too")
    again = Run(path)
    assert again.engine.shares == [Share("openflow", "c1", 0.0)]
    assert [mirror.is_paused for mirror in again.began_with.services[0].mirrors] == [True]
    assert [(one["kind"], one["kept"]) for one in again.shown()] == [("drain", True), ("pause", True)]
    assert again.shown()[0]["resets_at"] is not None
    again.give(again.one.undrain, **C1)
    again.give(again.one.pause, **MASTER)
    assert Run(path).shown() == [], "the later pause is not kept"


def test_what_the_rules_no_longer_have_is_dropped_and_told(tmp_path: Path) -> None:
    path = tmp_path / "overrides.json"
    run = Run(path)
    run.give(run.one.drain, **C1, persist=True)
    run.give(run.one.pause, **MASTER, persist=True)
    elsewhere = parse_rules(RULES.replace("10.20.0.11", "10.20.0.19"))
    assert run.one.dropped_by(elsewhere) == ["- command: openflow/c1 is drained"]
    [mirror] = run.one.reload(elsewhere, lambda value: value.fitting(elsewhere)).services[0].mirrors
    assert mirror.is_paused
    assert [one["kind"] for one in run.shown()] == ["pause"]
    assert run.ring.all()[-1].text == (
        "openflow/c1 is drained: that holds no more, because the rules no longer have c1 at 10.20.0.11:6653"
    )
    run.file.thread._mailbox.read()
    plain = RULES[: RULES.index("    mirrors:")]
    without = Run(path, parse_rules(plain))
    assert (without.shown(), without.kinds()) == ([], [EventKind.OVERRIDE_DROPPED])
    without.file.thread._mailbox.read()
    assert json.loads(path.read_text())["overrides"] == []


def test_what_the_file_says_by_now_is_no_command_any_more() -> None:
    run = Run()
    c3 = Backend("c3", IPv4Address("10.20.0.15"), 6653)
    added = Override(OverrideKind.ADD, "openflow", "c3", "10.20.0.15:6653", TODAY, backend=c3)
    drain = Override(OverrideKind.DRAIN, "openflow", "c3", "10.20.0.15:6653", TODAY)
    run.one.reload(BASE, lambda value: value.including(added).including(drain))
    same = parse_rules(RULES.replace("name: c1, address: 10.20.0.11", "name: c3, address: 10.20.0.15"))
    run.one.reload(same, lambda value: value.fitting(same))
    assert [shown["kind"] for shown in run.shown()] == ["drain"]
    [event] = run.ring.all()
    assert (event.severity, event.text) == (
        EventSeverity.INFO,
        "openflow/c3 at 10.20.0.15:6653 is added: that holds no more, because the rules have it now",
    )


def test_a_disk_that_is_full_fails_the_command_that_is_to_be_kept_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "overrides.json")

    def full(*_: Any) -> None:
        raise HostError(f"{tmp_path}/overrides.json: No space left on device")

    monkeypatch.setattr(whole_file, "write_list", full)
    with pytest.raises(HostError, match=r"no new connections.*But the file does not say so yet: .*No space left"):
        run.give(run.one.drain, **C1, persist=True)
    assert run.give(run.one.weigh, **C1, weight=2)
    assert [one["kind"] for one in run.shown()] == ["drain", "weight"]
    chore = run.file.thread._chores[1]
    assert not chore.run(lambda: 1.0)
    assert [one.code for one in run.file.findings()] == [OwnCode.OVERRIDES_NOT_SAVED]
    monkeypatch.undo()
    assert chore.run(lambda: 2.0)
    assert (run.file.findings(), [one["kind"] for one in Run(tmp_path / "overrides.json").shown()]) == ([], ["drain"])


@pytest.mark.parametrize("entry", [7, {}, {"kind": "drain"}, {"kind": "weight", "weight": 0}, {"kind": "x"}])
def test_malformed_entries_are_ignored(tmp_path: Path, entry: Any, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "overrides.json"
    good = override(BASE, OverrideKind.WEIGHT, "c2", weight=1000, kept=True)
    if isinstance(entry, dict):
        entry = {**good.plain(), "weight": None, "at": float("inf"), **entry} if entry else entry
    whole_file.write_list(path, "overrides", 1, [entry, good.plain()])
    assert Run(path).one.value == Overrides({good.key: good})
    assert "ignoring a malformed entry" in caplog.text


def test_a_file_that_cannot_be_read_is_logged_and_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "overrides.json"
    path.write_text("{")
    run = Run(path)
    assert "no drain, weight or pause of an earlier run holds" in caplog.text
    run.give(run.one.drain, **C1, persist=True)
    assert [one["kind"] for one in Run(path).shown()] == ["drain"]


PAIR_OF_RUNS = parse_rules(RULES.replace("services:", "max-flows: 4096\nservices:"))


def connected(*runs: Run) -> None:
    """Have each run share its commands with the others, through the form that the store keeps."""
    for run in runs:
        others = [other for other in runs if other is not run]

        def share(entries: Any, others: list[Run] = others) -> None:
            for other in others:
                other.one.adopt(json.loads(json.dumps(entries)))

        run.one.share = share


def test_a_command_on_one_host_holds_on_the_other_and_so_does_its_end() -> None:
    one, other = Run(), Run(rules=PAIR_OF_RUNS)
    connected(one, other)
    one.give(one.one.drain, **C1)
    one.give(one.one.pause, **MASTER)
    other.mailbox.read()
    assert [shown["kind"] for shown in other.shown()] == ["drain", "pause"]
    assert (other.engine.shares, other.engine.paused) == ([Share("openflow", "c1", 0.0)], [True])
    assert [event.text for event in other.ring.all()] == [
        "openflow/c1 is drained, by a command on the other host",
        "mirror openflow/master is paused, by a command on the other host",
    ]
    other.give(other.one.undrain, **C1)
    other.give(other.one.resume, **MASTER)
    one.mailbox.read()
    assert (one.shown(), one.engine.shares[-1], one.engine.paused) == ([], Share("openflow", "c1", 1.0), [False])
    assert one.kinds()[-2:] == [EventKind.OVERRIDE_ADOPTED] * 2


def test_what_does_not_fit_here_holds_once_it_does() -> None:
    one, other = Run(), Run(rules=parse_rules(RULES.replace("10.20.0.11", "10.20.0.19")))
    connected(one, other)
    one.give(one.one.drain, **C1)
    other.mailbox.read()
    assert (other.shown(), other.kinds()) == ([], [])
    other.one.reload(BASE, lambda value: value.fitting(BASE))
    other.one.adopt(one.one.entries())
    other.mailbox.read()
    assert [shown["kind"] for shown in other.shown()] == ["drain"]


def test_a_drop_by_a_reload_is_no_command() -> None:
    one, other = Run(), Run()
    connected(one, other)
    one.give(one.one.drain, **C1)
    other.mailbox.read()
    elsewhere = parse_rules(RULES.replace("10.20.0.11", "10.20.0.19"))
    one.one.reload(elsewhere, lambda value: value.fitting(elsewhere))
    other.mailbox.read()
    assert (one.shown(), [shown["kind"] for shown in other.shown()]) == ([], ["drain"])


def test_changes_of_pools_go_to_the_thread_that_reloads() -> None:
    one, other = Run(), Run()
    connected(one, other)
    adopted: list[Any] = []
    other.one.adopt_pools = adopted.append
    removal = override(BASE, OverrideKind.REMOVE, "c1", at=TODAY)
    one.one.reload(BASE, lambda value: value.including(removal))
    one.one.note(Overrides(), one.one.value)
    other.mailbox.read()
    assert (other.shown(), adopted) == ([], [{removal.key: removal}])
