"""VRFs: devices that give the interfaces enslaved to them routes of their own (the kernel's networking/vrf.rst).

A packet that comes in by such an interface passes PREROUTING a second time as the VRF's, when natmirror has translated
it. natmirror's rules leave it alone then: the kernel loses a packet that is queued there. Copies take the routes of the
clients' VRF, as their packets do. Health checks belong to the VRF of the interface that leads to the backends, because
the replies come in there.
"""

import socket
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from ipaddress import IPv4Network

from natmirror.linux import descriptors
from natmirror.linux.interfaces import Link, read_addresses, read_links
from natmirror.linux.netlink import attribute, attributes
from natmirror.linux.routes import Question, RouteSocket
from natmirror.rules import Rules

# linux/rtnetlink.h, linux/if_link.h
_GETLINK = 18
_LINK = struct.Struct("=BBHiII")  # struct ifinfomsg: family, padding, type, index, flags, change
_IFNAME, _LINKINFO, _INFO_KIND = 3, 18, 1
_NESTED = 1 << 15


class ProductionVrf:
    """The VRFs in which production passes, as of the last look(). None: in no VRF, or nothing is known."""

    def __init__(self) -> None:
        self.of_clients: str | None = None
        self.of_backends: str | None = None
        self.all: tuple[str, ...] = ()
        """All VRFs of this host."""

    def look(self, rules: Rules) -> None:
        """Find it again; where the kernel does not answer, it stays the same."""
        with suppress(OSError), descriptors.enough(), RouteSocket() as kernel:
            self.all = _names(kernel)
            self.of_clients, self.of_backends = self._found(rules, kernel) if self.all else (None, None)

    def _found(self, rules: Rules, kernel: RouteSocket) -> tuple[str | None, str | None]:
        links = read_links(kernel)
        details = dict(links.values())
        networks: dict[str, list[IPv4Network]] = {}
        for index, own, _ in read_addresses(kernel):
            if index in links:
                networks.setdefault(links[index][0], []).append(own.network)
        kernel.vrf = of_clients(rules, details, networks)
        members = [member for service in rules.services if service.pool for member in service.pool.members]
        answers = kernel.ask([Question(member.address) for member in members[:1]]).values()
        ways = [details[answer.link].vrf for answer in answers if answer.link in details]
        return kernel.vrf, ways[0] if ways else kernel.vrf


def bind(sock: socket.socket, vrf: str | None) -> None:
    """Have a socket's packets take the routes of a VRF. OSError where the kernel refuses."""
    if vrf is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, vrf.encode())


def of_clients(rules: Rules, details: Mapping[str, Link], networks: Mapping[str, Iterable[IPv4Network]]) -> str | None:
    """Return the VRF of an interface that is connected to clients or has a service's network; None if that is in no
    VRF, or there is no such interface. ``networks`` has the connected networks by interface."""
    for link, own in networks.items():
        if link in details and any(_is_clients(network, rules) for network in own):
            return details[link].vrf
    return None


def _is_clients(network: IPv4Network, rules: Rules) -> bool:
    return any(service.address in network for service in rules.services) or any(
        clients.subnet_of(network) for clients in rules.switches
    )


def _names(kernel: RouteSocket) -> tuple[str, ...]:
    """Return the names of all VRFs. Kernels that cannot choose interfaces by kind name those of other kinds too."""
    kind = attribute(_LINKINFO | _NESTED, attribute(_INFO_KIND, b"vrf\0"))
    found = [attributes(body[_LINK.size :]) for body in kernel.dump(_GETLINK, _LINK.pack(*(0,) * 6) + kind)]
    vrfs = [one[_IFNAME] for one in found if attributes(one.get(_LINKINFO, b"")).get(_INFO_KIND) == b"vrf\0"]
    return tuple(sorted(name.rstrip(b"\0").decode(errors="replace") for name in vrfs))
