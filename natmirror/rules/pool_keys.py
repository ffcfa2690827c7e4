"""The tables of the keys of a pool: the pool itself, its backends, its sorry server and its health checks."""

from typing import Final

from natmirror.rules.addresses import Address
from natmirror.rules.kinds import Balance, CheckKind, HashInput, Mptcp, WhenDown, WhenNone
from natmirror.rules.scalars import NAME, PORT, Boolean, Choice, Duration, Integer, Percentage, Word
from natmirror.rules.tables import Key, ListOf, Section

MAX_CONNECTIONS: Final = 1 << 24
MAX_WEIGHT: Final = 1000
_IN_A_ROW = Integer(1, 100, "checks in a row")
_MIN_CHECK_INTERVAL = 0.1  # seconds; more frequent checks would take CPU time that packets need


HEALTH = Section(
    "health",
    "How the backends of a pool are checked. A client's SYN that a backend refuses or leaves unanswered counts"
    " towards `fall` and brings the next check forward, but only a check takes the backend down.",
    (
        Key("check", Choice(CheckKind), "The kind of check.", example="openflow"),
        Key(
            "interval",
            Duration(low=_MIN_CHECK_INTERVAL),
            "Time from one check of a backend to the next. A check may start up to 10 % early, never late.",
            example="500ms",
            default=1.0,
        ),
        Key("timeout", Duration(), "Time that a check may take; at most the interval.", example="200ms", default=0.5),
        Key("rise", _IN_A_ROW, "Checks that a backend must pass in a row to go up.", example="3", default=2),
        Key("fall", _IN_A_ROW, "Checks that a backend must fail in a row to go down.", example="2", default=3),
        Key(
            "command",
            ListOf(Word(), "words, the program first"),
            "Program and arguments that check: exec runs. The program finds NATMIRROR_BACKEND, NATMIRROR_ADDRESS and"
            " NATMIRROR_PORT in its environment; on a timeout its process group is killed. A program that cannot be"
            " started counts as no check and is logged. Required with check: exec, refused with other checks.",
            example="[/usr/local/bin/check-controller, --verbose]",
            default=(),
            absent="none",
        ),
    ),
)


BACKEND = Section(
    "backend",
    "A member of a pool.",
    (
        Key("name", NAME, "Name of the backend in commands, logs and counters; unique in the pool.", example="c1"),
        Key(
            "address",
            Address(),
            "Address of the backend; not in a network of switches and not the service's own.",
            example="10.20.0.11",
        ),
        Key("port", PORT, "TCP port of the backend.", example="6653", default=None, absent="the service's port"),
        Key(
            "weight",
            Integer(1, MAX_WEIGHT),
            "A backend with weight 2 gets twice as many new connections as one with weight 1. Refused with balance:"
            " priority.",
            example="2",
            default=1,
        ),
        Key(
            "max-connections",
            Integer(1, MAX_CONNECTIONS, "connections"),
            "Limit on the backend's connections; threads that open connections at the same moment may exceed it by a"
            " few. With a limit, Python opens new connections: a few thousand per second.",
            example="500",
            default=None,
            absent="no limit",
        ),
    ),
)


SORRY = Section(
    "sorry",
    "A server that takes new connections when no backend of the pool is available. It is not checked.",
    (
        Key("name", NAME, "Name of the server; unique in the pool.", example="fallback"),
        Key("address", Address(), "Address of the server; the same limits as for a backend.", example="10.20.0.19"),
        Key("port", PORT, "TCP port of the server.", example="6653", default=None, absent="the service's port"),
    ),
)


POOL = Section(
    "pool",
    "The backends of a service, and how connections are spread over them.",
    (
        Key(
            "balance",
            Choice(Balance),
            "How new connections are spread over the backends.",
            example="maglev",
            default=Balance.MAGLEV,
        ),
        Key(
            "hash",
            Choice(HashInput),
            "The part of the client's endpoint that maglev hashes. Refused with other values of balance.",
            example="address-port",
            default=HashInput.ADDRESS,
        ),
        Key(
            "backends",
            ListOf(BACKEND, "backends"),
            "The backends.",
            example="[{name: c1, address: 10.20.0.11}, {name: c2, address: 10.20.0.12}]",
        ),
        Key(
            "sorry",
            SORRY,
            "The server for new connections when no backend is available.",
            example="{name: fallback, address: 10.20.0.19}",
            default=None,
            absent="none",
        ),
        Key(
            "when-none",
            Choice(WhenNone),
            "The answer to a client's SYN when neither a backend nor sorry is available.",
            example="refuse",
            default=WhenNone.DROP,
        ),
        Key(
            "when-down",
            Choice(WhenDown),
            "What happens to the connections of a backend that goes down.",
            example="keep",
            default=WhenDown.RESET,
        ),
        Key(
            "panic",
            Percentage(),
            "If more than this part of the backends that were up goes down within two intervals, and neither the"
            " gateway to them nor a mirror behind the same interface answers, then this host's network has probably"
            " failed: no connection is reset, and new ones go to sorry, else to all backends, until one is up. A pool"
            " with one backend never panics, nor one without such a gateway or mirror. 100% turns it off.",
            example="30%",
            default=0.5,
        ),
        Key(
            "mptcp",
            Choice(Mptcp),
            "What happens when a client offers Multipath TCP. A change applies to new connections.",
            example="pass",
            default=Mptcp.STRIP,
        ),
        Key(
            "asymmetric",
            Boolean(),
            "Whether packets of the backends and of sorry may arrive on another interface than the one that the route"
            " to their sender leads to. By default such packets are dropped and counted if the service has mirrors:"
            " a client could have forged them to have a mirror told what no backend has.",
            example="true",
            default=False,
        ),
        Key(
            "slow-start",
            Duration(),
            "After a backend has come up, was undrained or was added to the rules, its part of new connections grows"
            " to normal within this time.",
            example="10s",
            default=0.0,
            absent="its normal part at once",
        ),
        Key(
            "health",
            HEALTH,
            "How the backends are checked.",
            example="{check: openflow}",
            default=None,
            absent="not checked",
        ),
    ),
)
