"""The JSON of OpenFlow sessions and of decisions, field by field. The reference shows these sentences."""

from enum import StrEnum
from typing import TypedDict


class RequestOutcome(StrEnum):
    """How natmirror answered a master's request."""

    ANSWERED = "answered"
    """With the switch's last answer to the backend, or with an answer that natmirror itself knows."""
    REFUSED = "refused"
    """With an ERROR: the backend has never asked this, or the request would change the switch."""
    UNANSWERED = "unanswered"
    """Not at all: the request was an ECHO_REQUEST, and the switch had been silent for too long."""


class SessionCounters(TypedDict):
    """The counters of an OpenFlow session with a master."""

    messages_passed: dict[str, int]
    """The switch's messages that the master got, by type."""
    messages_withheld: dict[str, int]
    """The switch's messages that the master did not get, by type and reason; for example ``packet_in:not-wanted``.
    Those that wait count too, until the master gets them."""
    requests: dict[RequestOutcome, int]
    """The master's requests, by outcome."""
    orders: dict[str, int]
    """The master's messages that would have changed the switch, by type. The switch got none of them."""


class SessionEntry(SessionCounters):
    """The OpenFlow session that a leg carries."""

    version: str
    """The OpenFlow version that the switch and the backend speak; for example ``1.3``."""
    datapath_id: int | None
    """The switch's datapath id; null until the switch has sent it."""
    role: str
    """The master's role: ``equal``, ``master`` or ``slave``."""
    features_sent: bool
    """Whether the master has got the switch's features. Before that it gets none of the switch's other messages."""
    oldest_statistics_seconds: float
    """The highest age of statistics that the master has got, in seconds."""


class CauseEntry(TypedDict):
    """The PACKET_IN that an order most likely answers."""

    age_seconds: float
    """Seconds since it passed."""
    buffer_id: int
    """The number of the packet's buffer in the switch."""
    text: str | None
    """The message as one line, in the words of ovs-ofctl; null if it is malformed."""


class FlowModFields(TypedDict):
    """The fields of a FLOW_MOD."""

    command: str
    """``add``, ``modify``, ``modify-strict``, ``delete`` or ``delete-strict``."""
    table_id: int
    """The flow table in the switch; 0 in OpenFlow 1.0."""
    priority: int
    """The entry's priority."""
    match: str
    """The match, in hexadecimal, without what has no effect."""
    instructions: str
    """The instructions, or in OpenFlow 1.0 the actions, in hexadecimal, without what has no effect."""
    cookie: int
    """The number by which the controller recognises the entry."""
    cookie_mask: int
    """The bits of the cookie that a modification or deletion compares; 0 in OpenFlow 1.0."""
    idle_timeout: int
    """Seconds without a packet after which the entry expires; 0 for never."""
    hard_timeout: int
    """Seconds after which the entry expires; 0 for never."""
    buffer_id: int
    """The buffered packet in the switch to which the entry applies at once; 4294967295 for none."""
    out_port: int
    """A deletion removes only entries that send to this port; 4294967295 for any."""
    out_group: int | None
    """A deletion removes only entries that send to this group; null in OpenFlow 1.0."""
    flags: int
    """The message's flags."""


class PacketOutFields(TypedDict):
    """The fields of a PACKET_OUT."""

    buffer_id: int
    """The buffered packet in the switch that is to be sent; 4294967295 if ``data`` holds the packet."""
    in_port: int
    """The port that the packet came from, with 32 bits in all versions; 4294967295 for none."""
    actions: str
    """The actions, in hexadecimal, without what has no effect."""
    data: str
    """The frame, in hexadecimal; empty if the packet is in the switch's buffer."""


class DecisionEntry(TypedDict):
    """An order: a message by which a controller changes a switch, or a master would."""

    age_seconds: float
    """Seconds since it passed."""
    by: str
    """The side that sent it: ``backend`` or ``master``."""
    mirror: str | None
    """The mirror whose master sent it; null for the backend."""
    type: str
    """The message's type; for example ``flow_mod``."""
    xid: int
    """The message's transaction id."""
    text: str | None
    """The order as one line, in the words of ovs-ofctl; null if it is malformed or longer than 2,048 bytes."""
    fields: FlowModFields | PacketOutFields | None
    """The fields of a FLOW_MOD or PACKET_OUT, those that its command ignores with their defaults; null for other
    messages, and for one that is malformed or longer than 2,048 bytes."""
    cause: CauseEntry | None
    """The PACKET_IN that the order most likely answers; null if none is known."""


class SideEntry(TypedDict):
    """The decisions of one side for a switch: its orders."""

    counts: dict[str, int]
    """The number of orders, by message type."""
    latest: list[DecisionEntry]
    """The latest 32 orders of the backend, or of each master, the oldest first."""
