"""Findings: what is wrong on this host or around it, each with a stable code, its meaning, and what mends it.

Each part of the run that looks for faults reports what it finds to ``Findings``, as a whole, each time it has looked.
``natmirror status`` lists the findings, and a failure of production makes this host unfit.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from string import Formatter
from typing import Self, TypedDict

log = logging.getLogger("natmirror")


class Severity(StrEnum):
    """How bad a finding is."""

    FAILURE = "failure"
    """Production or the copies, as ``affects`` says, cannot pass."""
    WARNING = "warning"
    """Traffic passes, but something is missing or wrong, or may be."""


class Affected(StrEnum):
    """What a finding affects."""

    PRODUCTION = "production"
    """The connections between clients and backends, and so their copies too."""
    COPIES = "copies"
    """Only what mirrors get."""


_WARNING, _FAILURE = Severity.WARNING, Severity.FAILURE
_PRODUCTION, _COPIES = Affected.PRODUCTION, Affected.COPIES


class FindingCode(StrEnum):
    """A kind of finding: its stable code, its severity, what it affects, the problem and the remedy. Words in braces
    stand for the values of a single finding."""

    def __new__(cls, code: str, severity: Severity, affects: Affected, problem: str, mend: str) -> Self:
        member = str.__new__(cls, code)
        member._value_ = code
        member.severity, member.affects, member.problem, member.mend = severity, affects, problem, mend
        return member

    severity: Severity
    affects: Affected
    problem: str
    mend: str

    NO_FORWARDING = (
        *("no-forwarding", _FAILURE, _PRODUCTION),
        "this host does not forward packets that come in by {interfaces} (net.ipv4.conf.*.forwarding = 0)",
        "run: sysctl -w net.ipv4.ip_forward=1",
    )
    PRODUCTION_DROPPED = (
        *("production-dropped", _FAILURE, _PRODUCTION),
        "{place} drops {packets}, by {by}: no backend of the service gets through",
        "run: {commands}",
    )
    PARTLY_DROPPED = (
        *("partly-dropped", _WARNING, _PRODUCTION),
        "{place} drops {packets}, by {by}; the service's other clients and backends get through",
        "run: {commands}",
    )
    COPIES_DROPPED = (
        *("copies-dropped", _FAILURE, _COPIES),
        "{place} drops {packets}, by {by}",
        "run: {commands}",
    )
    INVALID_DROPPED = (
        *("invalid-dropped", _WARNING, _PRODUCTION),
        "{place} drops packets that conntrack calls INVALID, and it calls {packets} so: after a restart, a takeover or"
        " 'conntrack -F', connections break",
        "run: sysctl -w net.netfilter.nf_conntrack_tcp_{setting}=1",
    )
    NO_BACKEND_REACHABLE = (
        *("no-backend-reachable", _FAILURE, _PRODUCTION),
        "this host has no route to any backend of service {service}, or their interface is down",
        "run: ip link show; ip route get {address}",
    )
    NO_ROUTE_TO_BACKEND = (
        *("no-route-to-backend", _WARNING, _PRODUCTION),
        "there is no route to {name} ({address}) of service {service}",
        "run: ip route add {address}/32 via GATEWAY",
    )
    NO_ROUTE_TO_MIRROR = (
        *("no-route-to-mirror", _FAILURE, _COPIES),
        "there is no route to {name} ({address}) of service {service}",
        "run: ip route add {address}/32 via GATEWAY",
    )
    LINK_DOWN = (
        *("link-down", _WARNING, _PRODUCTION),
        "the interface {interface}, by which {hosts} are reached, has no carrier",
        "see the cable or the other end; run: ip link show {interface}",
    )
    MTU_NARROWS = (
        *("mtu-narrows", _WARNING, _PRODUCTION),
        "packets that fit {wide} (MTU {wide_mtu}) do not fit {narrow} (MTU {mtu}): connections hang if ICMP errors"
        " are filtered",
        "run: ip link set {narrow} mtu {wide_mtu}; or: iptables -t mangle -A POSTROUTING -o {narrow} -p tcp --tcp-flags"
        " SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
    )
    BIG_TCP = (
        *("big-tcp", _WARNING, _PRODUCTION),
        "packets above 64 KiB arrive (BIG TCP), and the kernel has to cut all large packets for natmirror, which costs"
        " throughput",
        "on each interface whose gso_ipv4_max_size or gro_ipv4_max_size is above 65536 (ip -d link show), run:"
        " ip link set INTERFACE gso_ipv4_max_size 65536 gro_ipv4_max_size 65536",
    )
    BACKEND_SILENT = (
        *("backend-silent", _WARNING, _PRODUCTION),
        "{name} ({address}) of service {service} has answered none of the last {count} SYNs: it is down, or its replies"
        " do not come through this host",
        "on {name}, run: ip route get CLIENT; it has to name this host as the gateway",
    )
    MIRROR_SILENT = (
        *("mirror-silent", _FAILURE, _COPIES),
        "mirror {name} ({address}) of service {service} answers nothing: {count} packets were sent again since its last"
        " acknowledgement",
        "on {name}, run: ip route get CLIENT; it has to name this host as the gateway, or set source for the mirror",
    )
    TARGET_IS_THIS_HOST = (
        *("target-is-this-host", _WARNING, _PRODUCTION),
        "{name} ({address}) of service {service} has an address of this host, so its packets do not pass natmirror",
        "run: ip address del {address}/32 dev INTERFACE; or correct the rules",
    )
    LISTENER_BYPASSED = (
        *("listener-bypassed", _WARNING, _PRODUCTION),
        "a program on this host listens on {address} port {port}, but gets no connection of a client: natmirror gives"
        " those of service {service} to its pool",
        "run: ss -ltnp 'sport = :{port}', and stop that program; or leave the pool out of the rules",
    )
    LOCAL_CLIENT = (
        *("local-client", _WARNING, _PRODUCTION),
        "a program on this host connects to service {service}, which only hosts in the networks of switches can",
        "run: ss -tnp state syn-sent; have that program connect to a backend's own address",
    )
    SOURCE_MISSING = (
        *("source-missing", _FAILURE, _COPIES),
        "{address}, the source of legs to mirror {name} of service {service}, is not an address of this host",
        "run: ip address add {address}/32 dev INTERFACE",
    )
    SERVICE_ADDRESS_MISSING = (
        *("service-address-missing", _WARNING, _PRODUCTION),
        "{address} of service {service} lies in {network} on {interface}, but is not an address of this host: unless"
        " another host answers ARP requests for it, no client can reach it",
        "run: ip address add {address}/{length} dev {interface}",
    )
    STRICT_REVERSE_PATH = (
        *("strict-reverse-path", _WARNING, _PRODUCTION),
        "the reverse path filter of {interface} is strict (rp_filter = 1): it drops packets that arrive there from an"
        " address to which the route leads through another interface",
        "if routes are asymmetric, run: sysctl -w net.ipv4.conf.{interface}.rp_filter=2",
    )
    NO_HASHLIMIT = (
        *("no-hashlimit", _FAILURE, _PRODUCTION),
        "iptables or the kernel lacks the match hashlimit, which limit-per-client needs",
        "run: modprobe xt_hashlimit, or remove limit-per-client from the rules",
    )
    NO_SOCKET_MATCH = (
        *("no-socket-match", _FAILURE, _PRODUCTION),
        "iptables or the kernel lacks the match socket, by which the kernel reassembles fragments for natmirror",
        "run: modprobe xt_socket, and restart natmirror",
    )
    NO_RPFILTER_MATCH = (
        *("no-rpfilter-match", _WARNING, _COPIES),
        "iptables or the kernel lacks the match rpfilter: natmirror takes packets in the name of a mirror or a backend"
        " from each interface, also those that a client has forged",
        "run: modprobe ipt_rpfilter, and restart natmirror",
    )
    MEMORY_LIMIT = (
        *("memory-limit", _WARNING, _PRODUCTION),
        "natmirror may take {most} MiB with these rules, and is killed at {limit} MiB (MemoryMax=)",
        "set MemoryMax={most}M with: systemctl edit natmirror; or lower mirror-memory or max-flows",
    )
    NOT_IN_PAIR = (
        *("not-in-pair", _WARNING, _PRODUCTION),
        "this host is not one of the pair: it has both addresses neither of {hosts}",
        "correct ha.hosts in the rules, or run for each missing address: ip address add ADDRESS dev INTERFACE",
    )
    NO_PAIR_INTERFACE = (
        *("no-pair-interface", _WARNING, _PRODUCTION),
        "there is no interface {interface} for the virtual addresses {addresses}",
        "correct ha.{key}.interface in the rules; ip link lists the interfaces",
    )
    PAIR_ADDRESS_ELSEWHERE = (
        *("pair-address-elsewhere", _WARNING, _PRODUCTION),
        "{address} is not an address of {interface}, so the other host does not get this host's keepalived"
        " advertisements",
        "run: ip address add {address}/{length} dev {interface}, or correct ha.{key}.interface in the rules",
    )
    CONNTRACK_STRICT = (
        *("conntrack-strict", _WARNING, _PRODUCTION),
        "conntrack treats {packets} as INVALID: after a takeover, a firewall on this host that drops INVALID packets"
        " would break the connections of the other host",
        "run: sysctl -w net.netfilter.nf_conntrack_tcp_{setting}=1",
    )
    SWITCHES_NOT_SAVED = (
        *("switches-not-saved", _WARNING, _COPIES),
        "the known switches cannot be written to {path} ({error}): after a restart, sessions with masters begin again"
        " later",
        "free space on its disk, correct its permissions, or mend the disk; natmirror tries again every 10 s",
    )
    ORDERS_NOT_RECORDED = (
        *("orders-not-recorded", _WARNING, _COPIES),
        "masters' orders cannot be written to {path} ({error}): they wait in memory, and the"
        " oldest are dropped if they get too many",
        "free space on its disk, correct its permissions, or mend the disk; natmirror tries again each second",
    )
    ORDERS_LOST = (
        *("orders-lost", _WARNING, _COPIES),
        "{path} lacks {count} orders of masters: too many waited for its disk",
        "nothing to do for later orders; the count begins again with a restart of natmirror",
    )
    LOG_LOST = (
        *("log-lost", _WARNING, _COPIES),
        "log messages are lost, because {error}",
        "free space on the disk of the log, or restart the program that reads natmirror's stderr",
    )

    RULES_REPAIRED = (
        *("rules-repaired", _WARNING, _PRODUCTION),
        "{program} has changed {name} within the last minute: {difference}; natmirror has repaired it",
        "let {program} load and flush its own tables and chains only, and save no rules of natmirror's",
    )
    OLD_RULES_REMOVED = (
        *("old-rules-removed", _WARNING, _PRODUCTION),
        "natmirror has removed rules of an earlier natmirror within the last minute from {name}: {difference}",
        "if they come back, save the host's iptables rules again without those of natmirror",
    )
    TUN_REPAIRED = (
        *("tun-repaired", _WARNING, _COPIES),
        "a program has changed natmirror's {name} within the last minute: {difference}; natmirror has repaired it",
        "have NetworkManager, systemd-networkd and sysctl.d leave the interfaces natmirror* alone",
    )
    CONTESTED = (
        *("contested", _WARNING, _PRODUCTION),
        "DEGRADED: {program} has undone natmirror's repairs of {name} five times within a minute, so natmirror repairs"
        " it every 30 s only",
        "stop {program}, or keep it from changing {name}; a minute later natmirror repairs at once again",
    )
    RULES_NOT_REPAIRED = (
        *("rules-not-repaired", _FAILURE, _PRODUCTION),
        "{name} is not as natmirror has made it: {difference} (changed by {program}); not repaired: {error}",
        "natmirror tries again; if it does not succeed, run: systemctl restart natmirror",
    )
    OLD_RULES_NOT_REMOVED = (
        *("old-rules-not-removed", _FAILURE, _PRODUCTION),
        "{name} has rules of an earlier natmirror, which queue packets again: {difference}; not removed: {error}",
        "natmirror tries again; if it does not succeed, stop natmirror, run natmirror cleanup, and start it again",
    )
    TRANSLATION_NOT_REPAIRED = (
        *("translation-not-repaired", _WARNING, _PRODUCTION),
        "{name} is not as natmirror has made it: {difference} (changed by {program}); not repaired: {error}; natmirror"
        " translates each packet itself, which costs throughput",
        "natmirror tries again; if it does not succeed, run: systemctl restart natmirror",
    )
    TUN_NOT_REPAIRED = (
        *("tun-not-repaired", _FAILURE, _COPIES),
        "natmirror's {name} is not as natmirror has made it: {difference}; not repaired: {error}",
        "natmirror tries again; if it does not succeed, run: systemctl restart natmirror",
    )
    RULES_REMOVED = (
        *("rules-removed", _FAILURE, _PRODUCTION),
        "natmirror cleanup --force has removed the kernel's rules, and natmirror does not install them again",
        "run: systemctl restart natmirror",
    )
    CHECK_SAYS_NOTHING = (
        *("check-says-nothing", _WARNING, _PRODUCTION),
        "the health checks of {name} ({address}) of service {service} say nothing about it, so it stays {state}:"
        " {reason}",
        "make this host's own packets reach {address}: look at ip route get {address}, ip link, iptables -S OUTPUT and"
        " nft list ruleset",
    )
    POOL_IN_PANIC = (
        *("pool-in-panic", _WARNING, _PRODUCTION),
        "most backends of service {pool} have failed their health checks at once, and neither a gateway nor a mirror"
        " answers: this host's network has probably failed. Connections are not reset, and new ones go to {where}",
        "look at the interface and the switch that lead to the backends: {names}",
    )

    def found(self, **values: object) -> "Finding":
        """Return a finding of this kind. The first value identifies it among those of its kind, ``service`` with it if
        there is one; the others may change while it lasts."""
        key, first = next(iter(values.items()), ("", ""))
        subject = f"{values['service']}/{first}" if "service" in values and key != "service" else str(first)
        return Finding(self, subject, self.problem.format(**values), self.mend.format(**values))

    def values(self) -> set[str]:
        """Return the names of the values that a finding of this kind has."""
        texts = Formatter().parse(f"{self.problem} {self.mend}")
        return {name for _, name, _, _ in texts if name}


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault, its meaning, and what mends it. Code and subject identify it as long as it lasts."""

    code: FindingCode
    subject: str
    problem: str
    mend: str

    def __str__(self) -> str:
        return f"{self.code}: {self.problem}; {self.mend}"

    @property
    def stops_production(self) -> bool:
        """Return whether production cannot pass."""
        return self.code.severity is Severity.FAILURE and self.code.affects is Affected.PRODUCTION


class FindingEntry(TypedDict):
    """A fault on this host or around it, as long as it lasts."""

    code: FindingCode
    """The kind of fault."""
    severity: Severity
    """How bad it is."""
    affects: Affected
    """What it affects."""
    subject: str
    """The backend, mirror, interface or other thing at fault; empty if there is only one."""
    problem: str
    """What is wrong."""
    mend: str
    """What mends it: a command, mostly."""
    since: str
    """The time at which natmirror found it, in UTC (ISO 8601)."""


_Key = tuple[FindingCode, str]


class Findings:
    """The faults that last, from all parts of the run. Any thread may report and read them. ``time_of_day`` returns the
    time as text."""

    def __init__(self, time_of_day: Callable[[], str] | None = None) -> None:
        self._time_of_day = time_of_day or _time_of_day
        self._lock = threading.Lock()
        self._found: dict[str, dict[_Key, Finding]] = {}  # by source; a source's dict is never changed
        self._since: dict[_Key, str] = {}

    def replace(self, source: str, findings: Iterable[Finding]) -> None:
        """Take all that ``source`` finds now, in place of what it found before. Log each finding when it begins, and
        when it ends."""
        fresh = {(one.code, one.subject): one for one in findings}
        with self._lock:
            before = self._all()
            self._found = {**self._found, source: fresh}
            after = self._all()
            now = self._time_of_day()
            self._since = {key: self._since.get(key, now) for key in after}
        for one in [after[key] for key in after if key not in before]:
            log.log(logging.ERROR if one.code.severity is Severity.FAILURE else logging.WARNING, "%s", one)
        for one in [before[key] for key in before if key not in after]:
            log.info("%s: no longer so: %s", one.code, one.problem)

    def all(self) -> list[Finding]:
        """Return the findings of all sources; failures of production come first, then other failures."""
        found = self._all().values()
        return sorted(found, key=lambda one: (not one.stops_production, one.code.severity is not Severity.FAILURE))

    def show(self) -> list[FindingEntry]:
        """Return the findings as values for JSON, in the order of all()."""
        with self._lock:
            found, since = self.all(), self._since
        return [
            {
                "code": one.code,
                "severity": one.code.severity,
                "affects": one.code.affects,
                "subject": one.subject,
                "problem": one.problem,
                "mend": one.mend,
                "since": since[one.code, one.subject],
            }
            for one in found
        ]

    def why_unfit(self) -> str:
        """Return the first failure of production, or an empty text."""
        return next((str(one) for one in self.all() if one.stops_production), "")

    def _all(self) -> dict[_Key, Finding]:
        return {key: one for source in self._found.values() for key, one in source.items()}


def _time_of_day() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
