"""The table of the keys of a mirror."""

from natmirror.rules.addresses import Address, ClientOrAddress, Network
from natmirror.rules.kinds import MirrorProtocol, Reconnect, Statistics, Unsolicited, Verdict, WhenBehind
from natmirror.rules.scalars import NAME, PORT, Boolean, Choice, Duration, FilePath, Percentage, Size
from natmirror.rules.tables import Key, ListOf, Section

MIRROR = Section(
    "mirror",
    "A host that gets a copy of the bytes that clients send to the service.",
    (
        Key("name", NAME, "Name of the mirror in logs and counters; unique in the service.", example="master"),
        Key(
            "address",
            Address(),
            "Address of the mirror; not in a network of switches and not the service's own.",
            example="10.20.0.13",
        ),
        Key("port", PORT, "TCP port of the mirror.", example="7653", default=None, absent="the service's port"),
        Key(
            "buffer",
            Size(64 << 10, 1 << 30),
            "Bytes that one leg may buffer for the mirror. Choose more than the receive windows of the backends,"
            " because a whole window may arrive in one burst after a loss.",
            example="64MiB",
            default=16 << 20,
        ),
        Key(
            "when-behind",
            Choice(WhenBehind),
            "What happens when a leg's buffer is full.",
            example="throttle",
            default=WhenBehind.DROP,
        ),
        Key(
            "throttle-limit",
            Duration(),
            "How long a client is throttled for a stalled mirror before the leg is dropped. Only with when-behind:"
            " throttle.",
            example="500ms",
            default=2.0,
        ),
        Key(
            "sample",
            Percentage(),
            "Percentage of the clients that are mirrored; the same clients on every host and after every start.",
            example="10%",
            default=1.0,
        ),
        Key(
            "only",
            ListOf(Network(), "networks"),
            "Networks, inside those of switches, whose clients are mirrored.",
            example="[10.10.0.0/25]",
            default=(),
            absent="all clients",
        ),
        Key(
            "source",
            ClientOrAddress(),
            "Source address of the legs: the client's own, or an address of this host for a mirror whose route to the"
            " clients does not lead through this host.",
            example="10.20.0.1",
            default=None,
        ),
        Key(
            "linger",
            Duration(),
            "How long a leg outlives its client's connection without progress, to deliver the remaining bytes. It ends"
            " after twelve times this duration even with progress.",
            example="1m",
            default=5.0,
        ),
        Key(
            "connect-timeout",
            Duration(),
            "How long the mirror may leave a leg's SYN unanswered before the leg is dropped.",
            example="10s",
            default=30.0,
        ),
        Key(
            "stall-timeout",
            Duration(),
            "How long a leg's bytes may wait while the mirror acknowledges none of them, before the leg is dropped (R2,"
            " RFC 9293 §3.8.3: at least 100 s).",
            example="3m",
            default=120.0,
        ),
        Key(
            "idle-timeout",
            Duration(),
            "Close a leg after this time without data from either side.",
            example="2h",
            default=None,
            absent="legs last as long as their clients' connections",
        ),
        Key(
            "direct",
            Boolean(),
            "Whether clients also connect to the mirror's address themselves: then packets of the mirror that belong"
            " to no leg pass instead of being reset. Refused with a source of this host.",
            example="true",
            default=False,
        ),
        Key(
            "asymmetric",
            Boolean(),
            "Whether the mirror's packets may arrive on another interface than the one that the route to the mirror"
            " leads to. By default such packets are dropped and counted, because any host could have forged them.",
            example="true",
            default=False,
        ),
        Key(
            "protocol", Choice(MirrorProtocol), "What the mirror gets.", example="openflow", default=MirrorProtocol.RAW
        ),
        Key(
            "reconnect",
            Choice(Reconnect),
            "When a copy or session that has ended before its client's connection begins again.",
            example="next-segment",
            default=Reconnect.NEVER,
        ),
        Key(
            "unsolicited",
            Choice(Unsolicited),
            "What happens to a switch's answers to requests that only the backend has sent. Only with protocol:"
            " openflow.",
            example="pass",
            default=Unsolicited.HOLD,
        ),
        Key(
            "statistics",
            Choice(Statistics),
            "The answer to a master's request for statistics. Only with protocol: openflow.",
            example="refuse",
            default=Statistics.LAST_SEEN,
        ),
        Key(
            "record",
            FilePath(),
            "Pcap file of the orders (FLOW_MOD, PACKET_OUT …) that the master sends. At each start and at 64 MiB a new"
            " file begins; FILE.1 to FILE.4 are the last ones. Only with protocol: openflow.",
            example="/var/lib/natmirror/master.pcap",
            default=None,
            absent="not recorded",
        ),
        Key(
            "verdict",
            Choice(Verdict),
            "Whether natmirror compares the master's orders with those of production's controller. Only with protocol:"
            " openflow.",
            example="on",
            default=Verdict.OFF,
        ),
        Key(
            "twin",
            NAME,
            "Name of another mirror of the service, with verdict: on and no twin of its own, whose controller is"
            " production's own version. What differs there just as often is no fault of this mirror. Only with"
            " protocol: openflow.",
            example="same",
            default=None,
            absent="none",
        ),
        Key(
            "warm-up",
            Duration(low=0.0),
            "How long after the beginning of a session its answers do not count for the verdict: the master begins with"
            " empty tables where production's are full. Choose more than the idle timeouts of production's rules. Only"
            " with protocol: openflow.",
            example="1m",
            default=30.0,
        ),
    ),
)

ONLY_OPENFLOW = ("unsolicited", "statistics", "record", "verdict", "twin", "warm-up")
"""Keys that only a mirror with OpenFlow sessions may have."""
