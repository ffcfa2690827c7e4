"""Reads other programs' filter rules on this host, of iptables and of nftables."""

import shutil

from natmirror.linux import commands
from natmirror.linux.foreign_iptables import from_iptables
from natmirror.linux.foreign_nft import from_nft, needs_devices
from natmirror.linux.foreign_rules import BaseChain
from natmirror.linux.iptables import legacy_is_in_use
from natmirror.linux.kernel_changes import generation
from natmirror.linux.legacy_tables import fingerprint
from natmirror.linux.unknown_form import understanding

_LEGACY_TABLES = ("raw", "mangle", "nat", "filter", "security")


class RuleReader:
    """Reads what is in nftables, and so the rules of iptables-nft, again only after a change there, and the tables of
    iptables-legacy likewise."""

    def __init__(self) -> None:
        self._generation: int | None = None
        self._in_nftables: list[BaseChain] = []
        self._legacy: str | None = None
        self._in_legacy: list[BaseChain] = []

    def read(self) -> list[BaseChain]:
        """Return the chains of all programs. HostError where they cannot be read, UnknownFormError where they
        are read, and not understood."""
        now = generation()
        if now is None or now != self._generation:
            self._in_nftables = _of_iptables("nft") + _of_nft()
            self._generation = now
        legacy = fingerprint(_LEGACY_TABLES)
        if legacy is None or legacy != self._legacy:
            self._in_legacy = _of_iptables("legacy") if legacy_is_in_use() else []
            self._legacy = legacy
        return self._in_nftables + self._in_legacy


def _of_iptables(backend: str) -> list[BaseChain]:
    program = f"iptables-{backend}-save"
    if shutil.which(program) is None:
        return []
    saved = commands.run([program], package="iptables")
    with understanding(f"what {program} prints"):
        return from_iptables(saved, backend)


def _of_nft() -> list[BaseChain]:
    if shutil.which("nft") is None:
        return []
    command = ["nft", "-j", "-s", "list", "ruleset"]
    ruleset = commands.run(command, package="nftables")
    more = commands.run(["nft", "list", "chains"], package="nftables") if needs_devices(ruleset) else ""
    with understanding(f"what {' '.join(command)} prints"):
        return from_nft(ruleset, more)
