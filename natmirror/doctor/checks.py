"""The table of all checks: what each looks at, and the kinds of findings that it may have."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from natmirror.doctor import machine_checks, run_checks
from natmirror.doctor.subject import Subject
from natmirror.findings import Finding, FindingCode, HostCode, OwnCode, PathCode, SetupCode


@dataclass(frozen=True, slots=True)
class Check:
    """A check. ``look`` yields what only doctor finds; ``codes`` has the kinds of findings that this host's checks of
    the run itself and the running natmirror report, and ``of_run`` says that only the latter does."""

    name: str
    section: str
    title: str
    """What is so if it finds nothing."""
    look: Callable[[Subject], Iterable[Finding]] | None = None
    codes: tuple[FindingCode, ...] = ()
    of_run: bool = False


_RULES, _SETUP, _HOST, _PATHS, _RUN = "rules", "what natmirror needs", "this host", "paths", "the running natmirror"

_OF_FILES = (
    *(OwnCode.SWITCHES_NOT_SAVED, OwnCode.ORDERS_NOT_RECORDED, OwnCode.ORDERS_LOST),
    *(OwnCode.EVENTS_NOT_SAVED, OwnCode.LOG_LOST),
)

_NAMED: tuple[Check, ...] = (
    Check("rules-file", _RULES, "the rules file can be used", machine_checks.rules_file),
    Check("rules-in-use", _RULES, "the running natmirror uses the rules file as it is", run_checks.rules_in_use),
    Check("parts", _SETUP, "natmirror is built completely", machine_checks.parts),
    Check("programs", _SETUP, "the programs that natmirror runs are installed", machine_checks.programs),
    Check("rights", _SETUP, "root has the capabilities that natmirror needs", machine_checks.rights),
    Check("tun", _SETUP, "the kernel offers TUN devices", machine_checks.tun),
    Check("queues", _SETUP, "the kernel offers NFQUEUE, and natmirror's queues are its own", machine_checks.queues),
    Check("iptables", _SETUP, "iptables and the kernel take natmirror's rules", machine_checks.iptables_support),
    Check("nftables", _SETUP, "nft and the kernel take natmirror's table", machine_checks.nft_support),
    Check(
        "matches",
        _SETUP,
        "iptables and the kernel have the matches that natmirror uses",
        codes=(HostCode.NO_HASHLIMIT, HostCode.NO_SOCKET_MATCH, HostCode.NO_RPFILTER_MATCH),
    ),
    Check("leftovers", _SETUP, "an earlier natmirror has left nothing behind", machine_checks.leftovers),
    Check("descriptors", _SETUP, "natmirror may open enough files", machine_checks.descriptors),
    Check(
        "memory",
        _SETUP,
        "this host has the memory that natmirror may take",
        machine_checks.memory,
        codes=(HostCode.MEMORY_LIMIT,),
    ),
    Check("clock", _SETUP, "the clock of a host of a pair is kept right", machine_checks.clock),
    Check(
        "forwarding",
        _HOST,
        "the kernel forwards packets of clients and backends",
        codes=(HostCode.NO_FORWARDING, HostCode.PARTLY_FORWARDING),
    ),
    Check("reverse-path", _HOST, "no strict reverse path filter", codes=(HostCode.STRICT_REVERSE_PATH,)),
    Check(
        "firewall",
        _HOST,
        "other programs' rules let production and copies pass",
        codes=(
            HostCode.PRODUCTION_DROPPED,
            HostCode.PRODUCTION_NOT_QUEUED,
            HostCode.PRODUCTION_REDIRECTED,
            HostCode.MARK_COLLIDES,
            HostCode.CLIENTS_HIDDEN,
            HostCode.LIKELY_DROPPED,
            HostCode.PARTLY_DROPPED,
            HostCode.COPIES_DROPPED,
            HostCode.NOT_UNDERSTOOD,
        ),
    ),
    Check(
        "filters",
        _HOST,
        "nothing in front of the kernel's hooks stops production: XDP, tc",
        codes=(HostCode.PRODUCTION_STOPPED, HostCode.QDISC_DROPS, HostCode.FILTER_IN_FRONT),
    ),
    Check(
        "conntrack",
        _HOST,
        "conntrack calls no good packet INVALID",
        codes=(HostCode.INVALID_DROPPED, HostCode.CONNTRACK_STRICT),
    ),
    Check(
        "pair",
        _HOST,
        "this host is one of the pair in the rules",
        codes=(HostCode.NOT_IN_PAIR, HostCode.NO_PAIR_INTERFACE, HostCode.PAIR_ADDRESS_ELSEWHERE),
    ),
    Check(
        "addresses",
        _HOST,
        "services, sources of legs, backends and mirrors have the addresses that they should",
        codes=(
            PathCode.SERVICE_ADDRESS_MISSING,
            PathCode.SERVICE_ADDRESS_NOT_LOCAL,
            PathCode.SOURCE_MISSING,
            PathCode.TARGET_IS_THIS_HOST,
            PathCode.CLIENTS_NOT_IN_SWITCHES,
        ),
    ),
    Check(
        "local-programs",
        _HOST,
        "no program on this host serves or calls a service in vain",
        codes=(PathCode.LISTENER_BYPASSED, PathCode.LOCAL_CLIENT),
    ),
    Check(
        "links",
        _PATHS,
        "the interfaces are up, and their settings fit",
        codes=(PathCode.LINK_DOWN, PathCode.LINK_ENSLAVED, PathCode.MTU_NARROWS, PathCode.BIG_TCP),
    ),
    Check(
        "production-paths",
        _PATHS,
        "the kernel routes packets between clients and backends, both ways",
        codes=(
            PathCode.NO_BACKEND_REACHABLE,
            PathCode.PRODUCTION_CUT,
            PathCode.PARTLY_CUT,
            PathCode.CLIENTS_ELSEWHERE,
            PathCode.NO_ROUTE_TO_BACKEND,
        ),
    ),
    Check(
        "copies-paths",
        _PATHS,
        "the kernel routes the copies to the mirrors",
        codes=(PathCode.COPIES_CUT, PathCode.NO_ROUTE_TO_MIRROR),
    ),
    Check(
        "arp",
        _PATHS,
        "the kernel answers ARP requests for its addresses",
        codes=(PathCode.ARP_UNANSWERED, PathCode.ARP_IN_VAIN),
    ),
    Check(
        "answers",
        _PATHS,
        "backends, mirrors and clients answer",
        codes=(
            PathCode.BACKEND_SILENT,
            PathCode.MIRROR_SILENT,
            PathCode.SERVICE_SILENT,
            PathCode.SERVICE_HARDLY_PASSES,
            PathCode.NO_NEW_CONNECTIONS,
            PathCode.SYNS_UNANSWERED,
            PathCode.CLIENTS_UNREACHABLE,
            PathCode.HANDSHAKES_INCOMPLETE,
            PathCode.STATIC_NEIGHBOUR,
            PathCode.NO_NEIGHBOUR,
        ),
        of_run=True,
    ),
    Check("api", _RUN, "its API answers, and only to those who may command it", machine_checks.api_socket),
    Check("threads", _RUN, "its packet threads and its background work go on", run_checks.threads),
    Check(
        "kernel-state",
        _RUN,
        "what it has put into the kernel is in place",
        run_checks.translation,
        codes=tuple(code for code in OwnCode if code not in _OF_FILES),
        of_run=True,
    ),
    Check(
        "files",
        _RUN,
        "its files and its log are written",
        codes=_OF_FILES,
        of_run=True,
    ),
    Check(
        "backends",
        _RUN,
        "its pools have backends that get new connections",
        run_checks.backends,
        codes=(
            PathCode.ALL_DRAINED,
            PathCode.NO_BACKEND_UP,
            PathCode.SORRY_ALONE,
            PathCode.CHECK_SAYS_NOTHING,
            PathCode.POOL_IN_PANIC,
        ),
        of_run=True,
    ),
    Check("copies", _RUN, "it copies each open connection as the rules say", run_checks.copies),
)
_OTHERS = {*HostCode, *PathCode, *OwnCode, SetupCode.REPORTED} - {code for check in _NAMED for code in check.codes}

CHECKS = (*_NAMED, Check("others", _RUN, "there is nothing else", codes=tuple(sorted(_OTHERS)), of_run=True))
"""All checks. What belongs to no other one comes last."""
