"""The state as text and tables, for people."""

from collections.abc import Iterable
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def summarize(snapshot: dict[str, Any], machine: dict[str, Any]) -> str:
    """What was done, in a few lines: backends, mirrors, counters, drops by reason, and what the machine counted."""
    lines = [
        f"backend {backend['service']}/{backend['name']} {backend['address']}: {backend['connections']} connections,"
        f" {backend['flows']} flows left"
        for backend in snapshot["backends"]
    ]
    for mirror in snapshot["mirrors"]:
        ended = ", ".join(f"{reason} {count}" for reason, count in sorted(mirror["ended"].items())) or "none"
        sessions = "".join(f"; {name}: {_listed(counter)}" for name, counter in mirror["sessions"].items())
        lines.append(
            f"mirror {mirror['service']}/{mirror['name']} {mirror['address']}: {mirror['opened']} legs,"
            f" mirrored {mirror['acked_bytes']} of {mirror['client_bytes']} bytes,"
            f" lost: {_listed(mirror['lost_bytes'])}; {mirror['retransmits']} retransmissions,"
            f" {mirror['consumed_bytes']} bytes of answers consumed; ended: {ended}{sessions}"
        )
    lines.append("counters: " + _listed(snapshot["counters"]))
    lines.append("drops: " + _listed(snapshot["drops"]))
    lines.append("packets decided in Python: " + _listed(snapshot["packets_decided_in_python"]))
    for number, counters in machine["queues"].items():
        lines.append(f"queue {number}: " + _listed(counters))
    lines.append("tunnel: " + _listed(machine["tunnel"]))
    lines += [f"{name}: {text}" for name, text in _faults(snapshot, machine)]
    return "\n".join(lines)


def status_screen(status: dict[str, Any]) -> Group:
    """One screen: backends, mirrors with their lag, what was lost and why, drops by reason."""
    head = (
        f"natmirror {status['version']}, pid {status['pid']}, up {_duration(status['uptime_seconds'])},"
        f" rules {status['rules']}, {status['flows']} flows"
    )
    machine = status["machine"]
    memory = status["mirror_memory"]
    facts = [
        *_pair(status),
        ("buffered for mirrors", f"{_size(memory['used_bytes'])} of {_size(memory['limit_bytes'])}"),
        ("counters", _listed(status["counters"])),
        ("drops", _listed(status["drops"])),
        ("packets decided in Python", _listed(status["packets_decided_in_python"])),
        *((f"queue {number}", _listed(counters)) for number, counters in machine["queues"].items()),
        ("tunnel", _listed(machine["tunnel"])),
    ]
    if why := machine.get("kernel_translation_off_because"):  # one of before knows nothing of it
        facts.append(("the kernel does not translate", why))
    for chore in status.get("chores", ()):  # an older natmirror has none
        facts.append((f"failing for {_duration(chore['since_seconds'])}", f"{chore['name']}: {chore['error']}"))
    if left_out := {name: count for name, count in status.get("log", {}).items() if count}:
        facts.append(("log", _listed(left_out)))
    for mirror in status["mirrors"]:
        if mirror["sessions"]:
            sessions = "; ".join(
                f"{name}: {_listed(counter)}" for name, counter in mirror["sessions"].items() if counter
            )
            facts.append((f"sessions of {mirror['service']}/{mirror['name']}", sessions or "none"))
            facts.append((f"legs of {mirror['service']}/{mirror['name']} ended", _listed(mirror["ended"])))
    facts += _faults(status, machine)
    lines = "\n".join(f"{name}: {text}" for name, text in facts)
    return Group(Text(head), _backends(status["backends"]), _mirrors(status["mirrors"]), Text(lines))


def _faults(status: dict[str, Any], machine: dict[str, Any]) -> list[tuple[str, str]]:
    """What has failed inside natmirror, and what is off because of it."""
    faults = status["faults"]
    errors = {**faults["internal_errors"], "packets and orders": machine["internal_errors"]}
    shown = [("internal errors, see the log", _listed(errors))] if any(errors.values()) else []
    shown += [(f"thread {number} has ended", why) for number, why in machine.get("ended_threads", {}).items()]
    for one in faults["off"]:
        when = f"on again in {one['on_again_seconds']:.0f} s, or by 'natmirror resume-mirroring'"
        shown.append((f"OFF after internal errors: {one['work']} in thread {one['thread']}", when))
    return shown


def _pair(status: dict[str, Any]) -> list[tuple[str, str]]:
    pair = status.get("pair")
    if pair is None:
        return []
    source = "" if pair["source"] == "keepalived" else ", by its addresses: keepalived has not reported it"
    return [
        ("pair", " and ".join(pair["hosts"])),
        ("this host", f"{pair['role']} since {pair['since']}{source}"),
        ("shared state", _shared_state(status["shared_state"])),
        ("connections that cannot be derived from the rules", str(status["pinned_flows"])),
    ]


def _shared_state(shared: dict[str, Any]) -> str:
    if "where" not in shared:
        return "none (ha.state): a move costs all legs, and connections that cannot be derived from the rules"
    parts = [f"{shared['where']} {shared['state']}", f"{shared['records']} records of other hosts"]
    if shared["waiting"]:
        parts.append(f"{shared['waiting']} of our own wait to be written, for {shared['lag_seconds']:.1f} s")
    if shared["refused"]:
        parts.append(f"{shared['refused']} mean nothing here")
    if shared["outages"]:
        parts.append(f"outages {shared['outages']}")
    if shared["error"]:
        parts.append(shared["error"])
    return ", ".join(parts)


def _backends(backends: list[dict[str, Any]]) -> Table:
    rows = (
        (
            backend["service"],
            backend["name"],
            backend["address"],
            _backend_state(backend),
            str(backend["flows"]),
            str(backend["connections"]),
        )
        for backend in backends
    )
    return _table(("service", "backend", "address", "state"), ("flows", "connections"), rows)


def _backend_state(backend: dict[str, Any]) -> str:
    share, reason = backend.get("share", 1.0), backend.get("reason")
    state = backend.get("state", "")
    if state == "up" and share < 1:
        return f"up, {share:.0%} of its part"
    return f"{state}: {reason}" if reason else state


def _mirrors(mirrors: list[dict[str, Any]]) -> Table:
    rows = (
        (
            mirror["service"],
            mirror["name"],
            str(mirror["legs"]),
            f"{_size(mirror['acked_bytes'])} of {_size(mirror['client_bytes'])}",
            _lag(mirror["pending_bytes"], mirror["lag_seconds"]),
            str(mirror["retransmits"]),
            ", ".join(f"{reason} {_size(count)}" for reason, count in mirror["lost_bytes"].items()) or "nothing",
        )
        for mirror in mirrors
    )
    return _table(("service", "mirror"), ("legs", "mirrored", "lag", "resent", "lost"), rows)


def legs_table(flows: list[dict[str, Any]]) -> Table:
    """A row for each leg, and for each flow without one."""
    rows = (
        (
            flow["client"],
            flow["backend"] or "",
            flow["state"],
            leg["mirror"] if leg else "",
            leg["state"] if leg else "",
            f"{leg['acked_bytes']} of {leg['client_bytes']}" if leg else f"0 of {flow['client_bytes']}",
            _lag(leg["lag_bytes"], leg["lag_seconds"]) if leg else "",
        )
        for flow in flows
        for leg in flow["legs"] or [None]
    )
    return _table(("client", "backend", "state", "mirror", "leg"), ("mirrored", "lag"), rows)


def sessions_table(flows: list[dict[str, Any]]) -> Table | None:
    """A row for each OpenFlow session with a master; None where there is none."""
    rows = [
        (
            flow["client"],
            leg["mirror"],
            session["version"],
            "" if session["datapath_id"] is None else f"{session['datapath_id']:016x}",
            session["role"],
            _listed(session["passed"]),
            _listed(session["asked"]),
            _listed(session["ordered"]),
            _listed(session["withheld"]),
        )
        for flow in flows
        for leg in flow["legs"]
        if (session := leg.get("session"))
    ]
    columns = ("client", "mirror", "version", "datapath", "role", "passed on", "asked", "ordered", "withheld")
    return _table(columns, (), rows) if rows else None


def ended_table(ended: list[dict[str, Any]]) -> Table:
    """A row for each leg that has ended, the latest last."""
    rows = (
        (
            leg["ended_at"],
            leg["client"],
            f"{leg['service']}/{leg['mirror']}",
            leg["reason"],
            f"{leg['acked_bytes']} of {leg['client_bytes']}",
        )
        for leg in ended
    )
    return _table(("ended", "client", "mirror", "reason"), ("mirrored",), rows)


def _table(texts: Iterable[str], numbers: Iterable[str], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in texts:
        table.add_column(column, overflow="fold")
    for column in numbers:
        table.add_column(column, overflow="fold", justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def _lag(count: int, seconds: float) -> str:
    return f"{_size(count)}, {seconds:.1f} s" if count else "none"


def _size(count: int) -> str:
    for unit, name in _UNITS:
        if count >= 10 * unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


def _duration(seconds: float) -> str:
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return (f"{days} d " if days else "") + f"{hours}:{minutes:02}:{left:02}"


def _listed(counters: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counters.items() if count) or "none"
