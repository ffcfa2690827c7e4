"""Our chains in one table as text, as pure functions: the inputs of iptables-restore that install, change and remove
them, and how two states of them differ.

``saved`` and ``before`` are the table's lines as iptables-save prints them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from natmirror.linux.iptables_rules import CHAINS, PREFIX, Chain

Contents = Mapping[Chain, Sequence[str]]
"""The rules of each chain, without ``-A CHAIN``."""

_ONLY_WATCH = {"LOG", "NFLOG", "TRACE", ""}
"""Targets after which a packet goes on to the next rule as it was; a rule without a target counts packets."""


@dataclass(frozen=True, slots=True)
class TableState:
    """What a table has of ours. Chains of another version of natmirror are ours too."""

    rules: Mapping[str, Sequence[str]]
    """The rules of each chain, by its name."""
    jumps: Sequence[str]
    """The jumps from built-in and other programs' chains, as rules without -A, sorted."""
    above: Sequence[str] = ()
    """Other programs' rules that packets meet before our jumps, as rules without -A; those that only watch are left
    out."""


def state_of(saved: Sequence[str]) -> TableState:
    """Return what a table has of ours."""
    names = present(saved)
    rules = {name: [line for line in saved if line.startswith(f"-A {name} ")] for name in names}
    return TableState(rules, sorted(_jumps(saved, *names)), list(_above(saved, names)))


def is_complete(table: str, filled: Contents, state: TableState) -> bool:
    """Return whether a table has as many rules and jumps as were installed. iptables-save prints them in words of its
    own, so their text cannot be compared."""
    chains = chains_of(table)
    jumps = Counter((jump.split()[0], jump.split(" -j ")[1].split()[0]) for jump in state.jumps)
    return {name: len(rules) for name, rules in state.rules.items()} == {
        chain.name: len(filled[chain]) for chain in chains
    } and jumps == Counter((chain.parent, chain.name) for chain in chains)


def differences(wanted: TableState, found: TableState) -> list[str]:
    """Return what differs, each in a few words; empty if nothing does."""
    told = []
    for name, rules in wanted.rules.items():
        now = found.rules.get(name)
        if now is None:
            told.append(f"chain {name} is missing")
        elif len(now) != len(rules):
            told.append(f"chain {name} has {len(now)} rules instead of {len(rules)}")
        elif now != rules:
            first = next(number for number, pair in enumerate(zip(now, rules, strict=True), 1) if pair[0] != pair[1])
            told.append(f"rule {first} of chain {name} is another one")
    told += [f"chain {name} is of another version" for name in found.rules if name not in wanted.rules]
    missing, added = (Counter(one.jumps) - Counter(other.jumps) for one, other in ((wanted, found), (found, wanted)))
    told += [f"the jump {jump} is missing" for jump in missing]
    return told + [f"the jump {jump} was added" for jump in added]


def chains_of(table: str) -> list[Chain]:
    """Return this version's chains in a table, in the order of their installation."""
    return [chain for chain in CHAINS if chain.table == table]


def present(saved: Sequence[str]) -> list[str]:
    """Return the names of our chains that a table has, also of those of another version of natmirror."""
    return [line[1:].split()[0] for line in saved if line.startswith(f":{PREFIX}")]


def refilled(table: str, filled: Contents, before: Sequence[str]) -> str:
    """Return the input that gives each of the table's chains its rules, and one jump at the top of its parent, and
    removes the chains of another version."""
    chains = chains_of(table)
    ours = {chain.name for chain in chains}
    stale = [name for name in present(before) if name not in ours]
    lines = [f":{chain.name} - [0:0]" for chain in chains]
    lines += [f"-F {name}" for name in stale]
    for chain in chains:
        lines += [f"-A {chain.name} {rule}" for rule in filled[chain]]
        lines += [f"-D {jump}" for jump in _jumps(before, chain.name)]
        lines.append(f"-I {_at_top(chain.jump)}")
    lines += [f"-D {jump}" for jump in _jumps(before, *stale)]
    return _input(table, [*lines, *(f"-X {name}" for name in stale)])


def contents_only(table: str, filled: Contents) -> str:
    """Return the input that gives each of the table's chains its rules, and leaves the jumps alone."""
    chains = chains_of(table)
    lines = [f":{chain.name} - [0:0]" for chain in chains]
    return _input(table, lines + [f"-A {chain.name} {rule}" for chain in chains for rule in filled[chain]])


def emptied(table: str, before: Sequence[str]) -> str:
    """Return the input that removes the table's chains and their jumps."""
    names = present(before)
    lines = [f"-D {jump}" for jump in _jumps(before, *names)]
    return _input(table, lines + [f"{command} {name}" for command in ("-F", "-X") for name in names])


def put_back(table: str, before: Sequence[str]) -> str:
    """Return the input that undoes refilled(): the chains as they were before, or none."""
    chains, names = chains_of(table), present(before)
    lines = [f":{name} - [0:0]" for name in dict.fromkeys([*(chain.name for chain in chains), *names])]
    lines += [f"-D {chain.jump}" for chain in chains]
    for name in names:
        lines += [line for line in before if line.startswith(f"-A {name} ")]
    lines += [f"-I {_at_top(jump)}" for jump in reversed(_jumps(before, *names))]
    return _input(table, lines + [f"-X {chain.name}" for chain in chains if chain.name not in names])


def _input(table: str, lines: Sequence[str]) -> str:
    return "\n".join([f"*{table}", *lines, "COMMIT", ""])


def _jumps(saved: Sequence[str], *names: str) -> list[str]:
    """Return the jumps to these chains in all chains that are not ours, in their order, as rules without -A."""
    others = [line for line in saved if line.startswith("-A ") and not line.startswith(f"-A {PREFIX}")]
    return [line[3:] for line in others if any(f" -j {name} " in f"{line} " for name in names)]


def _above(saved: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """Yield other programs' rules that stand above a jump to one of these chains."""
    jumps = set(_jumps(saved, *names))
    for parent in dict.fromkeys(jump.split(" ", 1)[0] for jump in jumps):
        chain = [line[3:] for line in saved if line.startswith(f"-A {parent} ")]
        last = max(number for number, rule in enumerate(chain) if rule in jumps)
        yield from (rule for rule in chain[:last] if rule not in jumps and _target(rule) not in _ONLY_WATCH)


def _target(rule: str) -> str:
    return next((after for word, after in pairwise(rule.split()) if word in ("-j", "-g")), "")


def _at_top(jump: str) -> str:
    parent, rest = jump.split(" ", 1)
    return f"{parent} 1 {rest}"
