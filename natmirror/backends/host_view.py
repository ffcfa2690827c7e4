"""What the health checks need to know of this host. The package linux has the real answers, tests have their own."""

import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address
from typing import Protocol

from natmirror.net.endpoint import Endpoint

Target = Endpoint | IPv4Address
"""A host beside the backends: a mirror's endpoint, or a gateway's address."""


Bind = Callable[[socket.socket], None]
"""Prepares a socket that does not have an address yet."""


def bind_to_nothing(sock: socket.socket) -> None:
    """Leave a socket as it is."""


class HostView(Protocol):
    """This host, as the reason for which a check may fail. The methods may block, and are called in other threads."""

    def bind(self, sock: socket.socket) -> None:
        """Have a check's packets take the routes of production. OSError where the kernel refuses."""

    def why_cut_off(self, to: Endpoint) -> str | None:
        """Return which route or carrier this host lacks on the way to an endpoint; None if it has them, or nothing is
        known. A host that dies may take them with it: its end of a cable, the address that a routing protocol
        announced."""

    def why_dropped(self, source: Endpoint, to: Endpoint) -> str | None:
        """Return why this host drops its own SYN from ``source``; None if it does not, or nothing is known."""

    def second_targets(self, backend: IPv4Address, mirrors: Iterable[Endpoint]) -> list[Target]:
        """Return the gateway to a backend, and the mirrors that are reached through the same interface."""
