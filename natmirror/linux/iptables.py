"""Our iptables rules on this host: chains of our own, each reached by one jump at the top of a built-in chain.

One iptables-restore, which is atomic, refills each table: packets meet the old rules or the new ones, never none.
iptables_rules.py says what the chains contain.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from natmirror.errors import HostError
from natmirror.linux import commands
from natmirror.linux.iptables_rules import CHAINS, FROM_ITS_ROUTE, PRE, Chain, above, contents
from natmirror.rules import Rules

_WAIT_SECONDS = "5"
_NOT_SUPPORTED = "not supported"  # iptables: "Warning: Extension rpfilter revision 0 not supported, missing kernel …"
_FORGED = re.compile(
    r"\[(?P<packets>\d+):\d+\] -A NATMIRROR-PRE -s (?P<address>[\d.]+)/32 .*--sport (?P<port>\d+) .*-j DROP$"
)
_LEGACY_TABLES = Path("/proc/net/ip_tables_names")
BACKENDS = ("nft", "legacy")


def plan(rules: Rules, threads: int) -> str:
    """Return the input of iptables-restore at a start on a host that has none of our rules."""
    filled = contents(rules, threads)
    return "\n".join(_refill(table, filled, []) for table in _tables()).rstrip()


class Firewall:
    """Our rules in this network namespace. ``backend`` is ``nft`` or ``legacy``; None: the host's default."""

    def __init__(self, backend: str | None = None) -> None:
        self.backend = backend or _default_backend()
        self.checks_paths = True
        """Whether the installed rules tell packets of mirrors and backends from forged ones by the interface."""
        self._filled: dict[Chain, list[str]] = {chain: [] for chain in CHAINS}

    def install(self, rules: Rules, threads: int) -> None:
        """Install the rules for this number of threads; they replace those that an earlier run has left. HostError
        where iptables refuses: then the host has the rules that it had before."""
        self.checks_paths = self.can_check_paths()
        filled = contents(rules, threads, checks_paths=self.checks_paths)
        done: list[tuple[str, list[str]]] = []
        try:
            for table in _tables():
                before = self._saved(table)
                self._restore(_refill(table, filled, before))
                done.append((table, before))
        except HostError:
            for table, before in reversed(done):
                self._restore(_put_back(table, before))
            raise
        self._filled = filled

    def extend(self, rules: Rules, threads: int) -> None:
        """After install(), install a superset of the installed rules; leave tables without a change alone. HostError
        where iptables refuses: then nothing has changed."""
        self._change(contents(rules, threads, checks_paths=self.checks_paths), _tables())

    def reduce(self, rules: Rules, threads: int) -> None:
        """Like extend(), but with a subset of the installed rules: the guard is reduced last."""
        self._change(contents(rules, threads, checks_paths=self.checks_paths), _tables()[::-1])

    def _change(self, filled: dict[Chain, list[str]], tables: list[str]) -> None:
        changed = {chain.table for chain in CHAINS if filled[chain] != self._filled[chain]}
        if not changed:
            return
        tables = [table for table in tables if table in changed]
        try:
            self._restore("".join(_contents_only(table, filled) for table in tables))
        except HostError:
            self._restore("".join(_contents_only(table, self._filled) for table in reversed(tables)))
            raise
        self._filled = filled

    def remove(self) -> list[str]:
        """Remove all our chains and jumps, the guard last; return the names of the chains that were there. HostError
        where iptables refuses: it names the chains that may be left."""
        removed: list[str] = []
        tables = _tables()
        while tables:
            try:
                before = self._saved(tables[-1])
                names = [chain.name for chain in _chains_of(tables[-1]) if _is_declared(chain, before)]
                if names:
                    self._restore(_emptied(tables[-1], before))
            except HostError as error:
                left = ", ".join(chain.name for chain in reversed(CHAINS) if chain.table in tables)
                raise HostError(f"{error}; these chains stay: {left}") from None
            removed += names
            tables.pop()
        return removed

    def is_in_place(self) -> bool:
        """Return whether all our chains and jumps are there; a reload of the host's firewall may have removed them."""
        return all(
            _is_declared(chain, saved) and _jumps(chain, saved)
            for table in _tables()
            for saved in [self._saved(table)]
            for chain in _chains_of(table)
        )

    def can_limit(self, limit: int) -> bool:
        """Return whether iptables and the kernel have the match hashlimit. HostError where that is unknown."""
        return self._supports(f"{above(limit)} -j DROP", "hashlimit")

    def can_reassemble(self) -> bool:
        """Return whether iptables and the kernel have the match socket. HostError where that is unknown."""
        return self._supports("-m socket -j RETURN", "socket")

    def can_check_paths(self) -> bool:
        """Return whether iptables and the kernel have the match of FROM_ITS_ROUTE. HostError where that is unknown."""
        return self._supports(FROM_ITS_ROUTE, "rpfilter")

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
        for line in self._saved(PRE.table, "-c"):
            if match := _FORGED.match(line):
                found[f"{match['address']}:{match['port']}"] += int(match["packets"])
        return found

    def _saved(self, table: str, *options: str) -> list[str]:
        return _run([f"iptables-{self.backend}-save", "-t", table, *options]).splitlines()

    def _test(self, text: str) -> str:
        """Return iptables' warnings about an input of iptables-restore; change nothing."""
        command = [f"iptables-{self.backend}-restore", "-w", _WAIT_SECONDS, "--test", "--noflush"]
        return commands.run(command, text, package="iptables", with_warnings=True)

    def _restore(self, text: str) -> None:
        _run([f"iptables-{self.backend}-restore", "-w", _WAIT_SECONDS, "--noflush"], text)


def cleanup() -> list[str]:
    """Remove all our chains in both backends; return those that were there, as ``nft: NATMIRROR-PRE``."""
    removed = []
    for backend in BACKENDS:
        if backend == "legacy" and not legacy_is_in_use():
            continue  # iptables-legacy-save would make the kernel create the table
        removed += [f"{backend}: {name}" for name in Firewall(backend).remove()]
    return removed


def _tables() -> list[str]:
    return list(dict.fromkeys(chain.table for chain in CHAINS))


def _chains_of(table: str) -> list[Chain]:
    return [chain for chain in CHAINS if chain.table == table]


def _is_declared(chain: Chain, saved: list[str]) -> bool:
    return any(line.startswith(f":{chain.name} ") for line in saved)


def _jumps(chain: Chain, saved: list[str]) -> list[str]:
    """Return the jumps to the chain in all other chains, as rules without -A."""
    return [line[3:] for line in saved if line.startswith("-A ") and f" -j {chain.name} " in f"{line} "]


def _refill(table: str, filled: dict[Chain, list[str]], before: list[str]) -> str:
    """Return the restore input that gives each of the table's chains its rules, and one jump at the top of its
    parent."""
    lines = [f"*{table}"]
    lines += [f":{chain.name} - [0:0]" for chain in _chains_of(table)]
    for chain in _chains_of(table):
        lines += [f"-A {chain.name} {rule}" for rule in filled[chain]]
        lines += [f"-D {jump}" for jump in _jumps(chain, before)]
        lines.append(f"-I {_at_top(chain)}")
    return "\n".join([*lines, "COMMIT", ""])


def _contents_only(table: str, filled: dict[Chain, list[str]]) -> str:
    """Return the restore input that gives each of the table's chains its rules, and leaves the jumps alone."""
    lines = [f":{chain.name} - [0:0]" for chain in _chains_of(table)]
    lines += [f"-A {chain.name} {rule}" for chain in _chains_of(table) for rule in filled[chain]]
    return "\n".join([f"*{table}", *lines, "COMMIT", ""])


def _at_top(chain: Chain) -> str:
    parent, rest = chain.jump.split(" ", 1)
    return f"{parent} 1 {rest}"


def _emptied(table: str, before: list[str]) -> str:
    """Return the restore input that removes the table's chains and their jumps."""
    present = [chain for chain in _chains_of(table) if _is_declared(chain, before)]
    lines = [f"*{table}"]
    lines += [f"-D {jump}" for chain in present for jump in _jumps(chain, before)]
    lines += [f"{command} {chain.name}" for command in ("-F", "-X") for chain in present]
    return "\n".join([*lines, "COMMIT", ""])


def _put_back(table: str, before: list[str]) -> str:
    """Return the restore input that undoes a refill: the chains as they were before, or none."""
    chains = _chains_of(table)
    lines = [f"*{table}"]
    lines += [f":{chain.name} - [0:0]" for chain in chains]
    lines += [f"-D {chain.jump}" for chain in chains]
    lines += list(_ours(before, chains))
    lines += [f"-X {chain.name}" for chain in chains if not _is_declared(chain, before)]
    return "\n".join([*lines, "COMMIT", ""])


def _ours(saved: list[str], chains: Iterable[Chain]) -> Iterator[str]:
    for chain in chains:
        yield from (line for line in saved if line.startswith(f"-A {chain.name} "))
        yield from (f"-I {jump.split(' ', 1)[0]} 1 {jump.split(' ', 1)[1]}" for jump in _jumps(chain, saved))


def _default_backend() -> str:
    return "nft" if "nf_tables" in _run(["iptables", "--version"]) else "legacy"


def legacy_is_in_use() -> bool:
    """Return whether a program has made a table of iptables-legacy."""
    try:
        return bool(_LEGACY_TABLES.read_text().strip())
    except OSError:
        return False


def _run(command: list[str], text: str | None = None) -> str:
    return commands.run(command, text, package="iptables")
