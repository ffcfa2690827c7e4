"""The commands that let production and copies pass other programs' rules, and nothing else."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, summarize_address_range
from itertools import chain as joined
from typing import NamedTuple

from natmirror.linux.flights import Flight
from natmirror.linux.foreign_rules import BaseChain, Span, TestPacket
from natmirror.linux.hooks import ChainHook
from natmirror.linux.iptables_rules import FORWARD, PRE
from natmirror.linux.rule_walk import RuleWalk
from natmirror.linux.tun import NAME as TUN_NAME

_NO_TRACKING = "-j CT --notrack"
_WITHOUT_ENTRANCE = (ChainHook.POSTROUTING, ChainHook.BRIDGE_OUT, ChainHook.EGRESS)
"""The hooks at which the kernel does not tell by which interface a packet has come in."""


class _Match(NamedTuple):
    """Packets between addresses: each part as iptables and nftables write it, empty where it does not matter."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    sport: str
    dport: str
    is_copy: bool
    """Whether they come in by natmirror's TUN device."""

    def of_iptables(self) -> str:
        parts = [f"-i {TUN_NAME}+"] if self.is_copy else []
        parts += [f"-s {','.join(self.sources)} -d {','.join(self.targets)} -p tcp"]
        return " ".join([*parts, *(f"--{name} {port}" for name, port in self._ports() if port)])

    def of_nft(self) -> str:
        parts = [f'iifname "{TUN_NAME}*"'] if self.is_copy else []
        parts += [f"ip saddr {_listed(self.sources)} ip daddr {_listed(self.targets)}"]
        return " ".join([*parts, *(f"tcp {name} {port}" for name, port in self._ports() if port)])

    def _ports(self) -> Sequence[tuple[str, str]]:
        return ("sport", self.sport), ("dport", self.dport)


def commands(walk: RuleWalk, chain: BaseChain, flights: Sequence[Flight]) -> str:
    """Return the commands that let these packets pass a chain, as they look there."""
    matches = _merged(_match(one, chain) for flight in flights for one in walk.views(flight, chain))
    if not chain.is_iptables:
        start = chain.place.replace("nft", "nft insert rule", 1)
        return " && ".join(f"{start} {one.of_nft()} accept" for one in matches)
    command = chain.place.replace(" -t filter", "").rsplit(" ", 1)[0]
    if walk.has_our_jump(chain) and flights[0].queued_at == (chain.hook, chain.priority):
        jump = next(one.jump for one in (PRE, FORWARD) if one.parent == chain.name)
        return f"{command} -D {jump} && {command} -I {jump}"
    start = f"{command} -I {chain.name}"
    inserted = [f"{start} {one.of_iptables()} -j ACCEPT" for one in matches]
    if walk.has_our_jump(chain) and not flights[0].is_production:  # the rule that keeps conntrack from copies is below
        inserted += [f"{start} {one.of_iptables()} {_NO_TRACKING}" for one in matches]
    return " && ".join(inserted)


def _match(packet: TestPacket, chain: BaseChain) -> _Match:
    is_copy = (packet.iif or "").startswith(TUN_NAME) and chain.hook not in _WITHOUT_ENTRANCE
    return _Match((_network(packet.src),), (_network(packet.dst),), _port(packet.sport), _port(packet.dport), is_copy)


def _merged(matches: Iterable[_Match]) -> list[_Match]:
    """Return the matches, those as one that differ by their targets, or by their sources, alone."""
    by_source: dict[_Match, list[_Match]] = {}
    for one in dict.fromkeys(matches):
        by_source.setdefault(one._replace(targets=()), []).append(one)
    by_target: dict[_Match, list[_Match]] = {}
    for some in by_source.values():
        one = some[0]._replace(targets=tuple(joined.from_iterable(each.targets for each in some)))
        by_target.setdefault(one._replace(sources=()), []).append(one)
    return [
        some[0]._replace(sources=tuple(joined.from_iterable(each.sources for each in some)))
        for some in by_target.values()
    ]


def _network(span: Span) -> str:
    network = next(summarize_address_range(IPv4Address(span[0]), IPv4Address(span[1])))
    return str(network).removesuffix("/32")


def _port(span: Span | None) -> str:
    return "" if span is None else str(span[0])


def _listed(addresses: tuple[str, ...]) -> str:
    return addresses[0] if len(addresses) == 1 else f"{{ {', '.join(addresses)} }}"
