"""The addresses that this host has at the moment."""

from ipaddress import IPv4Address
from socket import AF_INET

from pyroute2 import IPRoute


def own_addresses() -> set[IPv4Address]:
    """All IPv4 addresses of this network namespace."""
    with IPRoute() as netlink:
        return {
            IPv4Address(address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS"))
            for address in netlink.get_addr(family=AF_INET)
        }
