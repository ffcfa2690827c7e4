"""The JSON of ``natmirror explain``, field by field. The reference shows these sentences."""

from enum import StrEnum
from typing import TypedDict

from natmirror.backends.shown import AdmissionEntry
from natmirror.engine.explained import ConnectionEntry, NewConnectionEntry
from natmirror.replication.synchroniser import SyncState


class AddressKind(StrEnum):
    """What an address is, apart from a client's."""

    SERVICE = "service"
    """The address of a service."""
    BACKEND = "backend"
    """The address of a backend, or of a sorry server."""
    MIRROR = "mirror"
    """The address of a mirror."""
    THIS_HOST = "this-host"
    """An address of the host that natmirror runs on. Its own connections come in on no interface, so natmirror does not
    see them."""


class ConnectionFate(StrEnum):
    """What becomes of a connection between a client and its backend."""

    GOES_ON = "goes-on"
    """It goes on."""
    GOES_ON_IF_BACKEND_SPEAKS = "goes-on-if-its-backend-speaks-first"
    """It goes on if its backend sends data before the client does; else it is reset, and the client connects again. Its
    binding is pinned, and is lost."""
    WAITS = "waits"
    """Its packets are dropped until natmirror runs again. What becomes of it then is what a restart does to it."""
    RESET = "reset-at-its-next-packet"
    """This host's own kernel resets it at the client's next packet, because natmirror's rules are gone."""
    NOT_TOUCHED = "not-touched"
    """natmirror only reads its packets, which pass without it."""
    BEGINS_ANEW = "begins-again"
    """Its handshake is not complete: the client sends its SYN again, which is a new connection to natmirror."""
    LOST = "lost"
    """It is a direct connection: afterwards natmirror takes its backend's packets for answers in the service's name."""


class CopyFate(StrEnum):
    """What becomes of a connection's copy to a mirror, or of its OpenFlow session."""

    GOES_ON = "goes-on"
    """It goes on where the mirror says that it stands."""
    BEGINS_AGAIN = "begins-again"
    """It ends, and begins again in the middle of the connection (``reconnect``)."""
    ENDS = "ends"
    """It ends, and does not begin again on this connection."""


class AddressEntry(TypedDict):
    """What an address is, apart from a client's."""

    kind: AddressKind
    """What it is."""
    name: str
    """Its name in the rules, with its service's; empty for this host."""


class OutcomeEntry(TypedDict):
    """What an interruption would do to a connection and its copies."""

    connection: ConnectionFate
    """What becomes of the connection."""
    copies: dict[str, CopyFate]
    """What becomes of each copy or session that the connection has now, or waits for, by the mirror's name."""


class ExplainedService(NewConnectionEntry):
    """What would become of a client's new connection to a service now."""

    states: dict[str, AdmissionEntry]
    """Whether each backend gets new connections, and why, by its name."""


class ExplainedConnection(ConnectionEntry):
    """A client's connection, with what decides on it, and what interruptions would do to it."""

    restart: OutcomeEntry | None
    """What a restart of natmirror on this host would do to it; null if it is over."""
    stop: OutcomeEntry | None
    """What a stop of natmirror on this host would do to it; null if it is over."""
    move: OutcomeEntry | None
    """What it would do to it if the other host of the pair took over; null without a pair, and if it is over."""
    reload: list[str]
    """What a reload of the rules file as it is on disk would cost it: ends of sentences; empty if nothing."""


class ExplainAnswer(TypedDict):
    """What natmirror does with a client's connections, and why."""

    client: str
    """The client's address, and the port if the question names one."""
    in_switches: bool
    """Whether the address is in one of the networks in ``switches``. natmirror leaves the packets of others alone."""
    address_is: list[AddressEntry]
    """What else the address is, by the rules and on this host."""
    running: bool
    """Whether a running natmirror has answered; false for an answer from a rules file alone, for which all backends are
    up."""
    active: bool
    """Whether production passes this host; false on the standby host of a pair."""
    shared_state: SyncState
    """Whether the hosts of a pair share their pinned bindings and copies now, so that the other one could go on with
    them."""
    thread: int
    """The number of the packet thread that has the client."""
    queues: list[int]
    """The numbers of that thread's queues: for services with a pool, and for services without one if there are any."""
    services: list[ExplainedService]
    """What would become of a new connection to each service that the question is about."""
    connections: list[ExplainedConnection]
    """The client's connections now, up to 100."""
    connection_count: int
    """The number of all its connections now."""
    reload_refused: str | None
    """Why a reload would refuse the rules file as it is on disk; null if it would not, and for a rules file alone."""
