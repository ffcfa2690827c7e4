"""The reasons that natmirror shows: why a packet was dropped, why a leg ended, why a master did not get a message.

Each is declared here once, with the sentence that the reference shows; the values are what JSON, logs and screens show.
"""

from enum import StrEnum


class DropReason(StrEnum):
    """Why natmirror dropped a packet."""

    NO_BACKEND = "no-backend"
    """No backend of the service takes connections: the SYN was dropped; with ``when-none: refuse`` the client got a
    RST."""
    FLOW_RESET = "flow-reset"
    """natmirror has reset the connection because its backend failed: later packets are answered with a RST."""
    FORMER_BACKEND = "former-backend"
    """A backend sent a packet of an older connection: the client's port belongs to a newer one with another backend."""
    AMBIGUOUS_REPLY = "ambiguous-reply"
    """A backend that is in several pools sent a packet of no known connection: it cannot be known which service's
    address to give it."""
    FOR_LEG = "for-leg"
    """A mirror's packet, or an ICMP error about a leg, went to its leg: production never gets it. Counted as
    ``mirror_packets`` or ``icmp_errors_for_legs``, not among the drops."""
    MIRROR_WITHOUT_LEG = "mirror-without-leg"
    """A mirror sent a packet of a leg that has ended: the active host answers it with a RST."""
    MIRROR_BAD_CHECKSUM = "mirror-bad-checksum"
    """A mirror's packet for a leg had a wrong TCP checksum."""
    ICMP_WITHOUT_LEG = "icmp-without-leg"
    """An ICMP error about a packet to a mirror, of a leg that has ended."""
    NOT_IPV4 = "not-ipv4"
    """The packet's version is not 4."""
    SHORT_IP_HEADER = "short-ip-header"
    """The packet is shorter than an IPv4 header."""
    BAD_IP_LENGTH = "bad-ip-length"
    """The lengths in the IPv4 header contradict each other or the packet."""
    FRAGMENT = "fragment"
    """The packet is a fragment; the kernel reassembles packets before they come to natmirror."""
    SHORT_TCP_HEADER = "short-tcp-header"
    """The packet is shorter than a TCP header."""
    BAD_TCP_OFFSET = "bad-tcp-offset"
    """The TCP header's data offset contradicts the packet's length."""
    INTERNAL_ERROR = "internal-error"
    """An exception in natmirror itself cost this packet. Counted as ``internal_errors``, not among the drops."""
    QUEUED_BEFORE_START = "queued-before-start"
    """The packet waited in a queue before the threads started. Not counted: its sender sends it again."""


class EndReason(StrEnum):
    """Why a leg ended, why a copy or session never had one, and why a mirror did not get some bytes."""

    # The leg and its mirror
    CLOSED = "closed"
    """The mirror got everything, and the leg closed."""
    REFUSED = "refused"
    """The mirror answered the SYN with a RST."""
    UNREACHABLE = "unreachable"
    """An ICMP error answered the SYN."""
    CONNECT_TIMEOUT = "connect-timeout"
    """The mirror did not answer the SYN within ``connect-timeout``."""
    MIRROR_RESET = "mirror-reset"
    """The mirror sent a RST."""
    STALLED = "stalled"
    """Bytes waited, and the mirror acknowledged none for ``stall-timeout``."""
    BUFFER_FULL = "buffer-full"
    """More bytes waited for the mirror than its ``buffer`` holds."""
    MEMORY_FULL = "memory-full"
    """All mirrors together had used up ``mirror-memory``."""
    THROTTLE_LIMIT = "throttle-limit"
    """The client had been throttled for this mirror for ``throttle-limit``."""
    IDLE_TIMEOUT = "idle-timeout"
    """Neither side had sent anything for ``idle-timeout``."""
    LINGER_TIMEOUT = "linger-timeout"
    """The client's connection had ended, and the mirror did not take the rest within ``linger``."""

    # The client's connection
    CLIENT_RESET = "client-reset"
    """The client's connection was reset; the mirror had acknowledged everything before that."""
    FLOW_EXPIRED = "flow-expired"
    """The flow left the flow table before its end was seen: it expired, or had to make room."""
    PORT_REUSED = "port-reused"
    """A new connection uses the same client port and address."""
    HOLE = "hole"
    """Bytes that the backend acknowledged never passed this host: the client will not send them again."""
    TOO_MANY_GAPS = "too-many-gaps"
    """So many of the client's segments were missing at once that later ones could not be kept, and some were lost."""

    # No leg was opened
    PICKED_UP = "picked-up"
    """The flow was picked up: its SYN did not pass this host, so the copy would have no beginning."""
    MIRROR_IS_BACKEND = "mirror-is-backend"
    """The mirror is the backend of this very connection."""
    NOT_SELECTED = "not-selected"
    """The client is not in the networks of the mirror's ``only``."""
    NOT_SAMPLED = "not-sampled"
    """The client is not in the mirror's ``sample``."""
    FLOW_TABLE_FULL = "flow-table-full"
    """The flow table had no room for the connection: it passed, but was not mirrored."""
    PORT_IN_USE = "port-in-use"
    """Another leg or connection stands between the same addresses and ports."""
    NO_FREE_PORT = "no-free-port"
    """The mirror's ``source`` address has no port left."""

    # The operator, the rules, and natmirror itself
    MIRROR_REMOVED = "mirror-removed"
    """A reload removed the mirror from the rules, or changed its address, ``source`` or ``protocol``."""
    MIRRORING_OFF = "mirroring-off"
    """This kind of work is switched off after internal errors."""
    INTERNAL_ERROR = "internal-error"
    """An exception in natmirror itself ended the copy or session; the client's connection went on."""
    STOPPED = "natmirror-stopped"
    """natmirror stopped."""

    # A pair of hosts
    RELEASED = "released"
    """The host released the connection to the other host of the pair."""
    NO_RECORD = "no-record"
    """This host has no record of the leg from the other host, or one of an older leg between the same ports."""
    OTHER_ADDRESS = "other-address"
    """The other host's leg comes from an address or port that this host's rules do not give to legs."""
    RESUME_TIMEOUT = "resume-timeout"
    """The mirror of an adopted leg did not answer within ``connect-timeout`` how far it had come."""
    TAKEOVER_HOLE = "takeover-hole"
    """Bytes are missing between the other host's record and what passed this host: the client will not send them
    again."""

    # OpenFlow sessions
    NEWER_CONNECTION = "newer-connection"
    """The switch has opened a newer connection, whose session takes this one's place."""
    ANOTHER_SWITCH = "another-switch"
    """The connection turned out to belong to another switch than was known."""
    TLS = "tls"
    """The connection is encrypted with TLS: there is nothing to read along."""
    NOT_OPENFLOW = "not-openflow"
    """The client's connection does not carry OpenFlow."""
    BAD_LENGTH = "bad-length"
    """A message in the client's connection has an impossible length."""
    BAD_VERSION = "bad-version"
    """A message in the client's connection has an unknown OpenFlow version, or another than was agreed on."""
    NO_MESSAGE_FOUND = "no-message-found"
    """A picked up connection, or one with missing bytes, did not show where a message begins."""
    MIRROR_TLS = "mirror-tls"
    """The master speaks TLS."""
    MIRROR_NOT_OPENFLOW = "mirror-not-openflow"
    """The master does not speak OpenFlow."""
    MIRROR_BAD_LENGTH = "mirror-bad-length"
    """The master sent a message with an impossible length."""
    MIRROR_BAD_VERSION = "mirror-bad-version"
    """The master sent a message of another OpenFlow version than the switch's."""
    MIRROR_ASKS_TOO_MUCH = "mirror-asks-too-much"
    """The master asked for more than natmirror holds for one session."""


class WithheldReason(StrEnum):
    """Why a master did not get one of the switch's messages."""

    NOT_WANTED = "not-wanted"
    """The master's role or its asynchronous configuration excludes the message."""
    MASTER_BEHIND = "master-behind"
    """At least half of the master's ``buffer`` was full: meanwhile it gets no PACKET_INs."""
    BEFORE_FEATURES = "before-features"
    """Too many messages came before the master asked for the switch's features: it did not get the oldest."""


class NotKeptReason(StrEnum):
    """Why a switch's answer was not kept for masters: a master that asks the same is refused."""

    TOO_LONG = "too-long"
    """The answer is longer than what is kept of one switch."""
    TOO_MANY_ANSWERS = "too-many-answers"
    """The switch has given more answers than are kept of one: the oldest was forgotten."""
    TOO_MANY_PORTS = "too-many-ports"
    """The switch has more ports than are kept of one."""
    TOO_MANY_QUESTIONS = "too-many-questions"
    """The backend had more questions open than are followed: the answer to the oldest was not recognised."""
    NO_MEMORY = "no-memory"
    """The part of ``mirror-memory`` that is for switches was used up."""
