"""What the health checks need to know of this host. The package linux has the real answers, tests have their own."""

from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import Protocol

from natmirror.net.endpoint import Endpoint

Target = Endpoint | IPv4Address
"""A host beside the backends: a mirror's endpoint, or a gateway's address."""


class HostView(Protocol):
    """This host, as the reason for which a check may fail. The methods may block, and are called in other threads."""

    def why_unreachable(self, source: Endpoint, to: Endpoint) -> str | None:
        """Return why this host's own SYN from ``source`` does not leave it; None if it does, or nothing is known."""

    def second_targets(self, backend: IPv4Address, mirrors: Iterable[Endpoint]) -> list[Target]:
        """Return the gateway to a backend, and the mirrors that are reached through the same interface."""
