"""Addresses that stand for the clients of the rules: some of each network, and some that are connected now."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

_TRIES = 16
_NO_HOST = IPv4Network("0.0.0.0/8")


@dataclass(frozen=True, slots=True)
class Client:
    """An address of a client, and the interfaces by which its packets may come in."""

    address: IPv4Address
    network: IPv4Network
    """The network in the rules."""
    links: tuple[str, ...]
    is_beside: bool
    """Whether this host has an interface with an address in a network that contains the whole network in the rules."""
    is_live: bool = False
    """Whether it has a connection, or has just had one."""
    was_answered: bool = False
    """Whether it has got a backend's answer. Then this host had a route for the answer."""


@dataclass(frozen=True, slots=True)
class LiveClients:
    """Some clients that have connections, each with whether it has got a backend's answer."""

    answered: Mapping[IPv4Address, bool] = field(default_factory=dict)
    are_all: bool = False


def sample(network: IPv4Network, taken: Container[IPv4Address]) -> list[IPv4Address]:
    """Return addresses at the two ends of a network at which clients may be. ``taken`` has addresses that no client can
    have."""
    edge = 0 if network.prefixlen >= 31 else 1
    first, last = int(network.network_address) + edge, int(network.broadcast_address) - edge
    ends = range(first, min(first + _TRIES, last + 1)), range(last, max(last - _TRIES, first - 1), -1)
    found = (
        next((one for number in end if _is_host(one := IPv4Address(number)) and one not in taken), None) for end in ends
    )
    return list(dict.fromkeys(one for one in found if one is not None))


def _is_host(address: IPv4Address) -> bool:
    return not (address.is_multicast or address.is_reserved or address.is_loopback or address in _NO_HOST)


def connected_links(network: IPv4Network, links: Mapping[str, Iterable[IPv4Network]]) -> list[str]:
    """Return the interfaces of which a connected network contains the whole network. ``links`` has the connected
    networks by interface."""
    return [link for link, networks in links.items() if any(network.subnet_of(one) for one in networks)]
