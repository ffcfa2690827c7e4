"""The conditions of nftables' rules, in the form of libnftables-json(5)."""

from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any

from natmirror.linux.foreign_rules import (
    Condition,
    Span,
    TestPacket,
    addresses_in,
    always_unknown,
    comes_by_its_route,
    has_mark,
    has_name,
    has_state,
    negated,
    never,
    within,
)

Sets = Mapping[str, list[Any]]
"""The elements of each named set or map of a table, except for those whose elements come and go."""

_ALL_BITS = 0xFFFFFFFF
_KNOWN = {"l4proto": ("tcp", "6"), "nfproto": ("ipv4", "2")}
_INTERFACES = {"iifname": "iif", "iif": "iif", "oifname": "oif", "oif": "oif"}
_OTHER_PROTOCOLS = ("udp", "udplite", "icmp", "icmpv6", "ip6", "sctp", "dccp", "esp", "ah")
_ARP_HEADER = {"htype": ("1", "ether"), "ptype": ("ip", "2048"), "hlen": ("6",), "plen": ("4",)}


def condition_of(match: dict[str, Any], sets: Sets, *, gets_arp: bool = False) -> Condition:
    """Return the condition of a match expression. ``gets_arp``: the chain gets ARP packets too. KeyError, TypeError or
    ValueError in an unknown form."""
    if not is_known(match["right"], sets):
        return always_unknown
    values = list(elements(match["right"], sets))
    condition = _field(match["left"], values)
    if match["op"] == "!=":
        condition = negated(condition)
    elif match["op"] not in ("==", "in"):
        return always_unknown
    return _by_protocol(condition, match["left"]) if gets_arp else condition


def _by_protocol(condition: Condition, left: Any) -> Condition:
    """Return a condition that holds for packets of the field's protocol alone, negated or not: for others the kernel
    goes on with the next rule."""
    if isinstance(left, dict) and "&" in left:
        left = left["&"][0]
    [(kind, content)] = left.items()
    if kind in ("ct", "fib"):
        return lambda packet: None if packet.arp else condition(packet)
    if kind == "payload" and content.get("protocol") not in (None, "ether"):
        is_about_arp = content["protocol"] == "arp"
        return lambda packet: condition(packet) if bool(packet.arp) == is_about_arp else False
    return condition


def is_known(right: Any, sets: Sets) -> bool:
    """Return whether elements() can return the values that one side of a match stands for."""
    return not (isinstance(right, str) and right.startswith("@")) or right[1:] in sets


def elements(right: Any, sets: Sets) -> Iterator[Any]:
    """Yield the values that one side of a match stands for, those of a named set too."""
    if isinstance(right, str) and right.startswith("@"):
        right = sets[right[1:]]
    elif isinstance(right, dict) and "set" in right:
        right = right["set"]
    for one in right if isinstance(right, list) else [right]:
        yield one["elem"]["val"] if isinstance(one, dict) and "elem" in one else one


def _field(left: Any, values: list[Any]) -> Condition:
    """Return the condition that a field of the packet has one of these values."""
    mask = _ALL_BITS
    if isinstance(left, dict) and "&" in left:
        left, mask = left["&"]
    [(kind, content)] = left.items()
    pick = {"meta": "mark", "ct": "connection_mark"}.get(kind)
    if pick is not None and content["key"] == "mark":
        is_known = isinstance(mask, int) and all(isinstance(value, int) for value in values)
        return has_mark(attrgetter(pick), mask, values) if is_known else always_unknown
    if mask != _ALL_BITS:
        return always_unknown
    if kind == "meta":
        return _meta(content["key"], values)
    if kind == "ct" and content["key"] in ("state", "status"):
        return has_state(values) if content["key"] == "state" else _has_status(values)
    if kind == "fib":
        return _fib(content["result"], set(content["flags"]), values)
    if kind == "payload" and "field" in content:
        return _payload(content["protocol"], content["field"], values)
    return always_unknown


def _meta(key: str, values: list[Any]) -> Condition:
    names = [str(value) for value in values]
    if key in _INTERFACES:
        return has_name(attrgetter(_INTERFACES[key]), names, "*")
    if key == "protocol":
        return _has_protocol(names)
    known = _KNOWN.get(key)
    if known is None:
        return always_unknown
    holds = any(name in known for name in names)
    return lambda packet: None if packet.arp else holds


def _has_protocol(names: list[str]) -> Condition:
    is_ip, is_arp = "ip" in names, "arp" in names
    return lambda packet: is_arp if packet.arp else is_ip


def _has_status(words: list[Any]) -> Condition:
    def holds(packet: TestPacket) -> bool | None:
        known = {"dnat": packet.is_dnat, "snat": packet.is_snat}
        answers = [known.get(word) for word in words]
        return True if True in answers else None if None in answers else False

    return holds


def _fib(result: str, flags: set[str], values: list[Any]) -> Condition:
    if result == "oif" and flags == {"saddr", "iif"} and values in ([True], [False]):
        return comes_by_its_route if values[0] else negated(comes_by_its_route)
    ends = flags - {"iif"}
    if result != "type" or ends not in ({"saddr"}, {"daddr"}):
        return always_unknown
    is_ours = attrgetter("is_from_this_host" if ends == {"saddr"} else "is_to_this_host")
    wants_unicast = "unicast" in values

    def has_type(packet: TestPacket) -> bool | None:
        if is_ours(packet) is False:  # the kernel calls all other addresses unicast
            return wants_unicast
        return "local" in values if is_ours(packet) and "iif" not in flags else None

    return has_type


def _payload(protocol: str, name: str, values: list[Any]) -> Condition:
    if protocol == "ip" and name in ("saddr", "daddr"):
        return _within("src" if name == "saddr" else "dst", [_addresses(value) for value in values])
    if protocol in ("tcp", "th") and name in ("sport", "dport"):
        return _within(name, [_ports(value) for value in values])
    if (protocol, name) == ("ether", "type"):
        return _has_protocol([str(value) for value in values])
    if (protocol, name) == ("ip", "protocol"):
        holds = any(str(value) in ("tcp", "6") for value in values)
        return lambda packet: holds
    if protocol == "arp":
        return _arp(name, values)
    return never if protocol in _OTHER_PROTOCOLS else always_unknown


def _arp(name: str, values: list[Any]) -> Condition:
    """Return a condition of an ARP packet of Ethernet and IPv4."""
    if name in ("saddr ip", "daddr ip"):
        return _within("src" if name == "saddr ip" else "dst", [_addresses(value) for value in values])
    words = [str(value) for value in values]
    if name == "operation":
        return lambda packet: packet.arp in words
    known = _ARP_HEADER.get(name)
    if known is None:
        return always_unknown
    holds = any(word in known for word in words)
    return lambda packet: holds


def _within(name: str, spans: list[Span | None]) -> Condition:
    known = [span for span in spans if span is not None]
    return within(attrgetter(name), known) if len(known) == len(spans) else always_unknown


def _addresses(value: Any) -> Span | None:
    try:
        if isinstance(value, str):
            return addresses_in(value)
        if "prefix" in value:
            return addresses_in(f"{value['prefix']['addr']}/{value['prefix']['len']}")
        first, last = value["range"]
        return addresses_in(first)[0], addresses_in(last)[0]
    except (KeyError, OSError, TypeError, ValueError):
        return None


def _ports(value: Any) -> Span | None:
    if isinstance(value, int):
        return value, value
    ends = value.get("range") if isinstance(value, dict) else None
    return (ends[0], ends[1]) if ends and all(isinstance(end, int) for end in ends) else None
