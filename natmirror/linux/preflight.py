"""The check for settings of this host that keep the rules from working; each finding has the command that corrects it.

``read_host()`` reads the host's state; ``find_problems()`` is a pure function of that state.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from natmirror.errors import HostError
from natmirror.findings import Finding
from natmirror.findings import FindingCode as Code
from natmirror.linux import commands
from natmirror.linux.descriptors import require_descriptors
from natmirror.linux.foreign_rules import BaseChain, from_iptables, from_nft
from natmirror.linux.iptables import BACKENDS, Firewall, legacy_is_in_use
from natmirror.linux.memory_limit import memory_limit, most_memory
from natmirror.linux.rule_walk import Routes, drops_invalid, find_drops
from natmirror.rules import Backend, Mirror, Pair, Rules, Service

_SYSCTL = Path("/proc/sys/net/ipv4")
_CONNTRACK_FILES = "/proc/sys/net/netfilter/nf_conntrack_tcp_"
_STRICT = 1


@dataclass(frozen=True, slots=True)
class Features:
    """What iptables, the kernel and the service manager offer; it does not change while natmirror runs."""

    can_limit: bool = True
    """Whether iptables and the kernel have what limit-per-client needs, if the rules have that key."""
    can_check_paths: bool = True
    """Whether iptables can tell by the interface whether a packet is a mirror's."""
    memory_limit: int | None = None
    """Bytes of memory that this process may take; None: no limit is set."""


@dataclass(slots=True)
class HostState:
    """The state of a host, as far as the rules depend on it."""

    forwarding: bool = True
    addresses: set[IPv4Address] = field(default_factory=set)
    """The host's own addresses."""
    interfaces: set[str] = field(default_factory=set)
    links: dict[str, list[IPv4Network]] = field(default_factory=dict)
    """Directly connected networks by interface."""
    routes: dict[IPv4Address, str | None] = field(default_factory=dict)
    """The outgoing interface by address, for each backend and mirror in the rules; None where there is no route."""
    rp_filter: dict[str, int] = field(default_factory=dict)
    """net.ipv4.conf.*.rp_filter by interface, ``all`` included."""
    conntrack: dict[str, int] = field(default_factory=dict)
    """net.netfilter.nf_conntrack_tcp_* by the rest of the name; empty where conntrack is not loaded."""
    client_routes: dict[IPv4Network, str | None] = field(default_factory=dict)
    """The outgoing interface by network, for each network of clients; None where there is no route."""
    chains: list[BaseChain] = field(default_factory=list)
    """Other programs' filter rules."""
    features: Features = field(default_factory=Features)

    @property
    def links_to(self) -> Routes:
        """The outgoing interface for each backend, mirror and network of clients."""
        return dict[IPv4Address | IPv4Network, str | None]([*self.routes.items(), *self.client_routes.items()])


def check(rules: Rules, features: Features) -> list[Finding]:
    """Return the problems of this host with these rules. HostError where its state cannot be read."""
    return list(find_problems(rules, read_host(rules, features)))


def find_problems(rules: Rules, host: HostState) -> Iterator[Finding]:
    """Yield the problems of a host in this state with these rules."""
    if not host.forwarding:
        yield Code.NO_FORWARDING.found()
    if not host.features.can_limit:
        yield Code.NO_HASHLIMIT.found()
    yield from find_drops(rules, host.links_to, host.chains)
    yield from _conntrack(rules, host)
    virtual = {address.ip for address in rules.ha.addresses} if rules.ha else set()
    for service in rules.services:
        yield from _service_address(service, host, virtual)
        for target in _targets(service):
            if host.routes.get(target.address) is None and target.address not in host.addresses:
                code = Code.NO_ROUTE_TO_MIRROR if isinstance(target, Mirror) else Code.NO_ROUTE_TO_BACKEND
                yield code.found(name=target.name, address=target.address, service=service.name)
        for mirror in service.mirrors:
            if mirror.source is not None and mirror.source not in host.addresses | virtual:
                yield Code.SOURCE_MISSING.found(name=mirror.name, address=mirror.source, service=service.name)
    mirrored = [service for service in rules.services if service.mirrors]
    checked = [mirror for service in mirrored for mirror in service.mirrors if not mirror.asymmetric]
    pools = [service.pool for service in mirrored if service.pool and not service.pool.asymmetric]
    if not host.features.can_check_paths and (checked or pools):
        yield Code.NO_RPFILTER_MATCH.found()
    most = most_memory(rules)
    if host.features.memory_limit is not None and host.features.memory_limit < most:
        yield Code.MEMORY_LIMIT.found(most=most >> 20, limit=host.features.memory_limit >> 20)
    if rules.ha is not None:
        yield from _pair(rules.ha, host)
    yield from _reverse_path(host)


def _conntrack(rules: Rules, host: HostState) -> Iterator[Finding]:
    """Yield a problem for each setting by which conntrack calls good packets INVALID: of a host alone those of
    connections that conntrack does not know, if a rule drops INVALID packets; of a pair also those of connections that
    the other host has passed."""
    strict = [name for name in _CONNTRACK_SETTINGS if host.conntrack.get(name, 1) == 0]
    if rules.ha is None:
        strict = [name for name in strict if name == "loose"]
    place = drops_invalid(rules, host.links_to, host.chains) if strict else None
    for name in strict:
        packets = _CONNTRACK_SETTINGS[name]
        if place is not None:
            yield Code.INVALID_DROPPED.found(place=place, setting=name, packets=packets)
        elif rules.ha is not None:
            yield Code.CONNTRACK_STRICT.found(setting=name, packets=packets)


def _pair(pair: Pair, host: HostState) -> Iterator[Finding]:
    own_host = pair.host_with(host.addresses)
    if own_host is None:
        hosts = " nor of ".join(f"{one.name} ({one.switch_side}, {one.pool_side})" for one in pair.hosts)
        yield Code.NOT_IN_PAIR.found(hosts=hosts)
    for key, side, own in (
        ("switch-side", pair.switch_side, own_host and own_host.switch_side),
        ("pool-side", pair.pool_side, own_host and own_host.pool_side),
    ):
        if side.interface not in host.interfaces:
            addresses = ", ".join(map(str, side.addresses))
            yield Code.NO_PAIR_INTERFACE.found(interface=side.interface, addresses=addresses, key=key)
        elif own is not None and not any(own in network for network in host.links.get(side.interface, ())):
            length = next((address.network.prefixlen for address in side.addresses if own in address.network), 32)
            yield Code.PAIR_ADDRESS_ELSEWHERE.found(address=own, interface=side.interface, length=length, key=key)


_CONNTRACK_SETTINGS = {
    "be_liberal": "packets outside the TCP window that it knows",
    "loose": "connections that it picks up without their SYN",
}


def _targets(service: Service) -> list[Backend | Mirror]:
    return [*service.mirrors, *(service.pool.backends if service.pool else ())]


def _service_address(service: Service, host: HostState, virtual: set[IPv4Address]) -> Iterator[Finding]:
    if service.address in host.addresses | virtual:
        return
    for link, networks in host.links.items():
        for network in networks:
            if service.address in network:
                yield Code.SERVICE_ADDRESS_MISSING.found(
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
            yield Code.STRICT_REVERSE_PATH.found(interface=link)


def read_features(rules: Rules, firewall: Firewall) -> Features:
    """Read what this host offers. HostError where it cannot be read."""
    limit = rules.limit_per_client
    can_limit = limit is None or firewall.can_limit(limit)
    return Features(can_limit, firewall.can_check_paths(), memory_limit())


def read_host(rules: Rules, features: Features) -> HostState:
    """Read the state of this host for find_problems(). HostError where it cannot be read."""
    host = HostState(forwarding=_read(_SYSCTL / "ip_forward") == 1, features=features)
    try:
        directories = list((_SYSCTL / "conf").iterdir())
    except OSError as error:
        raise HostError(f"cannot read {_SYSCTL}: {error.strerror}") from None
    for directory in directories:
        host.rp_filter[directory.name] = _read(directory / "rp_filter")
    for name in _CONNTRACK_SETTINGS:
        if (file := Path(_CONNTRACK_FILES + name)).exists():
            host.conntrack[name] = _read(file)
    host.chains = read_chains()
    try:
        require_descriptors()
        with IPRoute() as netlink:
            _read_links(netlink, rules, host)
    except (NetlinkError, OSError) as error:
        raise HostError(f"cannot read this host's addresses and routes: {error}") from None
    return host


def read_chains() -> list[BaseChain]:
    """Return other programs' filter rules on this host. HostError where they cannot be read."""
    found: list[BaseChain] = []
    for backend in BACKENDS:
        program = f"iptables-{backend}-save"
        if shutil.which(program) is not None and (backend == "nft" or legacy_is_in_use()):
            found += from_iptables(commands.run([program], package="iptables"), backend)
    if shutil.which("nft") is not None:
        found += from_nft(commands.run(["nft", "-j", "-s", "list", "ruleset"], package="nftables"))
    return found


def _read_links(netlink: IPRoute, rules: Rules, host: HostState) -> None:
    names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in netlink.get_links()}
    host.interfaces = set(names.values())
    for address in netlink.get_addr(family=2):
        own = IPv4Address(address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS"))
        host.addresses.add(own)
        name = names.get(address["index"], "?")
        if name != "lo":
            network = IPv4Network((own, address["prefixlen"]), strict=False)
            host.links.setdefault(name, []).append(network)
    for network in rules.switches:
        other = next((one for one in network.hosts() if one not in host.addresses), network.network_address)
        host.client_routes[network] = _outgoing_interface(netlink, names, other)
    for service in rules.services:
        for target in _targets(service):
            host.routes[target.address] = _outgoing_interface(netlink, names, target.address)


def _outgoing_interface(netlink: IPRoute, names: dict[int, str], address: IPv4Address) -> str | None:
    try:
        routes = list(netlink.route("get", dst=str(address)))
    except NetlinkError:
        return None
    index = routes[0].get_attr("RTA_OIF") if routes else None
    return names.get(index) if index is not None else None


def _read(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
