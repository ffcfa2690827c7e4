"""What on this host will keep the rules from working, and how to mend it.

``read_host()`` reads the machine; ``find_problems()`` is a pure function of what it saw.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from natmirror.errors import HostError
from natmirror.linux.descriptors import require_descriptors
from natmirror.linux.iptables import Firewall
from natmirror.rules import Backend, Mirror, Pair, Rules, Service

log = logging.getLogger("natmirror")

_SYSCTL = Path("/proc/sys/net/ipv4")
_CONNTRACK = "/proc/sys/net/netfilter/nf_conntrack_tcp_"
_STRICT = 1


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: ``error`` where packets will not pass, ``warning`` where some may not."""

    level: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}"


@dataclass(slots=True)
class HostState:
    """What was seen of a host."""

    forwarding: bool = True
    addresses: set[IPv4Address] = field(default_factory=set)
    """Its own addresses."""
    interfaces: set[str] = field(default_factory=set)
    links: dict[str, list[IPv4Network]] = field(default_factory=dict)
    """Its interfaces, with the networks that they are directly connected to."""
    routes: dict[IPv4Address, str | None] = field(default_factory=dict)
    """The interface that a packet to each address of the rules leaves by; None where there is no route."""
    rp_filter: dict[str, int] = field(default_factory=dict)
    """net.ipv4.conf.*.rp_filter by interface, ``all`` among them."""
    conntrack: dict[str, int] = field(default_factory=dict)
    """net.netfilter.nf_conntrack_tcp_* by the rest of their names; none where conntrack is not loaded."""
    forward_policy: str = "ACCEPT"
    forward_has_rules: bool = False


def check(rules: Rules, firewall: Firewall) -> list[Finding]:
    """What will not work on this host by these rules."""
    return list(find_problems(rules, read_host(rules, firewall)))


def log_findings(rules: Rules, firewall: Firewall) -> None:
    """Log what rules of this host hardly mean, and what will not work by them."""
    for warning in rules.warnings:
        log.warning("rules: %s", warning)
    for finding in check(rules, firewall):
        log.log(logging.ERROR if finding.level == "error" else logging.WARNING, "preflight: %s", finding)


def find_problems(rules: Rules, host: HostState) -> Iterator[Finding]:
    """What will not work by these rules on a host like this."""
    if not host.forwarding:
        yield Finding(
            "error",
            "this host does not forward packets (net.ipv4.ip_forward = 0)",
            "run: sysctl -w net.ipv4.ip_forward=1",
        )
    if host.forward_policy == "DROP":
        level = "warning" if host.forward_has_rules else "error"
        yield Finding(
            level,
            "iptables' FORWARD policy is DROP",
            "accept what passes between switches and controllers, for one: iptables -I FORWARD -s"
            f" {rules.switches[0]} -j ACCEPT and iptables -I FORWARD -d {rules.switches[0]} -j ACCEPT, and what legs"
            " send: iptables -I FORWARD -i natmirror+ -j ACCEPT",
        )
    virtual = {address.ip for address in rules.ha.addresses} if rules.ha else set()
    for service in rules.services:
        yield from _service(service, host, virtual)
        for target in _targets(service):
            if host.routes.get(target.address) is None and target.address not in host.addresses:
                yield Finding(
                    "error",
                    f"there is no route to {target.name} ({target.address}) of service {service.name}",
                    f"add one, for one: ip route add {target.address}/32 via GATEWAY",
                )
        for mirror in service.mirrors:
            if mirror.source is not None and mirror.source not in host.addresses | virtual:
                yield Finding(
                    "error",
                    f"{mirror.source}, where legs to {mirror.name} of service {service.name} come from, is no address"
                    " of this host",
                    f"run: ip address add {mirror.source}/32 dev LINK",
                )
    if rules.ha is not None:
        yield from _pair(rules.ha, host)
    yield from _reverse_path(host)


def _pair(pair: Pair, host: HostState) -> Iterator[Finding]:
    one = pair.host_with(host.addresses)
    if one is None:
        yield Finding(
            "error",
            "this host is none of the pair: it has not both addresses of "
            + " or of ".join(f"{one.name} ({one.switch_side}, {one.pool_side})" for one in pair.hosts),
            "mend ha.hosts in the rules, or give it its addresses",
        )
    for side, own in (
        (pair.switch_side, one and one.switch_side),
        (pair.pool_side, one and one.pool_side),
    ):
        if side.interface not in host.interfaces:
            yield Finding(
                "error",
                f"there is no interface {side.interface}, which is to have {', '.join(map(str, side.addresses))}",
                "mend ha in the rules",
            )
        elif own is not None and not any(own in network for network in host.links.get(side.interface, ())):
            yield Finding(
                "error",
                f"{own} is no address of {side.interface}, where the other host is to hear of this one",
                "mend ha in the rules",
            )
    for name, what in _CONNTRACK_OF_A_PAIR.items():
        if host.conntrack.get(name, 1) == 0:
            yield Finding(
                "warning",
                f"conntrack {what}: a firewall here that drops INVALID packets would end connections that the other"
                " host has passed before",
                f"run: sysctl -w net.netfilter.nf_conntrack_tcp_{name}=1",
            )


_CONNTRACK_OF_A_PAIR = {
    "be_liberal": "takes packets far ahead of those it has seen for INVALID",
    "loose": "takes a connection that it meets in its middle for INVALID",
}


def _targets(service: Service) -> list[Backend | Mirror]:
    return [*service.mirrors, *(service.pool.backends if service.pool else ())]


def _service(service: Service, host: HostState, virtual: set[IPv4Address]) -> Iterator[Finding]:
    if service.address in host.addresses | virtual:
        return
    for link, networks in host.links.items():
        for network in networks:
            if service.address in network:
                yield Finding(
                    "error" if service.pool else "warning",
                    f"nobody may own {service.address} of service {service.name}: it lies in {network} on {link},"
                    " but is no address of this host",
                    f"run: ip address add {service.address}/{network.prefixlen} dev {link}",
                )


def _reverse_path(host: HostState) -> Iterator[Finding]:
    """A strict reverse path filter drops what comes in by another interface than its way back: with a symmetric network
    nothing, with an asymmetric one production."""
    for link in dict.fromkeys(host.routes.values()):
        if link and max(host.rp_filter.get(link, 0), host.rp_filter.get("all", 0)) == _STRICT:
            yield Finding(
                "warning",
                f"the reverse path filter of {link} is strict: what backends or mirrors send by another way is lost",
                f"if the network is asymmetric, run: sysctl -w net.ipv4.conf.{link}.rp_filter=2",
            )


def read_host(rules: Rules, firewall: Firewall) -> HostState:
    """Read from this host what find_problems() needs. HostError where it cannot be read."""
    host = HostState(forwarding=_read(_SYSCTL / "ip_forward") == 1)
    try:
        directories = list((_SYSCTL / "conf").iterdir())
    except OSError as error:
        raise HostError(f"cannot read {_SYSCTL}: {error.strerror}") from None
    for directory in directories:
        host.rp_filter[directory.name] = _read(directory / "rp_filter")
    for name in _CONNTRACK_OF_A_PAIR:
        if (file := Path(_CONNTRACK + name)).exists():
            host.conntrack[name] = _read(file)
    host.forward_policy, host.forward_has_rules = firewall.forward_policy()
    try:
        require_descriptors()
        with IPRoute() as netlink:
            _read_links(netlink, rules, host)
    except (NetlinkError, OSError) as error:
        raise HostError(f"cannot read this host's addresses and routes: {error}") from None
    return host


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
