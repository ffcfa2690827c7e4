"""Findings about other programs' rules that keep packets of production or of legs from their ends."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from natmirror.findings import Finding, FindingCode, HostCode
from natmirror.linux.flights import Flight, Surroundings, flights
from natmirror.linux.foreign_rules import BaseChain
from natmirror.linux.nftables import MARKS, MARKS_MASK
from natmirror.linux.remedies import commands
from natmirror.linux.rule_walk import Fate, RuleWalk, What
from natmirror.rules import Rules

_PRODUCTION: dict[What, FindingCode] = {
    What.DROPPED: HostCode.PRODUCTION_DROPPED,
    What.NOT_QUEUED: HostCode.PRODUCTION_NOT_QUEUED,
    What.REDIRECTED: HostCode.PRODUCTION_REDIRECTED,
    What.MARKED: HostCode.MARK_COLLIDES,
    What.SOURCE_CHANGED: HostCode.CLIENTS_HIDDEN,
}

Path = tuple[str, tuple[str, str]]
"""A service, and a backend or mirror of it with a network of clients."""


def find_drops(rules: Rules, host: Surroundings, chains: Sequence[BaseChain]) -> Iterator[Finding]:
    """Yield a finding for each rule by which packets certainly do not go on as they should."""
    walk = RuleWalk(chains, host)
    found: dict[tuple[FindingCode, str, str], list[tuple[Flight, Fate]]] = {}
    ended: set[tuple[str, Path]] = set()
    paths: dict[Path, bool] = {}
    """Whether packets of production may get through, both ways."""
    for flight in flights(rules, host):
        path = flight.service, flight.path
        if flight.is_production:
            paths.setdefault(path, flight.has_route)
        for fate in walk.fates(flight):
            if fate.what is not What.SOURCE_CHANGED:
                if flight.entrance and (flight.packets, path) in ended:
                    continue
                ended.add((flight.packets, path))
                if flight.is_production and not flight.entrance:
                    paths[path] = False
            elif flight.entrance:
                continue
            found.setdefault((_code(flight, fate), fate.chain.place, fate.by), []).append((flight, fate))
    passing = {service for (service, _), gets_through in paths.items() if gets_through}
    for (code, place, by), cases in found.items():
        flight, fate = cases[0]
        is_partial = code in _PRODUCTION.values() and all(one.service in passing for one, _ in cases)
        one = (HostCode.PARTLY_DROPPED if is_partial and code is not HostCode.CLIENTS_HIDDEN else code).found(
            place=place,
            by=by,
            does=fate.what.value,
            packets=flight.packets,
            commands=commands(walk, fate.chain, [one for one, _ in cases]),
            interface=flight.entrance,
            marks=f"{MARKS:#x}/{MARKS_MASK:#x}",
        )
        yield replace(one, services=frozenset(flight.service for flight, _ in cases))


def _code(flight: Flight, fate: Fate) -> FindingCode:
    if not flight.is_production:
        return HostCode.COPIES_DROPPED
    return HostCode.LIKELY_DROPPED if flight.entrance else _PRODUCTION[fate.what]


def drops_invalid(rules: Rules, host: Surroundings, chains: Sequence[BaseChain]) -> str | None:
    """Return the first chain that certainly drops a packet of production which conntrack calls INVALID, or None."""
    walk = RuleWalk(chains, host)
    for flight in flights(rules, host):
        if flight.is_production and not flight.entrance:
            for chain in chains:
                if walk.drops_only_invalid(chain, flight):
                    return chain.place
    return None
