"""What is in place, over a machine that may refuse: no thread runs here."""

from collections.abc import Mapping
from typing import Any

import pytest

from natmirror.errors import HostError
from natmirror.linux import nftables
from natmirror.linux.nftables import MARKS, ServiceBackend
from natmirror.net.endpoint import endpoint_of
from natmirror.rules import Rules, parse_rules
from natmirror.rules.reload import Kept
from natmirror.runtime.kernel_rules import KernelRules
from tests.helpers.nftables import Nft
from tests.helpers.support import C1, C2, RULES, SERVICE

BEFORE = parse_rules(RULES)
AFTER = parse_rules(RULES.replace("10.20.0.12", "10.20.0.19"))
C3 = (bytes((10, 20, 0, 19)), 6653)


class Machine:
    """iptables, a worker, and in what order they have heard of what."""

    backend = "nft"

    def __init__(self, nft: Nft) -> None:
        self.nft = nft
        self.heard: list[Any] = []
        self.marks: Mapping[ServiceBackend, int] = {}
        self.refuses = False
        self.kept: list[Kept] = []
        self.unlisted_backends = 0

    def set_marks(self, marks: Mapping[ServiceBackend, int]) -> None:
        self.marks = marks
        self.heard.append(("marks", len(self.nft.fed)))

    def prune(self) -> list[Kept]:
        return self.kept

    def is_in_place(self) -> bool:
        return True

    def install(self, rules: Rules, queues: int) -> None:
        self._take("install")

    def extend(self, rules: Rules, queues: int) -> None:
        self._take("extend")

    def reduce(self, rules: Rules, queues: int) -> None:
        self._take("reduce")

    def remove(self) -> list[str]:
        self._take("remove")
        return []

    def _take(self, what: str) -> None:
        if self.refuses:
            raise HostError("iptables: the lock is taken")
        self.heard.append((what, len(self.nft.fed)))


@pytest.fixture
def machine(nft: Nft) -> Machine:
    return Machine(nft)


@pytest.fixture
def place(machine: Machine) -> KernelRules:
    return KernelRules(BEFORE, machine, [machine])  # type: ignore[arg-type,list-item]


def test_the_table_is_there_before_a_packet_may_carry_a_mark(place: KernelRules, machine: Machine) -> None:
    place.install()
    assert machine.heard == [("marks", 1), ("install", 1)]
    assert machine.marks == {(SERVICE, C1): MARKS + 1, (SERVICE, C2): MARKS + 2}
    assert place.why_not_translated is None


def test_over_a_reload_nobody_gives_a_mark_before_the_table_knows_it_nor_after(
    place: KernelRules, machine: Machine, nft: Nft
) -> None:
    place.install()
    place.extend(AFTER)
    assert set(machine.marks) == {(SERVICE, C1), (SERVICE, C2), (SERVICE, C3)}
    assert machine.heard[2:] == [("extend", 1), ("marks", 2)]
    place.set_configured(AFTER)
    place.remove_unused()
    assert set(machine.marks) == {(SERVICE, C1), (SERVICE, C3)}
    assert machine.heard[4:] == [("reduce", 2), ("marks", 2)]
    assert nft.fed[2].startswith("delete element"), "after the marks"


def test_what_still_has_connections_keeps_its_mark(place: KernelRules, machine: Machine) -> None:
    place.install()
    place.extend(AFTER)
    place.set_configured(AFTER)
    pool = BEFORE.services[0].pool
    assert pool is not None
    machine.kept = [(BEFORE.services[0], pool.backends[1])]
    place.remove_unused()
    assert machine.marks[SERVICE, C2] == MARKS + 2
    assert endpoint_of(pool.backends[1]) == C2


def test_rules_that_are_taken_back_leave_nothing(place: KernelRules, machine: Machine) -> None:
    place.install()
    place.extend(AFTER)
    place.undo_extend()
    assert set(machine.marks) == {(SERVICE, C1), (SERVICE, C2)}
    assert place.rules == BEFORE


def test_where_nftables_refuses_we_translate_and_say_why_once(
    place: KernelRules, machine: Machine, nft: Nft, caplog: pytest.LogCaptureFixture
) -> None:
    nft.refuses = True
    place.install()
    assert machine.marks == {}
    assert place.why_not_translated == "nft failed: it refuses"
    place.check_translation()
    assert caplog.text.count("nft failed: it refuses; meanwhile natmirror translates each packet itself") == 1
    assert machine.heard == [("install", 0)], "no thread is asked again and again to forget what it does not know"
    nft.refuses = False
    place.check_translation()
    assert place.why_not_translated is None
    assert machine.marks


def test_a_table_that_cannot_learn_more_is_not_used_at_all(place: KernelRules, machine: Machine, nft: Nft) -> None:
    place.install()
    nft.refuses = True
    place.extend(AFTER)
    assert machine.marks == {}
    assert place.why_not_translated == "nft failed: it refuses"


def test_where_iptables_refuses_the_table_goes_too(
    place: KernelRules, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = []
    monkeypatch.setattr(nftables, "remove", lambda: removed.append(1))
    machine.refuses = True
    with pytest.raises(HostError, match="the lock is taken"):
        place.install()
    assert removed


def test_what_iptables_refuses_to_let_go_is_tried_again(place: KernelRules, machine: Machine) -> None:
    place.install()
    place.extend(AFTER)
    place.set_configured(AFTER)
    machine.refuses = True
    with pytest.raises(HostError, match="the lock is taken"):
        place.remove_unused()
    assert (SERVICE, C2) in machine.marks
    machine.refuses = False
    place.remove_unused()
    assert (SERVICE, C2) not in machine.marks


def test_a_table_that_is_gone_is_put_in_again(
    place: KernelRules, machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place.install()
    machine.heard.clear()
    monkeypatch.setattr(nftables.Translation, "is_in_place", lambda self: False)
    place.check_translation()
    assert machine.heard == [], "the marks are the same: no thread has to be asked"
    assert "the table of nftables was removed" in caplog.text
    assert place.why_not_translated is None


def test_what_a_stop_cannot_take_away_is_named_and_how_to_remove_it(
    place: KernelRules, machine: Machine, nft: Nft
) -> None:
    place.install()
    nft.refuses = True
    with pytest.raises(HostError, match=r"^nftables: nft failed.* its table natmirror stays; .*natmirror cleanup$"):
        place.remove(keep_rules=False)
    assert machine.heard[-1] == ("remove", 1)
    machine.refuses = True
    with pytest.raises(HostError, match=r"^iptables: .*lock is taken; .*; nftables: .*natmirror cleanup$"):
        place.remove(keep_rules=False)


def test_a_table_that_was_never_there_is_not_missed(place: KernelRules, nft: Nft) -> None:
    nft.refuses = True
    place.install()
    place.remove(keep_rules=False)


def test_rules_that_cannot_be_looked_at_are_not_missing(
    place: KernelRules, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> bool:
        raise HostError("cannot run iptables-nft-save: Too many open files")

    place.install()
    monkeypatch.setattr(machine, "is_in_place", refuse)
    with pytest.raises(HostError, match="Too many open files"):
        place.check()
    monkeypatch.setattr(machine, "is_in_place", lambda: False)
    assert place.check()
    machine.refuses = True
    assert not place.check()


def test_where_iptables_refuses_at_a_stop_the_table_goes_still(place: KernelRules, machine: Machine, nft: Nft) -> None:
    place.install()
    machine.refuses = True
    with pytest.raises(HostError, match="the lock is taken"):
        place.remove(keep_rules=False)
    assert nft.fed[-1] == "delete table ip natmirror\n"
