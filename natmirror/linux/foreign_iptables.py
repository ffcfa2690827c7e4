"""Other programs' rules as iptables-save shows them."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from operator import attrgetter

from natmirror.linux.foreign_rules import (
    UNKNOWN_MARK,
    BaseChain,
    Condition,
    Effect,
    Queues,
    Rule,
    Span,
    TestPacket,
    addresses_in,
    always_unknown,
    comes_by_its_route,
    has_mark,
    has_name,
    has_state,
    negated,
    within,
)
from natmirror.linux.hooks import OF_IPTABLES
from natmirror.linux.iptables_rules import FORWARD as OUR_FORWARD
from natmirror.linux.iptables_rules import PRE, PREFIX

_PRIORITIES = {"raw": -300, "mangle": -150, "filter": 0, "security": 50}
_NAT = "nat"
_TABLES = (*_PRIORITIES, _NAT)
_NAT_PRIORITIES = {"PREROUTING": -100, "POSTROUTING": 100}
_VERDICTS = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "drop", "RETURN": "return"}
_TRANSLATIONS = {"SNAT": "snat", "MASQUERADE": "snat", "NETMAP": "lost", "TPROXY": "lost"}
_GO_ON = (
    *("AUDIT", "CHECKSUM", "CLASSIFY", "CONNSECMARK", "CT", "DSCP", "ECN", "HL", "IDLETIMER", "LED", "LOG", "NFLOG"),
    *("RATEEST", "SECMARK", "SET", "TCPMSS", "TCPOPTSTRIP", "TEE", "TOS", "TRACE", "TTL", "ULOG"),
)
_OUR_JUMPS = (PRE.name, OUR_FORWARD.name)
_WITH_OPTIONS = (
    "tcp",
    "multiport",
    "conntrack",
    "state",
    "mark",
    "connmark",
    "addrtype",
    "iprange",
    "comment",
    "physdev",
)
"""The matches that have no condition besides their options."""
_TYPED = {"--src-type": "is_from_this_host", "--dst-type": "is_to_this_host"}
_PATH_OPTIONS = ("--invert", "--validmark", "--accept-local")
_ALL_BITS = 0xFFFFFFFF

Option = tuple[str, bool, list[str]]
"""An option's name, whether it is negated, and its values."""


def is_made_by_iptables(table: str, chain: str) -> bool:
    """Return whether iptables-nft has made a base chain of this name in a table of the family ip."""
    return chain in OF_IPTABLES and table in _TABLES


def from_iptables(saved: str, backend: str) -> list[BaseChain]:
    """Return the chains that iptables-save shows, except for ours. Of ours only the jumps to the queue are there."""
    bases: list[BaseChain] = []
    chains: dict[str, list[Rule]] = {}
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table, chains = line[1:], {}
        elif line.startswith(":") and table in _TABLES:
            name, policy = line[1:].split()[:2]
            chains[name] = []
            priority = _NAT_PRIORITIES.get(name) if table == _NAT else _PRIORITIES[table]
            if name in OF_IPTABLES and priority is not None:
                where = f"iptables-{backend} -t {table} {name}"
                place = (where, name, OF_IPTABLES[name], priority, _VERDICTS.get(policy, "accept"), True, table == _NAT)
                bases.append(BaseChain(*place, chains=chains))
        elif line.startswith("-A ") and table in _TABLES:
            words = shlex.split(line) if '"' in line else line.split()
            is_ours = any(word.startswith(PREFIX) for word in words[1:]) and words[-1] not in _OUR_JUMPS
            if not is_ours:
                chains[words[1]].append(_rule(words[2:], chains, line))
    return bases


def _rule(words: list[str], chains: dict[str, list[Rule]], line: str) -> Rule:
    conditions: list[Condition] = []
    options = list(_options(words))
    checks_paths = any(name == "-m" and values == ["rpfilter"] for name, _, values in options)
    end = Rule((), "none")
    module = ""
    for at, (name, inverted, values) in enumerate(options):
        value = values[0] if values else ""
        if name in ("-j", "-g"):
            end = _end(name, value, chains, options[at + 1 :])
            break
        if name == "-m":
            module = value
        if name == "--comment" or (checks_paths and (name in _PATH_OPTIONS or module == "rpfilter")):
            continue
        condition = _condition(name, value, module)
        if condition is not None:
            conditions.append(negated(condition) if inverted else condition)
    if checks_paths:
        conditions.append(negated(comes_by_its_route) if "--invert" in words else comes_by_its_route)
    if end.verdict == "ours":  # its conditions hold for all packets that natmirror queues
        conditions.clear()
    return replace(end, conditions=tuple(conditions), text=f"the rule '{line}'")


def _options(words: list[str]) -> Iterator[Option]:
    at, inverted = 0, False
    while at < len(words):
        if words[at] == "!":
            inverted, at = True, at + 1
            continue
        end = at + 2 if words[at] == "--comment" else at + 1
        while end < len(words) and not words[end].startswith("-") and words[end] != "!":
            end += 1
        yield words[at], inverted, words[at + 1 : end]
        at, inverted = end, False


def _end(jump: str, target: str, chains: dict[str, list[Rule]], options: Sequence[Option]) -> Rule:
    """Return a rule without conditions that does what this target does."""
    values = {name: found[0] if found else "" for name, _, found in options}
    if target in _OUR_JUMPS:
        return Rule((), "ours")
    if target in chains:
        return Rule((), "jump" if jump == "-j" else "goto", target)
    if target == "NFQUEUE":
        numbers = values.get("--queue-balance") or values.get("--queue-num", "0")
        first, _, last = numbers.partition(":")
        return Rule((), "queue", queues=Queues(int(first), int(last or first), "--queue-bypass" in values))
    if target == "DNAT":
        return Rule((), "dnat", values.get("--to-destination", ""))
    if target == "REDIRECT":
        return Rule((), "dnat", "127.0.0.1")
    if target == "MARK":
        return Rule((), "none", effects=(_new_mark(values.get("--set-xmark", "")),))
    if target == "CONNMARK":
        restores = "--restore-mark" in values
        return Rule((), "none", effects=(UNKNOWN_MARK,) if restores else (), marks_connections=not restores)
    if target == "NOTRACK" or (target == "CT" and "--notrack" in values):
        return Rule((), "none", effects=(Effect(stops_tracking=True),))
    if target in _GO_ON or not target:
        return Rule((), "none")
    return Rule((), _VERDICTS.get(target) or _TRANSLATIONS.get(target, "unknown"))


def _new_mark(value: str) -> Effect:
    found = _masked(value)
    return UNKNOWN_MARK if found is None else Effect(~found[1] & _ALL_BITS, found[0])


def _masked(value: str) -> tuple[int, int] | None:
    number, _, mask = value.partition("/")
    try:
        return int(number, 0), int(mask, 0) if mask else _ALL_BITS
    except ValueError:
        return None


def _condition(name: str, value: str, module: str) -> Condition | None:
    """Return the condition of an option; None: it has none."""
    if name == "-m":
        return None if module in _WITH_OPTIONS else always_unknown
    if name in ("-s", "-d", "--src-range", "--dst-range"):
        span = _addresses(value)
        return within(attrgetter("src" if name in ("-s", "--src-range") else "dst"), [span]) if span else always_unknown
    if name in ("-i", "-o"):
        return has_name(attrgetter("iif" if name == "-i" else "oif"), [value], "+")
    if name == "-p":
        is_tcp = value in ("tcp", "all", "6")
        return lambda packet: is_tcp
    if name in ("--sport", "--dport", "--sports", "--dports"):
        spans = [_ports(one) for one in value.split(",")]
        found = [span for span in spans if span]
        return within(attrgetter(name[2:7]), found) if len(found) == len(spans) else always_unknown
    if name in ("--ctstate", "--state"):
        return has_state(value.lower().split(","))
    if name == "--mark":
        masked = _masked(value)
        pick = attrgetter("mark" if module == "mark" else "connection_mark")
        return has_mark(pick, masked[1], [masked[0]]) if masked else always_unknown
    if name in _TYPED:
        return _has_type(attrgetter(_TYPED[name]), value.split(","))
    return _is_bridged if name == "--physdev-is-bridged" else always_unknown


def _is_bridged(packet: TestPacket) -> bool | None:
    """Return False for a packet that leaves by another interface: one that is bridged has the bridge for both."""
    return False if packet.iif and packet.oif and packet.iif != packet.oif else None


def _has_type(is_ours: Condition, types: list[str]) -> Condition:
    def holds(packet: TestPacket) -> bool | None:
        answer = is_ours(packet)
        return None if answer is None else ("LOCAL" if answer else "UNICAST") in types

    return holds


def _addresses(value: str) -> Span | None:
    first, is_range, last = value.partition("-")
    try:
        return (addresses_in(first)[0], addresses_in(last)[0]) if is_range else addresses_in(value)
    except (OSError, ValueError):  # e.g. a mask that is not contiguous
        return None


def _ports(text: str) -> Span | None:
    low, _, high = text.partition(":")
    return (int(low), int(high or low)) if low.isdecimal() and (high or low).isdecimal() else None
