"""Other programs' rules as ``nft -j list ruleset`` shows them."""

import json
import re
from collections.abc import Iterator
from typing import Any

from natmirror.linux.foreign_iptables import is_made_by_iptables
from natmirror.linux.foreign_rules import (
    UNKNOWN_MARK,
    BaseChain,
    Condition,
    Effect,
    Queues,
    Rule,
    always_unknown,
)
from natmirror.linux.hooks import ARP_FAMILIES, OF_NFTABLES
from natmirror.linux.nft_conditions import Sets, condition_of, elements, is_known

_VERDICTS = {"accept": "accept", "drop": "drop", "reject": "drop", "return": "return", "continue": "none"}
_OTHER_VERDICTS = {
    **{"dnat": "dnat", "redirect": "dnat", "snat": "snat", "masquerade": "snat", "queue": "queue"},
    **{"tproxy": "lost", "fwd": "lost", "synproxy": "unknown"},
}
_NO_EFFECT = ("counter", "log", "flow", "ct helper", "ct timeout", "ct expectation")
_HARMLESS_FLAGS = {"owner", "persist"}
_OUR_TABLE = ("ip", "natmirror")
_ANY_QUEUE = (0, 0xFFFF)
_ALL_BITS = 0xFFFFFFFF
_MARK, _CONNECTION_MARK = {"meta": {"key": "mark"}}, {"ct": {"key": "mark"}}
_CHANGED_BY_RULES = re.compile(r'"(?:set|map)": "@([^"]+)"')
_DEVICES = re.compile(
    r"^table (\S+) (\S+) {|^\tchain (\S+) {|^\t\ttype .* devices? (?:= )?(\"\S+\"|{.*})", re.MULTILINE
)

Table = tuple[str, str]
"""Its family and its name."""


def needs_devices(ruleset: str) -> bool:
    """Return whether from_nft() needs what ``nft list chains`` shows: nft 1.0.6 leaves interfaces out of JSON."""
    return '"hook": "ingress"' in ruleset or '"hook": "egress"' in ruleset


def from_nft(ruleset: str, chains_as_text: str = "") -> list[BaseChain]:
    """Return the chains that ``nft -j list ruleset`` shows, except for ours, those that iptables-nft has made, and
    those of tables that do not filter."""
    objects = json.loads(ruleset)["nftables"]
    devices = _devices(chains_as_text)
    flags = {_table(one, "name"): one.get("flags", ()) for one in _all("table", objects)}
    # nft 1.0.6 has a bug: it shows other words than the flags. Most tables with a flag are dormant.
    dormant = {table for table, found in flags.items() if not set(found) <= _HARMLESS_FLAGS}
    sets: dict[Table, dict[str, list[Any]]] = {}
    changing = set(_CHANGED_BY_RULES.findall(ruleset))
    for one in (*_all("set", objects), *_all("map", objects)):
        if one["name"] not in changing and "timeout" not in one.get("flags", ()):
            sets.setdefault(_table(one), {})[one["name"]] = one.get("elem", [])
    tables: dict[Table, dict[str, list[Rule]]] = {}
    bases: list[BaseChain] = []
    for one in _all("chain", objects):
        table, name = _table(one), one["name"]
        if table[0] not in OF_NFTABLES or table == _OUR_TABLE or table in dormant:
            continue
        chains = tables.setdefault(table, {})
        chains[name] = []
        hook = OF_NFTABLES[table[0]].get(one.get("hook", ""))
        if hook is not None and not (table[0] == "ip" and is_made_by_iptables(table[1], name)):
            where = f"arptables {name}" if _is_made_by_arptables(table, name) else " ".join(("nft", *table, name))
            place = (where, name, hook, int(one["prio"]), one.get("policy", "accept"), False)
            names = one.get("dev") or devices.get((*table, name), [])
            at = frozenset([names] if isinstance(names, str) else names)
            gets_arp = table[0] in ARP_FAMILIES
            bases.append(BaseChain(*place, one["type"] == "nat", at, chains, gets_arp))
    for one in _all("rule", objects):
        known = tables.get(_table(one))
        if known is not None:
            try:
                known[one["chain"]] += _rules(one, sets.get(_table(one), {}))
            except (KeyError, TypeError, ValueError):  # an expression in a form that we do not know
                known[one["chain"]].append(Rule((always_unknown,), "unknown"))
    return bases


def _is_made_by_arptables(table: Table, chain: str) -> bool:
    """Return whether arptables-nft has made a base chain of this name."""
    return table == ("arp", "filter") and chain in ("INPUT", "OUTPUT")


def _all(kind: str, objects: list[Any]) -> Iterator[dict[str, Any]]:
    return (entry[kind] for entry in objects if kind in entry)


def _table(one: dict[str, Any], key: str = "table") -> Table:
    return one["family"], one[key]


def _devices(text: str) -> dict[tuple[str, ...], list[str]]:
    """Return the interfaces of each base chain that has some, by family, table and chain."""
    found: dict[tuple[str, ...], list[str]] = {}
    table, chain = ("", ""), ""
    for line in _DEVICES.finditer(text):
        family, name, begun, names = line.groups()
        if family:
            table = family, name
        elif begun:
            chain = begun
        else:
            found[(*table, chain)] = re.findall(r"[^\s\"{},]+", names)
    return found


def _rules(rule: dict[str, Any], sets: Sets) -> list[Rule]:
    """Return a rule as one or, for a verdict map or an effect before a condition, as several."""
    found: list[Rule] = []
    conditions: list[Condition] = []
    effects: list[Effect] = []
    text = f"the rule with handle {rule['handle']}"
    gets_arp = rule["family"] in ARP_FAMILIES

    def add(verdict: str, target: str = "", queues: Queues | None = None, *more: Condition) -> None:
        found.append(Rule((*conditions, *more), verdict, target, text, tuple(effects), queues))

    for expression in rule["expr"]:
        [(kind, content)] = expression.items()
        if effects and kind in ("match", "vmap"):  # it may look at what has been changed
            effects = [one if one.stops_tracking else UNKNOWN_MARK for one in effects]
            add("none")
            effects = []
        if kind == "match":
            conditions.append(condition_of(content, sets, gets_arp=gets_arp))
        elif kind == "vmap":
            if not is_known(content["data"], sets):
                add("unknown", "", None, always_unknown)
                return found
            for value, outcome in elements(content["data"], sets):
                [(verdict, target)] = outcome.items()
                for key in elements(value, sets):
                    add(
                        *_verdict(verdict, target),
                        condition_of({"op": "==", "left": content["key"], "right": key}, sets, gets_arp=gets_arp),
                    )
            return found
        elif kind in _VERDICTS or kind in _OTHER_VERDICTS or kind in ("jump", "goto"):
            add(*_verdict(kind, content))
            return found
        elif kind == "mangle":
            if "payload" in content["key"]:
                add("lost")
            elif content["key"] == _CONNECTION_MARK:
                found.append(Rule(tuple(conditions), "none", marks_connections=True))
            elif content["key"] == _MARK:
                effects.append(_new_mark(content["value"]))
        elif kind == "notrack":
            effects.append(Effect(stops_tracking=True))
        elif kind not in _NO_EFFECT:
            conditions.append(always_unknown)
            if kind == "xt":  # a match or a target of iptables
                add("unknown")
    if effects:
        add("none")
    return found


def _verdict(kind: str, content: Any) -> tuple[str, str, Queues | None]:
    """Return the verdict of a rule, its target and its queues."""
    if kind in ("jump", "goto"):
        return kind, content["target"], None
    if kind == "queue":
        number, flags = (content or {}).get("num", 0), (content or {}).get("flags", ())
        first, last = (number, number) if isinstance(number, int) else number.get("range", _ANY_QUEUE)
        return "queue", "", Queues(first, last, "bypass" in flags)
    if kind == "redirect":
        return "dnat", "127.0.0.1", None
    if kind == "dnat":
        address, port = content.get("addr"), content.get("port")
        is_known = isinstance(address, str) and (port is None or isinstance(port, int))
        return "dnat", (f"{address}:{port}" if port else address) if is_known else "", None
    return _VERDICTS.get(kind) or _OTHER_VERDICTS[kind], "", None


def _new_mark(value: Any) -> Effect:
    """Return what ``meta mark set VALUE`` does."""
    if isinstance(value, int):
        return Effect(0, value)
    keep, flip = _ALL_BITS, 0
    if "^" in value:
        value, flip = value["^"]
    if "&" in value:
        value, keep = value["&"]
    elif "|" in value and flip == 0:
        value, flip = value["|"]
        keep = ~flip & _ALL_BITS if isinstance(flip, int) else 0
    is_known = value == _MARK and isinstance(keep, int) and isinstance(flip, int)
    return Effect(keep, flip) if is_known else UNKNOWN_MARK
