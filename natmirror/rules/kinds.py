"""The words that a rules key may choose between, each listed once, with the sentence that the reference shows.

The tables of keys, the text form and the code that acts on a rule use these enumerations. Where each word has a class
of its own, a table there has an entry for each word, and a test compares the two.
"""

from enum import StrEnum


class Balance(StrEnum):
    """How new connections are spread over a pool's backends."""

    MAGLEV = "maglev"
    """Consistent hashing: a client gets the same backend on every host and after every restart."""
    ROUND_ROBIN = "round-robin"
    """Each backend in turn, by weight; each thread has turns of its own."""
    LEAST_CONNECTIONS = "least-connections"
    """The one with the fewest connections for its weight. Python opens the connections: a few thousand per second."""
    PRIORITY = "priority"
    """The first backend that is up, in the order of the rules."""


class HashInput(StrEnum):
    """The part of a client's endpoint that Maglev hashes."""

    ADDRESS = "address"
    """The address: all connections of a switch, auxiliary ones too, have the same backend."""
    ADDRESS_PORT = "address-port"
    """The address and port: connections of one switch may have different backends."""


class Release(StrEnum):
    """When mirrors get a client's byte."""

    ACKNOWLEDGED = "acknowledged"
    """Once the backend has acknowledged it: a mirror gets exactly the bytes that the backend has."""
    SEEN = "seen"
    """As soon as it passes in order. A mirror may get bytes that the backend never takes."""


class CheckKind(StrEnum):
    """How a backend is checked."""

    TCP = "tcp"
    """The backend's kernel accepts a connection; its program does not notice."""
    OPENFLOW = "openflow"
    """The program sends HELLO and answers an ECHO_REQUEST, in OpenFlow 1.0, 1.3, 1.4 or 1.5. A program that hangs fails
    the check. The check announces no switch."""
    EXEC = "exec"
    """A command ends with exit code 0."""


class WhenNone(StrEnum):
    """What happens to a client's SYN when no backend is available."""

    DROP = "drop"
    """The SYN is dropped, so that the client sends it again."""
    REFUSE = "refuse"
    """The SYN is answered with a RST."""


class WhenDown(StrEnum):
    """What happens to a backend's connections when it goes down."""

    RESET = "reset"
    """The connections are reset at both ends at once, so that the clients connect to another backend."""
    KEEP = "keep"
    """The connections stay."""


class Mptcp(StrEnum):
    """What happens to the MP_CAPABLE option (Multipath TCP, RFC 8684) in SYN and SYN-ACK."""

    STRIP = "strip"
    """It is overwritten by NOPs, so that client and backend use plain TCP, which can be copied."""
    PASS = "pass"
    """It passes. Connections for which client and backend then use Multipath TCP are not copied."""


class WhenBehind(StrEnum):
    """What happens when a mirror's buffer is full."""

    DROP = "drop"
    """The leg is dropped and counted; the client and the backend notice nothing."""
    THROTTLE = "throttle"
    """The client is throttled by its window before the buffer is full, so that a slow mirror gets all bytes.
    Connections that were picked up are not throttled. Python decides on each packet of the service, which is slower.
    Requires a pool and protocol: raw."""


class MirrorProtocol(StrEnum):
    """What a mirror gets."""

    RAW = "raw"
    """The client's bytes as they are."""
    OPENFLOW = "openflow"
    """An OpenFlow session with each switch, in which natmirror plays the switch. The mirror may not be a backend."""


class Reconnect(StrEnum):
    """When a copy or an OpenFlow session that has ended before its client's connection begins again."""

    NEVER = "never"
    """Not at all; connections that were picked up get no copy and no session."""
    NEXT_SEGMENT = "next-segment"
    """At the client's next data after a PSH or a silence, also on connections that were picked up or that are older
    than the mirror. The mirror gets a stream that begins in the middle, perhaps inside a message. Requires protocol:
    raw and when-behind: drop."""
    NEXT_MESSAGE = "next-message"
    """At the switch's next message, also on connections that were picked up or that are older than the mirror. Requires
    protocol: openflow."""


class Unsolicited(StrEnum):
    """What happens to a switch's answers to requests that only the backend has sent."""

    HOLD = "hold"
    """The master does not get them."""
    PASS = "pass"
    """The master gets them too."""


class Statistics(StrEnum):
    """How a master's request for statistics is answered."""

    LAST_SEEN = "last-seen"
    """With the switch's last answer to the backend, however old; natmirror legs --json shows its age."""
    REFUSE = "refuse"
    """With an error message."""


class Verdict(StrEnum):
    """Whether natmirror compares a master's orders with those of production's controller."""

    ON = "on"
    """It compares them for each switch, and keeps a model of the flow tables as either side's orders make them. The
    master's requests for flow statistics are answered from the model of its own orders."""
    OFF = "off"
    """It does not."""
