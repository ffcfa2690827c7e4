"""The reasons that natmirror shows: why a packet was dropped, why a leg ended, why a master did not get a message.

The API's JSON, the logs and the screens show the values; the reference shows the sentence below each.
"""

from enum import StrEnum


class DropReason(StrEnum):
    """Why natmirror dropped a packet."""

    NO_BACKEND = "no-backend"
    """A client sent a SYN while no backend of the service was available. With ``when-none: refuse`` it got a RST."""
    CLIENT_MAX_CONNECTIONS = "client-max-connections"
    """A client sent a SYN while it had as many connections as ``per-client`` allows. It got a RST."""
    CLIENT_NEW_CONNECTIONS = "client-new-connections"
    """A client sent a SYN sooner than the rate of ``per-client`` allows. It sends the SYN again."""
    FLOW_RESET = "flow-reset"
    """natmirror has reset the packet's connection. It answers each later packet with a RST."""
    FORMER_BACKEND = "former-backend"
    """A backend sent a packet of an old connection, whose client port a newer connection to another backend uses."""
    AMBIGUOUS_REPLY = "ambiguous-reply"
    """A backend that is in several pools sent a packet of an unknown connection, so natmirror cannot know which
    service's address the packet needs."""
    PAST_SERVICE = "past-service"
    """A client sent a packet of its connection to the backend's own address and port, or to another service with this
    backend. The backend would have taken data that natmirror could not copy."""
    FOR_LEG = "for-leg"
    """The packet came from a mirror, or was an ICMP error about a leg, and went to the leg. It is counted as
    ``mirror_packets`` or ``icmp_errors_for_legs``, not among the drops."""
    MIRROR_WITHOUT_LEG = "mirror-without-leg"
    """A mirror sent a packet of a leg that has ended. The active host answers it with a RST."""
    MIRROR_BAD_CHECKSUM = "mirror-bad-checksum"
    """A mirror's packet for a leg had a wrong TCP checksum."""
    ICMP_WITHOUT_LEG = "icmp-without-leg"
    """The packet was an ICMP error about a leg that has ended."""
    NOT_IPV4 = "not-ipv4"
    """The packet's IP version is not 4."""
    SHORT_IP_HEADER = "short-ip-header"
    """The packet is shorter than an IPv4 header."""
    BAD_IP_LENGTH = "bad-ip-length"
    """The lengths in the IPv4 header contradict each other or the packet."""
    FRAGMENT = "fragment"
    """The packet is a fragment. This is unexpected: the kernel reassembles packets before natmirror gets them."""
    SHORT_TCP_HEADER = "short-tcp-header"
    """The packet is shorter than a TCP header."""
    BAD_TCP_OFFSET = "bad-tcp-offset"
    """The TCP header's data offset contradicts the packet's length."""
    OVER_LIMIT = "over-limit"
    """Python would have decided the packet, but natmirror had decided too many packets of its sender in Python; or more
    packets waited than the thread keeps up with, and the client had sent too many of no connection; or it had sent SYNs
    with 64 other numbers for one connection. The sender sends again what was no junk."""
    INTERNAL_ERROR = "internal-error"
    """natmirror dropped the packet because of an internal error. It is counted as ``internal_errors``, not among the
    drops."""
    QUEUED_BEFORE_START = "queued-before-start"
    """The packet came before natmirror's threads had started. It is not counted; its sender sends it again."""


class ClientLimit(StrEnum):
    """The limits of a service for each client, by their keys in ``per-client``."""

    MAX_CONNECTIONS = "max-connections"
    """The client has as many connections as it may have, so its SYN is answered with a RST."""
    NEW_CONNECTIONS = "new-connections"
    """The client opens connections too fast, so its SYN is dropped; it sends the SYN again."""


class EndedBy(StrEnum):
    """Which end of a client's connection closed it or reset it first."""

    CLIENT = "client"
    """The client."""
    BACKEND = "backend"
    """The backend, or the program that serves a service without a pool."""


class EndReason(StrEnum):
    """Why a leg ended, why a copy or session never had a leg, or why a mirror did not get some bytes."""

    # The leg and its mirror
    CLOSED = "closed"
    """The mirror got all bytes, and the leg closed.

    Nothing to do."""
    REFUSED = "refused"
    """The mirror answered the SYN with a RST.

    Start the mirror's program, or correct the mirror's ``address`` and ``port``. Later connections have a leg again."""
    UNREACHABLE = "unreachable"
    """An ICMP error answered the SYN: there is no route to the mirror, or a firewall refuses.

    ``ip route get`` the mirror's address on this host, and look for a firewall that rejects, here (chain FORWARD) or on
    the way."""
    CONNECT_TIMEOUT = "connect-timeout"
    """The mirror did not answer the SYN within ``connect-timeout``.

    See whether the mirror is up, and routes the clients' networks through this host; if it cannot, set ``source``. If
    ``packets_forged`` rises, its answers arrive on another interface: see ``asymmetric``."""
    MIRROR_RESET = "mirror-reset"
    """The mirror sent a RST.

    The mirror's log says why: its program ended or closed the connection while bytes came. Later connections have a leg
    again; with ``reconnect: next-segment`` this one, too."""
    STALLED = "stalled"
    """Bytes were waiting, and the mirror acknowledged none for ``stall-timeout``.

    The mirror's program reads too slowly or hangs, or packets are lost on the way to it. A longer ``stall-timeout``
    waits longer."""
    BUFFER_FULL = "buffer-full"
    """More bytes were waiting for the mirror than its ``buffer`` allows.

    Make the mirror or the network to it faster, or raise ``buffer`` above the backends' receive windows; ``when-behind:
    throttle`` slows the client down instead. With ``release: acknowledged`` a backend that acknowledges late needs
    more, too."""
    MEMORY_FULL = "memory-full"
    """All legs and sessions together had used up ``mirror-memory``, or those of one client its sixteenth.

    ``natmirror status`` shows the memory in use, and that of the largest client. Raise ``mirror-memory`` (and
    ``MemoryMax=`` of the unit): to 16 times what one client needs if many connections come from one address. Lower
    ``buffer`` if mirrors hang."""
    THROTTLE_LIMIT = "throttle-limit"
    """The client had been throttled for this mirror for ``throttle-limit``.

    The mirror made no progress for that long: as for ``stalled``. A higher ``throttle-limit`` lets the client wait
    longer."""
    IDLE_TIMEOUT = "idle-timeout"
    """Neither side had sent anything for ``idle-timeout``.

    Leave ``idle-timeout`` out, or raise it, if such connections are alive."""
    LINGER_TIMEOUT = "linger-timeout"
    """The client's connection had ended, and the mirror did not acknowledge the remaining bytes within ``linger``.

    As for ``stalled``; a longer ``linger`` gives the mirror more time."""

    # The client's connection
    CLIENT_RESET = "client-reset"
    """The client's connection was reset; the mirror had acknowledged all bytes before that.

    Nothing to do."""
    FLOW_EXPIRED = "flow-expired"
    """The flow left the flow table before natmirror saw its end: it expired or was evicted.

    If these connections were alive, raise ``max-flows``, or the ``timeouts`` if their ends leave data unacknowledged
    for hours. Otherwise nothing to do: an end has vanished without a FIN or RST."""
    PORT_REUSED = "port-reused"
    """A new connection uses the same client port and address.

    Nothing to do for a client that reuses ports. A shorter ``linger`` frees them earlier."""
    HOLE = "hole"
    """Bytes that the backend acknowledged never passed this host, and the client will not send them again.

    See that all of the client's packets pass this host. If more bytes wait behind a lost packet than ``buffer`` allows,
    raise it."""
    AMBIGUOUS = "ambiguous"
    """The client sent two versions of a byte before the backend acknowledged it, so it is unknown which one the backend
    has; or several SYNs that differ, so it is unknown which one the backend took; or urgent data, of which receivers
    leave a byte out of the stream.

    Find out who sends packets in the client's name, or which device on the way changes data: capture packets on the
    client's side. docs/security.md has filters against forged addresses. Urgent data cannot be copied."""
    NO_ACKNOWLEDGEMENTS = "no-acknowledgements"
    """The backend's packets do not pass this host, so it is unknown which bytes the backend has.

    Route the replies of this service through this host; a capture has to contain both directions. ``release: seen``
    does not help: natmirror has to see the handshake."""
    NOT_FOLLOWED = "not-followed"
    """Data of a connection that natmirror takes for not open yet or for reset, because both ends disagree with what
    passed here.

    Rare and harmless for the connection. If it occurs often, look for packets that bypass this host, or are forged: as
    for ``ambiguous``."""
    OVER_LIMIT = "over-limit"
    """The client's connections had so many packets that need Python that some of its data passed without mirroring.

    The log names the client. Find out why it sends so many segments out of order or so many odd packets, or let fewer
    clients share one address."""
    UNSEEN = "unseen"
    """Packets passed the queue of a service without a pool unseen, so it is unknown which bytes the backend has.

    natmirror was frozen, or had more packets than it could decide: ``packets_missed`` in ``natmirror status`` counts
    them. Find out which client sends so many, or use more ``threads``."""
    TOO_MANY_GAPS = "too-many-gaps"
    """So many of the client's segments were missing at the same time that natmirror could not keep all later ones.

    Packets are lost or reordered on the way from this client: mend the network before this host."""

    MPTCP = "mptcp"
    """The client's connection is a part of a Multipath TCP connection (RFC 8684), so that it carries only some of the
    client's bytes.

    In a service with a pool, ``mptcp: strip`` (the default) makes its later connections plain TCP. Without a pool,
    switch Multipath TCP off at the client or at the server."""

    RECONNECTING = "reconnecting"
    """The copy or session had ended or could not begin, and waits to begin again (``reconnect``).

    A session begins with the switch's next message, a copy with the client's next data after a PSH or a silence, once
    the backend has acknowledged all data before. If it does not, ``legs_ended`` shows why legs to the mirror end:
    attempts are further and further apart until one succeeds."""

    # No leg was opened
    PICKED_UP = "picked-up"
    """The flow was picked up: its SYN did not pass this host, so the copy would have no beginning.

    The client has to connect again. ``--on-stop keep`` does not save copies; a pair with ``ha.state`` does. On a
    connection that goes on, ``reconnect: next-segment`` begins a copy in mid-stream, and ``reconnect: next-message`` an
    OpenFlow session."""
    MIRROR_IS_BACKEND = "mirror-is-backend"
    """The mirror has the same endpoint as the backend of this connection.

    Nothing to do: it has the bytes as a backend."""
    NOT_SELECTED = "not-selected"
    """The client is not in the networks of the mirror's ``only``.

    Nothing to do; or extend ``only``."""
    MIRROR_ADDED = "mirror-added"
    """A reload has added the mirror since the connection began.

    Nothing to do. The clients' next connections are copied; with ``reconnect`` these are, too."""
    NOT_SAMPLED = "not-sampled"
    """The client is not in the percentage of clients that the mirror's ``sample`` gives.

    Nothing to do; or raise ``sample``."""
    FLOW_TABLE_FULL = "flow-table-full"
    """The flow table had no room for the connection, which passed but was not mirrored.

    Raise ``max-flows``; if ``natmirror status`` shows many more flows than there are clients, look for a flood."""
    PORT_IN_USE = "port-in-use"
    """Another leg or connection uses the same addresses and ports.

    Two services whose mirror has the same address and port get the same client's same port twice, or the client talks
    to the mirror itself. Give one of them another ``port``, or set ``source``."""
    NO_FREE_PORT = "no-free-port"
    """All ports of the mirror's ``source`` address are in use.

    So many connections are open that the ``source`` has no port left for this mirror. Divide the clients by ``only``
    among several entries of the mirror, each with its own ``source``."""

    # The operator, the rules, and natmirror itself
    MIRROR_REMOVED = "mirror-removed"
    """A reload removed or renamed the mirror or its service, or changed the mirror's address, port, ``source`` or
    ``protocol``.

    Nothing to do. The clients' next connections follow the new rules."""
    MIRROR_PAUSED = "mirror-paused"
    """The operator paused the mirror.

    ``natmirror mirror resume`` ends that. The clients' next connections are copied then; with ``reconnect:
    next-segment`` or ``next-message``, open ones are, too."""
    MIRRORING_OFF = "mirroring-off"
    """natmirror has switched this kind of work off after internal errors; ``natmirror resume-mirroring`` switches it on
    again.

    Report the traceback in the log; then ``natmirror resume-mirroring``. Later connections are copied again."""
    INTERNAL_ERROR = "internal-error"
    """An internal error of natmirror ended the copy or session. The client's connection continued.

    Report the traceback in the log."""
    STOPPED = "natmirror-stopped"
    """natmirror stopped.

    Nothing to do; connections that go on are ``picked-up`` after the next start."""

    # A pair of hosts
    RELEASED = "released"
    """The host released the connection to the other host of the pair.

    Nothing to do: the other host continues the copy if the pair has ``ha.state``."""
    NO_RECORD = "no-record"
    """This host took over without a current record of the other host's leg.

    See ``shared_state`` of ``natmirror status`` on both hosts: ``lag_seconds``, ``outages`` and ``error`` of the store.
    """
    OTHER_ADDRESS = "other-address"
    """The other host's leg has a source address or port that this host's rules do not allow.

    Give both hosts of the pair the same rules, and the mirror a ``source`` that moves with the virtual addresses."""
    RESUME_TIMEOUT = "resume-timeout"
    """The mirror of an adopted leg did not answer within ``connect-timeout``.

    As for ``connect-timeout``: the mirror has to reach the host that took over."""
    TAKEOVER_HOLE = "takeover-hole"
    """Bytes between the other host's record and the first ones that passed this host are missing, and the client will
    not send them again.

    Nothing to do if it is rare: packets were under way while no host was active, or the other host died before it saw
    their acknowledgement. If not, see ``lag_seconds`` of ``shared_state``."""

    # OpenFlow sessions
    NEWER_CONNECTION = "newer-connection"
    """The switch has opened a newer connection, whose session replaces this one.

    Nothing to do."""
    DATAPATH_IN_USE = "datapath-in-use"
    """Another client has a connection with the same datapath id, and its session with the master. A session follows
    when that connection has ended.

    Two switches are configured with one datapath id, or a client claims another one's: give each its own."""
    ANOTHER_SWITCH = "another-switch"
    """The connection belongs to another switch than natmirror had assumed.

    Nothing to do: a session with the right switch follows."""
    TLS = "tls"
    """The client's connection is encrypted with TLS, so natmirror cannot read it.

    Let switches and backends speak plain TCP, or use a mirror with ``protocol: raw``, which gets the encrypted bytes.
    """
    NOT_OPENFLOW = "not-openflow"
    """The client's connection does not carry OpenFlow.

    Give a service that carries other protocols a mirror with ``protocol: raw``."""
    BAD_LENGTH = "bad-length"
    """A message in the client's connection has an impossible length.

    Look for a fault of the switch: its controller would end such a connection as well."""
    BAD_VERSION = "bad-version"
    """A message in the client's connection has an unknown OpenFlow version, or one that the HELLOs did not agree on.

    natmirror reads OpenFlow 1.0, 1.3, 1.4 and 1.5: have switch and backend agree on one of these. Otherwise as for
    ``bad-length``."""
    NO_MESSAGE_FOUND = "no-message-found"
    """natmirror did not find the beginning of a message in a connection that was picked up, or that lacks bytes.

    The client has to connect again. A service that carries no OpenFlow needs a mirror with ``protocol: raw``."""
    MIRROR_TLS = "mirror-tls"
    """The master speaks TLS.

    Let the master listen without TLS, on a network of its own."""
    MIRROR_NOT_OPENFLOW = "mirror-not-openflow"
    """The master does not speak OpenFlow.

    Correct the mirror's ``address`` and ``port``, or leave ``protocol: openflow`` out."""
    MIRROR_BAD_LENGTH = "mirror-bad-length"
    """The master sent a message with an impossible length.

    Look for a fault of the master."""
    MIRROR_BAD_VERSION = "mirror-bad-version"
    """The master sent a message of another OpenFlow version than the switch's.

    Configure the master for the version that switch and backend use."""
    MIRROR_ASKS_TOO_MUCH = "mirror-asks-too-much"
    """The master's requests need more memory than one session may hold.

    Let the master wait for answers before it asks more."""


NOT_LOST = frozenset(
    (
        *(EndReason.NOT_SELECTED, EndReason.NOT_SAMPLED, EndReason.MIRROR_IS_BACKEND),
        *(EndReason.CLOSED, EndReason.CLIENT_RESET, EndReason.RELEASED, EndReason.STOPPED, EndReason.MIRROR_PAUSED),
    )
)
"""The reasons for which a mirror lacks bytes though nothing has gone wrong."""


class WithheldReason(StrEnum):
    """Why a master did not get one of the switch's messages."""

    NOT_WANTED = "not-wanted"
    """The master's role or its asynchronous configuration excludes the message."""
    MASTER_BEHIND = "master-behind"
    """At least half of the master's ``buffer`` was full. Only PACKET_INs are withheld for this reason."""
    SWITCH_UNKNOWN = "switch-unknown"
    """The switch has not sent its features in this connection, as far as natmirror can tell. The message waits for
    that, and for the master's question; then the master gets it. If too many wait, the oldest are dropped."""
    BEFORE_FEATURES = "before-features"
    """The master has not asked for the switch's features. The message waits for that; then the master gets it. If too
    many wait, the oldest are dropped."""


class NotKeptReason(StrEnum):
    """Why a switch's answer was not kept for masters. A master that asks the same question is refused."""

    NOT_ASKED = "not-asked"
    """The answer's transaction id is that of no open question of the backend: the switch sent another one, or the
    question did not pass here."""
    TOO_LONG = "too-long"
    """The answer exceeds the limit on the answers of one switch."""
    TOO_MANY_ANSWERS = "too-many-answers"
    """The switch's answers together exceeded the limit for one switch. The oldest was dropped."""
    TOO_MANY_PORTS = "too-many-ports"
    """The switch has more ports than the limit for one switch."""
    TOO_MANY_QUESTIONS = "too-many-questions"
    """The backend had too many open questions. natmirror stopped waiting for the answer to the oldest."""
    TOO_MANY_SWITCHES = "too-many-switches"
    """More switches were known than the limit allows, of one client's address or of all. A switch of that client, or of
    the client with the most, was forgotten."""
    NO_MEMORY = "no-memory"
    """The quarter of ``mirror-memory`` for the known state of switches was used up, or the client's sixteenth."""
