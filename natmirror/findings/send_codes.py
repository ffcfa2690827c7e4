"""Findings of ``natmirror doctor --send``: what has become of a connection of its own."""

from natmirror.findings.code import Affected, FindingCode, Severity

_WARNING, _FAILURE = Severity.WARNING, Severity.FAILURE
_PRODUCTION, _COPIES = Affected.PRODUCTION, Affected.COPIES


class SendCode(FindingCode):
    """Findings of ``natmirror doctor --send``: what has become of a connection of its own."""

    SENT_NOT_SEEN = (
        *("sent-not-seen", _FAILURE, _PRODUCTION),
        "service {service} does not answer a SYN from {client}, and natmirror has not seen the SYN: this host drops it"
        " before natmirror's queue",
        "look for what drops it: tc filter show dev {interface} ingress; ip -d link show {interface} (XDP);"
        " bpftool net; nft list ruleset; iptables-legacy-save",
    )
    SENT_UNANSWERED = (
        *("sent-unanswered", _FAILURE, _PRODUCTION),
        "service {service} does not answer a SYN from {client}, which natmirror has given to {backend}",
        "run tcpdump -ni any host {client} beside another natmirror doctor --send: if the SYN does not leave, look at"
        " tc filter show dev INTERFACE egress and nft list ruleset; if no answer comes, look at {backend} and at its"
        " route to {client}",
    )
    SENT_REFUSED = (
        *("sent-refused", _FAILURE, _PRODUCTION),
        "service {service} refuses a SYN from {client}, which natmirror has given to {backend}",
        "start the program on {backend}, or see which firewall rejects connections to it",
    )
    SENT_LATE = (
        *("sent-late", _WARNING, _PRODUCTION),
        "service {service} answers {client} after {seconds} s only, by {backend}: the first SYN, or its answer, was"
        " lost, or came to a backend that does not answer",
        "look at the other backends, and run natmirror doctor --send again",
    )
    SENT_ENDED = (
        *("sent-ended", _FAILURE, _PRODUCTION),
        "service {service} accepts a connection from {client}, and ends it with {how} after {sent} bytes, unanswered;"
        " the backend is {backend}",
        "look at the log of the program on {backend}: it may not admit {client}, or be overloaded",
    )
    SENT_LOST = (
        *("sent-lost", _FAILURE, _PRODUCTION),
        "service {service} accepts a connection from {client}, but {backend} does not acknowledge a segment of {size}"
        " bytes",
        "something drops packets with data, or of that size: look at the MTU on the way, at the backend's firewall, and"
        " at tc filter show on both interfaces of this host; run: ping -c 3 -M do -s {size} {address}",
    )
    SENT_NO_REPLY = (
        *("sent-no-reply", _FAILURE, _PRODUCTION),
        "service {service} acknowledges {what} from {client}, and {backend} does not answer it",
        "see whether the program on {backend} hangs, and whether large packets from it get through",
    )
    COPY_UNANSWERED = (
        *("copy-unanswered", _FAILURE, _COPIES),
        "the copy of a connection to service {service} does not reach mirror {name} ({address}): {why}",
        "{mend}",
    )
    MASTER_SILENT = (
        *("master-silent", _FAILURE, _COPIES),
        "mirror {name} ({address}) has acknowledged the HELLO of a session for service {service}, and has not sent its"
        " own",
        "see whether the program on {name} hangs, and whether it speaks OpenFlow at that port",
    )
    COPY_NOT_TAKEN = (
        *("copy-not-taken", _FAILURE, _COPIES),
        "mirror {name} ({address}) has accepted the copy of a connection to service {service}, but has not acknowledged"
        " {count} of its {total} bytes",
        "see whether the program on {name} hangs, and what drops packets with data: tcpdump -ni any host {address}",
    )
