"""Checks of the routes between clients, backends and mirrors, by the kernel's own answers; pure functions.

Production is reported as cut only where that is certain: where this host passes no packets between any client and any
backend.
"""

from collections.abc import Iterator

from natmirror.findings import Finding, PathCode
from natmirror.linux.host_state import HostState
from natmirror.linux.route_questions import backends_of, copies, replies, requests, to_service
from natmirror.linux.route_refusals import Break, why_dead, why_refused
from natmirror.linux.routes import Question
from natmirror.linux.sampled_clients import Client, connected_links
from natmirror.rules import Backend, Rules, Service

_MAX_REASONS = 2
_MIN_LIVE = 2
"""Clients that are connected now, from which on these alone can show that production is cut: one may be blocked on
purpose."""


def find_route_problems(rules: Rules, host: HostState) -> Iterator[Finding]:
    """Yield the problems of the routes between clients, backends and mirrors."""
    yield from _enslaved(host)
    yield from _elsewhere(rules, host)
    for service in rules.services:
        yield from _production(service, host)
        yield from _mirrored(service, host)
        yield from _service_address(service, rules, host)


def _production(service: Service, host: HostState) -> Iterator[Finding]:
    backends = backends_of(service)
    gone = [_why_unreachable(backend, host) for backend in backends]
    if backends and None not in gone:
        yield _cut(PathCode.NO_BACKEND_REACHABLE, service, [why for why in gone if why is not None])
        return
    reached = [backend for backend, why in zip(backends, gone, strict=True) if why is None]
    ways = [(client, _why_broken(service, client, backend, host)) for client in host.clients for backend in reached]
    broken = list(dict.fromkeys(why for _, why in ways if why is not None))
    if _is_certain(ways):
        yield _cut(PathCode.PRODUCTION_CUT, service, broken)
    else:
        for one in dict.fromkeys(why for client, why in ways if why is not None and _is_known(client, host)):
            if not one.is_reported:
                yield PathCode.PARTLY_CUT.found(why=one.problem, service=service.name, mend=one.mend)


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
    mend = "; ".join(dict.fromkeys(one.mend for one in some))
    return code.found(service=service.name, why="; ".join(one.problem for one in some), mend=mend)


def _is_certain(ways: list[tuple[Client, Break | None]]) -> bool:
    """Return whether production is certainly cut. A network of clients that is not connected may have routes to parts
    of it, so addresses in it say nothing, except those of clients that are connected now."""
    live = {client.address for client, _ in ways if client.is_live}
    counted = [(client, why) for client, why in ways if client.is_live or client.is_beside or not live]
    if any(why is None for _, why in counted):
        return False
    beside = [client.is_beside for client, _ in counted if not client.is_live]
    return all(beside) and (bool(beside) or len(live) >= _MIN_LIVE)


def _why_unreachable(backend: Backend, host: HostState) -> Break | None:
    """Return why no packets of any client get to a backend; None if some do, or nothing is certain."""
    address = backend.address
    if address in host.addresses:
        return Break(
            f"{backend.name} ({address}) has an address of this host",
            f"run: ip address del {address}/32 dev INTERFACE; or correct the rules",
        )
    link = host.routes.get(address, "")
    if link is None:
        return Break(f"there is no route to {backend.name} ({address})", f"run: ip route get {address}; ip link show")
    return why_dead(link, host)


def _why_broken(service: Service, client: Client, backend: Backend, host: HostState) -> Break | None:
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
    return None


def _mirrored(service: Service, host: HostState) -> Iterator[Finding]:
    for mirror in service.mirrors:
        if host.routes.get(mirror.address) is None:
            continue
        ways = [
            (client, why_refused(question, client, host))
            for client in host.clients
            for question in copies(mirror, client, host.interfaces)
        ]
        why = next((why for _, why in ways if why is not None and not why.is_reported), None)
        if why is not None and _is_certain(ways):
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
