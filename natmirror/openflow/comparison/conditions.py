"""What all causes of a difference have in common, and none of the causes with equal answers: ``all where arp``.

The values of a field in agreeing causes are kept as bits of their hashes. So they need little memory, however many
there are, and a value whose bit another one has set is only left out: nothing false is said.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from natmirror.openflow.bodies.elements import MatchField
from natmirror.openflow.bodies.match_text import match_text
from natmirror.openflow.comparison.results import DifferenceKind

_ORDER = (
    *("eth_type", "ip_proto", "icmpv4_type", "icmpv6_type", "tcp_dst", "udp_dst", "sctp_dst", "tcp_src", "udp_src"),
    *("sctp_src", "vlan_vid", "vlan_pcp", "mpls_label", "ip_dscp", "in_port", "eth_dst", "eth_src", "ipv4_dst"),
    *("ipv4_src", "ipv6_dst", "ipv6_src", "arp_op", "arp_tpa", "arp_spa", "tunnel_id", "metadata"),
)
"""The fields that are named, those that tell most first."""
_NAMES = frozenset(_ORDER)
_NEEDED_FOR = {
    "ip_proto": ("eth_type",),
    **dict.fromkeys(("icmpv4_type", "icmpv6_type"), ("eth_type", "ip_proto")),
    **{f"{name}_{end}": ("eth_type", "ip_proto") for name in ("tcp", "udp", "sctp") for end in ("src", "dst")},
    **dict.fromkeys(("ipv4_dst", "ipv4_src", "ipv6_dst", "ipv6_src", "ip_dscp", "arp_op"), ("eth_type",)),
    **dict.fromkeys(("arp_tpa", "arp_spa"), ("eth_type",)),
}
"""Fields that stand before another one in a match, if all causes have the same value."""
_MAX_VALUES = 4
_MIN_CAUSES = 3
"""Fewer have something in common by chance."""
_BITS = 4096
_SPREAD = 0x9E37_79B1
"""Gives addresses that are neighbours different bits (Knuth's multiplicative hash)."""
AGREED_COST = 2 * len(_ORDER) * (_BITS // 8 + 100)
"""Bytes of memory for the values of agreeing causes."""
_OF_RULES = frozenset((DifferenceKind.RULE_MISSING, DifferenceKind.RULE_DIFFERENT, DifferenceKind.RULE_KEPT))
"""Differences that only an answer can have in which production changes rules."""


class Agreeing:
    """The values of the fields in causes with equal answers."""

    def __init__(self) -> None:
        self.count = 0
        self._bits: dict[str, bytearray] = {}

    def add(self, fields: Mapping[str, int]) -> None:
        """Take the fields of a cause."""
        self.count += 1
        for name, value in fields.items():
            bits = self._bits.get(name)
            if bits is None:
                if name not in _NAMES:
                    continue
                bits = self._bits[name] = bytearray(_BITS // 8)
            bit = (value * _SPREAD >> 15) % _BITS
            bits[bit >> 3] |= 1 << (bit & 7)

    def has(self, name: str, value: int) -> bool:
        """Return whether a cause may have had this value."""
        bit = (value * _SPREAD >> 15) % _BITS
        return name in self._bits and bool(self._bits[name][bit >> 3] >> (bit & 7) & 1)

    def merge(self, other: "Agreeing") -> None:
        """Take all causes of another one."""
        self.count += other.count
        for name, bits in other._bits.items():
            mine = int.from_bytes(self._bits.get(name, b"")) | int.from_bytes(bits)
            self._bits[name] = bytearray(mine.to_bytes(_BITS // 8))


@dataclass(slots=True)
class Agreed:
    """The causes with equal answers: all, and those for which production changes rules. A learning switch floods many
    ARP requests and makes rules for few, so that a missing rule for ARP shows beside the latter alone."""

    all: Agreeing = field(default_factory=Agreeing)
    with_rules: Agreeing = field(default_factory=Agreeing)

    def add(self, fields: Mapping[str, int], *, has_rules: bool) -> None:
        """Take the fields of a cause."""
        self.all.add(fields)
        if has_rules:
            self.with_rules.add(fields)

    def beside(self, kind: DifferenceKind) -> Agreeing:
        """Return those that a difference of this kind is to be compared with."""
        return self.with_rules if kind in _OF_RULES else self.all

    def copy(self) -> "Agreed":
        """Return a copy for another thread."""
        made = Agreed()
        made.merge(self)
        return made

    def merge(self, other: "Agreed") -> None:
        """Take all causes of another one."""
        self.all.merge(other.all)
        self.with_rules.merge(other.with_rules)


@dataclass(slots=True)
class Causes:
    """The fields that all causes of a difference have, with their values while these are few."""

    count: int = 0
    values: dict[str, frozenset[int]] = field(default_factory=dict)

    def add(self, fields: Mapping[str, int]) -> None:
        """Take the fields of a cause."""
        self.merge(Causes(1, {name: frozenset((fields[name],)) for name in _ORDER if name in fields}))

    def merge(self, other: "Causes") -> None:
        """Take all causes of another one."""
        if not self.count or not other.count:
            self.values = self.values or dict(other.values)
        else:
            both = {name: known | other.values[name] for name, known in self.values.items() if name in other.values}
            self.values = {name: values for name, values in both.items() if len(values) <= _MAX_VALUES}
        self.count += other.count

    def where(self, agreeing: Agreeing) -> str:
        """Return what the causes have in common, such as ``arp`` or ``dl_dst=… or dl_dst=…``; empty for nothing."""
        if self.count < _MIN_CAUSES or agreeing.count < _MIN_CAUSES:
            return ""
        found = [
            name
            for name in _ORDER
            if name in self.values and not any(agreeing.has(name, value) for value in self.values[name])
        ]
        if not found:
            return ""
        name = min(found, key=lambda one: (len(self.values[one]), _ORDER.index(one)))
        return " or ".join(self._text(name, value) for value in sorted(self.values[name]))

    def _text(self, name: str, value: int) -> str:
        """Return a value as a match, with the protocol that it needs."""
        needed = [(one, self.values.get(one, frozenset())) for one in _NEEDED_FOR.get(name, ())]
        fields = [MatchField(one, *values) for one, values in needed if len(values) == 1]
        return match_text((*fields, MatchField(name, value)))
