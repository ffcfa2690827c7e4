"""The rules as frozen values. The tables in keys.py say what each key means; a field has the name of its key.

Durations are in seconds, sizes in bytes, percentages are fractions from 0 to 1. The defaults are those of the tables.
"""

import re
from collections.abc import Container
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from natmirror.rules.addresses import ListenAddress
from natmirror.rules.keys import PER_CLIENT, SERVICE, TIMEOUTS, TOP
from natmirror.rules.kinds import (
    Balance,
    CheckKind,
    HashInput,
    MirrorProtocol,
    Mptcp,
    Reconnect,
    Release,
    Statistics,
    Unsolicited,
    Verdict,
    WhenBehind,
    WhenDown,
    WhenNone,
)
from natmirror.rules.mirror_keys import MIRROR
from natmirror.rules.pair_keys import HA
from natmirror.rules.pool_keys import BACKEND, HEALTH, POOL
from natmirror.rules.units import Rate

LEG_PORTS = range(10240, 32768)
"""The source ports of legs from an address of this host: below the ports that Linux gives its own connections."""

_PASSWORD = re.compile(r"(//[^/@:]*:).*(@)")


@dataclass(frozen=True, slots=True)
class Backend:
    """A member of a pool: a backend or the sorry server."""

    name: str
    address: IPv4Address
    port: int
    weight: int = BACKEND["weight"].default
    max_connections: int | None = BACKEND["max-connections"].default


@dataclass(frozen=True, slots=True)
class Health:
    """How the backends of a pool are checked."""

    check: CheckKind
    interval: float = HEALTH["interval"].default
    timeout: float = HEALTH["timeout"].default
    rise: int = HEALTH["rise"].default
    fall: int = HEALTH["fall"].default
    command: tuple[str, ...] = HEALTH["command"].default


@dataclass(frozen=True, slots=True)
class Pool:
    """The backends of a service, and how connections are spread over them."""

    balance: Balance
    hash: HashInput
    backends: tuple[Backend, ...]
    sorry: Backend | None = POOL["sorry"].default
    when_none: WhenNone = POOL["when-none"].default
    when_down: WhenDown = POOL["when-down"].default
    panic: float = POOL["panic"].default
    mptcp: Mptcp = POOL["mptcp"].default
    asymmetric: bool = POOL["asymmetric"].default
    slow_start: float = POOL["slow-start"].default
    health: Health | None = POOL["health"].default

    @property
    def members(self) -> tuple[Backend, ...]:
        """The backends, then the sorry server if there is one."""
        return (*self.backends, *(() if self.sorry is None else (self.sorry,)))


@dataclass(frozen=True, slots=True)
class Mirror:
    """A host that gets a copy of the bytes that clients send."""

    name: str
    address: IPv4Address
    port: int
    buffer: int = MIRROR["buffer"].default
    when_behind: WhenBehind = MIRROR["when-behind"].default
    throttle_limit: float = MIRROR["throttle-limit"].default
    sample: float = MIRROR["sample"].default
    only: tuple[IPv4Network, ...] = MIRROR["only"].default
    """The networks whose clients are mirrored; empty: all."""
    source: IPv4Address | None = MIRROR["source"].default
    """The source address of legs; None: the client's own."""
    linger: float = MIRROR["linger"].default
    connect_timeout: float = MIRROR["connect-timeout"].default
    stall_timeout: float = MIRROR["stall-timeout"].default
    idle_timeout: float | None = MIRROR["idle-timeout"].default
    direct: bool = MIRROR["direct"].default
    asymmetric: bool = MIRROR["asymmetric"].default
    protocol: MirrorProtocol = MIRROR["protocol"].default
    reconnect: Reconnect = MIRROR["reconnect"].default
    unsolicited: Unsolicited = MIRROR["unsolicited"].default
    statistics: Statistics = MIRROR["statistics"].default
    record: Path | None = MIRROR["record"].default
    verdict: Verdict = MIRROR["verdict"].default
    twin: str | None = MIRROR["twin"].default
    """The name of another mirror of the service; None: there is none."""
    warm_up: float = MIRROR["warm-up"].default
    is_paused: bool = False
    """Whether a command has paused it; no key of a rules file says so."""

    # Read for each packet, so they are computed once.
    speaks_openflow: bool = field(init=False, repr=False, compare=False)
    """Whether the mirror is a master, with OpenFlow sessions."""
    throttles: bool = field(init=False, repr=False, compare=False)
    """Whether clients are throttled for the mirror."""
    begins_again: bool = field(init=False, repr=False, compare=False)
    """Whether copies for the mirror begin again, at a break in the client's stream."""
    is_compared: bool = field(init=False, repr=False, compare=False)
    """Whether the mirror is a master whose orders are compared with those of production's controller."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "speaks_openflow", self.protocol is MirrorProtocol.OPENFLOW)
        object.__setattr__(self, "throttles", self.when_behind is WhenBehind.THROTTLE)
        object.__setattr__(self, "begins_again", self.reconnect is Reconnect.NEXT_SEGMENT)
        object.__setattr__(self, "is_compared", self.speaks_openflow and self.verdict is Verdict.ON)


@dataclass(frozen=True, slots=True)
class PerClient:
    """What each client may have of a service; None: no limit."""

    max_connections: int | None = PER_CLIENT["max-connections"].default
    new_connections: Rate | None = PER_CLIENT["new-connections"].default


@dataclass(frozen=True, slots=True)
class Service:
    """An address and port that clients know. Without a pool another program serves it, and natmirror only mirrors."""

    name: str
    address: IPv4Address
    port: int
    pool: Pool | None = SERVICE["pool"].default
    mirrors: tuple[Mirror, ...] = SERVICE["mirrors"].default
    release: Release = SERVICE["release"].default
    per_client: PerClient | None = SERVICE["per-client"].default

    # Read for each packet, so they are computed once.
    copies: tuple[Mirror, ...] = field(init=False, repr=False, compare=False)
    """The raw mirrors: each gets the client's bytes as they are."""
    sessions: tuple[Mirror, ...] = field(init=False, repr=False, compare=False)
    """The masters: each has OpenFlow sessions."""
    throttles: bool = field(init=False, repr=False, compare=False)
    """Whether clients are throttled for one of the mirrors."""
    strips_mptcp: bool = field(init=False, repr=False, compare=False)
    """Whether MP_CAPABLE is stripped from SYN and SYN-ACK."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "copies", tuple(mirror for mirror in self.mirrors if not mirror.speaks_openflow))
        object.__setattr__(self, "sessions", tuple(mirror for mirror in self.mirrors if mirror.speaks_openflow))
        object.__setattr__(self, "strips_mptcp", self.pool is not None and self.pool.mptcp is Mptcp.STRIP)
        object.__setattr__(self, "throttles", any(mirror.throttles for mirror in self.mirrors))


@dataclass(frozen=True, slots=True)
class Host:
    """One of the two hosts of a pair, with its own addresses."""

    name: str
    switch_side: IPv4Address
    pool_side: IPv4Address
    priority: int


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a pair: the virtual addresses that its active host has there."""

    interface: str
    addresses: tuple[IPv4Interface, ...]
    vrrp_id: int


@dataclass(frozen=True, slots=True)
class Pair:
    """Two hosts, of which the active one has the virtual addresses of both sides."""

    hosts: tuple[Host, Host]
    switch_side: Side
    pool_side: Side
    advert_interval: float = HA["advert-interval"].default
    state: str | None = HA["state"].default
    key: str | None = field(default=HA["key"].default, repr=False)

    @property
    def addresses(self) -> tuple[IPv4Interface, ...]:
        """All virtual addresses."""
        return (*self.switch_side.addresses, *self.pool_side.addresses)

    def host_with(self, addresses: Container[IPv4Address]) -> Host | None:
        """Return the host whose own addresses are among these, or None."""
        own = (host for host in self.hosts if host.switch_side in addresses and host.pool_side in addresses)
        return next(own, None)

    @property
    def state_shown(self) -> str | None:
        """``state`` without its password, for output."""
        return self.state and _PASSWORD.sub(r"\1***\2", self.state)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a connection may be silent, by its state."""

    opening: float = TIMEOUTS["opening"].default
    established: float = TIMEOUTS["established"].default
    closing: float = TIMEOUTS["closing"].default
    closed: float = TIMEOUTS["closed"].default


@dataclass(frozen=True, slots=True)
class Rules:
    """A whole rules file, read from ``path``."""

    path: str
    switches: tuple[IPv4Network, ...]
    services: tuple[Service, ...]
    warnings: tuple[str, ...] = ()
    """Rules that are allowed but hardly intended, one sentence each."""
    mirror_memory: int = TOP["mirror-memory"].default
    max_flows: int = TOP["max-flows"].default
    timeouts: Timeouts = field(default_factory=Timeouts)
    threads: int | None = TOP["threads"].default
    """The number of packet threads, a power of two; None: by the number of cores."""
    limit_per_client: int | None = TOP["limit-per-client"].default
    """Packets a second that the kernel takes from one client; None: no limit."""
    known_switches: Path | None = TOP["known-switches"].default
    metrics: ListenAddress | None = TOP["metrics"].default
    """Where the metrics are served; None: on the Unix socket alone."""
    api: ListenAddress | None = TOP["api"].default
    """Where the API's state is served, read-only; None: on the Unix socket alone."""
    events: Path | None = TOP["events"].default
    ha: Pair | None = TOP["ha"].default
