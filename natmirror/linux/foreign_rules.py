"""Other programs' filter rules on this host, as values that rule_walk.py can evaluate.

A condition answers for a packet with True, False, or None where natmirror does not know.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Network

PREROUTING, FORWARD, POSTROUTING = "prerouting", "forward", "postrouting"


@dataclass(frozen=True, slots=True)
class TestPacket:
    """A packet as a rule sees it; None: unknown."""

    src: IPv4Network
    dst: IPv4Network
    sport: int | None = None
    dport: int | None = None
    iif: str | None = None
    oif: str | None = None
    state: str | None = None
    """Conntrack's word: new, established, invalid or untracked."""
    comes_by_its_route: bool | None = None
    """Whether the route to the source leads through ``iif``."""


Condition = Callable[[TestPacket], bool | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: if all conditions hold, ``verdict`` is accept, drop, return, jump or goto; others change nothing."""

    conditions: tuple[Condition, ...]
    verdict: str
    target: str = ""
    text: str = ""


@dataclass(slots=True)
class BaseChain:
    """A chain at a hook. ``chains`` has all chains of its table, by name."""

    place: str
    """Where it is, in the words of the program's commands."""
    name: str
    hook: str
    priority: int
    policy: str
    is_iptables: bool
    chains: dict[str, list[Rule]] = field(default_factory=dict)


def always_unknown(packet: TestPacket) -> None:
    """Return that natmirror does not know the answer."""
    return None


def comes_by_its_route(packet: TestPacket) -> bool | None:
    """Return whether the route to the packet's source leads through the interface by which it comes."""
    return packet.comes_by_its_route


def negated(condition: Condition) -> Condition:
    """Return the opposite of a condition."""

    def opposite(packet: TestPacket) -> bool | None:
        found = condition(packet)
        return None if found is None else not found

    return opposite


def within(value: IPv4Network, networks: Iterable[IPv4Network]) -> bool | None:
    """Return whether all of a network lies in one of ``networks``; None: a part of it does."""
    found = list(networks)
    if any(value.subnet_of(network) for network in found):
        return True
    return None if any(value.overlaps(network) for network in found) else False


def is_interface(name: str | None, patterns: Iterable[str], wildcard: str) -> bool | None:
    """Return whether a name fits one of the patterns, of which some may end with the wildcard."""
    if name is None:
        return None
    return any(name.startswith(pattern[:-1]) if pattern.endswith(wildcard) else name == pattern for pattern in patterns)


def in_spans(port: int | None, spans: list[tuple[int, int]]) -> bool | None:
    """Return whether a port lies in one of these spans; a span with a negative start is unknown."""
    if port is None or any(low < 0 for low, _ in spans):
        return None
    return any(low <= port <= high for low, high in spans)


def has_state(packet: TestPacket, states: set[str]) -> bool | None:
    """Return whether conntrack has one of these words for the packet."""
    if packet.state is None or not states <= {"new", "established", "related", "invalid", "untracked"}:
        return None
    return packet.state in states
