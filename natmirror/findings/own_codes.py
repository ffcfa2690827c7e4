"""Findings about what natmirror itself keeps: its rules and its device in the kernel, and its files."""

from natmirror.findings.code import Affected, FindingCode, Severity, Trait

_WARNING, _FAILURE = Severity.WARNING, Severity.FAILURE
_PRODUCTION, _COPIES = Affected.PRODUCTION, Affected.COPIES
_FADES = Trait.FADES


class OwnCode(FindingCode):
    """Findings about what natmirror itself keeps: its rules and its device in the kernel, and its files."""

    RULES_REPAIRED = (
        *("rules-repaired", _WARNING, _PRODUCTION),
        "{program} has changed {name} within the last minute: {difference}; natmirror has repaired it",
        "let {program} load and flush its own tables and chains only, and save no rules of natmirror's",
        _FADES,
    )
    RULES_MOVED = (
        *("rules-moved", _WARNING, _PRODUCTION),
        "{program} has put a rule above natmirror's in {name} within the last minute: {difference}; natmirror has moved"
        " its own to the top again",
        "let {program} append its rules (-A), or filter packets in the chain FORWARD of the table filter",
    )
    OLD_RULES_REMOVED = (
        *("old-rules-removed", _WARNING, _PRODUCTION),
        "natmirror has removed rules of an earlier natmirror within the last minute from {name}: {difference}",
        "if they come back, save the host's iptables rules again without those of natmirror",
        _FADES,
    )
    TUN_REPAIRED = (
        *("tun-repaired", _WARNING, _COPIES),
        "a program has changed natmirror's {name} within the last minute: {difference}; natmirror has repaired it",
        "have NetworkManager, systemd-networkd and sysctl.d leave the interfaces natmirror* alone",
        _FADES,
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
    RULES_NOT_FIRST = (
        *("rules-not-first", _WARNING, _PRODUCTION),
        "packets meet a rule of {program} before natmirror's in {name}: {difference}; not moved: {error}; if it decides"
        " on production's packets, natmirror does not see them",
        "let {program} append its rules (-A), or filter packets in the chain FORWARD of the table filter",
    )
    RULES_UNREADABLE = (
        *("rules-unreadable", _WARNING, _PRODUCTION),
        "natmirror cannot read {name}, so it neither sees nor repairs a change: {error}",
        "run {command} by hand to see why it fails; if descriptors or processes are missing, raise LimitNOFILE= or"
        " TasksMax= with: systemctl edit natmirror",
    )
    RULES_UNKNOWN = (
        *("rules-unknown", _FAILURE, _PRODUCTION),
        "production has stopped passing since natmirror cannot read {name} ({error}): its rules may be gone",
        "run: systemctl restart natmirror\nif that fails too, run {command} by hand to see why",
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
    TUN_UNREADABLE = (
        *("tun-unreadable", _WARNING, _COPIES),
        "natmirror cannot read the state of its {name}, so it neither sees nor repairs a change: {error}",
        "if descriptors are missing, raise LimitNOFILE= with: systemctl edit natmirror",
    )
    RULES_REMOVED = (
        *("rules-removed", _FAILURE, _PRODUCTION),
        "natmirror cleanup --force has removed the kernel's rules, and natmirror does not install them again",
        "run: systemctl restart natmirror",
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
    EVENTS_NOT_SAVED = (
        *("events-not-saved", _WARNING, _COPIES),
        "events cannot be written to {path} ({error}): natmirror keeps the latest 4096 in memory, and a restart loses"
        " those that are not written",
        "free space on its disk, correct its permissions, or mend the disk; natmirror tries again each second",
    )
    OVERRIDES_NOT_SAVED = (
        *("overrides-not-saved", _WARNING, _PRODUCTION),
        "the operator's overrides cannot be written to {path} ({error}): after a restart, those hold that it has now",
        "free space on its disk, correct its permissions, or mend the disk; natmirror tries again every 10 s",
    )
    VERDICTS_LOST = (
        *("verdicts-lost", _WARNING, _COPIES),
        "the process that compares masters with production has ended within the last ten minutes ({error}): what it had"
        " found is lost, and verdicts begin again; production, copies and sessions are as they were",
        "see natmirror's log; if it was killed for lack of memory, give natmirror more, or lower mirror-memory",
    )
    LOG_LOST = (
        *("log-lost", _WARNING, _COPIES),
        "log messages are lost, because {error}",
        "free space on the disk of the log, or restart the program that reads natmirror's stderr",
    )
