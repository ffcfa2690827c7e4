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
_KNOWN = {"l4proto": ("tcp", "6"), "nfproto": ("ipv4", "2"), "protocol": ("ip",)}
_INTERFACES = {"iifname": "iif", "iif": "iif", "oifname": "oif", "oif": "oif"}
_OTHER_PROTOCOLS = ("udp", "udplite", "icmp", "icmpv6", "ip6", "sctp", "dccp", "arp", "esp", "ah")


def condition_of(match: dict[str, Any], sets: Sets) -> Condition:
    """Return the condition of a match expression. KeyError, TypeError or ValueError in an unknown form."""
    if not is_known(match["right"], sets):
        return always_unknown
    values = list(elements(match["right"], sets))
    condition = _field(match["left"], values)
    return negated(condition) if match["op"] == "!=" else condition if match["op"] in ("==", "in") else always_unknown


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
    known = _KNOWN.get(key)
    if known is None:
        return always_unknown
    holds = any(name in known for name in names)
    return lambda packet: holds


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
    if (protocol, name) in (("ip", "protocol"), ("ether", "type")):
        holds = any(str(value) in ("tcp", "6", "ip") for value in values)
        return lambda packet: holds
    return never if protocol in _OTHER_PROTOCOLS else always_unknown


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
