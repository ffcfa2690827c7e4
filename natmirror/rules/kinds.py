"""The words that a rules file may choose between, each listed once.

The file's reader, the text form and all that acts on a rule use these; where a kind has a class of its own, a table
there holds one for each kind, and a test compares the two. The values are the file's words.
"""

from enum import StrEnum


class Balance(StrEnum):
    """How new connections are spread over a pool's backends."""

    MAGLEV = "maglev"
    """By consistent hashing: every host with the same rules finds the same backend."""
    ROUND_ROBIN = "round-robin"
    """Each backend in turn."""
    LEAST_CONNECTIONS = "least-connections"
    """To the backend with the fewest connections for its weight."""
    PRIORITY = "priority"
    """To the first backend that is up, in the order of the rules."""


class HashInput(StrEnum):
    """What of a client Maglev hashes."""

    ADDRESS = "address"
    ADDRESS_PORT = "address-port"


class CheckKind(StrEnum):
    """How a backend is checked."""

    TCP = "tcp"
    """It takes a connection."""
    OPENFLOW = "openflow"
    """It answers an ECHO, too."""
    EXEC = "exec"
    """A command ends with exit code 0."""


class WhenNone(StrEnum):
    """What a client's SYN meets when no backend is left to answer it."""

    DROP = "drop"
    """It is dropped."""
    REFUSE = "refuse"
    """It is answered with a RST."""


class WhenDown(StrEnum):
    """What becomes of a backend's connections when it goes down."""

    RESET = "reset"
    KEEP = "keep"


class WhenBehind(StrEnum):
    """What happens when a mirror's buffer is full."""

    DROP = "drop"
    """The leg is dropped."""
    THROTTLE = "throttle"
    """The client is throttled before it comes to that."""


class MirrorProtocol(StrEnum):
    """What a mirror gets."""

    RAW = "raw"
    """The client's bytes as they are."""
    OPENFLOW = "openflow"
    """An OpenFlow session of its own with the switch that natmirror plays."""


class Reconnect(StrEnum):
    """When an OpenFlow session that has ended before its switch's begins again."""

    NEVER = "never"
    NEXT_MESSAGE = "next-message"
    """At the next message of the switch's."""


class Unsolicited(StrEnum):
    """What becomes of answers to questions that only the backend has asked."""

    HOLD = "hold"
    PASS = "pass"


class Statistics(StrEnum):
    """What a mirror is answered that asks for statistics."""

    LAST_SEEN = "last-seen"
    """What the backend was told last."""
    REFUSE = "refuse"
    """An error."""
