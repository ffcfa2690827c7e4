"""The counters of queues and of the outbox, each with the sentence that the reference shows.

The fields of ``nq_counters`` and ``nl_counters`` in C bear the same names.
"""

from enum import StrEnum

from natmirror._ffi import ffi


class QueueCounter(StrEnum):
    """The counters of one NFQUEUE since the start."""

    PACKETS_RECEIVED = "packets_received"
    """Packets that the kernel gave to natmirror."""
    PACKETS_TRANSLATED_BY_KERNEL = "packets_translated_by_kernel"
    """Packets that natmirror marked, so that nftables translates them."""
    PACKETS_MISSED = "packets_missed"
    """Packets that the kernel gave a number in this queue, but that natmirror did not get: its receive buffer was full,
    or it was frozen. Those of a NAT queue were dropped, those of a watch queue passed unseen."""
    PACKETS_TRUNCATED = "packets_truncated"
    """Packets of which the kernel passed only a part to natmirror, because they are longer than 65,531 bytes. Except
    for those in ``packets_cut``, a NAT queue drops them, and a watch queue accepts them."""
    PACKETS_CUT = "packets_cut"
    """Truncated packets that consist of segments (BIG TCP): the kernel cut them and queued the segments. For ten
    seconds after one, it cuts all packets with segments, which costs throughput."""
    PACKETS_OVERSIZED = "packets_oversized"
    """Packets that were dropped because they are too long to return in a verdict after a rewrite."""
    PACKETS_DROPPED_QUEUE_FULL = "packets_dropped_queue_full"
    """Packets that the kernel dropped because the queue was full. Absent if natmirror does not run as root."""
    PACKETS_DROPPED_BUFFER_FULL = "packets_dropped_buffer_full"
    """Packets that the kernel dropped because natmirror's receive buffer was full. Absent if natmirror does not run
    as root."""
    MESSAGES_MALFORMED = "messages_malformed"
    """Messages from the kernel that are inconsistent or cut."""
    RECEIVE_BUFFER_OVERRUNS = "receive_buffer_overruns"
    """Times that the kernel reported a full receive buffer."""
    VERDICTS_LATE = "verdicts_late"
    """Verdicts that the kernel refused because it no longer held the packet; this is harmless."""
    VERDICTS_REFUSED = "verdicts_refused"
    """Verdicts that the kernel refused for another reason."""
    VERDICT_SENDS_REFUSED = "verdict_sends_refused"
    """Times that the kernel had no memory for verdicts. natmirror kept them and sent them again."""
    VERDICTS_NOT_SENT = "verdicts_not_sent"
    """Verdicts that natmirror could not send to the kernel."""
    CHECKS_WITH_LOST_VERDICTS = "checks_with_lost_verdicts"
    """Checks of the queue that found packets in the kernel whose verdicts natmirror had already sent."""
    REBINDS = "rebinds"
    """Times that natmirror bound the queue again."""


class OutboxCounter(StrEnum):
    """The counters of packets that natmirror sends itself, through the TUN device."""

    PACKETS_SENT = "packets_sent"
    """Packets written to the TUN device."""
    PACKETS_JOINED = "packets_joined"
    """Small packets that were joined to the packet before them; ``packets_sent`` does not count them."""
    PACKETS_REFUSED = "packets_refused"
    """Packets that the kernel refused. A leg retransmits its own."""


IN_QUEUES_OF_C = [QueueCounter(name) for name, _ in ffi.typeof("nq_counters").fields]
"""The counters of a queue that C counts. A field of ``nq_counters`` without a name above stops the import."""
IN_OUTBOX_OF_C = [OutboxCounter(name) for name, _ in ffi.typeof("nl_counters").fields]
"""The counters of an outbox, all of which C counts."""
