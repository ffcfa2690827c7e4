"""Other programs' rules as iptables-save shows them."""

import shlex
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Network

from natmirror.linux.foreign_rules import (
    FORWARD,
    POSTROUTING,
    PREROUTING,
    BaseChain,
    Condition,
    Rule,
    always_unknown,
    comes_by_its_route,
    has_state,
    in_spans,
    is_interface,
    negated,
    within,
)

_PRIORITIES = {"raw": -300, "mangle": -150, "filter": 0, "security": 50}
_HOOKS = {"PREROUTING": PREROUTING, "FORWARD": FORWARD, "POSTROUTING": POSTROUTING}
_IPTABLES_VERDICTS = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "drop", "RETURN": "return"}
_NO_CONDITIONS = ("-m", "--comment")
_PATH_OPTIONS = ("--invert", "--validmark", "--accept-local")
_OURS = "NATMIRROR-"


def is_made_by_iptables(table: str, chain: str) -> bool:
    """Return whether iptables-nft has made a base chain of this name in a table of the family ip."""
    return chain in _HOOKS and table in (*_PRIORITIES, "nat")


@lru_cache(4)
def from_iptables(saved: str, backend: str) -> list[BaseChain]:
    """Return the chains that iptables-save shows, except for ours, and those of the table nat."""
    bases: list[BaseChain] = []
    chains: dict[str, list[Rule]] = {}
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table, chains = line[1:], {}
        elif line.startswith(":") and table in _PRIORITIES:
            name, policy = line[1:].split()[:2]
            chains[name] = []
            if name in _HOOKS:
                where = f"iptables-{backend} -t {table} {name}"
                place = (where, name, _HOOKS[name], _PRIORITIES[table], _IPTABLES_VERDICTS.get(policy, "accept"))
                bases.append(BaseChain(*place, is_iptables=True, chains=chains))
        elif line.startswith("-A ") and table in _PRIORITIES:
            words = shlex.split(line)
            if not words[1].startswith(_OURS) and not any(word.startswith(_OURS) for word in words[2:]):
                chains[words[1]].append(_iptables_rule(words[2:], chains, line))
    return bases


def _iptables_rule(words: list[str], chains: dict[str, list[Rule]], line: str) -> Rule:
    conditions: list[Condition] = []
    options = list(_options(words))
    checks_paths = any(name == "-m" and values == ["rpfilter"] for name, _, values in options)
    verdict, target = "none", ""
    for name, inverted, values in options:
        value = values[0] if values else ""
        if name in ("-j", "-g"):
            verdict = _IPTABLES_VERDICTS.get(value, "none")
            if value in chains:
                verdict, target = "jump" if name == "-j" else "goto", value
            break
        if name in _NO_CONDITIONS or (checks_paths and name in _PATH_OPTIONS):
            continue
        condition = _iptables_condition(name, value)
        conditions.append(negated(condition) if inverted else condition)
    if checks_paths:
        conditions.append(negated(comes_by_its_route) if "--invert" in words else comes_by_its_route)
    return Rule(tuple(conditions), verdict, target, line)


def _options(words: list[str]) -> Iterator[tuple[str, bool, list[str]]]:
    """Yield each option, whether it is negated, and its values."""
    at, inverted = 0, False
    while at < len(words):
        if words[at] == "!":
            inverted, at = True, at + 1
            continue
        end = at + 1
        while end < len(words) and not words[end].startswith("-") and words[end] != "!":
            end += 1
        yield words[at], inverted, words[at + 1 : end]
        at, inverted = end, False


def _iptables_condition(name: str, value: str) -> Condition:
    if name in ("-s", "-d"):
        try:
            network = IPv4Network(value)
        except ValueError:  # e.g. a mask that is not contiguous
            return always_unknown
        return lambda packet: within(packet.src if name == "-s" else packet.dst, [network])
    if name in ("-i", "-o"):
        return lambda packet: is_interface(packet.iif if name == "-i" else packet.oif, [value], "+")
    if name == "-p":
        return lambda packet: value in ("tcp", "all")
    if name in ("--sport", "--dport", "--sports", "--dports"):
        spans = [_span(one) for one in value.split(",")]
        return lambda packet: in_spans(packet.sport if name.startswith("--s") else packet.dport, spans)
    if name in ("--ctstate", "--state"):
        states = {state.lower() for state in value.split(",")}
        return lambda packet: has_state(packet, states)
    return always_unknown


def _span(text: str) -> tuple[int, int]:
    low, _, high = text.partition(":")
    return (int(low), int(high or low)) if low.isdecimal() and (high or low).isdecimal() else (-1, 1 << 16)
