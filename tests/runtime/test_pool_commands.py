"""Commands that change a pool: their answers and refusals, and what they change."""

from pathlib import Path
from typing import Any

import pytest

from natmirror.errors import RulesError
from natmirror.events import EventKind, EventRing
from natmirror.fastpath import ConnectionCounts
from natmirror.findings import Findings
from natmirror.linux.reachability import Reachability
from natmirror.linux.vrf import ProductionVrf
from natmirror.rules import OverrideKind, Overrides, Rules, parse_rules
from natmirror.runtime import pool_commands
from natmirror.runtime.backend_control import BackendControl
from natmirror.runtime.mailbox import Mailbox
from natmirror.runtime.override_control import Change, OverrideControl
from natmirror.runtime.override_file import OverrideFile
from natmirror.runtime.pool_commands import PoolCommands
from tests.helpers.overrides import override
from tests.helpers.support import RULES

BASE = parse_rules(RULES)
C3 = {"service": "openflow", "backend": "c3"}


class Run:
    """The commands of a run without engines; a reload has its last two steps."""

    def __init__(self, path: Path | None = None, rules: Rules = BASE) -> None:
        self.ring, mailbox = EventRing(lambda: 0.0), Mailbox(lambda: None)
        host = Reachability(ProductionVrf())
        self.backends = BackendControl(
            *(rules, mailbox, Findings(), self.ring, ConnectionCounts(), host), is_active=True
        )
        self._rules, self.file = rules, OverrideFile(path)
        self.file.thread.start()
        self.overrides = OverrideControl(rules, self.backends, [], mailbox, self.ring, self.file, Overrides())
        reloader: Any = self
        self.pools = PoolCommands(self.overrides, reloader, self.file.thread)

    @property
    def loaded(self) -> Rules:
        return self._rules

    def change_overrides(self, change: Change) -> None:
        """Do what Reloader does in the main thread."""
        self.backends.reload(self.overrides.reload(self._rules, change), self.overrides.value)

    def members(self) -> list[str]:
        [service] = self.overrides.rules.services
        return [] if service.pool is None else [one.name for one in service.pool.backends]

    def close(self) -> None:
        self.file.thread.end()
        self.file.thread.wait(self.file.thread.now() + 5.0)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(pool_commands, "taken_addresses", dict)
    one = Run(tmp_path / "overrides.json")
    yield one
    one.close()


def test_a_backend_is_added_and_removed_again(run: Run) -> None:
    added = run.pools.add({**C3, "address": "10.20.0.15:7000", "weight": 3, "max_connections": 9})
    assert added["done"] == (
        "openflow/c3 at 10.20.0.15:7000 is in its pool, and gets new connections, unchecked: the pool has no"
        " health; a reload of the rules file keeps that, and a restart forgets that, without --persist"
    )
    assert run.members() == ["c1", "c2", "c3"]
    shown = run.backends.states()["openflow", "c3"]
    assert (shown["share"], shown["weight"], shown["weight_in_rules"]) == (1.0, 3, 3)
    assert run.overrides.beside(BASE) == [
        "openflow/c3 at 10.20.0.15:7000 is added by a command, until natmirror backend remove"
    ]
    with_c3 = RULES.replace("backends:", "backends:\n        - {name: c3, address: 10.20.0.15, port: 7000}", 1)
    assert run.overrides.beside(parse_rules(with_c3)) == [], "a reload would drop it"
    weighed = run.overrides.weigh({**C3, "weight": 8})
    assert weighed.startswith("openflow/c3 has weight 8 for new connections, instead of 3 that it was added with; ")
    removed = run.pools.remove(C3)["done"]
    assert removed.startswith("openflow/c3 is out of its pool, and gets no new connections; no connections left; ")
    assert (run.members(), run.overrides.value) == (["c1", "c2"], Overrides())
    kinds = [event.kind for event in run.ring.all()]
    assert kinds == [EventKind.BACKEND_ADDED, EventKind.WEIGHT_CHANGED, EventKind.BACKEND_REMOVED]


def test_an_added_backend_is_checked_where_its_pool_has_health() -> None:
    checked = Run(rules=parse_rules(RULES.replace("backends:", "health: {check: tcp}\n      backends:", 1)))
    added = checked.pools.add({**C3, "address": "10.20.0.15"})["done"]
    assert ", and gets new connections, unless health checks find it down; " in added
    checked.close()


def test_a_backend_of_the_rules_is_removed_and_comes_back(run: Run) -> None:
    run.overrides.drain({"service": "openflow", "backend": "c1"})
    run.pools.remove({"service": "openflow", "backend": "c1", "persist": True})
    assert run.members() == ["c2"]
    assert [one["kind"] for one in run.overrides.show()] == ["remove"]
    assert [one.kind for one in OverrideFile(run.file._path).restore()] == ["remove"]
    with pytest.raises(ValueError, match="c2 is the only backend of openflow: add another one first"):
        run.pools.remove({"service": "openflow", "backend": "c2"})
    back = run.pools.add({"service": "openflow", "backend": "c1", "address": "10.20.0.11"})["done"]
    assert back == (
        "openflow/c1 is in its pool again, as the rules have it; a reload of the rules file keeps that, and a restart"
        " keeps that, too"
    )
    assert (run.members(), run.overrides.show()) == (["c1", "c2"], [])


def test_a_backend_of_the_rules_comes_back_with_their_values_alone(run: Run) -> None:
    c1 = {"service": "openflow", "backend": "c1"}
    run.pools.remove(c1)
    back = {**c1, "address": "10.20.0.11"}
    with pytest.raises(ValueError, match="c1 comes back as the rules file has it, with weight 1: leave weight out"):
        run.pools.add({**back, "weight": 7})
    with pytest.raises(ValueError, match="with max-connections unset: leave max-connections out"):
        run.pools.add({**back, "max_connections": 7})
    assert run.members() == ["c2"]
    run.pools.add({**back, "weight": 1})
    assert run.members() == ["c1", "c2"]


def test_a_removal_says_where_new_connections_go_and_how_long_it_holds(run: Run) -> None:
    run.pools.add({**C3, "address": "10.20.0.15", "persist": True})
    removed = run.pools.remove(C3)["done"]
    assert "; new ones go to c1, c2; " in removed
    assert removed.endswith("and a restart keeps that, too"), "nothing of it is left to come back"
    run.overrides.drain({"service": "openflow", "backend": "c2"})
    removed = run.pools.remove({"service": "openflow", "backend": "c1"})["done"]
    assert "; it was the last open backend of openflow: new ones are dropped until another one opens; " in removed
    assert removed.endswith("a restart forgets that, without --persist")


def test_what_the_other_hosts_commands_change_is_followed_and_not_shared_again(run: Run) -> None:
    shared: list[Any] = []
    run.overrides.share = shared.append
    run.pools.add({**C3, "address": "10.20.0.15"})
    [[entry]] = shared
    assert (entry["kind"], entry["name"], entry["place"]) == ("add", "c3", "10.20.0.15:6653")
    removal = override(BASE, OverrideKind.REMOVE, "c1", at=2e9)
    run.pools._adopt({removal.key: removal, (OverrideKind.ADD, "openflow", "c3"): None})
    assert (run.members(), len(shared)) == (["c2"], 1)
    assert [event.text for event in run.ring.all()][1:] == [
        "openflow/c1 at 10.20.0.11:6653 is removed, by a command on the other host",
        "openflow/c3 at 10.20.0.15:6653 is added: a command on the other host has ended that",
    ]


def test_what_the_rules_would_refuse_changes_nothing(run: Run) -> None:
    with pytest.raises(RulesError, match="backend c1 of openflow: expected a unique name, found c1 again"):
        run.pools.add({"service": "openflow", "backend": "c1", "address": "10.20.0.15"})
    with pytest.raises(RulesError, match=r"address: expected an IPv4 address, found c3\.example"):
        run.pools.add({**C3, "address": "c3.example"})
    with pytest.raises(ValueError, match="there is no backend c3 in openflow: it has c1, c2"):
        run.pools.remove(C3)
    assert (run.members(), run.ring.all()) == (["c1", "c2"], [])


def test_a_service_without_a_pool_takes_no_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_commands, "taken_addresses", dict)
    watched = Run(rules=parse_rules(RULES[: RULES.index("    pool:")] + RULES[RULES.index("    mirrors:") :]))
    with pytest.raises(ValueError, match="service openflow has no pool"):
        watched.pools.add({**C3, "address": "10.20.0.15"})
    with pytest.raises(ValueError, match="there is no directory to keep it in"):
        watched.pools.add({**C3, "address": "10.20.0.15", "persist": True})
    watched.close()
