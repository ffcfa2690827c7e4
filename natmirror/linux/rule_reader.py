"""Reads other programs' filter rules on this host, of iptables and of nftables."""

import shutil

from natmirror.linux import commands
from natmirror.linux.foreign_iptables import from_iptables
from natmirror.linux.foreign_nft import from_nft, needs_devices
from natmirror.linux.foreign_rules import BaseChain
from natmirror.linux.iptables import legacy_is_in_use
from natmirror.linux.kernel_changes import generation
from natmirror.linux.legacy_tables import fingerprint

_LEGACY_TABLES = ("raw", "mangle", "nat", "filter", "security")


class RuleReader:
    """Reads what is in nftables, and so the rules of iptables-nft, again only after a change there, and the tables of
    iptables-legacy likewise."""

    def __init__(self) -> None:
        self._generation: int | None = None
        self._in_nftables: list[BaseChain] = []
        self._legacy: str | None = ""
        self._in_legacy: list[BaseChain] = []

    def read(self) -> list[BaseChain]:
        """Return the chains of all programs. HostError where they cannot be read."""
        now = generation()
        if now is None or now != self._generation:
            self._in_nftables = _of_iptables("nft")
            if shutil.which("nft") is not None:
                ruleset = commands.run(["nft", "-j", "-s", "list", "ruleset"], package="nftables")
                more = commands.run(["nft", "list", "chains"], package="nftables") if needs_devices(ruleset) else ""
                self._in_nftables += from_nft(ruleset, more)
            self._generation = now
        legacy = fingerprint(_LEGACY_TABLES)
        if legacy is None or legacy != self._legacy:
            self._in_legacy = _of_iptables("legacy") if legacy_is_in_use() else []
            self._legacy = legacy
        return self._in_nftables + self._in_legacy


def _of_iptables(backend: str) -> list[BaseChain]:
    program = f"iptables-{backend}-save"
    return from_iptables(commands.run([program], package="iptables"), backend) if shutil.which(program) else []
