"""This host's current addresses."""

from ipaddress import IPv4Address, IPv4Interface
from socket import AF_INET

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from natmirror.errors import HostError
from natmirror.linux import descriptors
from natmirror.rules.addresses import OWN_ADDRESS, no_hosts_of


def own_addresses() -> set[IPv4Address]:
    """Return all IPv4 addresses of this network namespace. HostError where the kernel refuses."""
    return {interface.ip for interface in own_interfaces()}


def taken_addresses() -> dict[IPv4Address, str]:
    """Return the addresses that no other host can have, because this host or a network of its has them, and what each
    is. HostError where the kernel refuses."""
    interfaces, taken = own_interfaces(), dict[IPv4Address, str]()
    for interface in interfaces:
        taken |= no_hosts_of(interface.network)
    return taken | {interface.ip: OWN_ADDRESS for interface in interfaces}


def own_interfaces() -> list[IPv4Interface]:
    """Return all IPv4 addresses of this network namespace with their networks. HostError where the kernel refuses."""
    try:
        with descriptors.enough(), IPRoute() as netlink:
            return [
                IPv4Interface((address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS"), address["prefixlen"]))
                for address in netlink.get_addr(family=AF_INET)
            ]
    except (NetlinkError, OSError) as error:
        raise HostError(f"cannot read the addresses of this host: {error}") from None
