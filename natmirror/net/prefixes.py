"""Networks that clients come from: the one test of whether an address lies in them."""

from collections.abc import Iterable
from ipaddress import IPv4Network


class ClientNetworks:
    """Networks; ``address in networks`` says whether an address, as raw bytes, lies in one of them."""

    __slots__ = ("masked",)

    def __init__(self, networks: Iterable[IPv4Network]) -> None:
        self.masked = [(int(network.network_address), int(network.netmask)) for network in networks]
        """Each network's address and mask."""

    def __contains__(self, address: bytes) -> bool:
        number = int.from_bytes(address, "big")
        for network, mask in self.masked:  # noqa: SIM110 - any() with a generator takes twice as long
            if number & mask == network:
                return True
        return False
