"""Which thread has a packet: clients are dealt out by the low bits of their addresses, which iptables can match.

Both directions of a connection carry the client's address, and so do its legs' packets, or else a port that was dealt
out likewise. So each thread has its own flows and legs, and shares none with another.
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
        """Where its legs with an address of ours come from."""
        length = len(LEG_PORTS) // self.count
        return LEG_PORTS[self.number * length : (self.number + 1) * length]

    def part_of(self, network: IPv4Network) -> str | None:
        """Its clients in a network, as iptables writes an address and a mask; None where there are none."""
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
    """Whose it is to heed an ICMP error that was met on its way to this host or a service: that of the client to whom
    the service had sent something, or of the leg that had come from one of ``sources``, addresses of ours."""
    if error.inner_src[0] in sources:
        port = error.inner_src[1]
        return next((number for number in range(count) if port in Shard(number, count).leg_ports), 0)
    return error.inner_dst[0][-1] & (count - 1)


def shard_of_client(client: str, count: int) -> int:
    """Which of ``count`` shards has a client, given as ``service/address:port``; ValueError where it is none."""
    address, _ = parse_endpoint(client.rpartition("/")[2])
    return address[-1] & (count - 1)


def _dotted(number: int) -> str:
    return ".".join(str(number >> shift & 0xFF) for shift in (24, 16, 8, 0))
