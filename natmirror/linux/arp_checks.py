"""Checks of ARP: whether this host answers for the addresses by which clients and backends reach it; pure functions.

A host that gets no answer may still have the MAC address, or never need it. So this is a failure only once production
has stopped.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from natmirror.findings import Finding, PathCode
from natmirror.linux.arp_paths import ArpPaths
from natmirror.linux.host_state import HostState
from natmirror.linux.route_questions import backends_of
from natmirror.linux.route_refusals import Break, why_dead
from natmirror.linux.routes import Question
from natmirror.linux.sampled_clients import connected_links
from natmirror.rules import Rules, Service


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Addresses of this host for which the kernel answers no ARP request of some hosts."""

    service: str
    link: str
    addresses: tuple[IPv4Address, ...]
    asking: IPv4Network
    who: str
    why: Break


def find_arp_problems(rules: Rules, host: HostState) -> Iterator[Finding]:
    """Yield the problems with ARP requests that the kernel does not answer."""
    for one in _unanswered(rules, host):
        code = PathCode.ARP_IN_VAIN if host.has_stopped else PathCode.ARP_UNANSWERED
        yield code.found(
            interface=one.link,
            service=one.service,
            addresses=" or ".join(map(str, one.addresses)),
            who=one.who,
            why=one.why.problem,
            mend=one.why.mend,
        )


def _unanswered(rules: Rules, host: HostState) -> list[Unanswered]:
    """Return where the kernel answers no ARP request for a service's address, or for any address that hosts there may
    have as their gateway."""
    paths = ArpPaths(host)
    found = []
    for service in rules.services:
        for link, addresses, asking, who in dict.fromkeys([*_clients(service, rules, host), *_gateways(service, host)]):
            whys = [paths.why_unanswered(link, address, asking) for address in addresses]
            is_certain = None not in whys and not _has_beside(link, host) and why_dead(link, host) is None
            if whys and whys[0] is not None and is_certain:
                found.append(Unanswered(service.name, link, addresses, asking, who, whys[0]))
    return found


def _has_beside(link: str, host: HostState) -> bool:
    """Return whether a macvlan of this host is in the same network, which may answer: keepalived makes them."""
    return any(one.beside == link for one in host.details.values())


_Need = tuple[str, tuple[IPv4Address, ...], IPv4Network, str]
"""An interface, the addresses of which one has to be answered for, and the hosts that ask."""


def _clients(service: Service, rules: Rules, host: HostState) -> Iterator[_Need]:
    """Yield what clients beside this host need, or the routers to them."""
    for client in host.clients:
        answer = host.answers.get(Question(client.address))
        hop = None if answer is None else answer.next_hop(client.address)
        if not client.is_beside and hop is not None:
            yield from _gateway(hop[0], hop[1], f"the router {hop[0]}", host)
    if service.address not in host.addresses:
        return
    for network in rules.switches:
        for link in connected_links(network, host.links):
            if any(service.address in one for one in host.links[link]):
                yield link, (service.address,), network, f"clients in {network}"


def _gateways(service: Service, host: HostState) -> Iterator[_Need]:
    if service.pool is None or service.pool.asymmetric:
        return
    for backend in backends_of(service):
        answer = host.answers.get(Question(backend.address))
        hop = None if answer is None else answer.next_hop(backend.address)
        if hop is not None:
            yield from _gateway(hop[0], hop[1], "backends", host)


def _gateway(asking: IPv4Address, link: str, who: str, host: HostState) -> Iterator[_Need]:
    own = [one for one in host.own.get(link, ()) if asking in one.network]
    if own:
        yield link, tuple(one.ip for one in own), own[0].network, who
