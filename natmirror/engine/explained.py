"""The JSON of an engine's explanations, field by field. The reference shows these sentences."""

from enum import StrEnum
from typing import TypedDict

from natmirror.mirror.shown import CopyEntry, FlowEntry, ForeseenCopy
from natmirror.nat.new_connections import Opening
from natmirror.rules import Balance


class Obstacle(StrEnum):
    """What keeps a backend from a client's new connection."""

    CLOSED = "closed"
    """It gets no new connections of any client: its share is 0."""
    FULL = "full"
    """It has as many connections as its ``max-connections`` allows."""
    FAILED = "failed-the-client"
    """It has lately refused this client's SYN, or left it unanswered."""
    SLOW_START = "slow-start"
    """The client is among those that it does not get yet, because its share is below 1."""
    WEIGHTS = "weights"
    """The client is among those that it leaves to others, because commands have changed the pool's weights."""


class FailureKind(StrEnum):
    """How a backend has failed a client."""

    REFUSED = "refused"
    """It has answered the client's SYN with a RST."""
    UNANSWERED = "unanswered"
    """It has not answered the client's SYN in time, and has accepted no connection of any client since."""


class FailureEntry(TypedDict):
    """A SYN of the client to which a backend gave no connection."""

    kind: FailureKind
    """How the backend has failed the client."""
    failed_seconds: float
    """How long ago that was, in seconds."""
    avoided_seconds: float
    """For how many seconds more the client's new connections avoid the backend."""


class PoolMemberEntry(TypedDict):
    """A backend of the pool, as a client's new connection meets it."""

    backend: str
    """The backend's name in the rules."""
    address: str
    """The backend's address and port."""
    weight: int
    """Its weight: that of the last ``natmirror weight``, or else that of the rules."""
    share: float
    """The fraction, 0 to 1, of its normal part of new connections that it gets."""
    connections: int
    """Its connections now."""
    max_connections: int | None
    """The limit on its connections; null for none."""
    obstacles: list[Obstacle]
    """What keeps it from this connection; empty if only the order of the backends decides."""
    failure: FailureEntry | None
    """The client's failed attempt, if that is an obstacle."""


class ClientUseEntry(TypedDict):
    """What the client has of the service, and what its limits allow."""

    connections: int
    """Its connections that count now: a half open one does so for 10 to 20 s."""
    max_connections: int | None
    """The limit on them; null for none."""
    new_connections: str | None
    """The limit on its new connections, such as ``20/s``; null for none."""
    new_connections_left: int | None
    """How many it may open now; null without such a limit."""


class MirrorEnds(TypedDict):
    """The ends of legs to a mirror."""

    mirror: str
    """The mirror's name in the rules."""
    address: str
    """The mirror's address and port."""
    source: str | None
    """The address of this host that its legs have; null if they have the client's."""


class NewConnectionEntry(TypedDict):
    """What would become of a client's new connection to a service now."""

    service: str
    """The service's name in the rules."""
    address: str
    """The service's address and port."""
    opening: Opening
    """What would become of the connection."""
    per_client: ClientUseEntry | None
    """What the client has of the service; null if the service has no limits per client."""
    backend: str | None
    """The backend that it would get; null if it gets none, and if that depends on the client's port."""
    needs_port: bool
    """Whether the backend depends on the client's port, which the question does not name."""
    balance: Balance | None
    """How the pool's backend is chosen; null without a pool."""
    slot: int | None
    """The client's slot in Maglev's table of 65,537, by its hash; null with another ``balance``."""
    first_choice: str | None
    """The backend that Maglev gives the client while all backends are open; null with another ``balance``."""
    has_tried_all: bool
    """Whether all open backends have lately failed the client, so that it avoids none of them."""
    pool: list[PoolMemberEntry]
    """The backends in the order of the rules, then the sorry server."""
    copies: list[ForeseenCopy]
    """The mirrors, and whether each would get the connection's bytes."""
    mirrors: list[MirrorEnds]
    """All mirrors of the service."""


class ConnectionEntry(FlowEntry):
    """A client's connection, with what decides on it."""

    direct: bool
    """Whether the client is connected to the backend's own address: natmirror lets that pass, and copies nothing."""
    is_open: bool
    """Whether the client's handshake is complete and the connection has not ended."""
    is_over: bool
    """Whether the connection has ended or was reset."""
    pinned: bool
    """Whether the rules alone would give the connection another backend, so that its binding has to be kept."""
    derived_backend: str | None
    """The backend that the rules alone would give it; null without a pool."""
    picked_up: bool
    """Whether its SYN did not pass here."""
    unconfirmed: bool
    """Whether its two ends have not agreed on their numbers here yet."""
    reset_by_natmirror: bool
    """Whether natmirror has reset it, because its backend or its client was taken away."""
    ambiguous: bool
    """Whether it is unknown which of several SYNs its backend has taken."""
    mptcp: bool
    """Whether it is a part of a Multipath TCP connection."""
    throttled: bool
    """Whether the client sees a smaller window, because of a mirror with ``when-behind: throttle``."""
    copies: list[CopyEntry]
    """The mirrors, and whether each gets the connection's bytes."""
