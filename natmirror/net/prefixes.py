"""The client networks, and the test of whether an address lies in one of them."""

from collections.abc import Iterable
from ipaddress import IPv4Network


class ClientNetworks:
    """A set of networks; ``address in networks`` tests an address given as raw bytes."""

    __slots__ = ("masked",)

    def __init__(self, networks: Iterable[IPv4Network]) -> None:
        self.masked = [(int(network.network_address), int(network.netmask)) for network in networks]
        """Each network's address and mask, as numbers."""

    def __contains__(self, address: bytes) -> bool:
        number = int.from_bytes(address, "big")
        for network, mask in self.masked:  # noqa: SIM110 - any() with a generator takes twice as long
            if number & mask == network:
                return True
        return False
