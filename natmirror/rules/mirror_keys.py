"""The table of the keys of a mirror."""

from natmirror.rules.addresses import Address, ClientOrAddress, Network
from natmirror.rules.kinds import MirrorProtocol, Reconnect, Statistics, Unsolicited, WhenBehind
from natmirror.rules.scalars import NAME, PORT, Boolean, Choice, Duration, FilePath, Percentage, Size
from natmirror.rules.tables import Key, ListOf, Section

MIRROR = Section(
    "mirror",
    "A host that gets a copy of what clients send to the service.",
    (
        Key("name", NAME, "Name of the mirror in logs and counters; unique in the service.", "master"),
        Key(
            "address",
            Address(),
            "Address of the mirror; not in a network of switches and not the service's own.",
            "10.20.0.13",
        ),
        Key("port", PORT, "TCP port of the mirror.", "7653", None, "the service's port"),
        Key(
            "buffer",
            Size(64 << 10, 1 << 30),
            "Bytes that one leg may buffer for the mirror. Choose more than the receive windows of the backends,"
            " because a whole window may arrive in one burst after a loss.",
            "64MiB",
            16 << 20,
        ),
        Key(
            "when-behind", Choice(WhenBehind), "What happens when a leg's buffer is full.", "throttle", WhenBehind.DROP
        ),
        Key(
            "throttle-limit",
            Duration(),
            "How long a client is throttled for a stalled mirror before the leg is dropped. Only with when-behind:"
            " throttle.",
            "500ms",
            2.0,
        ),
        Key(
            "sample",
            Percentage(),
            "Percentage of the clients that are mirrored; the same clients on every host and after every start.",
            "10%",
            1.0,
        ),
        Key(
            "only",
            ListOf(Network(), "networks"),
            "Networks, inside those of switches, whose clients are mirrored.",
            "[10.10.0.0/25]",
            (),
            "all clients",
        ),
        Key(
            "source",
            ClientOrAddress(),
            "Source address of the legs: the client's own, or an address of this host for a mirror whose route to the"
            " clients does not lead through this host.",
            "10.20.0.1",
            None,
        ),
        Key(
            "linger",
            Duration(),
            "How long a leg outlives its client's connection without progress, to deliver the remaining bytes. It ends"
            " after twelve times this duration even with progress.",
            "1m",
            5.0,
        ),
        Key(
            "connect-timeout",
            Duration(),
            "How long the mirror may leave a leg's SYN unanswered before the leg is dropped.",
            "10s",
            30.0,
        ),
        Key(
            "stall-timeout",
            Duration(),
            "How long the mirror may acknowledge none of the bytes sent before the leg is dropped (R2, RFC 9293"
            " §3.8.3: at least 100 s).",
            "3m",
            120.0,
        ),
        Key(
            "idle-timeout",
            Duration(),
            "Close a leg after this time without data from either side.",
            "2h",
            None,
            "legs last as long as their clients' connections",
        ),
        Key(
            "direct",
            Boolean(),
            "Whether clients also connect to the mirror's address themselves: then packets of the mirror that belong"
            " to no leg pass instead of being reset. Refused with a source of this host.",
            "true",
            False,
        ),
        Key("protocol", Choice(MirrorProtocol), "What the mirror gets.", "openflow", MirrorProtocol.RAW),
        Key(
            "reconnect",
            Choice(Reconnect),
            "When a session that has ended before its switch's connection starts again. Only with protocol: openflow.",
            "next-message",
            Reconnect.NEVER,
        ),
        Key(
            "unsolicited",
            Choice(Unsolicited),
            "What happens to a switch's answers to requests that only the backend has sent. Only with protocol:"
            " openflow.",
            "pass",
            Unsolicited.HOLD,
        ),
        Key(
            "statistics",
            Choice(Statistics),
            "The answer to a master's request for statistics. Only with protocol: openflow.",
            "refuse",
            Statistics.LAST_SEEN,
        ),
        Key(
            "record",
            FilePath(),
            "Pcap file of the orders (FLOW_MOD, PACKET_OUT …) that the master sends. Each start overwrites the file,"
            " and it grows without limit. Only with protocol: openflow.",
            "/var/lib/natmirror/master.pcap",
            None,
            "not recorded",
        ),
    ),
)
