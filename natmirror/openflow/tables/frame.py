"""A frame on its way through a switch: its fields, and what actions change in them.

What the walk needs of a frame is where it goes and which of its headers differ then. Actions on headers that
natmirror does not parse, such as MPLS, are kept as they are: after them no table can be looked up.
"""

from collections.abc import Mapping

from natmirror.openflow.bodies.elements import Action, MatchField
from natmirror.openflow.bodies.fields import FIELDS
from natmirror.openflow.tables.packed import PackedFrame, pack_frame

PRESENT = 0x1000
"""OFPVID_PRESENT: the bit of vlan_vid that says that there is a tag."""
_VLAN_TYPES = (0x8100, 0x88A8)
_REGISTERS = tuple(name for name in FIELDS if name.startswith("reg"))
_AT_FIRST = {"metadata": 0, "tunnel_id": 0, "vlan_vid": 0, "vlan_pcp": 0, **dict.fromkeys(_REGISTERS, 0)}
_PRESENT_AT_FIRST = pack_frame(_AT_FIRST).present
PIPELINE = frozenset(("in_port", "in_phy_port", "metadata", "actset_output", "packet_type", "pkt_mark", *_REGISTERS))
"""The fields that no frame has outside of the switch."""
_ALWAYS = frozenset((*PIPELINE, "tunnel_id"))  # fields that an action can set whatever the frame is
_V10_SETS = {
    "mod_dl_src": "eth_src",
    "mod_dl_dst": "eth_dst",
    "mod_nw_src": "ipv4_src",
    "mod_nw_dst": "ipv4_dst",
    "mod_nw_ttl": "nw_ttl",
}
_PORTS = {
    "mod_tp_src": ("tcp_src", "udp_src", "sctp_src", "icmpv4_type"),
    "mod_tp_dst": ("tcp_dst", "udp_dst", "sctp_dst", "icmpv4_code"),
}

_OPAQUE = (
    "push_mpls",
    "pop_mpls",
    "push_pbb",
    "pop_pbb",
    "set_mpls_ttl",
    "dec_mpls_ttl",
    "copy_ttl_in",
    "copy_ttl_out",
)

Changes = tuple[tuple[str, object], ...]


_IP_TYPES = (0x0800, 0x86DD)
_PORTS_OF = {6: "tcp_src", 17: "udp_src", 132: "sctp_src"}


def is_cut_off(fields: Mapping[str, int]) -> bool:
    """Return whether a frame lacks headers that it must have: a PACKET_IN may have only its beginning, or nothing."""
    if "eth_type" not in fields:
        return True
    if fields["eth_type"] not in _IP_TYPES:
        return False
    return "ip_proto" not in fields or _PORTS_OF.get(fields["ip_proto"], "ip_proto") not in fields


def entering(packed: PackedFrame) -> PackedFrame:
    """Return a frame's fields as integers, with those that each frame has when it enters a switch."""
    return PackedFrame(packed.present | _PRESENT_AT_FIRST, packed.value)


class Frame:
    """A frame inside a switch. copy() makes another one that is changed alone."""

    __slots__ = ("_original", "_others", "_packed", "fields", "is_opaque")

    def __init__(self, fields: Mapping[str, int], packed: PackedFrame | None = None) -> None:
        """``packed``: the fields as integers, if these are known."""
        self.fields = {**_AT_FIRST, **fields}
        self.is_opaque = False
        """Whether actions have made headers that natmirror does not know."""
        self._packed = None if packed is None else entering(packed)
        """The fields as integers; None where they have to be packed again."""
        self._original: Mapping[str, int] | None = None
        """The fields that it had at first; None while no field of a frame has changed."""
        self._others: tuple[tuple[str, object], ...] = ()
        """What the fields do not show: inner tags, opaque actions, the queue."""

    def copy(self) -> "Frame":
        """Return a copy, which keeps the fields that the frame had at first."""
        other = Frame.__new__(Frame)
        other.fields = dict(self.fields)
        other.is_opaque, other._original, other._others = self.is_opaque, self._original, self._others
        other._packed = self._packed
        return other

    @property
    def packed(self) -> PackedFrame:
        """The fields as integers."""
        if self._packed is None:
            self._packed = pack_frame(self.fields)
        return self._packed

    def _put(self, name: str, value: int) -> None:
        if self._original is None and name not in PIPELINE:
            self._original = dict(self.fields)
        self.fields[name] = value
        self._packed = None

    @property
    def in_port(self) -> int | None:
        return self.fields.get("in_port")

    def changes(self) -> Changes:
        """Return what differs from the frame that came in, by field."""
        if self._original is None:
            return self._others
        differing = [
            (name, value)
            for name, value in sorted(self.fields.items())
            if name not in PIPELINE and self._original.get(name) != value
        ]
        return (*differing, *self._others)

    def change(self, action: Action) -> bool:
        """Do an action that changes the frame; return False for an action that natmirror does not know."""
        name, args = action
        if name in ("set_field", "load"):
            self._set(args[0])
        elif name in _V10_SETS:
            self._set(MatchField(_V10_SETS[name], args[0]))
        elif name in _PORTS:
            for field in _PORTS[name]:
                self._set(MatchField(field, args[0]))
        elif name == "mod_nw_tos":
            self._set(MatchField("ip_dscp", args[0] >> 2))
        elif name in ("mod_vlan_vid", "mod_vlan_pcp"):
            self._set_tag(name, args[0])
        elif name == "push_vlan":
            self._push_tag(args[0])
        elif name in ("pop_vlan", "strip_vlan"):
            self._pop_tag()
        elif name == "set_queue":
            self._others = (*(one for one in self._others if one[0] != "queue"), ("queue", args[0]))
        elif name == "dec_ttl":
            self._others = (*self._others, ("dec_ttl", None))
        elif name in _OPAQUE:
            self._do_opaque(action)
        elif name != "meter":  # a meter drops frames beyond its rate; the walk is about one that passes
            return False
        return True

    def _set(self, field: MatchField) -> None:
        """Set a field that the frame has, or that belongs to the switch."""
        if field.name not in self.fields and field.name not in _ALWAYS:
            return
        old = self.fields.get(field.name, 0)
        self._put(field.name, field.value if field.mask is None else old & ~field.mask | field.value & field.mask)

    def set_metadata(self, value: int, mask: int) -> None:
        """Set the bits of ``mask`` in the metadata."""
        self._put("metadata", self.fields["metadata"] & ~mask | value & mask)

    def _set_tag(self, name: str, value: int) -> None:
        """Do 1.0's actions, which add a tag to a frame without one (1.0.0 §5.2.4)."""
        if name == "mod_vlan_vid":
            self._put("vlan_vid", PRESENT | value)
        else:
            self._put("vlan_vid", self.fields["vlan_vid"] | PRESENT)
            self._put("vlan_pcp", value)

    def _push_tag(self, kind: int) -> None:
        """Add a tag, with VLAN 0 and priority 0 as Open vSwitch does."""
        if self.fields["vlan_vid"] & PRESENT:
            self._others = (*self._others, ("inner_tag", (self.fields["vlan_vid"], self.fields["vlan_pcp"])))
        if kind != _VLAN_TYPES[0]:
            self._others = (*self._others, ("push_vlan", kind))
        self._put_tag(PRESENT, 0)

    def _put_tag(self, vid: int, pcp: int) -> None:
        self._put("vlan_vid", vid)
        self._put("vlan_pcp", pcp)

    def _pop_tag(self) -> None:
        if not self.fields["vlan_vid"] & PRESENT:
            return
        if self._others and self._others[-1][0] == "push_vlan":
            self._others = self._others[:-1]
        inner = self._others[-1] if self._others and self._others[-1][0] == "inner_tag" else None
        if inner is not None:
            self._others = self._others[:-1]
            self._put_tag(*inner[1])  # type: ignore[misc]
        elif self.fields.get("eth_type") in _VLAN_TYPES:
            self._do_opaque(Action("pop_vlan"))
        else:
            self._put_tag(0, 0)

    def _do_opaque(self, action: Action) -> None:
        self.is_opaque = True
        self._others = (*self._others, (action.name, action.args))
