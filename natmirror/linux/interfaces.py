"""Reads this host's interfaces and addresses (rtnetlink(7)): what natmirror needs, in a tenth of pyroute2's time."""

import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface

from natmirror.linux.netlink import attribute, attributes
from natmirror.linux.routes import RouteSocket

# linux/rtnetlink.h, linux/if.h, linux/if_link.h, linux/if_addr.h
_GETLINK, _GETADDR = 18, 22
_LINK = struct.Struct("=BBHiII")  # struct ifinfomsg: family, padding, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, index
_NAME, _MTU, _LINK_BELOW, _MASTER, _LINKINFO, _EXT_MASK, _BELOW_ELSEWHERE, _XDP, _BUS = 3, 4, 5, 10, 18, 29, 37, 43, 57
_KIND, _SLAVE_KIND = 1, 4  # IFLA_INFO_*
_XDP_MODES = {5: "xdpdrv", 6: "xdpgeneric", 7: "xdpoffload"}  # IFLA_XDP_*_PROG_ID, in the words of ip-link(8)
_SKIP_STATS = struct.pack("=I", 1 << 3)  # RTEXT_FILTER_SKIP_STATS
_IFA_ADDRESS, _IFA_LOCAL, _SCOPE_HOST = 1, 2, 254
_LOWER_UP = 1 << 16  # IFF_LOWER_UP: there is a carrier
_NOARP = 1 << 7
_ETHERNET = 1  # ARPHRD_ETHER of linux/if_arp.h
_ETHERNET_KINDS = ("", "veth", "vlan", "bridge", "bond", "team", "macvlan")
"""Kinds of interfaces that need ARP if they are Ethernet: a host behind them gets no packets for another's address."""
_ETHERNET_BUSES = ("pci", "platform", "virtio", "vmbus", "xen")
"""Of interfaces without a kind. Modems (usb) and mainframes' (ccwgroup) may be of type Ethernet, and need no ARP."""
_TAKES_PACKETS = ("bridge", "bond", "team", "openvswitch")
"""Kinds of interfaces that get all packets of their ports."""

DOCTORS_PORT = "nmdoctor"
"""The interface of the client of ``natmirror doctor --send``, as long as that runs."""


_Said = tuple[int, int, Mapping[int, bytes]]
"""What the kernel says of an interface: its type, its flags and its attributes."""


@dataclass(frozen=True, slots=True)
class Link:
    """An interface."""

    mtu: int
    has_carrier: bool
    master: str | None = None
    """The interface that gets this one's packets, because this one is a port of it."""
    vrf: str | None = None
    """The VRF to which this one is enslaved."""
    is_bridge: bool = False
    is_port: bool = False
    """Whether another interface may get its packets, a VRF too."""
    does_arp: bool | None = True
    """Whether the kernel does ARP there. None: there is no need, or it is unknown."""
    beside: str | None = None
    """Of a macvlan: the interface whose network it is in too."""
    below: str | None = None
    """The interface by which this one's packets come, such as that of a VLAN."""
    xdp: tuple[tuple[str, int], ...] = ()
    """The XDP programs that get this interface's packets before the kernel's hooks: the mode and the number of each."""


def read_links(kernel: RouteSocket) -> dict[int, tuple[str, Link]]:
    """Return the interfaces by number, each with its name. OSError where the kernel does not answer."""
    found: dict[int, _Said] = {}
    for body in kernel.dump(_GETLINK, _LINK.pack(*(0,) * 6) + attribute(_EXT_MASK, _SKIP_STATS)):
        _, _, device_type, index, flags, _ = _LINK.unpack_from(body)
        found[index] = device_type, flags, attributes(body[_LINK.size :])
    names = {index: _text(values.get(_NAME, b"?")) for index, (_, _, values) in found.items()}
    return {index: (names[index], _link(said, found, names)) for index, said in found.items()}


def _link(said: _Said, all_said: Mapping[int, _Said], names: Mapping[int, str]) -> Link:
    device_type, flags, values = said
    info = attributes(values.get(_LINKINFO, b""))
    kind = _text(info.get(_KIND, b""))
    slave_kind, master = _text(info.get(_SLAVE_KIND, b"")), names.get(_number(values.get(_MASTER)))
    below = None if _BELOW_ELSEWHERE in values else _number(values.get(_LINK_BELOW))
    does_arp = not flags & _NOARP
    is_known = does_arp or _is_set_by_hand(kind, values, all_said.get(below or 0))
    return Link(
        mtu=_number(values.get(_MTU)),
        has_carrier=bool(flags & _LOWER_UP),
        master=master if slave_kind in _TAKES_PACKETS else None,
        vrf=master if slave_kind == "vrf" else None,
        is_bridge=kind == "bridge",
        is_port=_MASTER in values,
        does_arp=does_arp if device_type == _ETHERNET and kind in _ETHERNET_KINDS and is_known else None,
        beside=names.get(below or 0) if kind == "macvlan" else None,
        below=names.get(below or 0) if kind != "veth" else None,
        xdp=_programs(attributes(values.get(_XDP, b""))),
    )


def _programs(values: Mapping[int, bytes]) -> tuple[tuple[str, int], ...]:
    return tuple((mode, number) for kind, mode in _XDP_MODES.items() if (number := _number(values.get(kind))))


def _is_set_by_hand(kind: str, values: Mapping[int, bytes], below: _Said | None) -> bool:
    """Return whether an Ethernet interface without ARP needs it: its driver would not have left it out."""
    if not kind:
        return _text(values.get(_BUS, b"")) in _ETHERNET_BUSES
    return kind != "vlan" or (below is not None and not below[1] & _NOARP)  # a VLAN gets the flag of the one below


def read_addresses(kernel: RouteSocket) -> list[tuple[int, IPv4Interface, bool]]:
    """Return the IPv4 addresses with their networks, each with its interface's number, and whether it is valid on this
    host alone (scope host). OSError where the kernel does not answer."""
    found = []
    for body in kernel.dump(_GETADDR, _ADDRESS.pack(socket.AF_INET, 0, 0, 0, 0)):
        _, prefix_len, _, scope, index = _ADDRESS.unpack_from(body)
        values = attributes(body[_ADDRESS.size :])
        if (own := values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)) is not None:
            found.append((index, IPv4Interface((IPv4Address(own), prefix_len)), scope >= _SCOPE_HOST))
    return found


def setting_of(link: str, name: str) -> str:
    """Return the name of an interface's IPv4 setting for sysctl(8), which writes a dot in an interface's name as a
    slash."""
    return f"net.ipv4.conf.{link.replace('.', '/')}.{name}"


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _number(value: bytes | None) -> int:
    return 0 if value is None else int(struct.unpack("=I", value)[0])
