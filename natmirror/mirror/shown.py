"""The JSON of flows, legs and mirrors, field by field. The reference shows these sentences."""

from enum import StrEnum
from typing import Literal, TypedDict

from natmirror.fastpath.flow_states import FlowState
from natmirror.histograms import HistogramEntry
from natmirror.openflow.shown import SessionCounters, SessionEntry
from natmirror.reasons import EndReason
from natmirror.tcp.leg_states import LegState


class LegPhase(StrEnum):
    """The state of a leg."""

    SYN_SENT = "syn-sent"
    """The mirror has not answered the SYN yet."""
    ESTABLISHED = "established"
    """The connection is open."""
    FIN_WAIT_1 = "fin-wait-1"
    """The client has closed; the mirror has not acknowledged the FIN yet."""
    FIN_WAIT_2 = "fin-wait-2"
    """The client has closed; the mirror has not closed its side yet."""
    CLOSE_WAIT = "close-wait"
    """The mirror has closed its side, but still gets the client's bytes."""
    CLOSING = "closing"
    """Both have closed; the mirror has not acknowledged the FIN yet."""
    LAST_ACK = "last-ack"
    """Both have closed, the mirror first; the mirror has not acknowledged the FIN yet."""
    RESUMING = "resuming"
    """The leg was adopted from the other host; its mirror has not reported its position yet."""
    ENDED = "ended"
    """The leg has ended, for the reason in ``reason``."""
    NONE = "none"
    """The session, or the copy that waits to begin again, has no leg, for the reason in ``reason``."""


PHASES: dict[LegState, LegPhase] = {state: LegPhase[state.name] for state in LegState if state is not LegState.CLOSED}
"""The states of open legs as the API shows them."""


class SessionWait(StrEnum):
    """Why an OpenFlow session has no leg yet."""

    HELLOS = "waits-for-hellos"
    """The switch or the backend has not sent its HELLO yet."""
    FEATURES = "waits-for-features"
    """The flow was picked up, or is older than the service's first master, and the switch has not sent its datapath id
    since."""


class LegEntry(TypedDict):
    """A leg, or an OpenFlow session without a leg. For a session's leg, client bytes are the bytes of the session's
    messages to the master."""

    mirror: str
    """The mirror's name in the rules."""
    state: LegPhase
    """The leg's state."""
    reason: EndReason | SessionWait | None
    """Why the leg has ended, or why the session has no leg; null while the leg is open."""
    client_bytes: int
    """Bytes that the client has sent and the leg has to carry."""
    sent_bytes: int
    """Bytes sent to the mirror, retransmissions not counted."""
    acked_bytes: int
    """Bytes that the mirror has acknowledged."""
    in_flight_bytes: int
    """Bytes sent to the mirror and not yet acknowledged."""
    lag_bytes: int
    """Bytes that the client has sent and the mirror has not acknowledged yet."""
    lag_seconds: float
    """How long the oldest of these bytes has waited, in seconds."""
    consumed_bytes: int
    """Bytes that the mirror has sent. A session reads them; otherwise natmirror discards them."""
    retransmits: int
    """Segments sent again."""
    timeouts: int
    """Retransmission timeouts."""
    rtt_seconds: float | None
    """The smoothed round trip time to the mirror, in seconds; null before the first measurement."""
    session: SessionEntry | None
    """The OpenFlow session that the leg carries; null for a leg to a raw mirror, and without a leg."""
    messages_missed: int
    """Messages that the switch sent while the master had no session; 0 for a leg to a raw mirror."""


class FlowEntry(TypedDict):
    """A client's connection, with its legs."""

    service: str
    """The service's name in the rules."""
    client: str
    """The client's address and port."""
    backend: str | None
    """The backend's name in the rules; null for a service without a pool, and if ``state`` is ``gone``."""
    state: FlowState
    """The connection's state."""
    idle_seconds: float | None
    """Seconds since the last packet; null if none has passed this host, and if ``state`` is ``gone``."""
    guest: bool
    """Whether the connection's packets pass the other host of the pair, as far as this host knows."""
    mirrored: bool
    """Whether the flow has legs or sessions."""
    client_bytes: int
    """Bytes that the client has sent."""
    backend_bytes: int | None
    """Bytes that the backend has sent; null if ``state`` is ``gone``."""
    legs: list[LegEntry]
    """The flow's legs, and its OpenFlow sessions."""


class CopyWait(StrEnum):
    """Why a connection's copies have not begun yet."""

    HANDSHAKE = "waits-for-handshake"
    """The client's handshake is not complete: copies begin with it."""


class ForeseenCopy(TypedDict):
    """A mirror, and whether it would get the bytes of a new connection."""

    mirror: str
    """The mirror's name in the rules."""
    reason: EndReason | None
    """Why it would not get them; null if it would, as long as there is memory and the client's port is free there."""


class CopyEntry(TypedDict):
    """A mirror, and whether it gets a connection's bytes now."""

    mirror: str
    """The mirror's name in the rules."""
    copied: bool
    """Whether it has a leg that carries them."""
    from_middle: bool
    """Whether this leg, or the last one, began in the middle of the connection."""
    reason: EndReason | SessionWait | CopyWait | None
    """Why it does not get them; null if it does, and if the reason was not kept."""
    ended_as: EndReason | None
    """While ``reason`` is ``reconnecting``: why the last leg to it ended, or why there was none. Null for a session."""
    begins_again: bool
    """Whether it may get the later bytes of this connection again."""
    begins_in_seconds: float | None
    """While ``reason`` is ``reconnecting``: the seconds until the client's next data may begin it again; null while
    another connection tries the mirror first."""
    client_waits: bool
    """Whether the client is throttled because of this mirror at the moment."""


class MirrorState(StrEnum):
    """Whether a mirror takes copies, as far as its legs show."""

    UNTRIED = "untried"
    """No leg to it has been accepted, and none has failed, since natmirror started."""
    UP = "up"
    """It has accepted a leg or acknowledged bytes, and keeps up."""
    BEHIND = "behind"
    """It is up, but bytes have waited for its acknowledgement for more than 5 s."""
    DOWN = "down"
    """It refuses legs and acknowledges nothing, or all of its legs have ended and the latest ones have failed."""
    PAUSED = "paused"
    """The operator has paused it: it gets no bytes."""


class MirrorSessions(SessionCounters):
    """The counters of all OpenFlow sessions with a mirror."""

    not_opened: dict[EndReason, int]
    """Attempts to open a session that failed, and connections that got no session, by reason."""


LegSum = Literal["sent_bytes", "acked_bytes", "consumed_bytes", "retransmits", "timeouts"]
"""A field of a mirror that is a sum over its legs, under the same name in a leg, in Totals and in C."""


class MirrorEntry(TypedDict):
    """A mirror. At any moment, ``client_bytes`` = ``acked_bytes`` + ``pending_bytes`` + the sum of ``lost_bytes``."""

    service: str
    """The service's name in the rules."""
    name: str
    """The mirror's name in the rules."""
    address: str
    """The mirror's address and port."""
    legs: int
    """Legs that are open now."""
    legs_unanswered: int
    """Those of them whose mirror has not answered yet: it has no byte of their connections."""
    connections_not_copied: dict[EndReason, int]
    """Open connections whose bytes do not reach the mirror now, or that have no session with it, by reason. A
    connection that has been silent since natmirror started is not known yet, and does not count; with ``protocol:
    openflow``, neither does one that is older than the master or that has not shown its switch yet."""
    connections_excluded: dict[EndReason, int]
    """Open connections that the rules leave out for this mirror: by ``only``, by ``sample``, or because it is the
    connection's backend."""
    legs_opened: int
    """Legs that this host has opened."""
    legs_adopted: int
    """Legs of the other host that this host has adopted and activated."""
    legs_resumed: int
    """Adopted legs that have continued, because their mirrors have answered."""
    legs_ended: dict[EndReason, int]
    """Legs that have ended, by reason."""
    client_bytes: int
    """Bytes of clients that this mirror has to get: those that backends have acknowledged or, with ``release: seen``,
    all that passed; with ``protocol: openflow``, the bytes of the sessions' messages to the master."""
    held_bytes: int
    """Bytes of clients that wait for their backends' acknowledgement; no part of ``client_bytes``."""
    never_acked_bytes: int
    """Bytes of clients whose connections ended before a backend acknowledged them; no part of ``client_bytes``."""
    sent_bytes: int
    """Bytes sent to the mirror, retransmissions not counted."""
    acked_bytes: int
    """Bytes that the mirror has acknowledged."""
    pending_bytes: int
    """Bytes that the mirror has not acknowledged and that are not lost: sent or buffered."""
    in_flight_bytes: int
    """Pending bytes that have been sent."""
    lost_bytes: dict[EndReason, int]
    """Bytes that the mirror did not get, by reason."""
    consumed_bytes: int
    """Bytes that the mirror has sent. Sessions read them; otherwise natmirror discards them."""
    retransmits: int
    """Segments sent again."""
    timeouts: int
    """Retransmission timeouts."""
    lag_seconds: float
    """How long the oldest pending byte has waited, in seconds."""
    rtt_seconds: float
    """The longest smoothed round trip time of an open leg, in seconds; 0 if none is open."""
    leg_lag: HistogramEntry
    """How long the oldest byte that the mirror had not acknowledged had waited, at each of its acknowledgements."""
    leg_rtt: HistogramEntry
    """The round trips to the mirror, as legs measure them for their retransmission timers."""
    sessions: MirrorSessions | None
    """The counters of the OpenFlow sessions; null for a mirror with ``protocol: raw``."""


class MirrorMemory(TypedDict):
    """The memory budget of mirroring."""

    used_bytes: int
    """Bytes that are in use: legs and sessions with all that they hold, bytes that wait behind gaps, the known state of
    switches, and the quarter that the judges have while a master has ``verdict: on``."""
    limit_bytes: int
    """Bytes that the budget allows (``mirror-memory`` in the rules)."""
    client_limit_bytes: int
    """Bytes that one client may hold: a sixteenth of the budget."""
    largest_client_bytes: int
    """Bytes that the client which holds most has."""
