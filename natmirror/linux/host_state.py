"""The state of this host, as far as the rules depend on it, and how it is read."""

import gc
import socket
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from pyroute2 import DiagSocket, IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from natmirror.errors import HostError
from natmirror.linux import descriptors
from natmirror.linux.flights import Surroundings
from natmirror.linux.foreign_rules import BaseChain
from natmirror.linux.interfaces import DOCTORS_PORT, Link, read_addresses, read_links
from natmirror.linux.iptables import Firewall
from natmirror.linux.memory_limit import memory_limit
from natmirror.linux.pauses import give_way
from natmirror.linux.policy_rules import PolicyRule, Routing, refusing_rules, routing
from natmirror.linux.queue_readers import unread_queues
from natmirror.linux.route_questions import questions, sent_to
from natmirror.linux.routes import Answer, Neighbour, Place, Question, RefusingRoute, RouteSocket
from natmirror.linux.rule_reader import RuleReader
from natmirror.linux.sampled_clients import Client, LiveClients, connected_links, sample
from natmirror.linux.traffic_control import Traffic, read_traffic
from natmirror.linux.unknown_form import UnknownFormError, understanding
from natmirror.linux.vrf import of_clients
from natmirror.linux.xfrm import Policy, read_policies
from natmirror.rules import Backend, Mirror, Rules, Service

_SYSCTL = Path("/proc/sys/net/ipv4")
_CONNTRACK_FILES = "/proc/sys/net/netfilter/nf_conntrack_tcp_"
CONNTRACK_SETTINGS = {
    "be_liberal": "packets outside the TCP window that it knows",
    "loose": "connections that it picks up without their SYN",
}
"""net.netfilter.nf_conntrack_tcp_* by the rest of the name: the packets that conntrack calls INVALID if it is 0."""

_UNPOLICED = {"fwd": "disable_policy", "out": "disable_xfrm"}
"""net.ipv4.conf.*.NAME by the direction of the IPsec policies that it disables: of the interface by which packets come
in, and of that by which they go out."""

_SYN_SENT, _LISTEN = 1 << 2, 1 << 10  # of TCP's states in include/net/tcp_states.h
_CONNECTING = 2


Endpoint = tuple[IPv4Address, int]


@dataclass(frozen=True, slots=True)
class Features:
    """What iptables, the kernel and the service manager offer; it does not change while natmirror runs."""

    can_limit: bool = True
    """Whether iptables and the kernel have what limit-per-client needs, if the rules have that key."""
    can_reassemble: bool = True
    """Whether iptables and the kernel have the match socket, by which the kernel reassembles fragments."""
    can_check_paths: bool = True
    """Whether iptables can tell by the interface whether a packet is a mirror's."""
    memory_limit: int | None = None
    """Bytes of memory that this process may take; None: no limit is set."""


@dataclass(slots=True)
class HostState:
    """The state of a host, as far as the rules depend on it."""

    forwarding: dict[str, int] = field(default_factory=dict)
    """net.ipv4.conf.*.forwarding by interface."""
    addresses: set[IPv4Address] = field(default_factory=set)
    """The host's own addresses."""
    hidden: set[IPv4Address] = field(default_factory=set)
    """Those that are valid on this host alone (scope host)."""
    interfaces: set[str] = field(default_factory=set)
    links: dict[str, list[IPv4Network]] = field(default_factory=dict)
    """Directly connected networks by interface."""
    own: dict[str, list[IPv4Interface]] = field(default_factory=dict)
    """The host's own addresses by interface."""
    routes: dict[IPv4Address, str | None] = field(default_factory=dict)
    """The outgoing interface by address, for each backend and mirror in the rules; None where there is no route. It is
    that of this host's own packets or, if these have no route, of the packets that it passes."""
    rp_filter: dict[str, int] = field(default_factory=dict)
    """net.ipv4.conf.*.rp_filter by interface, ``all`` included."""
    arp_ignore: dict[str, int] = field(default_factory=dict)
    """net.ipv4.conf.*.arp_ignore by interface, of those that packets take, ``all`` included."""
    conntrack: dict[str, int] = field(default_factory=dict)
    """net.netfilter.nf_conntrack_tcp_* by the rest of the name; empty where conntrack is not loaded."""
    client_routes: dict[IPv4Network, str | None] = field(default_factory=dict)
    """The outgoing interface by network, for each network of clients; None where there is no route."""
    chains: list[BaseChain] = field(default_factory=list)
    """Other programs' filter rules."""
    details: dict[str, Link] = field(default_factory=dict)
    """MTU and carrier by interface."""
    listeners: set[Endpoint] = field(default_factory=set)
    """The addresses and ports on which programs of this host listen; 0.0.0.0 is any address."""
    connecting: set[Endpoint] = field(default_factory=set)
    """The endpoints to which programs of this host connect now, without an answer yet."""
    traffic: dict[str, Traffic] = field(default_factory=dict)
    """What gets the packets of the interfaces of clients, backends and mirrors, beside the kernel's hooks."""
    unread_queues: set[int] = field(default_factory=set)
    """The NFQUEUEs of other programs' rules that no program reads."""
    features: Features = field(default_factory=Features)
    clients: list[Client] = field(default_factory=list)
    """Addresses that stand for the clients."""
    knows_all_clients: bool = False
    """Whether ``clients`` has each client that has connections."""
    silent: Container[str] = ()
    """The backends and mirrors that answer nothing, as subjects of findings."""
    neighbours: dict[Place, Neighbour] = field(default_factory=dict)
    """The next hops to the clients, backends and mirrors, as far as the kernel has entries for them."""
    static_links: set[str] = field(default_factory=set)
    """The interfaces that have neighbours which ARP has not found out; read only where ARP may not pass."""
    has_stopped: bool = False
    """Whether production has passed, and does so no more."""
    answers: dict[Question, Answer] = field(default_factory=dict)
    """The kernel's answers about the routes of packets; about those that this host forwards none if ``routing`` is
    unknown."""
    routing: Routing = Routing.ALIKE
    refusing_rules: list[PolicyRule] = field(default_factory=list)
    """The policy rules that refuse packets, by priority; empty as long as the kernel refuses none."""
    policies: list[Policy] = field(default_factory=list)
    """IPsec policies for forwarded packets, by priority; empty if none blocks."""
    unpoliced: dict[str, set[str]] = field(default_factory=dict)
    """By the direction of IPsec policies, the interfaces on which none blocks a packet, ``all`` included; read only if
    a policy blocks."""
    refusing_routes: list[RefusingRoute] = field(default_factory=list)
    """The routes that refuse packets; empty as long as the kernel refuses none."""
    not_understood: dict[str, UnknownFormError] = field(default_factory=dict)
    """What of this state natmirror has not understood, and why; it is empty here."""

    @property
    def filtered(self) -> set[str]:
        """The interfaces at which tc filters may change what comes in."""
        return {link for link, traffic in self.traffic.items() if traffic.may_change}

    @property
    def surroundings(self) -> Surroundings:
        """What decides how packets look at the hooks of this host."""
        routes = dict[IPv4Address | IPv4Network, str | None]([*self.routes.items(), *self.client_routes.items()])
        for one in self.clients:
            if one.links and not one.is_beside and one.links != (routes.get(one.network),):
                routes[one.network] = None
        return Surroundings(
            routes,
            {name: self.links[name] for name, link in self.details.items() if name in self.links and not link.is_port},
            self.addresses,
            [name for name, link in self.details.items() if link.is_bridge],
            self.filtered,
            self.unread_queues,
        )


def read_features(rules: Rules, firewall: Firewall) -> Features:
    """Read what this host offers. HostError where it cannot be read."""
    limit = rules.limit_per_client
    can_limit = limit is None or firewall.can_limit(limit)
    return Features(can_limit, firewall.can_reassemble(), firewall.can_check_paths(), memory_limit())


def read_host(
    rules: Rules, features: Features, rule_reader: RuleReader, live: LiveClients, silent: Container[str]
) -> HostState:
    """Read the state of this host for find_problems(). ``silent`` has the backends and mirrors that answer nothing, as
    subjects of findings. HostError where the state cannot be read, UnknownFormError where natmirror does not understand
    it; other programs' rules and policy rules that it does not understand are left out."""
    host = HostState(features=features, silent=silent, knows_all_clients=live.are_all)
    try:
        directories = list((_SYSCTL / "conf").iterdir())
    except OSError as error:
        raise HostError(f"cannot read {_SYSCTL}: {error.strerror}") from None
    for directory in directories:
        host.rp_filter[directory.name] = _read(directory / "rp_filter")
        host.forwarding[directory.name] = _read(directory / "forwarding")
    for name in CONNTRACK_SETTINGS:
        if (file := Path(_CONNTRACK_FILES + name)).exists():
            host.conntrack[name] = _read(file)
    with _leaving_out("other programs' rules", host):
        host.chains = rule_reader.read()
    try:
        with descriptors.enough(), understanding("what the kernel says about addresses, routes and sockets"):
            with _cycles_collected():
                _ask_kernel(rules, host, live)
                give_way()
                _read_sockets(host)
            give_way()
            host.unread_queues = unread_queues(host.chains)
            _read_policies(host)
    except (NetlinkError, OSError) as error:
        raise HostError(f"cannot read this host's addresses, routes and sockets: {error}") from None
    return host


@contextmanager
def _leaving_out(part: str, host: HostState) -> Iterator[None]:
    """Leave out a part of the state that natmirror does not understand, and note that."""
    try:
        yield
    except UnknownFormError as error:
        host.not_understood[part] = error


@contextmanager
def _cycles_collected() -> Iterator[None]:
    """Collect the reference cycles that netlink sockets leave, while they are in generation 0, because generation 2 is
    never collected in a run."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect(0)


def _ask_kernel(rules: Rules, host: HostState, live: LiveClients) -> None:
    with IPRoute() as netlink, RouteSocket() as kernel:
        links = _read_links(kernel, host)
        kernel.vrf = of_clients(rules, host.details, host.links)
        give_way()
        _read_routes(kernel, rules, host, live)
        give_way()
        ways = {
            *host.routes.values(),
            *host.client_routes.values(),
            *(link for one in host.clients for link in one.links),
        }
        with _leaving_out("filters and qdiscs of tc", host), understanding("what the kernel says about tc"):
            host.traffic = read_traffic(kernel, links, {link for link in ways if link is not None})
        give_way()
        host.routing = routing(kernel)
        if host.routing is Routing.BY_PACKET:
            _read_routes_of_packets(kernel, rules, host)
        if host.routing is not Routing.UNKNOWN:
            host.answers |= kernel.ask(questions(rules, host.clients, host.routes, host.interfaces))
        if any(answer.error for answer in host.answers.values()):
            host.refusing_routes = kernel.refusing()
            with _leaving_out("policy rules", host), understanding("what the kernel says about policy rules"):
                host.refusing_rules = refusing_rules(netlink)
        hops = (answer.next_hop(question.to) for question, answer in host.answers.items())
        host.neighbours = kernel.neighbours(hop for hop in hops if hop is not None)
        if any(chain.gets_arp for chain in host.chains) or any(one.does_arp is False for one in host.details.values()):
            host.static_links = kernel.static_links()
    for link in {"all", *(answer.link for answer in host.answers.values() if answer.link is not None)}:
        host.arp_ignore[link] = _read(_SYSCTL / "conf" / link / "arp_ignore")


def _read_links(kernel: RouteSocket, host: HostState) -> dict[int, tuple[str, Link]]:
    links = read_links(kernel)
    host.details = dict(links.values())
    host.interfaces = set(host.details)
    for index, own, is_hidden in read_addresses(kernel):
        host.addresses.add(own.ip)
        if is_hidden:
            host.hidden.add(own.ip)
        name = links[index][0] if index in links else "?"
        host.own.setdefault(name, []).append(own)
        if name != "lo":
            host.links.setdefault(name, []).append(own.network)
    return links


def _read_routes(kernel: RouteSocket, rules: Rules, host: HostState, live: LiveClients) -> None:
    """Ask for the routes to all targets and to the clients. The clients beside this host come in by the interface that
    is connected to their network; for others, routes are taken to be symmetric."""
    answered = {one: was for one, was in live.answered.items() if one not in host.addresses}
    samples = {network: sample(network, host.addresses) for network in rules.switches}
    to = [one for addresses in samples.values() for one in addresses] + list(answered)
    to += [target.address for service in rules.services for target in targets(service)]
    host.answers = kernel.ask([Question(one) for one in to])
    links = {question.to: answer.link for question, answer in host.answers.items()}
    host.routes = {one.address: links.get(one.address) for service in rules.services for one in targets(service)}
    for network in rules.switches:
        addresses = [one for one in samples[network] if links.get(one) != DOCTORS_PORT]
        host.client_routes[network] = links.get(addresses[0]) if addresses else None
        connected = tuple(connected_links(network, host.links))
        live_ones = (one for one in answered if one in network and links.get(one) != DOCTORS_PORT)
        for one in (*addresses, *live_ones):
            incoming = connected or tuple(link for link in (links.get(one),) if link is not None)
            host.clients.append(
                Client(
                    *(one, network, incoming),
                    is_beside=bool(connected),
                    is_live=one in answered,
                    was_answered=answered.get(one, False),
                )
            )


def _read_routes_of_packets(kernel: RouteSocket, rules: Rules, host: HostState) -> None:
    """Find the interfaces to targets to which this host has no route of its own, but packets of clients, or copies,
    have one by policy rules."""
    for service in rules.services:
        for target in targets(service):
            if host.routes[target.address] is None:
                asked = [one for client in host.clients for one in sent_to(target, client, host.interfaces)]
                links = {answer.link for answer in kernel.ask(asked).values()}
                if len(links) == 1:
                    host.routes[target.address] = links.pop()


def _read_sockets(host: HostState) -> None:
    with DiagSocket() as diagnosis:
        diagnosis.bind()
        give_way()
        for one in diagnosis.get_sock_stats(family=socket.AF_INET, states=_SYN_SENT | _LISTEN):
            if one["idiag_state"] == _CONNECTING:
                host.connecting.add((IPv4Address(one["idiag_dst"]), one["idiag_dport"]))
            else:
                host.listeners.add((IPv4Address(one["idiag_src"]), one["idiag_sport"]))


def _read_policies(host: HostState) -> None:
    policies = read_policies()
    if any(policy.blocks for policy in policies):
        host.policies = policies
        for direction, setting in _UNPOLICED.items():
            links = host.interfaces | {"all"}
            host.unpoliced[direction] = {link for link in links if _read(_SYSCTL / "conf" / link / setting)}


def targets(service: Service) -> list[Backend | Mirror]:
    """Return the hosts to which packets of a service go."""
    return [*service.mirrors, *(service.pool.backends if service.pool else ())]


def _read(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
