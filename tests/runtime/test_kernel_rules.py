"""The rules in the kernel, on a host that may refuse; the test runs no thread."""

from collections import Counter
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
    """iptables and a worker's engine, and the order of the calls to them."""

    backend = "nft"

    def __init__(self, nft: Nft) -> None:
        self.nft = nft
        self.calls: list[Any] = []
        self.marks: Mapping[ServiceBackend, int] = {}
        self.refuses = False
        self.kept: list[Kept] = []
        self.unlisted_backends = 0
        self.forged: Counter[str] = Counter()

    def set_marks(self, marks: Mapping[ServiceBackend, int]) -> None:
        self.marks = marks
        self.calls.append(("marks", len(self.nft.fed)))

    def prune(self) -> list[Kept]:
        return self.kept

    def forged_packets(self) -> Counter[str]:
        return self.forged

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
        self.calls.append((what, len(self.nft.fed)))


@pytest.fixture
def machine(nft: Nft) -> Machine:
    return Machine(nft)


@pytest.fixture
def kernel_rules(machine: Machine) -> KernelRules:
    return KernelRules(BEFORE, machine, [machine])  # type: ignore[arg-type,list-item]


def test_the_table_is_installed_before_a_packet_can_get_a_mark(kernel_rules: KernelRules, machine: Machine) -> None:
    kernel_rules.install()
    assert machine.calls == [("marks", 1), ("install", 1)]
    assert machine.marks == {(SERVICE, C1): MARKS + 1, (SERVICE, C2): MARKS + 2}
    assert kernel_rules.why_not_translated is None


def test_during_a_reload_engines_give_a_mark_only_while_the_table_knows_it(
    kernel_rules: KernelRules, machine: Machine, nft: Nft
) -> None:
    kernel_rules.install()
    kernel_rules.extend(AFTER)
    assert set(machine.marks) == {(SERVICE, C1), (SERVICE, C2), (SERVICE, C3)}
    assert machine.calls[2:] == [("extend", 1), ("marks", 2)]
    kernel_rules.set_configured(AFTER)
    kernel_rules.remove_unused()
    assert set(machine.marks) == {(SERVICE, C1), (SERVICE, C3)}
    assert machine.calls[4:] == [("reduce", 2), ("marks", 2)]
    assert nft.fed[2].startswith("delete element"), "after the marks"


def test_a_removed_backend_with_connections_keeps_its_mark(kernel_rules: KernelRules, machine: Machine) -> None:
    kernel_rules.install()
    kernel_rules.extend(AFTER)
    kernel_rules.set_configured(AFTER)
    pool = BEFORE.services[0].pool
    assert pool is not None
    machine.kept = [(BEFORE.services[0], pool.backends[1])]
    kernel_rules.remove_unused()
    assert machine.marks[SERVICE, C2] == MARKS + 2
    assert endpoint_of(pool.backends[1]) == C2


def test_undoing_an_extension_restores_rules_and_marks(kernel_rules: KernelRules, machine: Machine) -> None:
    kernel_rules.install()
    kernel_rules.extend(AFTER)
    kernel_rules.undo_extend()
    assert set(machine.marks) == {(SERVICE, C1), (SERVICE, C2)}
    assert kernel_rules.rules == BEFORE


def test_if_nft_refuses_natmirror_translates_and_logs_why_once(
    kernel_rules: KernelRules, machine: Machine, nft: Nft, caplog: pytest.LogCaptureFixture
) -> None:
    nft.refuses = True
    kernel_rules.install()
    assert machine.marks == {}
    assert kernel_rules.why_not_translated == "nft failed: it refuses"
    kernel_rules.try_translation()
    assert caplog.text.count("nft failed: it refuses; natmirror translates each packet itself") == 1
    assert machine.calls == [("install", 0)], "engines without marks are not called again"
    nft.refuses = False
    kernel_rules.try_translation()
    assert kernel_rules.why_not_translated is None
    assert machine.marks


def test_a_table_that_cannot_be_extended_is_not_used_at_all(
    kernel_rules: KernelRules, machine: Machine, nft: Nft
) -> None:
    kernel_rules.install()
    nft.refuses = True
    kernel_rules.extend(AFTER)
    assert machine.marks == {}
    assert kernel_rules.why_not_translated == "nft failed: it refuses"


def test_if_iptables_refuses_a_start_the_table_is_removed(
    kernel_rules: KernelRules, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = []
    monkeypatch.setattr(nftables, "remove", lambda: removed.append(1))
    machine.refuses = True
    with pytest.raises(HostError, match="the lock is taken"):
        kernel_rules.install()
    assert removed


def test_a_refused_removal_is_tried_again(kernel_rules: KernelRules, machine: Machine) -> None:
    kernel_rules.install()
    kernel_rules.extend(AFTER)
    kernel_rules.set_configured(AFTER)
    machine.refuses = True
    with pytest.raises(HostError, match="the lock is taken"):
        kernel_rules.remove_unused()
    assert (SERVICE, C2) in machine.marks
    machine.refuses = False
    kernel_rules.remove_unused()
    assert (SERVICE, C2) not in machine.marks


def test_a_table_that_differs_is_installed_again_with_the_same_marks(
    kernel_rules: KernelRules, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel_rules.install()
    machine.calls.clear()
    assert kernel_rules.translation_differences() == []
    monkeypatch.setattr(nftables.Translation, "differences", lambda self: ["the table is missing"])
    assert kernel_rules.translation_differences() == ["the table is missing"]
    kernel_rules.repair_translation()
    assert machine.calls == [], "the marks are the same, so engines are not called"


def test_natmirror_translates_itself_while_another_program_keeps_removing_the_table(
    kernel_rules: KernelRules, machine: Machine, nft: Nft, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel_rules.install()
    monkeypatch.setattr(nftables.Translation, "differences", lambda self: ["the table is missing"])
    kernel_rules.do_without_translation()
    assert machine.marks == {}
    assert kernel_rules.why_not_translated == "another program keeps changing the nftables table natmirror"
    kernel_rules.try_translation()
    assert machine.marks == {}, "the keeper says when"
    assert kernel_rules.translation_differences() == ["the table is missing"]
    nft.refuses = True
    with pytest.raises(HostError, match="it refuses"):
        kernel_rules.repair_translation()
    assert kernel_rules.translation_differences(), "it is tried again"
    nft.refuses = False
    kernel_rules.repair_translation()
    assert machine.marks
    assert kernel_rules.why_not_translated is None


def test_a_table_that_could_not_be_installed_does_not_differ(kernel_rules: KernelRules, nft: Nft) -> None:
    nft.refuses = True
    kernel_rules.install()
    assert kernel_rules.translation_differences() == []


def test_after_a_cleanup_no_rules_are_changed(kernel_rules: KernelRules, machine: Machine) -> None:
    kernel_rules.install()
    machine.calls.clear()
    kernel_rules.release()
    with pytest.raises(HostError, match=r"cleanup --force has removed .* restart natmirror"):
        kernel_rules.extend(AFTER)
    kernel_rules.set_configured(AFTER)
    kernel_rules.remove_unused()
    assert machine.calls == []


def test_a_stop_names_the_rules_that_stay_and_how_to_remove_them(
    kernel_rules: KernelRules, machine: Machine, nft: Nft
) -> None:
    kernel_rules.install()
    nft.refuses = True
    with pytest.raises(HostError, match=r"^nftables: nft failed.* its table natmirror stays; .*natmirror cleanup$"):
        kernel_rules.remove(keep_rules=False)
    assert machine.calls[-1] == ("remove", 1)
    machine.refuses = True
    with pytest.raises(HostError, match=r"^iptables: .*lock is taken; .*; nftables: .*natmirror cleanup$"):
        kernel_rules.remove(keep_rules=False)


def test_a_stop_without_a_table_is_no_error(kernel_rules: KernelRules, nft: Nft) -> None:
    nft.refuses = True
    kernel_rules.install()
    kernel_rules.remove(keep_rules=False)


def test_if_iptables_refuses_a_stop_the_table_is_removed_all_the_same(
    kernel_rules: KernelRules, machine: Machine, nft: Nft
) -> None:
    kernel_rules.install()
    machine.refuses = True
    with pytest.raises(HostError, match="the lock is taken"):
        kernel_rules.remove(keep_rules=False)
    assert nft.fed[-1] == "delete table ip natmirror\n"


def test_forged_packets_are_added_up_over_changes_of_the_rules_and_logged_once_for_each_name(
    kernel_rules: KernelRules, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    for counts in ({}, {"m": 3, "o": 0}, {"m": 5}, {"m": 0, "n": 0}, {"m": 4, "n": 1}):
        machine.forged = Counter(counts)
        kernel_rules.count_forged()
    assert kernel_rules.forged_packets == {"m": 9, "n": 1}
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "dropped 3 packets in the name of m",
        "dropped 1 packets in the name of n",
    ]
