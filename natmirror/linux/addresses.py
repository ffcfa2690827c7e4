"""This host's current addresses."""

from ipaddress import IPv4Address
from socket import AF_INET

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from natmirror.errors import HostError
from natmirror.linux.descriptors import require_descriptors


def own_addresses() -> set[IPv4Address]:
    """Return all IPv4 addresses of this network namespace. HostError where the kernel refuses."""
    try:
        require_descriptors()
        with IPRoute() as netlink:
            return {
                IPv4Address(address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS"))
                for address in netlink.get_addr(family=AF_INET)
            }
    except (NetlinkError, OSError) as error:
        raise HostError(f"cannot read the addresses of this host: {error}") from None
