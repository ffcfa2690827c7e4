"""Whether this host's own packets leave it: a failed health check is no backend's fault if they do not.

``Reachability`` is a ``HostView`` of the package backends.
"""

import errno
import socket
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address
from typing import NamedTuple

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from natmirror._ffi import lib
from natmirror.linux import descriptors
from natmirror.linux.vrf import ProductionVrf, bind
from natmirror.net.build import build
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import SYN

_LOWER_UP = 1 << 16  # IFF_LOWER_UP of linux/if.h: there is a carrier


class _Route(NamedTuple):
    interface: int
    gateway: IPv4Address | None


class Reachability:
    """This host's routes, interfaces and rules, as the health checks ask for them."""

    def __init__(self, vrf: ProductionVrf) -> None:
        self._vrf = vrf

    def bind(self, sock: socket.socket) -> None:
        """Have a check's packets take the routes of production. OSError where the kernel refuses."""
        bind(sock, self._vrf.of_backends)

    def why_cut_off(self, to: Endpoint) -> str | None:
        """Return which route or carrier this host lacks on the way to an endpoint; None if it has them, or nothing is
        known."""
        with suppress(NetlinkError, OSError), descriptors.enough(), IPRoute() as netlink:
            route = self._route_to(netlink, IPv4Address(to[0]))
            if route is None:
                return "this host has no route to it"
            link = netlink.link("get", index=route.interface)[0]
            if not link["flags"] & _LOWER_UP:
                return f"the interface {link.get_attr('IFLA_IFNAME')} has no carrier"
        return None

    def why_dropped(self, source: Endpoint, to: Endpoint) -> str | None:
        """Return why this host drops its own SYN from ``source``; None if it does not, or nothing is known."""
        if _is_dropped(source, to, self._vrf.of_backends):
            return "a rule of this host's firewall drops the check's own packets (chain OUTPUT)"
        return None

    def second_targets(self, backend: IPv4Address, mirrors: Iterable[Endpoint]) -> list[Endpoint | IPv4Address]:
        """Return the gateway to a backend, and the mirrors that are reached through the same interface."""
        with suppress(NetlinkError, OSError), descriptors.enough(), IPRoute() as netlink:
            if (route := self._route_to(netlink, backend)) is None:
                return []
            found: list[Endpoint | IPv4Address] = [] if route.gateway is None else [route.gateway]
            for mirror in mirrors:
                beside = self._route_to(netlink, IPv4Address(mirror[0]))
                if beside is not None and beside.interface == route.interface:
                    found.append(mirror)
            return found
        return []

    def _route_to(self, netlink: IPRoute, address: IPv4Address) -> _Route | None:
        try:
            by = {} if self._vrf.of_backends is None else {"oif": socket.if_nametoindex(self._vrf.of_backends)}
            found = netlink.route("get", dst=str(address), **by)
        except NetlinkError:
            return None
        interface = found[0].get_attr("RTA_OIF") if found else None
        gateway = found[0].get_attr("RTA_GATEWAY") if found else None
        return None if interface is None else _Route(interface, None if gateway is None else IPv4Address(gateway))


def _is_dropped(source: Endpoint, to: Endpoint, vrf: str | None) -> bool:
    """Return whether a rule of this host drops the SYN of a failed check, which is sent once more: unlike connect(), a
    raw socket learns of that. If it is answered, the kernel resets the connection, because its socket is closed."""
    syn = build(source, to, seq=0, ack=0, flags=SYN, window=lib.NM_MAX_WINDOW)
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        bind(sock, vrf)
        try:
            sock.sendto(syn, (str(IPv4Address(to[0])), 0))
        except PermissionError as error:
            return error.errno == errno.EPERM
    return False
