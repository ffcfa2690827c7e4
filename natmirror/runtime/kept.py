"""What natmirror has put into the kernel, as the things that the keeper keeps."""

from collections.abc import Sequence

from natmirror.findings import FindingCode, OwnCode
from natmirror.linux.iptables import Firewall
from natmirror.linux.iptables_rules import TABLES
from natmirror.linux.kernel_changes import generation
from natmirror.linux.tun import TunDevice
from natmirror.runtime.kernel_rules import KernelRules


class KeptTable:
    """Our chains and jumps in one iptables table."""

    unreadable: FindingCode = OwnCode.RULES_UNREADABLE
    unknown: FindingCode = OwnCode.RULES_UNKNOWN
    repaired: FindingCode = OwnCode.RULES_REPAIRED
    not_repaired: FindingCode = OwnCode.RULES_NOT_REPAIRED

    def __init__(self, firewall: Firewall, table: str) -> None:
        self.name = f"iptables-{firewall.backend} table {table}"
        self.tables: Sequence[str] = [table] if firewall.backend == "nft" else []
        self.command = f"iptables-{firewall.backend}-save -t {table}"
        self._firewall = firewall
        self._table = table

    def version(self) -> str | int | None:
        return self._firewall.version([self._table])

    def differences(self) -> list[str]:
        found = self._firewall.differences(self._table)
        self.repaired = OwnCode.RULES_REPAIRED if found else OwnCode.RULES_MOVED
        self.not_repaired = OwnCode.RULES_NOT_REPAIRED if found else OwnCode.RULES_NOT_FIRST
        return found + [f"the rule {rule} stands above natmirror's" for rule in self._firewall.above(self._table)]

    def repair(self) -> None:
        self._firewall.repair(self._table)

    def give_way(self) -> None:
        """There is no NAT without these rules."""


class OtherBackend:
    """The other iptables, which should have no chains of ours: a run with another setting, or rules that were saved
    then, have left them, and they queue packets too."""

    unreadable: FindingCode = OwnCode.RULES_UNREADABLE
    unknown: FindingCode = OwnCode.RULES_UNKNOWN
    repaired: FindingCode = OwnCode.OLD_RULES_REMOVED
    not_repaired: FindingCode = OwnCode.OLD_RULES_NOT_REMOVED

    def __init__(self, firewall: Firewall) -> None:
        self.name = f"iptables-{firewall.backend}"
        self.tables: Sequence[str] = TABLES if firewall.backend == "nft" else ()
        self.command = f"iptables-{firewall.backend}-save"
        self._firewall = firewall

    def version(self) -> str | int | None:
        return self._firewall.version(TABLES)

    def differences(self) -> list[str]:
        return [f"chain {name} is there" for name in self._firewall.left()]

    def repair(self) -> None:
        self._firewall.remove()

    def give_way(self) -> None:
        """The old rules stay for now."""


class KeptTranslation:
    """The nftables table that translates large packets."""

    name = "nftables table natmirror"
    tables: Sequence[str] = ["natmirror"]
    command = "nft list table ip natmirror"
    unreadable: FindingCode = OwnCode.RULES_UNREADABLE
    unknown: FindingCode = OwnCode.RULES_UNKNOWN
    repaired: FindingCode = OwnCode.RULES_REPAIRED
    not_repaired: FindingCode = OwnCode.TRANSLATION_NOT_REPAIRED

    def __init__(self, kernel_rules: KernelRules) -> None:
        self._kernel_rules = kernel_rules

    def version(self) -> int | None:
        return generation()

    def differences(self) -> list[str]:
        return self._kernel_rules.translation_differences()

    def repair(self) -> None:
        self._kernel_rules.repair_translation()

    def give_way(self) -> None:
        self._kernel_rules.do_without_translation()


class KeptDevice:
    """The TUN device."""

    name = "TUN device"
    tables: Sequence[str] = ()
    command = "ip address"
    unreadable: FindingCode = OwnCode.TUN_UNREADABLE
    unknown: FindingCode = OwnCode.TUN_UNREADABLE
    repaired: FindingCode = OwnCode.TUN_REPAIRED
    not_repaired: FindingCode = OwnCode.TUN_NOT_REPAIRED

    def __init__(self, tun: TunDevice) -> None:
        self._tun = tun

    def version(self) -> None:
        """Only a comparison tells."""

    def differences(self) -> list[str]:
        return self._tun.differences()

    def repair(self) -> None:
        self._tun.repair()

    def give_way(self) -> None:
        """No copy leaves without it."""
