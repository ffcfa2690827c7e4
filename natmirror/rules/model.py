"""The rules as frozen values, as a rules file gives them."""

import re
from collections.abc import Container
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from natmirror.rules.kinds import (
    Balance,
    CheckKind,
    HashInput,
    MirrorProtocol,
    Reconnect,
    Statistics,
    Unsolicited,
    WhenBehind,
    WhenDown,
    WhenNone,
)

LEG_PORTS = range(10240, 32768)
"""Where legs with an address of ours come from: below the ports that Linux gives its own connections."""

MAX_THREADS = 16
DEFAULT_FLOWS = 262_144
DEFAULT_MEMORY = 256 << 20
DEFAULT_ADVERT_INTERVAL = 0.2

_PASSWORD = re.compile(r"(//[^/@:]*:).*(@)")


@dataclass(frozen=True, slots=True)
class Backend:
    """A member of a pool."""

    name: str
    address: IPv4Address
    port: int
    weight: int = 1
    max_connections: int | None = None
    """Connections that it gets at once; None: any number."""


@dataclass(frozen=True, slots=True)
class Health:
    """How the backends of a pool are checked."""

    check: CheckKind
    interval: float = 1.0
    """Seconds from one check of a backend to the next."""
    timeout: float = 0.5
    """Seconds that a check may take."""
    rise: int = 2
    """Checks passed in a row that bring a backend up."""
    fall: int = 3
    """Checks failed in a row that take it down."""
    command: tuple[str, ...] = ()
    """What ``exec`` runs: a program and its arguments."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The backends of a service, and how connections are spread over them."""

    balance: Balance
    hash: HashInput
    """What of the client Maglev hashes."""
    backends: tuple[Backend, ...]
    sorry: Backend | None = None
    """The server that takes new connections when no backend is left."""
    when_none: WhenNone = WhenNone.DROP
    """What a client's SYN meets when no backend is left to answer, nor ``sorry``."""
    when_down: WhenDown = WhenDown.RESET
    """What becomes of a backend's connections when it goes down."""
    slow_start: float = 0.0
    """Seconds in which a backend that returns comes to its part of the new connections."""
    health: Health | None = None
    """How they are checked; None: they are not."""

    @property
    def members(self) -> tuple[Backend, ...]:
        """All that may get connections: the backends, and the one for when none of them is left."""
        return (*self.backends, *(() if self.sorry is None else (self.sorry,)))


@dataclass(frozen=True, slots=True)
class Mirror:
    """A host that gets a copy of what clients send."""

    name: str
    address: IPv4Address
    port: int
    buffer: int = 16 << 20
    """Bytes that one leg may hold back for it."""
    when_behind: WhenBehind = WhenBehind.DROP
    """What happens when the buffer is full."""
    throttle_limit: float = 2.0
    """Seconds that a client is throttled for a stalled mirror before the leg is dropped."""
    sample: float = 1.0
    """The share of the clients that are mirrored."""
    only: tuple[IPv4Network, ...] = ()
    """The clients that are mirrored, where not all are."""
    source: IPv4Address | None = None
    """Where legs come from; None: from the client's own address."""
    linger: float = 5.0
    """Seconds without progress that a leg outlives its client, to deliver the rest."""
    connect_timeout: float = 30.0
    """Seconds until an unanswered SYN is given up."""
    stall_timeout: float = 120.0
    """Seconds that data may wait without any of it being acknowledged (R2, RFC 9293 §3.8.3: at least 100 s)."""
    idle_timeout: float | None = None
    """Seconds without data from either side after which a leg is closed; None: as long as the client's connection."""
    direct: bool = False
    """Whether clients also talk to the host themselves."""
    protocol: MirrorProtocol = MirrorProtocol.RAW
    reconnect: Reconnect = Reconnect.NEVER
    unsolicited: Unsolicited = Unsolicited.HOLD
    statistics: Statistics = Statistics.LAST_SEEN
    record: Path | None = None
    """The pcap file that the mirror's orders are written to; None: they are not."""

    # Packets ask for these, so they are computed once.
    speaks_openflow: bool = field(init=False, repr=False, compare=False)
    """Whether it has a session of its own."""
    throttles: bool = field(init=False, repr=False, compare=False)
    """Whether clients are throttled for it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "speaks_openflow", self.protocol is MirrorProtocol.OPENFLOW)
        object.__setattr__(self, "throttles", self.when_behind is WhenBehind.THROTTLE)


@dataclass(frozen=True, slots=True)
class Service:
    """The one address and port that clients know. Without a pool another program serves it, and we only mirror."""

    name: str
    address: IPv4Address
    port: int
    pool: Pool | None
    mirrors: tuple[Mirror, ...]
    # Packets ask for these, so they are computed once.
    copies: tuple[Mirror, ...] = field(init=False, repr=False, compare=False)
    """The mirrors that get the client's bytes as they are."""
    sessions: tuple[Mirror, ...] = field(init=False, repr=False, compare=False)
    """The mirrors that have OpenFlow sessions of their own."""
    throttles: bool = field(init=False, repr=False, compare=False)
    """Whether clients may be throttled for one of its mirrors."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "copies", tuple(mirror for mirror in self.mirrors if not mirror.speaks_openflow))
        object.__setattr__(self, "sessions", tuple(mirror for mirror in self.mirrors if mirror.speaks_openflow))
        object.__setattr__(self, "throttles", any(mirror.throttles for mirror in self.mirrors))


@dataclass(frozen=True, slots=True)
class Host:
    """One of the two hosts of a pair."""

    name: str
    switch_side: IPv4Address
    """Its own address on the switches' side."""
    pool_side: IPv4Address
    """Its own address on the pool's side."""
    priority: int
    """Of VRRP: where both come up at once, the higher one begins."""


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a pair: the virtual addresses that its active host has there."""

    interface: str
    addresses: tuple[IPv4Interface, ...]
    vrrp_id: int


@dataclass(frozen=True, slots=True)
class Pair:
    """Two hosts of which one is active and has the virtual addresses of both sides."""

    hosts: tuple[Host, Host]
    switch_side: Side
    pool_side: Side
    advert_interval: float = DEFAULT_ADVERT_INTERVAL
    """Seconds between two VRRP advertisements of the active host; three that are missing make the other one active."""
    state: str | None = None
    """Where the two share what cannot be derived from the rules: ``redis://…``; None: nowhere."""
    key: str | None = field(default=None, repr=False)
    """The secret that masks what records tell of legs' numbers; None: one that follows from the rest of the section."""

    @property
    def addresses(self) -> tuple[IPv4Interface, ...]:
        """All virtual addresses."""
        return (*self.switch_side.addresses, *self.pool_side.addresses)

    def host_with(self, addresses: Container[IPv4Address]) -> Host | None:
        """Return the host that has these addresses; None where neither has."""
        own = (host for host in self.hosts if host.switch_side in addresses and host.pool_side in addresses)
        return next(own, None)

    @property
    def state_shown(self) -> str | None:
        """``state`` without its password, for people."""
        return self.state and _PASSWORD.sub(r"\1***\2", self.state)


@dataclass(frozen=True, slots=True)
class Rules:
    """A whole rules file."""

    path: str
    switches: tuple[IPv4Network, ...]
    """The networks whose hosts are clients."""
    services: tuple[Service, ...]
    warnings: tuple[str, ...] = ()
    """What the rules allow, but hardly mean."""
    mirror_memory: int = DEFAULT_MEMORY
    """Bytes that all legs together may hold back for their mirrors."""
    max_flows: int = DEFAULT_FLOWS
    """Connections that may be known at once."""
    threads: int | None = None
    """Threads that share the packets, each with a queue: a power of two; None: as many as there are cores for."""
    known_switches: Path | None = None
    """The file that keeps over a restart what is known of switches; None: nothing is kept."""
    ha: Pair | None = None
    """The pair that this host is one of; None: it is alone."""
