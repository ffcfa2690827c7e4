"""Other programs' filter rules on this host, as values that rule_walk.py can evaluate: of iptables and of nftables.

A condition answers for a packet with True, False, or None where natmirror does not know.
"""

import json
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, summarize_address_range
from typing import Any

PREROUTING, FORWARD, POSTROUTING = "prerouting", "forward", "postrouting"


@dataclass(frozen=True, slots=True)
class TestPacket:
    """A packet as a rule sees it; None: unknown."""

    src: IPv4Network
    dst: IPv4Network
    sport: int | None = None
    dport: int | None = None
    iif: str | None = None
    oif: str | None = None
    state: str | None = None
    """Conntrack's word: new, established, invalid or untracked."""
    comes_by_its_route: bool | None = None
    """Whether the route to the source leads through ``iif``."""


Condition = Callable[[TestPacket], bool | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: if all conditions hold, ``verdict`` is accept, drop, return, jump or goto; others change nothing."""

    conditions: tuple[Condition, ...]
    verdict: str
    target: str = ""
    text: str = ""


@dataclass(slots=True)
class BaseChain:
    """A chain at a hook. ``chains`` has all chains of its table, by name."""

    place: str
    """Where it is, in the words of the program's commands."""
    name: str
    hook: str
    priority: int
    policy: str
    is_iptables: bool
    chains: dict[str, list[Rule]] = field(default_factory=dict)


def _always_unknown(packet: TestPacket) -> None:
    return None


def _comes_by_its_route(packet: TestPacket) -> bool | None:
    return packet.comes_by_its_route


def _negated(condition: Condition) -> Condition:
    def opposite(packet: TestPacket) -> bool | None:
        found = condition(packet)
        return None if found is None else not found

    return opposite


def _within(value: IPv4Network, networks: Iterable[IPv4Network]) -> bool | None:
    found = list(networks)
    if any(value.subnet_of(network) for network in found):
        return True
    return None if any(value.overlaps(network) for network in found) else False


def _is_interface(name: str | None, patterns: Iterable[str], wildcard: str) -> bool | None:
    if name is None:
        return None
    return any(name.startswith(pattern[:-1]) if pattern.endswith(wildcard) else name == pattern for pattern in patterns)


# iptables

_PRIORITIES = {"raw": -300, "mangle": -150, "filter": 0, "security": 50}
_HOOKS = {"PREROUTING": PREROUTING, "FORWARD": FORWARD, "POSTROUTING": POSTROUTING}
_IPTABLES_VERDICTS = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "drop", "RETURN": "return"}
_NO_CONDITIONS = ("-m", "--comment")
_PATH_OPTIONS = ("--invert", "--validmark", "--accept-local")
_OURS = "NATMIRROR-"


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
        conditions.append(_negated(condition) if inverted else condition)
    if checks_paths:
        conditions.append(_negated(_comes_by_its_route) if "--invert" in words else _comes_by_its_route)
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
            return _always_unknown
        return lambda packet: _within(packet.src if name == "-s" else packet.dst, [network])
    if name in ("-i", "-o"):
        return lambda packet: _is_interface(packet.iif if name == "-i" else packet.oif, [value], "+")
    if name == "-p":
        return lambda packet: value in ("tcp", "all")
    if name in ("--sport", "--dport", "--sports", "--dports"):
        spans = [_span(one) for one in value.split(",")]
        return lambda packet: _in_spans(packet.sport if name.startswith("--s") else packet.dport, spans)
    if name in ("--ctstate", "--state"):
        states = {state.lower() for state in value.split(",")}
        return lambda packet: _has_state(packet, states)
    return _always_unknown


def _span(text: str) -> tuple[int, int]:
    low, _, high = text.partition(":")
    return (int(low), int(high or low)) if low.isdecimal() and (high or low).isdecimal() else (-1, 1 << 16)


def _in_spans(port: int | None, spans: list[tuple[int, int]]) -> bool | None:
    if port is None or any(low < 0 for low, _ in spans):
        return None
    return any(low <= port <= high for low, high in spans)


def _has_state(packet: TestPacket, states: set[str]) -> bool | None:
    if packet.state is None or not states <= {"new", "established", "related", "invalid", "untracked"}:
        return None
    return packet.state in states


# nftables

_NFT_VERDICTS = ("accept", "drop", "reject", "return", "jump", "goto")
_NFT_NO_EFFECT = ("counter", "log", "limit", "quota", "mangle", "notrack", "flow", "ct helper", "ct timeout")
_FAMILIES = ("ip", "inet")


@lru_cache(4)
def from_nft(ruleset: str) -> list[BaseChain]:
    """Return the chains that ``nft -j list ruleset`` shows, except for ours, and those that iptables-nft has made."""
    objects = json.loads(ruleset)["nftables"]
    tables: dict[tuple[str, str], dict[str, list[Rule]]] = {}
    bases: list[BaseChain] = []
    for one in (entry["chain"] for entry in objects if "chain" in entry):
        family, table, name = one["family"], one["table"], one["name"]
        if family not in _FAMILIES or (family, table) == ("ip", "natmirror"):
            continue
        chains = tables.setdefault((family, table), {})
        chains[name] = []
        is_iptables = family == "ip" and name in _HOOKS and table in (*_PRIORITIES, "nat")
        if one.get("type") == "filter" and one.get("hook") in _HOOKS.values() and not is_iptables:
            place = (f"nft {family} {table} {name}", name, one["hook"], int(one["prio"]), one.get("policy", "accept"))
            bases.append(BaseChain(*place, is_iptables=False, chains=chains))
    for one in (entry["rule"] for entry in objects if "rule" in entry):
        known = tables.get((one["family"], one["table"]))
        if known is not None:
            try:
                known[one["chain"]] += _nft_rules(one)
            except (KeyError, TypeError, ValueError):  # an expression in a form that we do not know
                known[one["chain"]] += [Rule((_always_unknown,), verdict) for verdict in ("accept", "drop")]
    return bases


def _nft_rules(rule: dict[str, Any]) -> list[Rule]:
    """Return a rule as one or, for a verdict map, as several."""
    conditions: list[Condition] = []
    text = f"rule {rule['handle']}"
    for expression in rule["expr"]:
        [(kind, content)] = expression.items()
        if kind == "match":
            conditions.append(_nft_condition(content))
        elif kind in _NFT_VERDICTS:
            return [Rule(tuple(conditions), *_nft_verdict(kind, content), text)]
        elif kind == "vmap":
            data = content["data"]
            pairs = data["set"] if isinstance(data, dict) and "set" in data else []
            if not pairs:
                return [Rule((*conditions, _always_unknown), verdict, "", text) for verdict in ("accept", "drop")]
            found = []
            for value, outcome in pairs:
                [(verdict, target)] = outcome.items()
                condition = _nft_condition({"op": "==", "left": content["key"], "right": value})
                found.append(Rule((*conditions, condition), *_nft_verdict(verdict, target), text))
            return found
        elif kind not in _NFT_NO_EFFECT or kind == "limit":
            conditions.append(_always_unknown)
    return []


def _nft_verdict(kind: str, content: Any) -> tuple[str, str]:
    if kind in ("jump", "goto"):
        return kind, content["target"]
    return ("drop" if kind == "reject" else kind), ""


def _nft_condition(match: dict[str, Any]) -> Condition:
    values = list(_flat(match["right"]))
    condition = _nft_field(match["left"], values)
    return _negated(condition) if match["op"] == "!=" else condition if match["op"] in ("==", "in") else _always_unknown


def _flat(right: Any) -> Iterator[Any]:
    if isinstance(right, dict) and "set" in right:
        right = right["set"]
    yield from right if isinstance(right, list) else [right]


def _nft_field(left: Any, values: list[Any]) -> Condition:
    """Return the condition that a field of the packet has one of these values."""
    if not isinstance(left, dict) or any(isinstance(value, str) and value.startswith("@") for value in values):
        return _always_unknown
    [(kind, content)] = left.items()
    if kind == "meta":
        return _nft_meta(content["key"], values)
    if kind == "ct" and content.get("key") == "state":
        states = {value for value in values if isinstance(value, str)}
        return lambda packet: _has_state(packet, states)
    if kind == "fib" and content["result"] == "oif" and set(content["flags"]) == {"saddr", "iif"}:
        if values not in ([True], [False]):
            return _always_unknown
        return _comes_by_its_route if values[0] else _negated(_comes_by_its_route)
    if kind == "payload" and "field" in content:
        return _nft_payload(content["protocol"], content["field"], values)
    return _always_unknown


def _nft_meta(key: str, values: list[Any]) -> Condition:
    names = [str(value) for value in values]
    if key in ("iifname", "iif"):
        return lambda packet: _is_interface(packet.iif, names, "*")
    if key in ("oifname", "oif"):
        return lambda packet: _is_interface(packet.oif, names, "*")
    known = {"l4proto": ("tcp", "6"), "nfproto": ("ipv4", "2"), "protocol": ("ip",)}.get(key)
    if known is None:
        return _always_unknown
    return lambda packet: any(name in known for name in names)


def _nft_payload(protocol: str, name: str, values: list[Any]) -> Condition:
    if protocol == "ip" and name in ("saddr", "daddr"):
        networks = [_networks(value) for value in values]
        known = [network for found in networks if found for network in found]
        if not all(networks):
            return _always_unknown
        return lambda packet: _within(packet.src if name == "saddr" else packet.dst, known)
    if protocol == "ip" and name == "protocol":
        return lambda packet: any(str(value) in ("tcp", "6") for value in values)
    if protocol in ("tcp", "th") and name in ("sport", "dport"):
        spans = [_nft_span(value) for value in values]
        return lambda packet: _in_spans(packet.sport if name == "sport" else packet.dport, spans)
    if protocol in ("udp", "icmp", "icmpv6", "ip6", "sctp", "arp"):
        return lambda packet: False
    return _always_unknown


def _networks(value: Any) -> list[IPv4Network] | None:
    try:
        if isinstance(value, str):
            return [IPv4Network(value)]
        if "prefix" in value:
            return [IPv4Network((value["prefix"]["addr"], value["prefix"]["len"]))]
        return list(summarize_address_range(*(IPv4Address(end) for end in value["range"])))
    except (KeyError, TypeError, ValueError):
        return None


def _nft_span(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    ends = value.get("range") if isinstance(value, dict) else None
    return (ends[0], ends[1]) if ends and all(isinstance(end, int) for end in ends) else (-1, 1 << 16)
