"""Findings of ``natmirror doctor``: about what a start needs, and about a run as its state shows it."""

from natmirror.findings.code import Affected, FindingCode, Severity

_WARNING, _FAILURE = Severity.WARNING, Severity.FAILURE
_PRODUCTION, _COPIES = Affected.PRODUCTION, Affected.COPIES


class SetupCode(FindingCode):
    """Findings of ``natmirror doctor``: about what a start needs, and about a run as its state shows it."""

    RULES_WRONG = (
        *("rules-wrong", _FAILURE, _PRODUCTION),
        "natmirror cannot use the rules: {error}",
        "correct the rules file; docs/reference/rules.md has all keys",
    )
    RULES_DOUBTFUL = (
        *("rules-doubtful", _WARNING, _PRODUCTION),
        "{warning}",
        "see whether the rules mean that: natmirror --rules {path} --check prints them with all defaults",
    )
    RULES_NOT_APPLIED = (
        *("rules-not-applied", _WARNING, _PRODUCTION),
        "the running natmirror does not use {path} as it is now (- is in use, + is new): {changes}",
        "run: natmirror reload --dry-run\nand then run: natmirror reload",
    )
    OTHER_RULES_IN_USE = (
        *("other-rules-in-use", _WARNING, _PRODUCTION),
        "the running natmirror uses the rules {used}, not {path}",
        "run: natmirror doctor\nor restart natmirror with the other rules",
    )
    NO_IPTABLES = (
        *("no-iptables", _FAILURE, _PRODUCTION),
        "the program {program} is missing or does not run: {error}",
        "run: apt install iptables",
    )
    NO_NFT = (
        *("no-nft", _WARNING, _PRODUCTION),
        "the program nft is missing or does not run: {error}; natmirror translates each packet itself, which costs"
        " throughput",
        "run: apt install nftables",
    )
    NO_KEEPALIVED = (
        *("no-keepalived", _WARNING, _PRODUCTION),
        "the rules have a pair, and the program keepalived, which moves its addresses, is missing",
        "run: apt install keepalived\nand then run: natmirror keepalived --rules {path} -o"
        " /etc/keepalived/keepalived.conf",
    )
    NO_EXTENSION = (
        *("no-extension", _FAILURE, _PRODUCTION),
        "natmirror's {part} cannot be loaded: {error}",
        "run: apt install python3-dev gcc libc6-dev libnetfilter-queue-dev\nand install natmirror again",
    )
    NO_RIGHTS = (
        *("no-rights", _FAILURE, _PRODUCTION),
        "root lacks {capabilities} here, as in a container: natmirror cannot queue or send packets",
        "give the container these capabilities",
    )
    NO_TUN = (
        *("no-tun", _FAILURE, _PRODUCTION),
        "natmirror cannot open /dev/net/tun, through which it sends packets: {error}",
        "run: {fix}\nin a container, let it have that device",
        None,
        ("modprobe", "tun"),
    )
    NO_QUEUES = (
        *("no-queues", _FAILURE, _PRODUCTION),
        "the kernel does not offer NFQUEUE: {error}",
        "run: {fix}",
        None,
        ("modprobe", "nfnetlink_queue"),
    )
    QUEUE_TAKEN = (
        *("queue-taken", _FAILURE, _PRODUCTION),
        "another program, {owner}, reads NFQUEUE {number}, which natmirror needs",
        "stop that program, or have it take another queue; see cat /proc/net/netfilter/nfnetlink_queue",
    )
    IPTABLES_REFUSES = (
        *("iptables-refuses", _FAILURE, _PRODUCTION),
        "iptables-{backend} would refuse natmirror's rules: {error}",
        "to see the rules, run: natmirror --rules {path} --dry-run\nand load the kernel's module for what is refused",
    )
    NFT_REFUSES = (
        *("nft-refuses", _WARNING, _PRODUCTION),
        "nft would refuse natmirror's table: {error}; natmirror then translates each packet itself, which costs"
        " throughput",
        "to see the table, run: natmirror --rules {path} --dry-run\nand load the kernel's module for what is refused",
    )
    LEFT_BEHIND = (
        *("left-behind", _FAILURE, _PRODUCTION),
        "natmirror does not run, but its kernel rules are still there ({names}): the kernel drops the packets of"
        " services with a pool",
        "start natmirror, and connections go on; to end them and remove the rules, run: natmirror cleanup",
    )
    FEW_DESCRIPTORS = (
        *("few-descriptors", _WARNING, _PRODUCTION),
        "{process} may have {limit} file descriptors, and natmirror may need {needed} with these rules",
        "set LimitNOFILE={needed} with: systemctl edit natmirror; in a shell, run: ulimit -n {needed}",
    )
    LITTLE_MEMORY = (
        *("little-memory", _WARNING, _PRODUCTION),
        "natmirror may take {most} MiB with these rules, and this host has {total} MiB",
        "lower mirror-memory or max-flows in the rules",
    )
    CLOCK_NOT_SET = (
        *("clock-not-set", _WARNING, _PRODUCTION),
        "no program keeps this host's clock right (NTP), so its times do not agree with those of the other host",
        "run: timedatectl set-ntp true",
    )
    API_OPEN = (
        *("api-open", _WARNING, _PRODUCTION),
        "{path} lets each user of this host command natmirror (mode {mode})",
        "run: chmod o-w {path}",
    )
    API_SILENT = (
        *("api-silent", _WARNING, _PRODUCTION),
        "natmirror runs here, {owner}, and does not answer doctor: {error}",
        "if it has another socket, name it with --api; if this user may not use the socket, run doctor as root",
    )
    THREAD_ENDED = (
        *("thread-ended", _FAILURE, _PRODUCTION),
        "packet thread {number} has ended, and its clients' packets do not pass: {error}",
        "run: systemctl restart natmirror\nand report this as a fault of natmirror, with its log",
    )
    CHORE_FAILS = (
        *("chore-fails", _WARNING, _PRODUCTION),
        "natmirror's background work fails ({name}): {error}",
        "natmirror tries it again; mend the cause that the message names",
    )
    NOT_TRANSLATED = (
        *("not-translated", _WARNING, _PRODUCTION),
        "natmirror translates each packet itself, which costs throughput: {why}",
        "see that nft runs: nft list table ip natmirror",
    )
    BACKEND_DOWN = (
        *("backend-down", _WARNING, _PRODUCTION),
        "backend {name} ({address}) of service {service} is down since {seconds} s: {reason}",
        "start its program, or see why this host does not reach it: ip route get {host}",
    )
    CONNECTIONS_NOT_COPIED = (
        *("connections-not-copied", _WARNING, _COPIES),
        "{count} open connections of service {service} are not copied to mirror {name} ({reasons})",
        "let their clients connect again; reconnect: next-segment lets copies begin again by themselves"
        " (docs/reference/state.md says what each reason means)",
    )
    REPORTED = (
        *("reported", _WARNING, _PRODUCTION),
        "the running natmirror, of another version, reports {code}: {problem}",
        "{mend}",
    )
