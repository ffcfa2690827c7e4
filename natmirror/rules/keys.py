"""The tables of rules keys: the type, range, default, example and meaning of each key.

This file has the tables of the top of a rules file and of a service; pool_keys.py, mirror_keys.py and pair_keys.py have
the others.

The parser reads by these tables, model.py takes its defaults from them, and natmirror.reference writes the reference
and the JSON Schema from them. Rules that involve several keys are code, in file.py and pair_section.py.
"""

from typing import Final

from natmirror.rules.addresses import Address, ListenAt, Network
from natmirror.rules.kinds import Release
from natmirror.rules.mirror_keys import MIRROR
from natmirror.rules.pair_keys import HA, HOST, SIDE
from natmirror.rules.pool_keys import BACKEND, HEALTH, MAX_CONNECTIONS, POOL, SORRY
from natmirror.rules.scalars import NAME, PORT, Choice, Duration, FilePath, Integer, RateType, Size, Threads
from natmirror.rules.tables import Key, ListOf, Section

MAX_THREADS: Final = 16
CLIENT_SHARE: Final = 16
"""One client may hold 1/16 of ``mirror-memory``."""


TIMEOUTS = Section(
    "timeouts",
    "How long a connection may be silent before natmirror forgets it. A mirrored one lives on if it may be alive.",
    (
        Key(
            "opening",
            Duration(low=30.0),
            "For a connection whose handshake is not complete. RFC 7857 §2.1 recommends 4m and allows less.",
            example="1m",
            default=240.0,
        ),
        Key(
            "established",
            Duration(low=7440.0, source="RFC 5382 REQ-5"),
            "For an established connection, and for a half closed one, in which one end has sent a FIN.",
            example="4h",
            default=7440.0,
        ),
        Key(
            "closing",
            Duration(low=240.0, source="RFC 5382 REQ-5"),
            "For a connection whose ends have both sent a FIN, of which one is not acknowledged.",
            example="5m",
            default=240.0,
        ),
        Key(
            "closed",
            Duration(low=5.0),
            "For a connection that has closed or was reset: late packets still find its backend.",
            example="4m",
            default=10.0,
        ),
    ),
)

PER_CLIENT = Section(
    "per-client",
    "What each client may have of a service. A client is an address: all hosts behind a NAT are one. Open connections"
    " never suffer; a reload that lowers a limit ends none.",
    (
        Key(
            "max-connections",
            Integer(1, MAX_CONNECTIONS, "connections"),
            "Limit on a client's connections. A SYN beyond it is answered with a RST, so that the client knows at once"
            " and does not wait for a timeout. A connection counts from its SYN on, a half open one for 10 to 20 s"
            " only, because its SYN may be forged.",
            example="100",
            default=None,
            absent="no limit",
        ),
        Key(
            "new-connections",
            RateType(1_000_000, "new connections"),
            "Limit on a client's new connections in each second, minute or hour; as many may come at once. A SYN beyond"
            " it is dropped, as if it were lost: the client sends it again and gets its connection later. SYNs that are"
            " sent again count once.",
            example="20/s",
            default=None,
            absent="no limit",
        ),
    ),
)

SERVICE = Section(
    "service",
    "An address and port that clients know. It has a pool, mirrors or both.",
    (
        Key("name", NAME, "Name of the service in commands, logs and counters; unique.", example="openflow"),
        Key(
            "address",
            Address(),
            "Address that clients connect to. Give this host the address on the switches' side.",
            example="10.10.0.100",
        ),
        Key("port", PORT, "TCP port that clients connect to.", example="6653"),
        Key(
            "pool",
            POOL,
            "The backends. Without a pool another program serves the address, and natmirror only mirrors.",
            example="{backends: [{name: c1, address: 10.20.0.11}]}",
            default=None,
            absent="only mirrored",
        ),
        Key(
            "mirrors",
            ListOf(MIRROR, "mirrors"),
            "The mirrors.",
            example="[{name: master, address: 10.20.0.13}]",
            default=(),
            absent="none",
        ),
        Key(
            "release",
            Choice(Release),
            "When mirrors get a client's byte. A backend that does not answer may delay its acknowledgement, by 40 ms"
            " on Linux and 200 ms elsewhere; seen saves the mirrors this delay. Connections keep the value of their"
            " handshake.",
            example="seen",
            default=Release.ACKNOWLEDGED,
        ),
        Key(
            "per-client",
            PER_CLIENT,
            "What each client may have of the service. Requires a pool.",
            example="{max-connections: 100, new-connections: 20/s}",
            default=None,
            absent="no limits",
        ),
    ),
)

TOP = Section(
    "rules",
    "The clients, the services, and the settings for all of them.",
    (
        Key(
            "switches",
            ListOf(Network(), "networks"),
            "The networks whose hosts are clients. They may not overlap; backends and mirrors may not lie in them.",
            example="[10.10.0.0/24]",
        ),
        Key(
            "services",
            ListOf(SERVICE, "services"),
            "The services.",
            example="[{name: web, address: 10.10.0.100, port: 80, mirrors: [{name: m1, address: 10.20.0.13}]}]",
        ),
        Key(
            "mirror-memory",
            Size(1 << 20, 1 << 40),
            "Memory that all copies and OpenFlow sessions together may hold for mirrors. One client address may hold a"
            " sixteenth of it: raise it where many connections come from one address, such as a proxy's. What waits,"
            " such as bytes behind a gap or incomplete answers, is given up first; then the leg that needs more is"
            " dropped. A quarter of it at most holds the known state of switches; another one is for the judges of"
            " masters with verdict: on, as long as there is one. MemoryMax= of the systemd unit has to allow for it.",
            example="4GiB",
            default=1 << 30,
        ),
        Key(
            "max-flows",
            Integer(1024, MAX_CONNECTIONS, "connections"),
            "Connections that natmirror can track at once, divided equally among the threads. At most a quarter may be"
            " half open. When the table is full, closed connections make room first, then the oldest half open ones,"
            " then mirrored ones that have been silent for longer than their timeout.",
            example="65536",
            default=1 << 18,
        ),
        Key(
            "timeouts",
            TIMEOUTS,
            "How long a connection may be silent.",
            example="{established: 4h, closed: 4m}",
            default=None,
            absent="the defaults of its keys",
        ),
        Key(
            "threads",
            Threads(MAX_THREADS),
            "Number of packet threads, each with its own queues. Clients are divided among the threads by the low bits"
            " of their addresses. auto: the number of cores, rounded down to one of these numbers.",
            example="4",
            default=None,
        ),
        Key(
            "limit-per-client",
            Integer(100, 1_000_000, "packets a second"),
            "Packets to services with a pool, and to their backends' own endpoints, that the kernel takes from one"
            " client. It drops what exceeds that before natmirror gets it. A fifth of a second's packets may come at"
            " once.",
            example="5000",
            default=None,
            absent="no limit",
        ),
        Key(
            "known-switches",
            FilePath(),
            "File that keeps the known state of OpenFlow switches across a restart, so that their masters get sessions"
            " again at once.",
            example="/var/lib/natmirror/switches.json",
            default=None,
            absent="not kept",
        ),
        Key(
            "metrics",
            ListenAt(),
            "Where this host serves its metrics for Prometheus to all who can reach the address: GET /metrics, and"
            " nothing else. As long as it does, the kernel notes when each packet arrives, which"
            " natmirror_added_latency_seconds needs and which costs some 20 ns a packet.",
            example="10.20.0.1:9653",
            default=None,
            absent="only on the Unix socket",
        ),
        Key(
            "api",
            ListenAt(),
            "Where this host serves its state, clients' addresses included, to all who can reach the address: all GETs"
            " of the API, and no commands.",
            example="127.0.0.1:9654",
            default=None,
            absent="only on the Unix socket",
        ),
        Key(
            "events",
            FilePath(),
            "File that keeps the latest events across a restart: natmirror events shows them. With FILE.1 it takes 5"
            " MiB at most.",
            example="/var/lib/natmirror/events.jsonl",
            default=None,
            absent="events.jsonl in the state directory of the service manager's unit; without one, memory only",
        ),
        Key(
            "ha",
            HA,
            "The pair of hosts that this host belongs to.",
            example="{hosts: [{name: lb1, switch-side: 10.10.0.1, pool-side: 10.20.0.1, priority: 110},"
            " {name: lb2, switch-side: 10.10.0.2, pool-side: 10.20.0.2, priority: 100}],"
            " switch-side: {interface: sw0, addresses: [10.10.0.100/24], vrrp-id: 51},"
            " pool-side: {interface: pl0, addresses: [10.20.0.100/24], vrrp-id: 52}}",
            default=None,
            absent="no pair",
        ),
    ),
)

SECTIONS = (TOP, TIMEOUTS, SERVICE, PER_CLIENT, POOL, BACKEND, SORRY, HEALTH, MIRROR, HA, HOST, SIDE)
"""All tables, in the order of the reference."""
