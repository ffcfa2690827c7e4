"""The division of the clients among the packet threads.

A client's shard follows from the low bits of its address, which iptables can match. Both directions of a connection
carry the client's address. So do the packets of its legs; a leg that has an address of this host has a port in the
shard's range instead. So each thread has flows and legs of its own, and shares none with another.
"""

from dataclasses import dataclass
from ipaddress import IPv4Network

from natmirror.net.endpoint import parse_endpoint
from natmirror.net.icmp import IcmpError
from natmirror.rules.model import LEG_PORTS


@dataclass(frozen=True, slots=True)
class Shard:
    """One of ``count`` equal parts of all clients; ``count`` is a power of two."""

    number: int = 0
    count: int = 1

    @property
    def leg_ports(self) -> range:
        """The source ports of the shard's legs that come from an address of this host."""
        length = len(LEG_PORTS) // self.count
        return LEG_PORTS[self.number * length : (self.number + 1) * length]

    def clients_in(self, network: IPv4Network) -> str | None:
        """Return the shard's clients in a network as an address and a mask for iptables, or None if there are none."""
        if self.count == 1:
            return str(network)
        mask = int(network.netmask) | (self.count - 1)
        low = int(network.network_address) & int(network.netmask) & (self.count - 1)
        fixed = int(network.netmask) & (self.count - 1)
        if self.number & fixed != low:
            return None
        address = int(network.network_address) | self.number
        return f"{_dotted(address)}/{_dotted(mask)}"


ALL = Shard()
"""All clients."""


def shard_of_error(error: IcmpError, sources: set[bytes], count: int) -> int:
    """Return the number of the shard whose packet an ICMP error is about.

    The error was sent to a service or to this host. It is about a packet from the service to a client, or about a leg's
    packet, which came from one of ``sources``, addresses of this host.
    """
    if error.inner_src[0] in sources:
        port = error.inner_src[1]
        return next((number for number in range(count) if port in Shard(number, count).leg_ports), 0)
    return error.inner_dst[0][-1] & (count - 1)


def shard_of_client(client: str, count: int) -> int:
    """Return the number of a client's shard. The client is given as ``service/address:port``; ValueError for other
    text."""
    address, _ = parse_endpoint(client.rpartition("/")[2])
    return address[-1] & (count - 1)


def _dotted(number: int) -> str:
    return ".".join(str(number >> shift & 0xFF) for shift in (24, 16, 8, 0))
