"""Reads this host's interfaces and addresses."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from pyroute2 import IPRoute

_TAKES_PACKETS = ("bridge", "bond", "team", "openvswitch")
"""Kinds of interfaces that get all packets of their ports."""
_LOWER_UP = 1 << 16  # IFF_LOWER_UP of linux/if.h: there is a carrier
_INGRESS = 0xFFFFFFF1  # TC_H_INGRESS of linux/pkt_sched.h: where the qdiscs ingress and clsact are


@dataclass(frozen=True, slots=True)
class Link:
    """An interface."""

    mtu: int
    has_carrier: bool
    master: str | None = None
    """The interface that gets this one's packets, because this one is a port of it."""
    is_bridge: bool = False
    is_port: bool = False
    """Whether another interface may get its packets, a VRF too."""


@dataclass(slots=True)
class Interfaces:
    """The interfaces of a host by name, and its addresses."""

    details: dict[str, Link] = field(default_factory=dict)
    addresses: set[IPv4Address] = field(default_factory=set)
    networks: dict[str, list[IPv4Network]] = field(default_factory=dict)
    """Directly connected networks by interface."""
    filtered: set[str] = field(default_factory=set)
    """The interfaces that have a qdisc for what comes in."""


class InterfaceReader:
    """Reads interfaces and addresses again only after a change, if note_change() is called after each."""

    def __init__(self) -> None:
        self.is_notified = False
        """Whether note_change() is called after each change."""
        self._found = Interfaces()
        self._is_stale = True

    def note_change(self) -> None:
        """Have read() read again; from any thread."""
        self._is_stale = True

    def read(self) -> Interfaces:
        """Return what is there. NetlinkError or OSError where the kernel does not answer."""
        if self._is_stale or not self.is_notified:
            self._is_stale = False  # before the kernel is asked: a change meanwhile counts
            try:
                self._found = _read()
            except BaseException:
                self._is_stale = True
                raise
        return self._found


def _read() -> Interfaces:
    found = Interfaces()
    with IPRoute() as netlink:
        links = list(netlink.get_links())
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in links}
        for link in links:
            info = link.get_attr("IFLA_LINKINFO")
            is_port = info is not None and info.get_attr("IFLA_INFO_SLAVE_KIND") in _TAKES_PACKETS
            found.details[names[link["index"]]] = Link(
                link.get_attr("IFLA_MTU"),
                bool(link["flags"] & _LOWER_UP),
                names.get(link.get_attr("IFLA_MASTER")) if is_port else None,
                is_bridge=info is not None and info.get_attr("IFLA_INFO_KIND") == "bridge",
                is_port=link.get_attr("IFLA_MASTER") is not None,
            )
        for address in netlink.get_addr(family=2):
            own = IPv4Address(address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS"))
            found.addresses.add(own)
            name = names.get(address["index"], "?")
            if name != "lo":
                network = IPv4Network((own, address["prefixlen"]), strict=False)
                found.networks.setdefault(name, []).append(network)
        found.filtered = {names.get(one["index"], "?") for one in netlink.get_qdiscs() if one["parent"] == _INGRESS}
    return found
