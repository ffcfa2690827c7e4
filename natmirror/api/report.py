"""The counters of a run as text: its summary, and the parts that the status screen shares with it."""

from collections.abc import Mapping
from typing import Any

from natmirror.api.text import listed


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
            *sessions(mirror),
        ]
        lines.append(f"mirror {mirror['service']}/{mirror['name']} {mirror['address']}: {'; '.join(parts)}")
    lines.append("counters: " + listed(sums["counters"]))
    lines += [f"{name}: {text}" for name, text in packets(sums, machine)]
    lines += [f"{name}: {text}" for name, text in faults(sums, machine)]
    return "\n".join(lines)


def packets(sums: Mapping[str, Any], machine: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the counters of packets, in the engines and on the host."""
    return [
        ("packets dropped", listed(sums["drops"])),
        ("packets decided in Python", listed(sums["packets_decided_in_python"])),
        ("packets over the limit of one client", listed(sums["packets_over_limit"])),
        *((f"queue {number}", listed(counters)) for number, counters in machine["queues"].items()),
        ("packets sent by natmirror itself", listed(machine["tunnel"])),
        ("dropped packets in another host's name from a wrong interface", listed(machine["packets_forged"])),
    ]


def sessions(mirror: Mapping[str, Any]) -> list[str]:
    """Return the counters of a mirror's OpenFlow sessions; empty for a raw mirror."""
    counters = mirror["sessions"] or {}
    return [f"{name.replace('_', ' ')}: {listed(counter)}" for name, counter in counters.items() if counter]


def faults(sums: Mapping[str, Any], machine: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the internal errors, and the work that is switched off because of them."""
    shown = internal_errors(sums, machine)
    shown += [(f"thread {number} has ended", why) for number, why in machine["ended_threads"].items()]
    for one in sums["faults"]["off"]:
        when = f"on again in {one['on_again_seconds']:.0f} s, or by 'natmirror resume-mirroring'"
        shown.append((f"OFF after internal errors: {one['work']} in thread {one['thread']}", when))
    return shown


def internal_errors(sums: Mapping[str, Any], machine: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the number of internal errors, if there were any."""
    errors = {**sums["faults"]["internal_errors"], "packets and requests": machine["internal_errors"]}
    return [("internal errors, see the log", listed(errors))] if any(errors.values()) else []
