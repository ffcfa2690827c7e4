"""Findings about the settings of this host: forwarding, other programs' rules, conntrack, memory, the pair."""

from natmirror.findings.code import Affected, FindingCode, Severity, Trait

_WARNING, _FAILURE = Severity.WARNING, Severity.FAILURE
_PRODUCTION, _COPIES = Affected.PRODUCTION, Affected.COPIES


class HostCode(FindingCode):
    """Findings about the settings of this host: forwarding, other programs' rules, conntrack, memory, the pair."""

    NO_FORWARDING = (
        *("no-forwarding", _FAILURE, _PRODUCTION),
        "this host does not forward packets that come in by {interfaces} (net.ipv4.conf.*.forwarding = 0)",
        "run: {fix}",
        None,
        ("sysctl", "-w", "{settings}"),
    )
    PARTLY_FORWARDING = (
        *("partly-forwarding", _WARNING, _PRODUCTION),
        "this host does not forward packets that come in by {interfaces} (net.ipv4.conf.*.forwarding = 0), to which the"
        " routes to some clients or backends lead: what these send by there does not get through",
        "run: {fix}",
        None,
        ("sysctl", "-w", "{settings}"),
    )
    PRODUCTION_DROPPED = (
        *("production-dropped", _FAILURE, _PRODUCTION),
        "{place} drops {packets}, by {by}: no backend of the service gets through",
        "run: {commands}",
    )
    PRODUCTION_NOT_QUEUED = (
        *("production-not-queued", _FAILURE, _PRODUCTION),
        "{place} keeps {packets} from natmirror's queue, by {by}: they are not translated, and no backend of the"
        " service gets through",
        "run: {commands}",
    )
    PRODUCTION_REDIRECTED = (
        *("production-redirected", _FAILURE, _PRODUCTION),
        "{place} sends {packets} elsewhere, by {by}: no backend of the service gets through",
        "run: {commands}",
    )
    MARK_COLLIDES = (
        *("mark-collides", _FAILURE, _PRODUCTION),
        "{place} gives a mark of natmirror's own ({marks}) to {packets}, by {by}: natmirror drops them, and no backend"
        " of the service gets through",
        "have that rule set another mark, or run: {commands}",
    )
    CLIENTS_HIDDEN = (
        *("clients-hidden", _WARNING, _PRODUCTION),
        "{place} changes the source of {packets}, by {by}: the backends do not see their clients' addresses",
        "if they have to, run: {commands}",
    )
    LIKELY_DROPPED = (
        *("likely-dropped", _WARNING, _PRODUCTION),
        "{place} {does} {packets} if they come in by {interface}, as the route to their senders says, by {by}",
        "run: {commands}",
    )
    PARTLY_DROPPED = (
        *("partly-dropped", _WARNING, _PRODUCTION),
        "{place} {does} {packets}, by {by}; the service's other clients and backends get through",
        "run: {commands}",
    )
    COPIES_DROPPED = (
        *("copies-dropped", _FAILURE, _COPIES),
        "{place} {does} {packets}, by {by}",
        "run: {commands}",
    )
    PRODUCTION_STOPPED = (
        *("production-stopped", _FAILURE, _PRODUCTION),
        "production has stopped passing since another program has attached to {interface}: {what}, which gets packets"
        " before natmirror or after it",
        "run: {removal}\nor have it let the packets of clients, backends and mirrors pass",
    )
    QDISC_DROPS = (
        *("qdisc-drops", _FAILURE, _PRODUCTION),
        "production has stopped passing, and the qdisc {kind} of {interface} has dropped {lost} packets since, and"
        " holds {held}",
        "find what drops or limits them: tc -s qdisc show dev {interface}; tc -s filter show dev {interface} ingress;"
        " tc -s filter show dev {interface} egress",
    )
    FILTER_IN_FRONT = (
        *("filter-in-front", _WARNING, _PRODUCTION),
        "natmirror does not see {missing}, and {interface} has {what}, which may drop packets before natmirror gets"
        " them, or after it",
        "see what it does: tc -s filter show dev {interface} ingress; tc -s filter show dev {interface} egress; bpftool"
        " net; to try without it, run: {removal}",
    )
    INVALID_DROPPED = (
        *("invalid-dropped", _WARNING, _PRODUCTION),
        "{place} drops packets that conntrack calls INVALID, and it calls {packets} so: after a restart, a takeover or"
        " 'conntrack -F', connections break",
        "run: sysctl -w net.netfilter.nf_conntrack_tcp_{setting}=1",
    )
    STRICT_REVERSE_PATH = (
        *("strict-reverse-path", _WARNING, _PRODUCTION),
        "the reverse path filter of {interface} is strict (rp_filter = 1): it drops packets that arrive there from an"
        " address to which the route leads through another interface",
        "it is right as long as routes are symmetric; where they are not, run: sysctl -w {setting}=2",
    )
    NO_HASHLIMIT = (
        *("no-hashlimit", _FAILURE, _PRODUCTION),
        "iptables or the kernel lacks the match hashlimit, which limit-per-client needs",
        "run: {fix}\nor remove limit-per-client from the rules",
        None,
        ("modprobe", "xt_hashlimit"),
    )
    NO_SOCKET_MATCH = (
        *("no-socket-match", _FAILURE, _PRODUCTION),
        "iptables or the kernel lacks the match socket, by which the kernel reassembles fragments for natmirror",
        "run: {fix}\nand restart natmirror",
        None,
        ("modprobe", "xt_socket"),
    )
    NO_RPFILTER_MATCH = (
        *("no-rpfilter-match", _WARNING, _COPIES),
        "iptables or the kernel lacks the match rpfilter: natmirror takes packets in the name of a mirror or a backend"
        " from each interface, also those that a client has forged",
        "run: {fix}\nand restart natmirror",
        None,
        ("modprobe", "ipt_rpfilter"),
    )
    MEMORY_LIMIT = (
        *("memory-limit", _WARNING, _PRODUCTION),
        "natmirror may take {most} MiB with these rules, and is killed at {limit} MiB (MemoryMax=)",
        "set MemoryMax={most}M with: systemctl edit natmirror; or lower mirror-memory or max-flows",
    )
    CPU_THROTTLED = (
        *("cpu-throttled", _WARNING, _PRODUCTION),
        "the CPU quota of {group} was used up in {count} of {periods} periods within the last minute: packets wait",
        "raise CPUQuota= with: systemctl edit natmirror; in a container, raise the container's limit",
    )
    CPU_SCARCE = (
        *("cpu-scarce", _WARNING, _PRODUCTION),
        "packet thread {number} has waited {waited} of the last {seconds} s for a core, and run for {ran} ms: packets"
        " wait",
        "see what keeps the cores busy: top -H; keep it from natmirror's cores, or raise CPUWeight= or CPUQuota= with:"
        " systemctl edit natmirror; in a container, raise the container's limit",
    )
    STOOD_STILL = (
        *("stood-still", _WARNING, _PRODUCTION),
        "natmirror has stood still for {seconds} s within the last minute, without waiting for a core: a program has"
        " stopped or frozen it, or the machine; packets waited",
        "look for what sends SIGSTOP, freezes control groups, debugs natmirror, or pauses the virtual machine",
        Trait.FADES,
    )
    MEMORY_SHORT = (
        *("memory-short", _WARNING, _PRODUCTION),
        "the memory limit of {group} was reached {count} times within the last minute: natmirror is slowed down, and"
        " killed if the kernel can free nothing",
        "raise MemoryHigh= or MemoryMax= with: systemctl edit natmirror; or lower mirror-memory or max-flows",
    )
    PROCESSES_REFUSED = (
        *("processes-refused", _WARNING, _PRODUCTION),
        "the limit on processes of {group} has refused {count} within the last minute: natmirror cannot run iptables,"
        " so it neither sees nor repairs a change of its rules",
        "raise TasksMax= with: systemctl edit natmirror; in a container, raise the container's limit",
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
        "run: ip address add {address}/{length} dev {interface}\nor correct ha.{key}.interface in the rules",
    )
    CONNTRACK_STRICT = (
        *("conntrack-strict", _WARNING, _PRODUCTION),
        "conntrack treats {packets} as INVALID: after a takeover, a firewall on this host that drops INVALID packets"
        " would break the connections of the other host",
        "run: sysctl -w net.netfilter.nf_conntrack_tcp_{setting}=1",
    )
    NOT_UNDERSTOOD = (
        *("not-understood", _WARNING, _PRODUCTION),
        "natmirror cannot check {name}, and reports nothing about them: {error}",
        "check by hand that they let production pass, and report this as a fault of natmirror, with its version and"
        " those of iptables, nft and the kernel",
    )
