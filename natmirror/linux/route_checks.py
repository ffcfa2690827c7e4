"""Checks of the routes between clients, backends and mirrors, by the kernel's own answers; pure functions.

Production is reported as cut only where that is certain: where this host passes no packets between any client and any
backend.
"""

from collections.abc import Iterator, Set
from ipaddress import IPv4Address

from natmirror.findings import Finding, PathCode
from natmirror.linux.arp_paths import ArpPaths
from natmirror.linux.host_state import HostState, targets
from natmirror.linux.policy_rules import Routing
from natmirror.linux.route_questions import backends_of, copies, replies, requests, to_service, ways
from natmirror.linux.route_refusals import Break, why_dead, why_refused
from natmirror.linux.routes import Answer, Place, Question
from natmirror.linux.sampled_clients import Client, connected_links
from natmirror.rules import Backend, Mirror, Rules, Service

_Way = tuple[Client, Backend | Mirror, Break | None]
"""A client, a backend or mirror, and why nothing passes between them, if the kernel refuses it."""

_MAX_REASONS = 2
_MIN_LIVE = 2
"""Clients that are connected now, from which on these alone can show that production is cut: one may be blocked on
purpose."""


def find_route_problems(rules: Rules, host: HostState) -> Iterator[Finding]:
    """Yield the problems of the routes between clients, backends and mirrors."""
    yield from _enslaved(host)
    yield from _elsewhere(rules, host)
    arp = ArpPaths(host)
    for service in rules.services:
        yield from _production(service, host, arp)
        yield from _mirrored(service, host)
        yield from _service_address(service, rules, host)
        yield from _neighbours(service, host)


def _production(service: Service, host: HostState, arp: ArpPaths) -> Iterator[Finding]:
    backends = backends_of(service)
    gone = [_why_unreachable(backend, host, arp) for backend in backends]
    if backends and None not in gone:
        yield _cut(PathCode.NO_BACKEND_REACHABLE, service, [why for why in gone if why is not None])
        return
    reached = {backend for backend, why in zip(backends, gone, strict=True) if why is None}
    asked: list[_Way] = [
        (client, backend, _why_broken(service, client, backend, host, arp))
        for client, backend in ways(service, host.clients)
        if backend in reached and _is_answered(client, backend, host)
    ]
    broken = list(dict.fromkeys(why for _, _, why in asked if why is not None))
    if _is_certain(asked, reached, host):
        yield _cut(PathCode.PRODUCTION_CUT, service, broken)
    else:
        for one in dict.fromkeys(why for client, _, why in asked if why is not None and _is_known(client, host)):
            if not one.is_reported:
                yield PathCode.PARTLY_CUT.found(why=one.problem, service=service.name, mend=one.mend)


def _is_answered(client: Client, backend: Backend, host: HostState) -> bool:
    """Return whether the kernel has answered all questions about a client and a backend."""
    return all(one in host.answers for one in requests(client, backend) + replies(client, backend, host.routes))


def _is_known(client: Client, host: HostState) -> bool:
    """Return whether the routes to an address are those to its network. A network that is not connected may have routes
    to parts of it, and none to the rest."""
    parts = [one for networks in host.links.values() for one in networks if one.subnet_of(client.network)]
    return client.is_live or client.is_beside or not parts


def _cut(code: PathCode, service: Service, broken: list[Break]) -> Finding:
    problems: dict[str, Break] = {}
    for one in broken:
        problems.setdefault(one.problem, one)
    some = list(problems.values())[:_MAX_REASONS]
    mend = "\n".join(dict.fromkeys(one.mend for one in some))
    return code.found(service=service.name, why="; ".join(one.problem for one in some), mend=mend)


def _is_certain(asked: list[_Way], targets: Set[Backend | Mirror], host: HostState) -> bool:
    """Return whether nothing passes between clients and these backends or mirrors, for certain.

    Each of the latter must have been asked about.

    Two clients suffice if all that have connections are known, and were answered: one may be blocked on purpose, and a
    client that was never answered may be an attacker whose packets a route discards. Else all ways count. A network
    that is not connected may have routes to parts of it, so an address in it proves nothing.
    """
    answered = [way for way in asked if way[0].was_answered]
    known = {client.address for client, _, _ in answered}
    if host.knows_all_clients and len(known) >= _MIN_LIVE and _are_cut(answered, targets):
        return True
    counted = [way for way in asked if way[0].was_answered or way[0].is_beside or not known]
    beside = [client.is_beside for client, _, _ in counted if not client.was_answered]
    return _are_cut(counted, targets) and all(beside) and (bool(beside) or len(known) >= _MIN_LIVE)


def _are_cut(some: list[_Way], targets: Set[Backend | Mirror]) -> bool:
    return all(why for _, _, why in some) and {target for _, target, _ in some} >= targets


def _why_unreachable(backend: Backend, host: HostState, arp: ArpPaths) -> Break | None:
    """Return why no packets of any client get to a backend; None if some do, or nothing is certain."""
    address = backend.address
    if address in host.addresses:
        return Break(
            f"{backend.name} ({address}) has an address of this host",
            f"run: ip address del {address}/32 dev INTERFACE\nor correct the rules",
        )
    link = host.routes.get(address, "")
    if link is not None:
        answer = host.answers.get(Question(address))
        why = why_dead(link, host) or _why_lost(answer, address, arp)
    else:
        why = Break(f"there is no route to {backend.name} ({address})", f"run: ip route get {address}; ip link show")
    if why is None or host.routing is Routing.ALIKE:
        return why
    # That was the route of this host's own packets.
    questions = [question for client in host.clients for question in requests(client, backend)]
    answers = [answer for question in questions if (answer := host.answers.get(question)) is not None]
    is_certain = answers and all(
        one.error or why_dead(one.link or "", host) or _why_lost(one, address, arp) for one in answers
    )
    return why if is_certain else None


def _why_lost(answer: Answer | None, to: IPv4Address, arp: ArpPaths) -> Break | None:
    """Return why packets do not get to their next hop; None if they do, or may."""
    hop = None if answer is None else answer.next_hop(to)
    return None if hop is None else arp.why_unresolved(hop)


def _why_broken(service: Service, client: Client, backend: Backend, host: HostState, arp: ArpPaths) -> Break | None:
    """Return why no packets pass between a client and a backend; None if they do, or nothing is certain."""
    sent = [
        why_dead(question.link or "", host) or why_refused(question, client, host)
        for question in requests(client, backend)
    ]
    if sent and None not in sent:
        return sent[0]
    if service.pool is not None and service.pool.asymmetric:
        return None
    for question in replies(client, backend, host.routes):
        if (why := why_refused(question, client, host)) is not None:
            return why
        answer = host.answers.get(question)
        if answer is not None and answer.link is not None and (why := why_dead(answer.link, host)) is not None:
            return Break(
                f"the route to client {client.address} leads to {answer.link}, and {why.problem}", why.mend, False
            )
        if (why := _why_lost(answer, client.address, arp)) is not None:
            return why
        hop = None if answer is None else answer.next_hop(client.address)
        if client.is_beside and hop is not None and hop[1] not in client.links and _is_unknown(hop, host):
            return Break(
                f"the route to client {client.address} leads to {hop[1]}, where {hop[0]} answers no ARP request",
                f"remove that route or the address of {hop[1]}; to see the route, run: ip route get {client.address}",
                False,
            )
    return None


def _is_unknown(hop: Place, host: HostState) -> bool:
    neighbour = host.neighbours.get(hop)
    return neighbour is not None and neighbour.is_unknown


def _mirrored(service: Service, host: HostState) -> Iterator[Finding]:
    for mirror in service.mirrors:
        if host.routes.get(mirror.address) is None:
            continue
        asked: list[_Way] = [
            (client, mirror, why_refused(question, client, host))
            for client in host.clients
            for question in copies(mirror, client, host.interfaces)
            if question in host.answers
        ]
        why = next((why for _, _, why in asked if why is not None and not why.is_reported), None)
        if why is not None and _is_certain(asked, {mirror}, host):
            yield PathCode.COPIES_CUT.found(name=mirror.name, service=service.name, why=why.problem, mend=why.mend)


def _service_address(service: Service, rules: Rules, host: HostState) -> Iterator[Finding]:
    """Yield a problem if the kernel answers no ARP request for an address of its own: it answers if its route to the
    address is local (arp_process() in net/ipv4/arp.c)."""
    if service.address not in host.addresses:
        return
    asked = [question for client in host.clients for question in to_service(service, client)]
    answers = [answer for question in asked if (answer := host.answers.get(question)) is not None]
    near = {link for link, networks in host.links.items() if any(service.address in network for network in networks)}
    beside = [near & set(connected_links(network, host.links)) for network in rules.switches]
    if answers and all(beside) and not any(answer.error or answer.is_local for answer in answers):
        yield PathCode.SERVICE_ADDRESS_NOT_LOCAL.found(
            address=service.address, service=service.name, interface=min(beside[0])
        )


def _neighbours(service: Service, host: HostState) -> Iterator[Finding]:
    """Yield a problem for each neighbour that may be why a backend or mirror answers nothing."""
    for target in targets(service):
        answer = host.answers.get(Question(target.address))
        hop = None if answer is None else answer.next_hop(target.address)
        neighbour = None if hop is None else host.neighbours.get(hop)
        if hop is None or neighbour is None or f"{service.name}/{target.name}" not in host.silent:
            continue
        values = {"name": target.name, "service": service.name, "address": hop[0], "interface": hop[1]}
        if neighbour.is_permanent:
            yield PathCode.STATIC_NEIGHBOUR.found(**values, link_address=neighbour.link_address)
        elif neighbour.is_unknown:
            yield PathCode.NO_NEIGHBOUR.found(**values)


def _enslaved(host: HostState) -> Iterator[Finding]:
    links = [*(link for client in host.clients for link in client.links), *host.routes.values()]
    for link in dict.fromkeys(links):
        if link in host.details and (master := host.details[link].master) is not None:
            yield PathCode.LINK_ENSLAVED.found(interface=link, master=master)


def _elsewhere(rules: Rules, host: HostState) -> Iterator[Finding]:
    """Yield a problem where the route to a part of a connected network of clients leads to another interface."""
    for network in rules.switches:
        connected = connected_links(network, host.links)
        if not connected or any(why_dead(link, host) for link in connected):
            continue
        for client in host.clients:
            answer = host.answers.get(Question(client.address))
            if client.network == network and answer is not None and answer.link not in (None, *connected):
                yield PathCode.CLIENTS_ELSEWHERE.found(
                    network=network, interface=" and ".join(connected), other=answer.link, client=client.address
                )
                break
