"""Other programs' rules as ``nft -j list ruleset`` shows them."""

import json
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, summarize_address_range
from typing import Any

from natmirror.linux.foreign_iptables import is_made_by_iptables
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

_NFT_VERDICTS = ("accept", "drop", "reject", "return", "jump", "goto")
_NFT_NO_EFFECT = ("counter", "log", "limit", "quota", "mangle", "notrack", "flow", "ct helper", "ct timeout")
_FAMILIES = ("ip", "inet")
_HOOKS = (PREROUTING, FORWARD, POSTROUTING)


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
        is_iptables = family == "ip" and is_made_by_iptables(table, name)
        if one.get("type") == "filter" and one.get("hook") in _HOOKS and not is_iptables:
            place = (f"nft {family} {table} {name}", name, one["hook"], int(one["prio"]), one.get("policy", "accept"))
            bases.append(BaseChain(*place, is_iptables=False, chains=chains))
    for one in (entry["rule"] for entry in objects if "rule" in entry):
        known = tables.get((one["family"], one["table"]))
        if known is not None:
            try:
                known[one["chain"]] += _nft_rules(one)
            except (KeyError, TypeError, ValueError):  # an expression in a form that we do not know
                known[one["chain"]] += [Rule((always_unknown,), verdict) for verdict in ("accept", "drop")]
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
                return [Rule((*conditions, always_unknown), verdict, "", text) for verdict in ("accept", "drop")]
            found = []
            for value, outcome in pairs:
                [(verdict, target)] = outcome.items()
                condition = _nft_condition({"op": "==", "left": content["key"], "right": value})
                found.append(Rule((*conditions, condition), *_nft_verdict(verdict, target), text))
            return found
        elif kind not in _NFT_NO_EFFECT or kind == "limit":
            conditions.append(always_unknown)
    return []


def _nft_verdict(kind: str, content: Any) -> tuple[str, str]:
    if kind in ("jump", "goto"):
        return kind, content["target"]
    return ("drop" if kind == "reject" else kind), ""


def _nft_condition(match: dict[str, Any]) -> Condition:
    values = list(_flat(match["right"]))
    condition = _nft_field(match["left"], values)
    return negated(condition) if match["op"] == "!=" else condition if match["op"] in ("==", "in") else always_unknown


def _flat(right: Any) -> Iterator[Any]:
    if isinstance(right, dict) and "set" in right:
        right = right["set"]
    yield from right if isinstance(right, list) else [right]


def _nft_field(left: Any, values: list[Any]) -> Condition:
    """Return the condition that a field of the packet has one of these values."""
    if not isinstance(left, dict) or any(isinstance(value, str) and value.startswith("@") for value in values):
        return always_unknown
    [(kind, content)] = left.items()
    if kind == "meta":
        return _nft_meta(content["key"], values)
    if kind == "ct" and content.get("key") == "state":
        states = {value for value in values if isinstance(value, str)}
        return lambda packet: has_state(packet, states)
    if kind == "fib" and content["result"] == "oif" and set(content["flags"]) == {"saddr", "iif"}:
        if values not in ([True], [False]):
            return always_unknown
        return comes_by_its_route if values[0] else negated(comes_by_its_route)
    if kind == "payload" and "field" in content:
        return _nft_payload(content["protocol"], content["field"], values)
    return always_unknown


def _nft_meta(key: str, values: list[Any]) -> Condition:
    names = [str(value) for value in values]
    if key in ("iifname", "iif"):
        return lambda packet: is_interface(packet.iif, names, "*")
    if key in ("oifname", "oif"):
        return lambda packet: is_interface(packet.oif, names, "*")
    known = {"l4proto": ("tcp", "6"), "nfproto": ("ipv4", "2"), "protocol": ("ip",)}.get(key)
    if known is None:
        return always_unknown
    return lambda packet: any(name in known for name in names)


def _nft_payload(protocol: str, name: str, values: list[Any]) -> Condition:
    if protocol == "ip" and name in ("saddr", "daddr"):
        networks = [_networks(value) for value in values]
        known = [network for found in networks if found for network in found]
        if not all(networks):
            return always_unknown
        return lambda packet: within(packet.src if name == "saddr" else packet.dst, known)
    if protocol == "ip" and name == "protocol":
        return lambda packet: any(str(value) in ("tcp", "6") for value in values)
    if protocol in ("tcp", "th") and name in ("sport", "dport"):
        spans = [_nft_span(value) for value in values]
        return lambda packet: in_spans(packet.sport if name == "sport" else packet.dport, spans)
    if protocol in ("udp", "icmp", "icmpv6", "ip6", "sctp", "arp"):
        return lambda packet: False
    return always_unknown


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
