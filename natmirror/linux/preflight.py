"""The check for settings of this host that keep the rules from working; each finding has the command that corrects it.

``read_host()`` reads the host's state; ``find_problems()`` is a pure function of that state.
"""

from collections.abc import Collection, Iterator
from ipaddress import IPv4Address

from natmirror.findings import Finding, HostCode, PathCode
from natmirror.linux.arp_checks import find_arp_problems
from natmirror.linux.attachment_watch import AttachmentWatch, Passing
from natmirror.linux.host_state import CONNTRACK_SETTINGS, Features, HostState, read_host
from natmirror.linux.interfaces import setting_of
from natmirror.linux.memory_limit import most_memory
from natmirror.linux.path_checks import (
    find_client_problems,
    find_forwarding_problems,
    find_link_problems,
    find_path_problems,
    find_socket_problems,
)
from natmirror.linux.route_checks import find_route_problems
from natmirror.linux.rule_findings import drops_invalid, find_drops
from natmirror.linux.rule_reader import RuleReader
from natmirror.linux.sampled_clients import LiveClients
from natmirror.linux.unknown_form import UnknownFormError
from natmirror.rules import Pair, Rules, Service

_STRICT = 1


def check(
    rules: Rules,
    features: Features,
    rule_reader: RuleReader,
    live: LiveClients,
    silent: Collection[str],
    attachments: AttachmentWatch,
    passing: Passing,
    now: float,
) -> list[Finding]:
    """Return the problems of this host with these rules. ``live`` and ``silent`` as for read_host(), ``now`` as for
    AttachmentWatch. HostError where its state cannot be read."""
    try:
        host = read_host(rules, features, rule_reader, live, silent)
        host.has_stopped = passing.stopped_at is not None
        found, by_attachments = list(find_problems(rules, host)), attachments.look(host.traffic, passing, now, silent)
        return found if any(one.stops_production for one in found) else found + by_attachments
    except UnknownFormError as error:
        return [HostCode.NOT_UNDERSTOOD.found(name="this host's addresses, routes and sockets", error=error)]


def find_problems(rules: Rules, host: HostState) -> Iterator[Finding]:
    """Yield the problems of a host in this state with these rules."""
    for name, error in host.not_understood.items():
        yield HostCode.NOT_UNDERSTOOD.found(name=name, error=error)
    yield from find_forwarding_problems(rules, host)
    yield from find_link_problems(rules, host)
    yield from find_socket_problems(rules, host)
    yield from find_client_problems(rules, host)
    yield from find_route_problems(rules, host)
    yield from find_arp_problems(rules, host)
    if not host.features.can_reassemble:
        yield HostCode.NO_SOCKET_MATCH.found()
    if not host.features.can_limit:
        yield HostCode.NO_HASHLIMIT.found()
    yield from find_drops(rules, host.surroundings, host.chains)
    yield from _conntrack(rules, host)
    virtual = {address.ip for address in rules.ha.addresses} if rules.ha else set()
    for service in rules.services:
        yield from _service_address(service, host, virtual)
        yield from find_path_problems(service, host)
        for mirror in service.mirrors:
            if mirror.source is not None and mirror.source not in host.addresses | virtual:
                yield PathCode.SOURCE_MISSING.found(name=mirror.name, address=mirror.source, service=service.name)
    mirrored = [service for service in rules.services if service.mirrors]
    checked = [mirror for service in mirrored for mirror in service.mirrors if not mirror.asymmetric]
    pools = [service.pool for service in mirrored if service.pool and not service.pool.asymmetric]
    if not host.features.can_check_paths and (checked or pools):
        yield HostCode.NO_RPFILTER_MATCH.found()
    most = most_memory(rules)
    if host.features.memory_limit is not None and host.features.memory_limit < most:
        yield HostCode.MEMORY_LIMIT.found(most=most >> 20, limit=host.features.memory_limit >> 20)
    if rules.ha is not None:
        yield from _pair(rules.ha, host)
    yield from _reverse_path(host)


def _conntrack(rules: Rules, host: HostState) -> Iterator[Finding]:
    """Yield a problem for each setting by which conntrack calls good packets INVALID: of a host alone those of
    connections that conntrack does not know, if a rule drops INVALID packets; of a pair also those of connections that
    the other host has passed."""
    strict = [name for name in CONNTRACK_SETTINGS if host.conntrack.get(name, 1) == 0]
    if rules.ha is None:
        strict = [name for name in strict if name == "loose"]
    place = drops_invalid(rules, host.surroundings, host.chains) if strict else None
    for name in strict:
        packets = CONNTRACK_SETTINGS[name]
        if place is not None:
            yield HostCode.INVALID_DROPPED.found(place=place, setting=name, packets=packets)
        elif rules.ha is not None:
            yield HostCode.CONNTRACK_STRICT.found(setting=name, packets=packets)


def _pair(pair: Pair, host: HostState) -> Iterator[Finding]:
    own_host = pair.host_with(host.addresses)
    if own_host is None:
        hosts = " nor of ".join(f"{one.name} ({one.switch_side}, {one.pool_side})" for one in pair.hosts)
        yield HostCode.NOT_IN_PAIR.found(hosts=hosts)
    for key, side, own in (
        ("switch-side", pair.switch_side, own_host and own_host.switch_side),
        ("pool-side", pair.pool_side, own_host and own_host.pool_side),
    ):
        if side.interface not in host.interfaces:
            addresses = ", ".join(map(str, side.addresses))
            yield HostCode.NO_PAIR_INTERFACE.found(interface=side.interface, addresses=addresses, key=key)
        elif own is not None and not any(own in network for network in host.links.get(side.interface, ())):
            length = next((address.network.prefixlen for address in side.addresses if own in address.network), 32)
            yield HostCode.PAIR_ADDRESS_ELSEWHERE.found(address=own, interface=side.interface, length=length, key=key)


def _service_address(service: Service, host: HostState, virtual: set[IPv4Address]) -> Iterator[Finding]:
    if service.address in host.addresses | virtual:
        return
    for link, networks in host.links.items():
        for network in networks:
            if service.address in network:
                yield PathCode.SERVICE_ADDRESS_MISSING.found(
                    address=service.address,
                    service=service.name,
                    network=network,
                    interface=link,
                    length=network.prefixlen,
                )


def _reverse_path(host: HostState) -> Iterator[Finding]:
    """Yield a problem for each interface whose reverse path filter is strict. A strict filter drops packets that arrive
    on another interface than the one with the route to their source: in an asymmetric network, packets of backends."""
    for link in dict.fromkeys(host.routes.values()):
        if link and max(host.rp_filter.get(link, 0), host.rp_filter.get("all", 0)) == _STRICT:
            yield HostCode.STRICT_REVERSE_PATH.found(interface=link, setting=setting_of(link, "rp_filter"))
