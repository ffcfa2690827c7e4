"""The counters of an engine, each with the sentence that the reference shows."""

from collections import Counter
from enum import StrEnum

from natmirror.reasons import DropReason


class EngineCounter(StrEnum):
    """What the engines of all threads have counted since natmirror started.

    The fields of ``nm_counters`` in C have the same names.
    """

    FLOWS_OPENED = "flows_opened"
    """Connections whose SYN passed this host."""
    FLOWS_PICKED_UP = "flows_picked_up"
    """Connections that were picked up: their SYN did not pass this host."""
    FLOWS_UNTRACKED = "flows_untracked"
    """Connections for which the flow table had no room. Their packets pass to the backend that the rules give, and are
    not mirrored."""
    FLOWS_EVICTED = "flows_evicted"
    """Closed, half open or idle flows that were evicted from the flow table to make room for new ones."""
    FLOWS_RESET = "flows_reset"
    """Flows that natmirror reset at both ends, because their backend failed or was drained past its deadline, or
    because the rules no longer have their client."""
    FLOWS_RELEASED = "flows_released"
    """Flows that this host released to the other host of the pair."""
    DIRECT_CONNECTIONS = "direct_connections"
    """Connections that clients opened to a backend's own address. They pass unchanged."""
    SYNS_REFUSED = "syns_refused"
    """SYNs that a backend answered with a RST."""
    SYNS_UNANSWERED = "syns_unanswered"
    """SYNs that a client repeated because the backend had not answered. The repeated SYN may go to another backend."""
    PACKETS_DECIDED_IN_C = "packets_decided_in_c"
    """Packets that the C code decided without Python."""
    BAD_CHECKSUM_PACKETS = "bad_checksum_packets"
    """Packets to or from a service with a wrong TCP checksum. They pass, and change no state of natmirror."""
    PACKETS_WITHOUT_FLOW = "packets_without_flow"
    """Packets to or from a service that belong to no flow and begin none."""
    MIRROR_PACKETS = "mirror_packets"
    """Packets from mirrors that went to their legs."""
    ICMP_ERRORS_FOR_LEGS = "icmp_errors_for_legs"
    """ICMP errors about packets of legs."""
    ICMP_ERRORS_TRANSLATED = "icmp_errors_translated"
    """ICMP errors about packets of flows, translated and passed to the client or backend."""
    VERDICT_MESSAGES_LEFT_OUT = "verdict_messages_left_out"
    """OpenFlow messages that the process of the judges did not get, because it was behind or memory was short: their
    connections' tables are not compared for a while, and the verdict says so."""


class Counters:
    """The counters of one engine by name, and the packets that it dropped by reason."""

    def __init__(self) -> None:
        self.counters: Counter[EngineCounter] = Counter()
        self.drops: Counter[DropReason] = Counter()

    def count(self, name: EngineCounter) -> None:
        """Add one to a counter."""
        self.counters[name] += 1

    def drop(self, reason: DropReason) -> None:
        """Count a packet that was dropped."""
        self.drops[reason] += 1
