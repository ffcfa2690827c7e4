"""Our iptables rules on this host: chains of our own, each reached by one jump at the top of a built-in chain.

One iptables-restore, which is atomic, refills each table: packets meet the old rules or the new ones, never none.
iptables_rules.py says what the chains contain, iptables_text.py makes the inputs.
"""

import os
import re
import shutil
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress

from natmirror.errors import HostError
from natmirror.linux import commands, kernel_changes, legacy_tables
from natmirror.linux import iptables_text as texts
from natmirror.linux.iptables_rules import CHAINS, FROM_ITS_ROUTE, PRE, PREFIX, TABLES, Chain, above, contents
from natmirror.linux.iptables_text import TableState
from natmirror.rules import Rules

_WAIT_SECONDS = "5"
_NOT_SUPPORTED = "not supported"  # iptables: "Warning: Extension rpfilter revision 0 not supported, missing kernel …"
_FORGED = re.compile(
    r"\[(?P<packets>\d+):\d+\] -A NATMIRROR-PRE -s (?P<address>[\d.]+)/32 .*--sport (?P<port>\d+) .*-j DROP$"
)
_FOR_NFT = "is incompatible, use 'nft' tool"
_LOCKED = re.compile(r"Can't lock (/\S+):|xtables lock")
_LOCK = "/run/xtables.lock"
_LEGACY_TABLES = legacy_tables.NAMES
BACKENDS = ("nft", "legacy")


def plan(rules: Rules, threads: int) -> str:
    """Return the input of iptables-restore at a start on a host that has none of our rules."""
    filled = contents(rules, threads)
    return "\n".join(texts.refilled(table, filled, []) for table in TABLES).rstrip()


class Firewall:
    """Our rules in this network namespace. ``backend`` is ``nft`` or ``legacy``; None: the host's default."""

    def __init__(self, backend: str | None = None) -> None:
        self.backend = backend or _default_backend()
        self.vrfs: tuple[str, ...] = ()
        """The VRFs of this host."""
        self.checks_paths = True
        """Whether the installed rules tell packets of mirrors and backends from forged ones by the interface."""
        self._filled: dict[Chain, list[str]] = {chain: [] for chain in CHAINS}
        self._wanted: dict[str, TableState | None] = dict.fromkeys(TABLES)
        self._seen: dict[str, list[str]] = {}  # by table: what differences() has read

    @property
    def is_installed(self) -> bool:
        """Return whether install() has succeeded."""
        return any(self._filled.values())

    def install(self, rules: Rules, threads: int) -> None:
        """Install the rules for this number of threads; they replace those that an earlier run has left. HostError
        where iptables refuses: then the host has the rules that it had before."""
        self.checks_paths = self.can_check_paths()
        filled = self._contents(rules, threads)
        done: list[tuple[str, list[str]]] = []
        try:
            for table in TABLES:
                before = self._saved(table)
                self._restore(texts.refilled(table, filled, before))
                done.append((table, before))
        except HostError:
            for table, before in reversed(done):
                self._restore(texts.put_back(table, before))
            raise
        self._filled = filled
        self._remember(TABLES)

    def extend(self, rules: Rules, threads: int) -> None:
        """After install(), install a superset of the installed rules; leave tables without a change alone. HostError
        where iptables refuses: then nothing has changed."""
        self._change(self._contents(rules, threads), TABLES)

    def reduce(self, rules: Rules, threads: int) -> None:
        """Like extend(), but with a subset of the installed rules: the guard is reduced last."""
        self._change(self._contents(rules, threads), TABLES[::-1])

    def _contents(self, rules: Rules, threads: int) -> dict[Chain, list[str]]:
        return contents(rules, threads, checks_paths=self.checks_paths, vrfs=self.vrfs)

    def _change(self, filled: dict[Chain, list[str]], tables: Sequence[str]) -> None:
        changed = {chain.table for chain in CHAINS if filled[chain] != self._filled[chain]}
        if not changed:
            return
        tables = [table for table in tables if table in changed]
        try:
            self._restore("".join(texts.contents_only(table, filled) for table in tables))
        except HostError:
            self._restore("".join(texts.contents_only(table, self._filled) for table in reversed(tables)))
            raise
        self._filled = filled
        self._remember(tables)

    def version(self, tables: Collection[str]) -> str | int | None:
        """Return something that changes whenever a program changes one of these tables; None where that is unknown."""
        return kernel_changes.generation() if self.backend == "nft" else legacy_tables.fingerprint(tables)

    def differences(self, table: str) -> list[str]:
        """Return how our part of a table differs from what was installed last, each in a few words; empty if it does
        not. HostError where that is unknown."""
        saved = self._seen[table] = self._saved(table, timeout=commands.READ_TIMEOUT)
        wanted = self._wanted[table]
        if wanted is None:
            return ["it was changed while it was installed"]
        return texts.differences(wanted, texts.state_of(saved))

    def above(self, table: str) -> Sequence[str]:
        """Return the rules of other programs that decide on packets before ours do, as differences() has read them."""
        return texts.state_of(self._seen[table]).above

    def repair(self, table: str) -> None:
        """After differences(), install our part of a table again, its jumps at the top. HostError where iptables
        refuses: then nothing has changed."""
        self._restore(texts.refilled(table, self._filled, self._seen[table]))
        if self._wanted[table] is None:
            self._remember([table])

    def _remember(self, tables: Sequence[str]) -> None:
        """Keep what iptables shows of tables that have just been filled, if no other program has changed them
        meanwhile."""
        for table in tables:
            self._wanted[table] = None
            with suppress(HostError):
                state = texts.state_of(self._saved(table))
                if texts.is_complete(table, self._filled, state):
                    self._wanted[table] = state

    def left(self) -> list[str]:
        """Return the names of our chains that are there, the guard last. HostError where that is unknown."""
        tables = self._readable()[::-1]
        return [name for one in tables for name in texts.present(self._saved(one, timeout=commands.READ_TIMEOUT))]

    def remove(self) -> list[str]:
        """Remove all our chains and jumps, the guard last; return the names of the chains that were there. HostError
        where iptables refuses: it names the chains that may be left."""
        removed: list[str] = []
        tables = list(TABLES)
        try:
            tables = self._readable()
            while tables:
                before = self._saved(tables[-1])
                if names := texts.present(before):
                    self._restore(texts.emptied(tables[-1], before))
                removed += names
                tables.pop()
        except HostError as error:
            left = ", ".join(chain.name for chain in reversed(CHAINS) if chain.table in tables)
            raise HostError(f"{error}; these chains stay: {left}") from None
        return removed

    def _readable(self) -> list[str]:
        """Return those of our tables that can be read without creating them. HostError where that is unknown."""
        if self.backend == "nft":
            return list(TABLES)
        try:
            loaded = _LEGACY_TABLES.read_text().split()
        except FileNotFoundError:
            return []
        except PermissionError:
            raise HostError(
                f"{_LEGACY_TABLES} belongs to root, so natmirror cannot look for rules of iptables-legacy; run as "
                f"root: chgrp {os.getegid()} {_LEGACY_TABLES}"
            ) from None
        except OSError as error:
            raise HostError(f"cannot read {_LEGACY_TABLES}: {error.strerror}") from None
        return [table for table in TABLES if table in loaded]

    def can_limit(self, limit: int) -> bool:
        """Return whether iptables and the kernel have the match hashlimit. HostError where that is unknown."""
        return self._supports(f"{above(limit)} -j DROP", "hashlimit")

    def can_reassemble(self) -> bool:
        """Return whether iptables and the kernel have the match socket. HostError where that is unknown."""
        return self._supports("-m socket -j RETURN", "socket")

    def can_check_paths(self) -> bool:
        """Return whether iptables and the kernel have the match of FROM_ITS_ROUTE. HostError where that is unknown."""
        return self._supports(FROM_ITS_ROUTE, "rpfilter")

    def unsupported(self, rules: Rules, threads: int) -> str:
        """Return what of these rules iptables and the kernel do not support, as iptables says it; empty where they take
        all. Change nothing. HostError where they refuse the rules."""
        text = "".join(texts.refilled(table, contents(rules, threads), []) for table in TABLES)
        return "; ".join(line.strip() for line in self._test(text).splitlines() if _NOT_SUPPORTED in line)

    def _supports(self, rule: str, extension: str) -> bool:
        text = f"*{PRE.table}\n:{PRE.name} - [0:0]\n-A {PRE.name} {rule}\nCOMMIT\n"
        try:
            return _NOT_SUPPORTED not in self._test(text)
        except HostError as error:
            if extension in str(error):  # iptables has no such extension
                return False
            raise

    def forged_packets(self) -> Counter[str]:
        """Return the number of packets in the name of each mirror and backend that the installed rules have dropped
        since this table was last changed, by endpoint. HostError where they cannot be read."""
        found: Counter[str] = Counter()
        if not any("--sport" in rule and rule.endswith("-j DROP") for rule in self._filled[PRE]):
            return found
        for line in self._saved(PRE.table, "-c", timeout=commands.READ_TIMEOUT):
            if match := _FORGED.match(line):
                found[f"{match['address']}:{match['port']}"] += int(match["packets"])
        return found

    def _saved(self, table: str, *options: str, timeout: float = commands.TIMEOUT) -> list[str]:
        """Return a table as iptables-save prints it. HostError where it cannot be read."""
        printed = _run([f"iptables-{self.backend}-save", "-t", table, *options], timeout=timeout)
        if _FOR_NFT in printed and f"chain {PREFIX}" in commands.run(
            ["nft", "list", "table", "ip", table], package="nftables", timeout=timeout
        ):
            raise HostError(
                f"the table {table} has rules that only nft can read, so iptables cannot change it any more; to see"
                f" them: nft list table ip {table}"
            )
        return printed.splitlines()

    def _test(self, text: str) -> str:
        """Return iptables' warnings about an input of iptables-restore; change nothing."""
        command = [f"iptables-{self.backend}-restore", "-w", _WAIT_SECONDS, "--test", "--noflush"]
        return _run(command, text, with_warnings=True)

    def _restore(self, text: str) -> None:
        _run([f"iptables-{self.backend}-restore", "-w", _WAIT_SECONDS, "--noflush"], text)


def other(backend: str) -> Firewall | None:
    """Return the other backend than this one, where a run with another setting may have left rules; None where the host
    lacks its programs."""
    name = next(name for name in BACKENDS if name != backend)
    return Firewall(name) if shutil.which(f"iptables-{name}-save") else None


def cleanup() -> list[str]:
    """Remove all our chains in both backends; return those that were there, as ``nft: NATMIRROR-PRE``."""
    return [f"{backend}: {name}" for backend in BACKENDS for name in Firewall(backend).remove()]


def left_behind() -> list[str]:
    """Return our chains in both backends, as cleanup() does, and leave them there. HostError where that is unknown."""
    return [f"{backend}: {name}" for backend in BACKENDS for name in Firewall(backend).left()]


def _default_backend() -> str:
    return "nft" if "nf_tables" in _run(["iptables", "--version"]) else "legacy"


def legacy_is_in_use() -> bool:
    """Return whether a program has made a table of iptables-legacy."""
    try:
        return bool(_LEGACY_TABLES.read_text().strip())
    except OSError:
        return False


def _run(
    command: list[str], text: str | None = None, timeout: float = commands.TIMEOUT, *, with_warnings: bool = False
) -> str:
    try:
        return commands.run(command, text, package="iptables", timeout=timeout, with_warnings=with_warnings)
    except HostError as error:
        if match := _LOCKED.search(str(error)):
            raise HostError(f"{error} (to see which program holds it: fuser -v {match[1] or _LOCK})") from None
        raise
