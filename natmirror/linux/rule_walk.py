"""Walks packets of production and of legs through other programs' rules: which of them are dropped, and where.

Only what is certain is reported: a rule with a condition that natmirror cannot judge may let a packet pass.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network

from natmirror.findings import Finding, FindingCode, HostCode
from natmirror.linux.foreign_rules import FORWARD, POSTROUTING, PREROUTING, BaseChain, Rule, TestPacket
from natmirror.linux.tun import NAME as TUN_NAME
from natmirror.rules import Backend, Mirror, Rules, Service

_EARLIEST = -(1 << 31)
_RAW = -300
_MAX_DEPTH = 16
_MAX_FLIGHTS = 500
_POLICY = "its policy"


@dataclass(frozen=True, slots=True)
class Flight:
    """A kind of packet, and how it looks at each hook from a priority on."""

    code: FindingCode
    packets: str
    seen: tuple[tuple[str, int, TestPacket], ...]
    match_iptables: str
    match_nft: str
    service: str
    path: tuple[str, str]
    """The backend or mirror, and the network of the clients."""
    is_queued: bool = False
    """Whether our rule in raw PREROUTING takes the packet out of that chain."""

    def at(self, chain: BaseChain) -> TestPacket | None:
        """Return the packet as a chain sees it; None where it does not."""
        if self.is_queued and chain.is_iptables and chain.hook == PREROUTING and chain.priority == _RAW:
            return None
        found = [packet for hook, since, packet in self.seen if hook == chain.hook and since <= chain.priority]
        return found[-1] if found else None


Routes = Mapping[IPv4Address | IPv4Network, str | None]
"""The interface to which this host's route leads, for each backend, mirror and network of clients."""


def find_drops(rules: Rules, routes: Routes, chains: Sequence[BaseChain]) -> Iterator[Finding]:
    """Yield a finding for each place where packets are certainly dropped."""
    dropped: dict[tuple[FindingCode, str, str], list[tuple[Flight, BaseChain]]] = {}
    flights = _flights(rules, routes)
    for flight in flights:
        for chain in sorted(chains, key=lambda one: one.priority):
            packet = flight.at(chain)
            if packet is not None and (by := _dropping(chain, packet)) is not None:
                dropped.setdefault((flight.code, chain.place, by), []).append((flight, chain))
                break
    stopped = _stopped(flights, [flight for found in dropped.values() for flight, _ in found])
    for (code, place, by), found in dropped.items():
        chain = found[0][1]
        is_part = code is HostCode.PRODUCTION_DROPPED and not any(flight.service in stopped for flight, _ in found)
        matches = dict.fromkeys(one.match_iptables if chain.is_iptables else one.match_nft for one, _ in found)
        command = place.replace(" -t filter", "").rsplit(" ", 1)[0] + f" -I {chain.name}"
        verb = "-j ACCEPT" if chain.is_iptables else "accept"
        start = command if chain.is_iptables else place.replace("nft", "nft insert rule", 1)
        yield (HostCode.PARTLY_DROPPED if is_part else code).found(
            place=place,
            by=by,
            packets=found[0][0].packets,
            commands=" && ".join(f"{start} {match} {verb}" for match in matches),
        )


def _stopped(flights: Iterable[Flight], dropped: Iterable[Flight]) -> set[str]:
    """Return the services of which no backend gets through from any network of clients."""
    broken = {(one.service, one.path) for one in dropped if one.code is HostCode.PRODUCTION_DROPPED}
    paths = {(one.service, one.path) for one in flights if one.code is HostCode.PRODUCTION_DROPPED}
    return {service for service, _ in broken} - {service for service, _ in paths - broken}


def drops_invalid(rules: Rules, routes: Routes, chains: Sequence[BaseChain]) -> str | None:
    """Return the first chain that certainly drops a client's packet which conntrack calls INVALID, or None."""
    for flight in _flights(rules, routes):
        if flight.code is not HostCode.PRODUCTION_DROPPED:
            continue
        for chain in chains:
            packet = flight.at(chain)
            if packet is None or packet.state is None or _dropping(chain, packet) is not None:
                continue
            if _dropping(chain, replace(packet, state="invalid")) is not None:
                return chain.place
    return None


def _dropping(chain: BaseChain, packet: TestPacket) -> str | None:
    """Return what in a base chain drops a packet for certain, or None."""
    outcomes: dict[str, str] = {}
    _walk(chain.chains, chain.name, packet, outcomes, 0)
    if "fall" in outcomes:
        del outcomes["fall"]
        outcomes.setdefault(chain.policy, _POLICY)
    return outcomes["drop"] if list(outcomes) == ["drop"] else None


def _walk(chains: dict[str, list[Rule]], name: str, packet: TestPacket, outcomes: dict[str, str], depth: int) -> None:
    """Add the possible outcomes of a chain: accept, drop, or fall for its end; each with its first reason."""
    if depth > _MAX_DEPTH:
        outcomes.setdefault("accept", "")
        return
    for rule in chains.get(name, ()):
        held = [condition(packet) for condition in rule.conditions]
        if False in held or rule.verdict == "none":
            continue
        inner: dict[str, str] = {}
        if rule.verdict in ("jump", "goto"):
            _walk(chains, rule.target, packet, inner, depth + 1)
        else:
            inner = {"fall" if rule.verdict == "return" else rule.verdict: f"the rule '{rule.text}'"}
        goes_on = rule.verdict == "jump" and "fall" in inner
        if rule.verdict == "jump":
            inner.pop("fall", None)
        for outcome, why in inner.items():
            outcomes.setdefault(outcome, why)
        if None not in held and not goes_on:
            return
    outcomes.setdefault("fall", "")


def _flights(rules: Rules, routes: Routes) -> list[Flight]:
    found: list[Flight] = []
    for service in rules.services:
        for clients in rules.switches:
            link = routes.get(clients)
            for backend in service.pool.members if service.pool else ():
                found += _production(service, backend, clients, link, routes.get(backend.address))
            for mirror in service.mirrors:
                found.append(_copies(service, mirror, clients, routes.get(mirror.address)))
            if len(found) >= _MAX_FLIGHTS:
                return found
    return found


def _production(
    service: Service, backend: Backend, clients: IPv4Network, client_link: str | None, backend_link: str | None
) -> Iterable[Flight]:
    to, place = IPv4Network(backend.address), IPv4Network(service.address)
    # Where routes are asymmetric, packets come in on other interfaces than their senders' routes lead to.
    before = TestPacket(clients, place, dport=service.port)
    request = replace(before, dst=to, dport=backend.port, state="new")
    routed = replace(request, oif=backend_link)
    reply = TestPacket(to, clients, sport=backend.port, state="established")
    forwarded = replace(reply, oif=client_link)
    translated = replace(forwarded, src=place, sport=service.port)
    name = f"{backend.name} of service {service.name}"
    ends = service.name, (backend.name, str(clients))
    for state in ("new", "established"):
        asked = replace(routed, state=state)
        yield Flight(
            HostCode.PRODUCTION_DROPPED,
            f"clients' packets to {name}",
            (
                (PREROUTING, _EARLIEST, before),
                (PREROUTING, _RAW + 1, replace(request, state=state)),
                (FORWARD, _EARLIEST, asked),
                (POSTROUTING, _EARLIEST, asked),
            ),
            f"-s {clients}",
            f"ip saddr {clients}",
            *ends,
            is_queued=True,
        )
    yield Flight(
        HostCode.PRODUCTION_DROPPED,
        f"replies of {name}",
        (
            (PREROUTING, _EARLIEST, replace(reply, state=None)),
            (PREROUTING, _RAW + 101, reply),
            (FORWARD, _EARLIEST, forwarded),
            (FORWARD, -149, translated),
            (POSTROUTING, _EARLIEST, translated),
        ),
        f"-d {clients}",
        f"ip daddr {clients}",
        *ends,
    )


def _copies(service: Service, mirror: Mirror, clients: IPv4Network, link: str | None) -> Flight:
    src = clients if mirror.source is None else IPv4Network(mirror.source)
    packet = TestPacket(src, IPv4Network(mirror.address), dport=mirror.port, iif=f"{TUN_NAME}0")
    packet = replace(packet, comes_by_its_route=False if mirror.source is None else None)
    untracked = replace(packet, state="untracked")
    forwarded = replace(untracked, oif=link)
    seen = [(PREROUTING, _EARLIEST, packet), (PREROUTING, _RAW + 1, untracked)]
    if link != "lo":
        seen += [(FORWARD, _EARLIEST, forwarded), (POSTROUTING, _EARLIEST, forwarded)]
    return Flight(
        HostCode.COPIES_DROPPED,
        f"copies to {mirror.name} of service {service.name}",
        tuple(seen),
        f"-i {TUN_NAME}+",
        f'iifname "{TUN_NAME}*"',
        service.name,
        (mirror.name, str(clients)),
    )
