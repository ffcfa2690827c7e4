"""Hears who asks in vain by ARP for addresses of this host: an answered host does not ask again at once.

natmirror listens only where the kernel answers no requests. The kernel gives the sockets ARP packets alone.
"""

import socket
import struct
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from ipaddress import IPv4Address

_ETH_P_ARP = 0x0806  # linux/if_ether.h
# RFC 826: hardware, protocol, lengths, operation; addresses of the sender and of the target
_REQUEST = struct.Struct("!HHBBH6x4s6x4s")
_ETHERNET_IPV4_REQUEST = (1, 0x0800, 6, 4, 1)
_MAX_READ = 256
_MAX_COUNTED = 4096
_MIN_TRIES = 2

Asked = tuple[str, IPv4Address]
"""An interface, and the address that a host there asks for."""


class ArpRequests:
    """Sockets on some interfaces, and how often each host has asked there."""

    def __init__(self) -> None:
        self._sockets: dict[str, socket.socket] = {}
        self._tries: Counter[tuple[str, IPv4Address, IPv4Address]] = Counter()

    def forget(self) -> None:
        """Read and forget what has been asked, because production has passed since."""
        self._read()
        self._tries.clear()

    def in_vain(self, links: Collection[str]) -> dict[Asked, IPv4Address]:
        """Return a host for each address for which it has asked more than once on one of these interfaces. Listen on
        them from now on, and nowhere else. OSError where the host refuses a socket."""
        self._read()
        for link in self._sockets.keys() - set(links):
            self._sockets.pop(link).close()
            self._tries = Counter({key: count for key, count in self._tries.items() if key[0] != link})
        for link in set(links) - self._sockets.keys():
            self._sockets[link] = _listening(link)
        found = [key for key, count in self._tries.items() if count >= _MIN_TRIES]
        return {(link, target): sender for link, target, sender in found}

    def close(self) -> None:
        """Close the sockets."""
        for link in list(self._sockets):
            self._sockets.pop(link).close()

    def _read(self) -> None:
        for link, one in self._sockets.items():
            with suppress(OSError):  # nothing is left, or the interface is down
                for _ in range(_MAX_READ):
                    self._count(link, one.recv(_REQUEST.size))

    def _count(self, link: str, packet: bytes) -> None:
        if len(packet) < _REQUEST.size or len(self._tries) >= _MAX_COUNTED:
            return
        *kind, sender, target = _REQUEST.unpack_from(packet)
        if tuple(kind) == _ETHERNET_IPV4_REQUEST and any(sender) and sender != target:
            self._tries[link, IPv4Address(target), IPv4Address(sender)] += 1


def _listening(link: str) -> socket.socket:
    one = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    try:
        one.bind((link, _ETH_P_ARP))
    except OSError:
        one.close()
        raise
    return one
