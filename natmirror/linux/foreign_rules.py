"""Other programs' filter rules on this host, as values that rule_walk.py can evaluate.

A condition answers for a packet with True, False, or None where natmirror does not know.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from socket import AF_INET, inet_pton

from natmirror.linux.hooks import ChainHook

Span = tuple[int, int]
"""The first and the last of a range of addresses or ports."""


@dataclass(frozen=True, slots=True)
class TestPacket:
    """A packet as a rule sees it; None: unknown."""

    src: Span
    dst: Span
    sport: Span | None = None
    dport: Span | None = None
    iif: str | None = None
    oif: str | None = None
    state: str | None = None
    """Conntrack's word: new, established, invalid or untracked."""
    comes_by_its_route: bool | None = None
    """Whether the route to the source leads through ``iif``."""
    is_from_this_host: bool | None = False
    """Whether the source is an address of this host."""
    is_to_this_host: bool | None = False
    """Whether the destination is an address of this host."""
    mark: int | None = 0
    connection_mark: int | None = 0
    is_dnat: bool | None = False
    """Whether conntrack translates the destination of the packet's connection."""
    is_snat: bool | None = False
    is_tracked: bool | None = True
    """Whether no rule has kept conntrack from the packet."""
    arp: str = ""
    """Of an ARP packet: request or reply. ``src`` and ``dst`` are its protocol addresses then."""


Condition = Callable[[TestPacket], bool | None]


@dataclass(frozen=True, slots=True)
class Effect:
    """What a rule changes: the packet's mark, to ``mark & keep ^ flip`` (None: unknown), or whether it is tracked."""

    keep: int = 0
    flip: int | None = None
    stops_tracking: bool = False

    def on(self, packet: TestPacket, is_certain: bool) -> TestPacket:
        """Return the packet after the rule."""
        if self.stops_tracking:
            if packet.state is not None:  # conntrack has seen it before
                return packet
            return replace(packet, is_tracked=False if is_certain and packet.is_tracked is not None else None)
        known = packet.mark is not None and self.flip is not None
        mark = packet.mark & self.keep ^ self.flip if known else None  # type: ignore[operator]
        return replace(packet, mark=mark if is_certain or mark == packet.mark else None)


UNKNOWN_MARK = Effect()


@dataclass(frozen=True, slots=True)
class Queues:
    """The NFQUEUEs to which a rule gives packets. With ``bypass``, they pass on while no program reads the queue."""

    first: int
    last: int
    bypass: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule for packets for which all conditions hold. ``verdict`` is one of:

    - accept, drop, return; jump and goto to the chain ``target``;
    - none: the packet goes on;
    - unknown: it may pass or not; lost: it goes on with other addresses, or elsewhere;
    - queue: to ``queues``; ours: the jump to natmirror's own chain;
    - dnat: to the endpoint ``target``, which is empty if it is unknown; snat.
    """

    conditions: tuple[Condition, ...]
    verdict: str
    target: str = ""
    text: str = ""
    effects: tuple[Effect, ...] = ()
    queues: Queues | None = None
    marks_connections: bool = False


@dataclass(slots=True)
class BaseChain:
    """A chain at a hook. ``chains`` has all chains of its table, by name."""

    place: str
    """Where it is, in the words of the program's commands."""
    name: str
    hook: ChainHook
    priority: int
    policy: str
    is_iptables: bool
    translates: bool = False
    """Whether it gets only the first packet of a connection, to translate it."""
    devices: frozenset[str] = frozenset()
    """At INGRESS and EGRESS: the interfaces."""
    chains: dict[str, list[Rule]] = field(default_factory=dict)
    gets_arp: bool = False
    """Whether ARP packets come to it."""


def always_unknown(packet: TestPacket) -> None:
    """Return that natmirror does not know the answer."""
    return None


def never(packet: TestPacket) -> bool:
    """Return False."""
    return False


def comes_by_its_route(packet: TestPacket) -> bool | None:
    """Return whether the route to the packet's source leads through the interface by which it comes."""
    return packet.comes_by_its_route


def negated(condition: Condition) -> Condition:
    """Return the opposite of a condition."""

    def opposite(packet: TestPacket) -> bool | None:
        found = condition(packet)
        return None if found is None else not found

    return opposite


def span_of(network: IPv4Network | IPv4Address) -> Span:
    """Return the range of a network's addresses, or of one address."""
    if isinstance(network, IPv4Address):
        return int(network), int(network)
    return int(network.network_address), int(network.broadcast_address)


def addresses_in(text: str) -> Span:
    """Return the range of an address or of a network. ValueError or OSError for anything else."""
    address, _, length = text.partition("/")
    if length in ("", "32"):  # most of them; ten times as quick as IPv4Network
        number = int.from_bytes(inet_pton(AF_INET, address))
        return number, number
    return span_of(IPv4Network(text))


def within(pick: Callable[[TestPacket], Span | None], spans: Iterable[Span]) -> Condition:
    """Return the condition that all of a range of the packet lies in one of ``spans``; None: a part of it does."""
    merged: list[Span] = []
    for low, high in sorted(spans):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(high, merged[-1][1])
        else:
            merged.append((low, high))
    if len(merged) == 1:
        return partial(_in_span, pick, *merged[0])
    lows, highs = [low for low, _ in merged], [high for _, high in merged]

    def holds(packet: TestPacket) -> bool | None:
        value = pick(packet)
        if value is None:
            return None
        low, high = value
        at = bisect_right(lows, low) - 1  # the last that begins at or before the value
        if at >= 0 and low <= highs[at]:
            return True if high <= highs[at] else None
        return None if at + 1 < len(lows) and lows[at + 1] <= high else False

    return holds


def _in_span(pick: Callable[[TestPacket], Span | None], first: int, last: int, packet: TestPacket) -> bool | None:
    value = pick(packet)
    if value is None:
        return None
    low, high = value
    if first <= low and high <= last:
        return True
    return None if low <= last and first <= high else False


def has_name(pick: Callable[[TestPacket], str | None], patterns: Iterable[str], wildcard: str) -> Condition:
    """Return the condition that an interface's name fits one of the patterns, which may end with the wildcard."""
    wanted = list(patterns)
    names = {one for one in wanted if not one.endswith(wildcard)}
    starts = tuple(one[:-1] for one in wanted if one.endswith(wildcard))

    def holds(packet: TestPacket) -> bool | None:
        name = pick(packet)
        return None if name is None else name in names or name.startswith(starts)

    return holds


def has_mark(pick: Callable[[TestPacket], int | None], mask: int, values: Iterable[int]) -> Condition:
    """Return the condition that the masked mark has one of these values."""
    wanted = set(values)

    def holds(packet: TestPacket) -> bool | None:
        mark = pick(packet)
        return None if mark is None else mark & mask in wanted

    return holds


def has_state(words: Iterable[str]) -> Condition:
    """Return the condition that conntrack has one of these words for the packet: its state, or dnat or snat."""
    states = set(words)
    known = states <= {"new", "established", "related", "invalid", "untracked", "dnat", "snat"}

    def holds(packet: TestPacket) -> bool | None:
        answers = [None if packet.state is None else packet.state in states]
        if "dnat" in states:
            answers.append(packet.is_dnat)
        if "snat" in states:
            answers.append(packet.is_snat)
        return True if True in answers else None if None in answers or not known else False

    return holds
