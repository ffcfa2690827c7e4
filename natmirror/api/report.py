"""The state of a running natmirror as text and tables: status screen, and summary of a run."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from natmirror.api.override_text import override_rows
from natmirror.api.text import duration, listed, size


def summarize(sums: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
    """Return a run's summary: a line for each backend and mirror, then the counters."""
    lines = [
        f"backend {backend['service']}/{backend['name']} {backend['address']}: {backend['connections']} connections,"
        f" {backend['flows']} still open"
        for backend in sums["backends"]
    ]
    for mirror in sums["mirrors"]:
        parts = [
            f"{mirror['legs_opened']} legs opened, mirrored {mirror['acked_bytes']} of {mirror['client_bytes']} bytes",
            f"lost: {listed(mirror['lost_bytes'])}",
            f"{mirror['retransmits']} retransmissions, {mirror['consumed_bytes']} bytes received",
            f"legs ended: {listed(mirror['legs_ended'])}",
            *_sessions(mirror),
        ]
        lines.append(f"mirror {mirror['service']}/{mirror['name']} {mirror['address']}: {'; '.join(parts)}")
    lines.append("counters: " + listed(sums["counters"]))
    lines += [f"{name}: {text}" for name, text in _packets(sums, machine)]
    lines += [f"{name}: {text}" for name, text in _faults(sums, machine)]
    return "\n".join(lines)


def status_screen(status: Mapping[str, Any]) -> Group:
    """Return one screen: backends, mirrors with their lag and losses, and the counters."""
    head = (
        f"natmirror {status['version']}, pid {status['pid']}, up {duration(status['uptime_seconds'])},"
        f" rules {status['rules']}, {status['flows']} flows"
    )
    found = "".join(f"\n{line}" for line in _findings(status["findings"]))
    machine, memory = status["machine"], status["mirror_memory"]
    facts = [
        *override_rows(status["overrides"]),
        *_pair(status),
        ("memory for mirrors", f"{size(memory['used_bytes'])} of {size(memory['limit_bytes'])}"),
        (
            "memory of the largest client",
            f"{size(memory['largest_client_bytes'])} of {size(memory['client_limit_bytes'])}",
        ),
        ("counters", listed(status["counters"])),
        *_packets(status, machine),
        *_client_limits(status["client_limits"]),
    ]
    facts += [(f"a {what} now", _cost(cost)) for what, cost in status["costs"].items() if cost is not None]
    if why := machine["kernel_translation_off_because"]:
        facts.append(("the kernel does not translate addresses", why))
    if not machine["paths_checked"]:
        facts.append(
            ("mirrors' and backends' packets are taken from each interface", "iptables or the kernel lacks rpfilter")
        )
    facts += [
        (
            f"repaired {one['repairs']} times, last at {one['repaired_at']}",
            f"{one['name']}: {one['difference']} (changed by {one['changed_by']})",
        )
        for one in machine["kept"]
        if one["repairs"]
    ]
    for chore in status["failing_chores"]:
        facts.append((f"failing for {duration(chore['failing_seconds'])}", f"{chore['name']}: {chore['error']}"))
    not_written = {name: status["log"][f"records_{name}"] for name in ("dropped", "suppressed")}
    if any(not_written.values()):
        facts.append(("log messages not written", listed(not_written)))
    for mirror in status["mirrors"]:
        name = f"{mirror['service']}/{mirror['name']}"
        if mirror["connections_not_copied"]:
            facts.append((f"connections not copied now to {name}", listed(mirror["connections_not_copied"])))
        if mirror["connections_excluded"]:
            facts.append((f"connections that the rules leave out for {name}", listed(mirror["connections_excluded"])))
        if mirror["legs_ended"]:
            facts.append((f"ended legs of {name}", listed(mirror["legs_ended"])))
        if sessions := _sessions(mirror):
            facts.append((f"OpenFlow sessions of {name}", "; ".join(sessions)))
    facts += _faults(status, machine)
    lines = "\n".join(f"{name}: {text}" for name, text in facts)
    return Group(Text(head + found), _backends(status["backends"]), _mirrors(status["mirrors"]), Text(lines))


def _findings(findings: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the faults on this host or around it, with what mends them."""
    return [
        f"{one['severity'].upper()} {one['code']}: {one['problem']}; {one['mend']} (since {one['since']})"
        for one in findings
    ]


def _packets(sums: Mapping[str, Any], machine: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the counters of packets, in the engines and on the host."""
    return [
        ("packets dropped", listed(sums["drops"])),
        ("packets decided in Python", listed(sums["packets_decided_in_python"])),
        ("packets over the limit of one client", listed(sums["packets_over_limit"])),
        *((f"queue {number}", listed(counters)) for number, counters in machine["queues"].items()),
        ("packets sent by natmirror itself", listed(machine["tunnel"])),
        ("dropped packets in another host's name from a wrong interface", listed(machine["packets_forged"])),
    ]


def _client_limits(limits: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the limits per client that clients have met."""
    return [
        (
            f"{one['service']} per client {one['limit']} {one['value']}",
            f"{one['refused_syns']} SYNs refused, the last of {one['last_client']} {duration(one['last_seconds'])} ago",
        )
        for one in limits
        if one["refused_syns"]
    ]


def _sessions(mirror: Mapping[str, Any]) -> list[str]:
    """Return the counters of a mirror's OpenFlow sessions; empty for a raw mirror."""
    counters = mirror["sessions"] or {}
    return [f"{name.replace('_', ' ')}: {listed(counter)}" for name, counter in counters.items() if counter]


def _faults(sums: Mapping[str, Any], machine: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the internal errors, and the work that is switched off because of them."""
    faults = sums["faults"]
    errors = {**faults["internal_errors"], "packets and requests": machine["internal_errors"]}
    shown = [("internal errors, see the log", listed(errors))] if any(errors.values()) else []
    shown += [(f"thread {number} has ended", why) for number, why in machine["ended_threads"].items()]
    for one in faults["off"]:
        when = f"on again in {one['on_again_seconds']:.0f} s, or by 'natmirror resume-mirroring'"
        shown.append((f"OFF after internal errors: {one['work']} in thread {one['thread']}", when))
    return shown


def _cost(cost: Mapping[str, int]) -> str:
    """Return what an interruption would cost."""
    counts = {
        "connections may be reset": cost["connections"],
        "copies end": cost["copies_ended"],
        "copies begin again in the middle": cost["copies_begun_again"],
    }
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "costs no connection and no copy"


def _pair(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    pair = status["pair"]
    if pair is None:
        return []
    source = "" if pair["source"] == "keepalived" else ", inferred from its addresses: keepalived has not reported it"
    return [
        ("pair", " and ".join(pair["hosts"])),
        ("this host", f"{pair['role']} since {pair['since']}{source}"),
        ("shared state", _shared_state(status["shared_state"])),
        ("pinned flows", f"{status['pinned_flows']}, whose backend the rules alone do not give"),
    ]


def _shared_state(shared: Mapping[str, Any]) -> str:
    if shared["store"] is None:
        return "none (the rules have no ha.state): a takeover ends all legs, and may reset pinned flows"
    parts = [f"{shared['store']} {shared['state']}", f"{shared['records']} records of the other host"]
    if shared["waiting_writes"]:
        parts.append(f"{shared['waiting_writes']} own changes not written for {shared['lag_seconds']:.1f} s")
    if shared["records_rejected"]:
        parts.append(f"{shared['records_rejected']} rejected: the hosts' rules, ha.key or versions differ")
    if shared["outages"]:
        parts.append(f"outages {shared['outages']}")
    if shared["error"]:
        parts.append(shared["error"])
    return ", ".join(parts)


def _backends(backends: Iterable[Mapping[str, Any]]) -> Table:
    rows = (
        (
            backend["service"],
            backend["name"],
            backend["address"],
            _backend_state(backend),
            str(backend["flows"]),
            str(backend["connections"]),
            str(backend["refused_syns"]),
            str(backend["unanswered_syns"]),
        )
        for backend in backends
    )
    counts = ("flows", "connections", "refused", "unanswered")
    return _table(("service", "backend", "address", "state"), counts, rows)


def _backend_state(backend: Mapping[str, Any]) -> str:
    state, share, reason = backend["state"], backend["share"], backend["reason"]
    if state in ("up", "unchecked") and share < 1:
        return f"{state}, slow start: {share:.0%} of its share"
    return f"{state}: {reason}" if reason else str(state)


def _mirrors(mirrors: Iterable[Mapping[str, Any]]) -> Table:
    rows = (
        (
            mirror["service"],
            mirror["name"],
            str(mirror["legs"]),
            f"{size(mirror['acked_bytes'])} of {size(mirror['client_bytes'])}",
            _mirror_lag(mirror),
            str(sum(mirror["connections_not_copied"].values())),
            str(mirror["retransmits"]),
            ", ".join(f"{reason} {size(count)}" for reason, count in mirror["lost_bytes"].items()) or "nothing",
        )
        for mirror in mirrors
    )
    return _table(("service", "mirror"), ("legs", "mirrored", "lag", "not copied", "resent", "lost"), rows)


def _table(texts: Iterable[str], numbers: Iterable[str], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in texts:
        table.add_column(column, overflow="fold")
    for column in numbers:
        table.add_column(column, overflow="fold", justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def _mirror_lag(mirror: Mapping[str, Any]) -> str:
    """Return how far a mirror is behind; ``none`` only if it gets all connections that it should get."""
    lag = _lag(mirror["pending_bytes"], mirror["lag_seconds"])
    return "not all copied" if lag == "none" and mirror["connections_not_copied"] else lag


def _lag(count: int, seconds: float) -> str:
    return f"{size(count)}, {seconds:.1f} s" if count else "none"
