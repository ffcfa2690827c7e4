"""The keeper compares and repairs: at once, slowly while another program undoes it, and it says so. A manual clock."""

from collections.abc import Sequence

import pytest

from natmirror.errors import HostError
from natmirror.events import EventKind, EventRing
from natmirror.findings import FindingCode, Findings, OwnCode
from natmirror.linux.commands import HangsError
from natmirror.runtime.keeper import Keeper, RepairLimit


class Thing:
    """Something in the kernel that other programs change, that the host may refuse to repair, or to read."""

    def __init__(self, kernel: "Kernel", name: str, *tables: str) -> None:
        self.kernel = kernel
        self.name = name
        self.tables: Sequence[str] = tables
        self.command = f"show {name}"
        self.unreadable: FindingCode = OwnCode.RULES_UNREADABLE
        self.unknown: FindingCode = OwnCode.RULES_UNKNOWN
        self.repaired: FindingCode = OwnCode.RULES_REPAIRED
        self.not_repaired: FindingCode = OwnCode.RULES_NOT_REPAIRED
        self.found: list[str] = []
        self.reads = self.repairs = 0
        self.gave_way = False
        self.refuses = ""
        self.unreadable_because: HostError | None = None

    def version(self) -> int | None:
        return self.kernel.number if self.tables else None

    def differences(self) -> list[str]:
        if self.unreadable_because is not None:
            raise self.unreadable_because
        self.reads += 1
        return self.found

    def repair(self) -> None:
        if self.refuses:
            raise HostError(self.refuses)
        self.found, self.gave_way = [], False
        self.repairs += 1

    def give_way(self) -> None:
        self.gave_way = True


class Kernel:
    """nftables' generation, who has changed its tables, and when production stopped."""

    def __init__(self) -> None:
        self.stopped_at: float | None = None
        self.number: int | None = 1
        self.changed_by: dict[str, str] = {}

    def take(self, table: str) -> str:
        return self.changed_by.pop(table, "")

    def change(self, thing: Thing, what: str = "chain X is missing", by: str = "nft (pid 7)") -> None:
        """Have a program change a thing."""
        thing.found = [what]
        if self.number is not None:
            self.number += 1
            self.changed_by.update(dict.fromkeys(thing.tables, by))


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def raw(kernel: Kernel) -> Thing:
    return Thing(kernel, "iptables-nft table raw", "raw")


@pytest.fixture
def device(kernel: Kernel) -> Thing:
    return Thing(kernel, "TUN device")


@pytest.fixture
def findings() -> Findings:
    return Findings(lambda: "now")


@pytest.fixture
def ring() -> EventRing:
    return EventRing(lambda: 0.0)


@pytest.fixture
def keeper(kernel: Kernel, raw: Thing, device: Thing, findings: Findings, ring: EventRing) -> Keeper:
    return Keeper(
        [raw, device],
        kernel,
        findings,
        ring,
        stopped_at=lambda: kernel.stopped_at,
        time_of_day=lambda: "now",
    )


def codes(findings: Findings) -> list[str]:
    return [str(one.code) for one in findings.all()]


def test_what_differs_is_repaired_at_once_and_reported_for_a_minute(
    keeper: Keeper, kernel: Kernel, raw: Thing, findings: Findings, ring: EventRing, caplog: pytest.LogCaptureFixture
) -> None:
    assert keeper.check([raw], 100.0)
    kernel.change(raw)
    assert keeper.check([raw], 103.0)
    [repaired] = ring.all()
    assert (repaired.kind, repaired.code) == (EventKind.KERNEL_REPAIRED, "rules-repaired")
    assert repaired.text == f"{raw.name}: repaired: chain X is missing (changed by nft (pid 7))"
    assert raw.repairs == 1
    [found] = findings.all()
    assert str(found).startswith(
        "rules-repaired: nft (pid 7) has changed iptables-nft table raw within the last minute"
    )
    entry = keeper.entries[0]
    assert (entry["repairs"], entry["repaired_at"], entry["in_place"]) == (1, "now", True)
    assert (entry["difference"], entry["changed_by"]) == ("chain X is missing", "nft (pid 7)")
    kernel.change(raw, by="iptables (pid 8)")
    keeper.check([raw], 110.0)
    assert "repaired again: chain X is missing (changed by iptables (pid 8))" in caplog.text
    keeper.check([raw], 169.0)
    assert codes(findings) == ["rules-repaired"]
    keeper.check([raw], 171.0)
    assert codes(findings) == []
    assert keeper.entries[0]["repairs"] == 2


def test_nothing_is_read_while_the_generation_stays(keeper: Keeper, kernel: Kernel, raw: Thing, device: Thing) -> None:
    for now in range(5):
        keeper.check([raw, device], float(now))
    assert (raw.reads, device.reads) == (1, 5), "only reading tells whether the device has changed"
    kernel.number = 2
    keeper.check([raw], 5.0)
    keeper.check([raw], 6.0)
    assert raw.reads == 2
    kernel.number = None
    keeper.check([raw], 7.0)
    assert raw.reads == 3, "a kernel without generations"


def test_after_five_repairs_in_a_minute_there_is_one_every_30_s_until_a_quiet_minute(
    keeper: Keeper, kernel: Kernel, raw: Thing, findings: Findings, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    for _ in range(5):
        kernel.change(raw)
        assert keeper.check([raw], now)
        now += 2.0
    assert codes(findings) == ["contested"]
    assert "contested: DEGRADED: nft (pid 7) has undone natmirror's repairs of iptables-nft table raw" in caplog.text
    kernel.change(raw, by="nft (pid 9)")
    for waited in (10.0, 20.0, 37.9):
        assert not keeper.check([raw], waited)
        assert raw.gave_way
    assert codes(findings) == ["rules-not-repaired", "contested"]
    assert findings.why_unfit().startswith("rules-not-repaired: iptables-nft table raw is not as natmirror has made it")
    assert keeper.entries[0]["contested"]
    assert not keeper.entries[0]["in_place"]
    assert keeper.check([raw], 38.0)
    assert raw.repairs == 6
    assert codes(findings) == ["contested"]
    assert keeper.check([raw], 97.0)
    assert codes(findings) == ["contested"]
    assert keeper.check([raw], 98.0)
    assert codes(findings) == []
    kernel.change(raw)
    keeper.check([raw], 99.0)
    assert raw.repairs == 7


def test_a_program_that_insists_on_the_first_place_delays_no_other_repair_and_is_no_failure(
    keeper: Keeper, kernel: Kernel, raw: Thing, findings: Findings
) -> None:
    raw.repaired, raw.not_repaired = OwnCode.RULES_MOVED, OwnCode.RULES_NOT_FIRST
    for now in range(6):
        kernel.change(raw, "the rule PREROUTING -j ACCEPT stands above natmirror's", "calico (pid 4)")
        assert keeper.check([raw], float(now))
    assert raw.repairs == 5
    assert codes(findings) == ["rules-not-first", "contested"]
    assert findings.why_unfit() == "", "the rule itself says whether production passes"
    assert not keeper.entries[0]["in_place"]
    raw.repaired, raw.not_repaired = OwnCode.RULES_REPAIRED, OwnCode.RULES_NOT_REPAIRED
    kernel.change(raw)
    assert keeper.check([raw], 6.0)
    assert raw.repairs == 6
    assert codes(findings) == ["contested", "rules-repaired"]


def test_what_cannot_be_repaired_is_reported_and_tried_again(
    keeper: Keeper, kernel: Kernel, raw: Thing, findings: Findings, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.change(raw)
    raw.refuses = "the lock is taken"
    for now in (0.0, 3.0, 6.0):
        assert not keeper.check([raw], now)
    assert codes(findings) == ["rules-not-repaired"]
    assert "chain X is missing (changed by nft (pid 7)); not repaired: the lock is taken" in caplog.text
    assert len(caplog.records) == 1
    raw.refuses = ""
    assert keeper.check([raw], 9.0)
    assert codes(findings) == ["rules-repaired"]


def test_what_cannot_be_read_counts_as_it_was_and_is_reported(
    keeper: Keeper, raw: Thing, device: Thing, findings: Findings, caplog: pytest.LogCaptureFixture
) -> None:
    device.found, raw.unreadable_because = ["it is missing"], HostError("cannot run iptables-nft-save")
    for now in (0.0, 3.0):
        assert keeper.check([raw, device], now), "a read that fails proves nothing"
    assert device.repairs == 1
    assert [entry["in_place"] for entry in keeper.entries] == [True, True]
    assert keeper.entries[1]["changed_by"] == "an unknown program"
    assert codes(findings) == ["rules-unreadable", "rules-repaired"]
    assert caplog.text.count("so it neither sees nor repairs a change: cannot run iptables-nft-save") == 1
    raw.unreadable_because = None
    keeper.check([raw], 6.0)
    assert codes(findings) == ["rules-repaired"]


def test_a_read_that_hangs_is_not_followed_by_others(keeper: Keeper, raw: Thing, device: Thing) -> None:
    raw.unreadable_because = HangsError("iptables-nft-save did not end within 3 s")
    assert keeper.check([raw, device], 0.0)
    assert device.reads == 0
    assert keeper.check([device], 0.0)
    assert device.reads == 1


def test_production_that_stops_when_the_rules_become_unreadable_is_a_failure(
    keeper: Keeper, kernel: Kernel, raw: Thing, device: Thing, findings: Findings
) -> None:
    keeper.check([raw, device], 90.0)
    kernel.change(raw)
    raw.unreadable_because = HostError("no descriptors")
    keeper.check([raw], 100.0)
    assert codes(findings) == ["rules-unreadable"]
    kernel.stopped_at = 101.0
    keeper.check([device], 106.0)
    assert codes(findings) == ["rules-unknown"], "known without another read, which may hang"
    assert "production has stopped passing since natmirror cannot read iptables-nft table raw" in findings.why_unfit()
    kernel.stopped_at = None
    keeper.check([device], 107.0)
    assert codes(findings) == ["rules-unreadable"]


@pytest.mark.parametrize("stopped_at", [80.0, 130.0])
def test_production_that_stops_at_another_time_is_none(
    keeper: Keeper, kernel: Kernel, raw: Thing, findings: Findings, stopped_at: float
) -> None:
    raw.unreadable_because, kernel.stopped_at = HostError("no descriptors"), stopped_at
    for now in (100.0, 140.0):
        keeper.check([raw], now)
        assert codes(findings) == ["rules-unreadable"]
    kernel.change(raw)
    keeper.check([raw], stopped_at + 1.0)
    assert codes(findings) == ["rules-unknown"], "a later change counts too"


def test_what_is_again_as_it_was_when_it_was_last_read_is_readable(
    keeper: Keeper, kernel: Kernel, raw: Thing, findings: Findings
) -> None:
    keeper.check([raw], 0.0)
    kernel.number, raw.unreadable_because = 2, HostError("no memory")
    keeper.check([raw], 3.0)
    (found,) = findings.all()
    assert (found.code, found.mend[:36]) == ("rules-unreadable", "run show iptables-nft table raw by h")
    kernel.number, raw.unreadable_because = 1, None  # iptables-legacy has no numbers, but a fingerprint of the rules
    keeper.check([raw], 6.0)
    assert (codes(findings), raw.reads) == ([], 1)


def test_many_differences_are_shortened(keeper: Keeper, raw: Thing) -> None:
    raw.found = [f"chain {number} is missing" for number in range(9)]
    keeper.check([raw], 0.0)
    assert keeper.entries[0]["difference"] == "chain 0 is missing; chain 1 is missing; chain 2 is missing; …"


def test_after_a_cleanup_nothing_is_repaired(keeper: Keeper, kernel: Kernel, raw: Thing, findings: Findings) -> None:
    keeper.stop()
    kernel.change(raw)
    assert not keeper.check([raw], 0.0)
    assert raw.repairs == 0
    assert codes(findings) == ["rules-removed"]
    assert "run: systemctl restart natmirror" in findings.why_unfit()


def test_five_repairs_within_more_than_a_minute_are_no_war() -> None:
    limit = RepairLimit()
    for now in (0.0, 16.0, 32.0, 48.0, 61.0):
        assert limit.may_repair(now)
        limit.note_repair(now)
    assert not limit.is_contested
    limit.note_repair(76.0)
    assert limit.is_contested
    assert [limit.may_repair(now) for now in (76.0, 105.9, 106.0)] == [False, False, True]
