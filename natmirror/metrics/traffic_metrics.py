"""The metrics of packets and connections on this host."""

from collections.abc import Iterable
from operator import itemgetter

from natmirror.metrics.metric import Kind, Metric, Read, Sample, Status, by_word, one, rows
from natmirror.reasons import DropReason

_LIMIT_KEYS = ("service", "limit")

ENGINE_COUNTERS = {
    "flows_opened": "Connections whose SYN passed this host.",
    "flows_picked_up": "Connections that were picked up: their SYN did not pass this host.",
    "flows_untracked": "Connections for which the flow table had no room: they pass, and are not mirrored.",
    "flows_evicted": "Closed, half open or idle flows that were evicted to make room for new ones.",
    "flows_reset": "Flows that natmirror reset at both ends.",
    "flows_released": "Flows that this host released to the other host of the pair.",
    "direct_connections": "Connections that clients opened to a backend's own address.",
    "syns_refused": "SYNs that a backend answered with a RST.",
    "syns_unanswered": "SYNs that a client repeated because the backend had not answered.",
    "packets_decided_in_c": "Packets that the C code decided without Python.",
    "bad_checksum_packets": "Packets to or from a service with a wrong TCP checksum.",
    "packets_without_flow": "Packets to or from a service that belong to no flow and begin none.",
    "mirror_packets": "Packets from mirrors that went to their legs.",
    "icmp_errors_for_legs": "ICMP errors about packets of legs.",
    "icmp_errors_translated": "ICMP errors about packets of flows, translated and passed on.",
    "verdict_messages_left_out": "OpenFlow messages that the process of the judges did not get, because it was behind"
    " or memory was short.",
}
"""A sentence for each counter of the engine."""

QUEUE_COUNTERS = {
    "packets_received": "Packets that the kernel gave to natmirror.",
    "packets_translated_by_kernel": "Packets that natmirror marked, so that nftables translates them.",
    "packets_missed": "Packets that the kernel queued, but that natmirror did not get.",
    "packets_truncated": "Packets of which the kernel passed only a part to natmirror.",
    "packets_cut": "Truncated packets that the kernel cut into their segments and queued again.",
    "packets_oversized": "Packets that were dropped because they are too long for a verdict.",
    "packets_dropped_queue_full": "Packets that the kernel dropped because the queue was full; only as root.",
    "packets_dropped_buffer_full": "Packets that the kernel dropped because natmirror's receive buffer was full; only"
    " as root.",
    "messages_malformed": "Messages from the kernel that are inconsistent or cut.",
    "receive_buffer_overruns": "Times that the kernel reported a full receive buffer.",
    "verdicts_late": "Verdicts that the kernel refused because it no longer held the packet; this is harmless.",
    "verdicts_refused": "Verdicts that the kernel refused for another reason.",
    "verdict_sends_refused": "Times that the kernel had no memory for verdicts, which natmirror sent again.",
    "verdicts_not_sent": "Verdicts that natmirror could not send to the kernel.",
    "checks_with_lost_verdicts": "Checks of the queue that found packets whose verdicts were lost.",
    "rebinds": "Times that natmirror bound the queue again.",
}
"""A sentence for each counter of a queue."""

TUN_COUNTERS = {
    "packets_sent": "Packets that natmirror has written to its TUN device.",
    "packets_joined": "Small packets that were joined to the one before them.",
    "packets_refused": "Packets of natmirror's own that the kernel refused.",
}
"""A sentence for each counter of the TUN device."""


def _of_queues(counter: str) -> Read:
    def read(status: Status) -> Iterable[Sample]:
        queues = status["machine"]["queues"].items()
        return [((number,), counters[counter]) for number, counters in queues if counter in counters]

    return read


TRAFFIC_METRICS = (
    Metric("natmirror_flows", Kind.GAUGE, "Open connections now.", one("flows")),
    Metric(
        "natmirror_pinned_flows",
        Kind.GAUGE,
        "Flows whose backend the rules alone do not give: without a pair's shared state they break at a restart.",
        one("pinned_flows"),
    ),
    Metric(
        "natmirror_added_latency_seconds",
        Kind.HISTOGRAM,
        "How long a packet of production is on this host before natmirror sends its verdict, from the moment at which"
        " the kernel received it. One packet of 16 is measured, if the kernel notes when packets come: with the rules"
        " key metrics it does.",
        lambda status: [((), status["machine"]["added_latency"])],
    ),
    Metric(
        "natmirror_packets_dropped_total",
        Kind.COUNTER,
        "Packets that natmirror dropped, by reason.",
        by_word("drops", DropReason),
        ("reason",),
    ),
    Metric(
        "natmirror_packets_decided_in_python_total",
        Kind.COUNTER,
        "Packets that Python decided, by the reason why C did not.",
        by_word("packets_decided_in_python"),
        ("reason",),
    ),
    Metric(
        "natmirror_packets_over_limit_total",
        Kind.COUNTER,
        "Packets of clients and other peers that had no turn left, by the reason why Python would have decided them.",
        by_word("packets_over_limit"),
        ("reason",),
    ),
    Metric(
        "natmirror_client_limit_refused_syns_total",
        Kind.COUNTER,
        "Clients' SYNs that were answered with a RST or dropped because of a limit per client.",
        rows("client_limits", _LIMIT_KEYS, itemgetter("refused_syns")),
        _LIMIT_KEYS,
    ),
    Metric(
        "natmirror_client_limit_limited_clients_total",
        Kind.COUNTER,
        "Times that a client began to be limited by a limit per client.",
        rows("client_limits", _LIMIT_KEYS, itemgetter("limited_clients")),
        _LIMIT_KEYS,
    ),
    Metric(
        "natmirror_packets_forged_total",
        Kind.COUNTER,
        "Packets that were dropped because they came from a wrong interface, by the endpoint in whose name they came.",
        by_word("machine.packets_forged"),
        ("endpoint",),
    ),
    Metric(
        "natmirror_answers_not_kept_total",
        Kind.COUNTER,
        "Answers of OpenFlow switches that natmirror did not keep for masters, by reason.",
        by_word("answers_not_kept"),
        ("reason",),
    ),
    *(
        Metric(f"natmirror_{name}_total", Kind.COUNTER, sentence, one(f"counters.{name}"))
        for name, sentence in ENGINE_COUNTERS.items()
    ),
    *(
        Metric(f"natmirror_queue_{name}_total", Kind.COUNTER, sentence, _of_queues(name), ("queue",))
        for name, sentence in QUEUE_COUNTERS.items()
    ),
    *(
        Metric(f"natmirror_tun_{name}_total", Kind.COUNTER, sentence, one(f"machine.tunnel.{name}"))
        for name, sentence in TUN_COUNTERS.items()
    ),
)
"""The metrics of packets and connections on this host."""
