"""Findings about other programs' rules that keep packets of production or of legs from their ends."""

from collections.abc import Iterator, Sequence

from natmirror.findings import Finding, FindingCode, HostCode
from natmirror.linux.flights import Flight, Surroundings, flights
from natmirror.linux.foreign_rules import BaseChain
from natmirror.linux.iptables_rules import FORWARD, PRE
from natmirror.linux.nftables import MARKS, MARKS_MASK
from natmirror.linux.rule_walk import Fate, RuleWalk, What
from natmirror.rules import Rules

_PRODUCTION: dict[What, FindingCode] = {
    What.DROPPED: HostCode.PRODUCTION_DROPPED,
    What.NOT_QUEUED: HostCode.PRODUCTION_NOT_QUEUED,
    What.REDIRECTED: HostCode.PRODUCTION_REDIRECTED,
    What.MARKED: HostCode.MARK_COLLIDES,
    What.SOURCE_CHANGED: HostCode.CLIENTS_HIDDEN,
}
_NO_TRACKING = "-j CT --notrack"

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
        yield (HostCode.PARTLY_DROPPED if is_partial and code is not HostCode.CLIENTS_HIDDEN else code).found(
            place=place,
            by=by,
            does=fate.what.value,
            packets=flight.packets,
            commands=_commands(walk, fate, [one for one, _ in cases]),
            interface=flight.entrance,
            marks=f"{MARKS:#x}/{MARKS_MASK:#x}",
        )


def _code(flight: Flight, fate: Fate) -> FindingCode:
    if not flight.is_production:
        return HostCode.COPIES_DROPPED
    return HostCode.LIKELY_DROPPED if flight.entrance else _PRODUCTION[fate.what]


def _commands(walk: RuleWalk, fate: Fate, found: Sequence[Flight]) -> str:
    """Return the commands that let packets pass a chain."""
    chain, place = fate.chain, fate.chain.place
    if not chain.is_iptables:
        start, verb = place.replace("nft", "nft insert rule", 1), "accept"
        return " && ".join(dict.fromkeys(f"{start} {one.match_nft} {verb}" for one in found))
    command = place.replace(" -t filter", "").rsplit(" ", 1)[0]
    if walk.has_our_jump(chain) and found[0].queued_at == (chain.hook, chain.priority):
        jump = next(one.jump for one in (PRE, FORWARD) if one.parent == chain.name)
        return f"{command} -D {jump} && {command} -I {jump}"
    start = f"{command} -I {chain.name}"
    inserted = dict.fromkeys(f"{start} {one.match_iptables} -j ACCEPT" for one in found)
    if walk.has_our_jump(chain) and not found[0].is_production:  # the rule that keeps conntrack from copies comes later
        inserted |= dict.fromkeys(f"{start} {one.match_iptables} {_NO_TRACKING}" for one in found)
    return " && ".join(inserted)


def drops_invalid(rules: Rules, host: Surroundings, chains: Sequence[BaseChain]) -> str | None:
    """Return the first chain that certainly drops a packet of production which conntrack calls INVALID, or None."""
    walk = RuleWalk(chains, host)
    for flight in flights(rules, host):
        if flight.is_production and not flight.entrance:
            for chain in chains:
                if walk.drops_only_invalid(chain, flight):
                    return chain.place
    return None
