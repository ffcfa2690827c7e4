"""The JSON of OpenFlow sessions and of decisions, field by field: the reference takes its sentences from here."""

from enum import StrEnum
from typing import TypedDict


class RequestOutcome(StrEnum):
    """The outcome of a master's request."""

    ANSWERED = "answered"
    """It got the answer that the switch last gave to the backend, or one of natmirror's own."""
    REFUSED = "refused"
    """It got an ERROR: the backend has never asked this, or it would change the switch."""
    UNANSWERED = "unanswered"
    """An ECHO_REQUEST got no answer, because the switch had been silent for too long."""


class SessionCounters(TypedDict):
    """The counters of an OpenFlow session with a master."""

    messages_passed: dict[str, int]
    """The switch's messages that the master got, by type."""
    messages_withheld: dict[str, int]
    """The switch's messages that the master did not get, by type and reason, as ``packet_in:not-wanted``."""
    requests: dict[RequestOutcome, int]
    """The master's requests, by outcome."""
    orders: dict[str, int]
    """The master's messages that would have changed the switch, by type: none of them reached it."""


class SessionEntry(SessionCounters):
    """The OpenFlow session that a leg carries."""

    version: str
    """The OpenFlow version that switch and backend speak, as ``1.3``."""
    datapath_id: int | None
    """The switch's datapath id; null until the switch has sent it."""
    role: str
    """The master's role: ``equal``, ``master`` or ``slave``."""
    features_sent: bool
    """Whether the master has got the switch's features: before that it gets no other message."""
    oldest_statistics_seconds: float
    """The age of the oldest statistics that the master was given, in seconds."""


class CauseEntry(TypedDict):
    """The PACKET_IN that a decision most likely answers."""

    at: float
    """When the switch sent it, in seconds of the host's monotonic clock."""
    buffer_id: int
    """Its buffer in the switch."""


class FlowModFields(TypedDict):
    """The fields of a FLOW_MOD."""

    command: str | int
    """``add``, ``modify``, ``modify-strict``, ``delete`` or ``delete-strict``; a number where it is unknown."""
    table_id: int
    """The flow table in the switch; 0 in OpenFlow 1.0."""
    priority: int
    """The entry's priority."""
    match: str
    """The match, in hexadecimal."""
    instructions: str
    """The instructions, or in OpenFlow 1.0 the actions, in hexadecimal."""
    cookie: int
    """The controller's mark on the entry."""
    cookie_mask: int
    """Which bits of the cookie a modification or deletion compares; 0 in OpenFlow 1.0."""
    idle_timeout: int
    """After so many seconds without a packet the entry expires; 0: never."""
    hard_timeout: int
    """After so many seconds the entry expires; 0: never."""
    buffer_id: int
    """The packet in the switch's buffer that the entry applies to at once; 4294967295: none."""
    out_port: int
    """A deletion concerns entries with this port alone."""
    out_group: int | None
    """A deletion concerns entries with this group alone; null in OpenFlow 1.0."""
    flags: int
    """The message's flags."""


class PacketOutFields(TypedDict):
    """The fields of a PACKET_OUT."""

    buffer_id: int
    """The packet in the switch's buffer that is to be sent; 4294967295: ``data`` is."""
    in_port: int | None
    """The port that the packet came from; null in OpenFlow 1.5, where the match says it."""
    actions: str
    """The actions, in hexadecimal."""
    data: str
    """The frame, in hexadecimal; empty where it is in the switch's buffer."""


class DecisionEntry(TypedDict):
    """One message by which a controller changes, or would change, a switch."""

    at: float
    """When it passed, in seconds of the host's monotonic clock."""
    by: str
    """``backend`` or ``master``."""
    type: str
    """The message's type, as ``flow_mod``."""
    xid: int
    """The message's transaction id."""
    fields: FlowModFields | PacketOutFields | None
    """The fields of a FLOW_MOD or PACKET_OUT; null for other messages, and where the message is too short."""
    cause: CauseEntry | None
    """The PACKET_IN that the message most likely answers; null where none is known."""


class SideEntry(TypedDict):
    """The decisions of one side for a switch."""

    counts: dict[str, int]
    """Its messages that change the switch, by type."""
    latest: list[DecisionEntry]
    """The latest of them, at most 32, the oldest first."""
