"""The JSON of flows, legs and mirrors, field by field: the reference takes its sentences from here."""

from enum import StrEnum
from typing import Literal, TypedDict

from natmirror.fastpath.flow_states import FlowState
from natmirror.openflow.shown import SessionCounters, SessionEntry
from natmirror.reasons import EndReason
from natmirror.tcp.leg_states import LegState


class LegPhase(StrEnum):
    """The state of a leg."""

    SYN_SENT = "syn-sent"
    """The mirror has not answered the SYN yet."""
    ESTABLISHED = "established"
    """The connection stands."""
    FIN_WAIT_1 = "fin-wait-1"
    """The client has closed; the mirror has not acknowledged the FIN yet."""
    FIN_WAIT_2 = "fin-wait-2"
    """The client has closed; the mirror has not closed its side yet."""
    CLOSE_WAIT = "close-wait"
    """The mirror has closed its side, and still gets the client's bytes."""
    CLOSING = "closing"
    """Both have closed; the mirror has not acknowledged the FIN yet."""
    LAST_ACK = "last-ack"
    """Both have closed, the mirror first; the mirror has not acknowledged the FIN yet."""
    RESUMING = "resuming"
    """The leg was adopted from the other host: its mirror has not reported its position yet."""
    ENDED = "ended"
    """It has ended, for the reason in ``reason``."""
    NONE = "none"
    """The session has no leg, for the reason in ``reason``."""


PHASES: dict[LegState, LegPhase] = {state: LegPhase[state.name] for state in LegState if state is not LegState.CLOSED}
"""How the states of living legs are shown."""


class SessionWait(StrEnum):
    """Why an OpenFlow session has no leg yet."""

    HELLOS = "waits-for-hellos"
    """Switch and backend have not both sent their HELLO yet."""
    FEATURES = "waits-for-features"
    """The flow was picked up, and the switch has not sent its datapath id yet."""


class LegEntry(TypedDict):
    """A leg, or an OpenFlow session without one. The byte counts of a session's leg are those of its messages."""

    mirror: str
    """The mirror's name in the rules."""
    state: LegPhase
    """The leg's state."""
    reason: EndReason | SessionWait | None
    """Why the leg has ended, or why the session has none; null while the leg lives."""
    client_bytes: int
    """Bytes that the leg has to carry: the client's so far."""
    sent_bytes: int
    """Bytes sent to the mirror, retransmissions not counted."""
    acked_bytes: int
    """Bytes that the mirror has acknowledged."""
    in_flight_bytes: int
    """Bytes sent and not acknowledged."""
    lag_bytes: int
    """Bytes that the client has sent and the mirror has not acknowledged."""
    lag_seconds: float
    """For how long the oldest of them has waited, in seconds."""
    consumed_bytes: int
    """Bytes that the mirror has sent: natmirror discards them, or a session reads them."""
    retransmits: int
    """Segments sent again."""
    timeouts: int
    """Retransmission timeouts."""
    rtt_seconds: float | None
    """The smoothed round trip time to the mirror, in seconds; null until it was measured."""
    session: SessionEntry | None
    """The OpenFlow session that the leg carries; null on a leg with the client's bytes, and without a leg."""
    messages_missed: int
    """Messages that the switch sent while the master had no session; 0 on a leg with the client's bytes."""


class FlowEntry(TypedDict):
    """A client's connection, with its legs."""

    service: str
    """The service's name in the rules."""
    client: str
    """The client's address and port."""
    backend: str | None
    """The backend's name in the rules; null for a service without a pool, and for a gone flow."""
    state: FlowState
    """The connection's state."""
    idle_seconds: float | None
    """For how long no packet has passed, in seconds; null where none has passed this host, and for a gone flow."""
    guest: bool
    """Whether the other host of the pair passes the connection, as far as this one knows."""
    mirrored: bool
    """Whether the flow has legs or sessions."""
    client_bytes: int
    """Bytes that the client has sent."""
    backend_bytes: int | None
    """Bytes that the backend has sent; null for a gone flow."""
    legs: list[LegEntry]
    """The flow's legs, and its OpenFlow sessions."""


class MirrorSessions(SessionCounters):
    """The counters of all OpenFlow sessions with a mirror."""

    not_opened: dict[EndReason, int]
    """Attempts to open a session that failed, and connections that got none, by reason."""


LegSum = Literal["sent_bytes", "acked_bytes", "consumed_bytes", "retransmits", "timeouts"]
"""A field of a mirror that is a sum over its legs, under the same name in a leg, in Totals and in C."""


class MirrorEntry(TypedDict):
    """A mirror's account. At any moment ``client_bytes`` = ``acked_bytes`` + ``pending_bytes`` + the sum of
    ``lost_bytes``."""

    service: str
    """The service's name in the rules."""
    name: str
    """The mirror's name in the rules."""
    address: str
    """The mirror's address and port."""
    legs: int
    """Legs that live now."""
    legs_opened: int
    """Legs that this host has opened."""
    legs_adopted: int
    """Legs of the other host that this host has activated."""
    legs_resumed: int
    """Those of the adopted legs whose mirrors have answered, and that went on."""
    legs_ended: dict[EndReason, int]
    """Legs that have ended, by reason."""
    client_bytes: int
    """Bytes that clients have sent for this mirror; with ``protocol: openflow`` those of the sessions' messages."""
    sent_bytes: int
    """Bytes sent to the mirror, retransmissions not counted."""
    acked_bytes: int
    """Bytes that the mirror has acknowledged."""
    pending_bytes: int
    """Bytes that the mirror may still acknowledge: sent or buffered."""
    in_flight_bytes: int
    """Those of the pending bytes that were sent."""
    lost_bytes: dict[EndReason, int]
    """Bytes that the mirror did not get, by reason."""
    consumed_bytes: int
    """Bytes that the mirror has sent: natmirror discards them, or a session reads them."""
    retransmits: int
    """Segments sent again."""
    timeouts: int
    """Retransmission timeouts."""
    lag_seconds: float
    """For how long the oldest pending byte has waited, in seconds."""
    rtt_seconds: float
    """The longest smoothed round trip time of a living leg, in seconds; 0 without one."""
    sessions: MirrorSessions | None
    """What the OpenFlow sessions have counted; null for a mirror with ``protocol: raw``."""


class MirrorMemory(TypedDict):
    """The budget that all mirrors share, and what is known of switches."""

    used_bytes: int
    """Bytes that are buffered for mirrors or kept of switches now."""
    limit_bytes: int
    """Bytes that may be: ``mirror-memory`` in the rules."""
