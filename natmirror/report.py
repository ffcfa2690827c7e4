"""A snapshot of the engine as text, for people."""

from typing import Any


def summarize(snapshot: dict[str, Any], machine: dict[str, Any]) -> str:
    """What was done, in a few lines: backends, mirrors, counters, drops by reason, and what the machine counted."""
    lines = [
        f"backend {backend['service']}/{backend['name']} {backend['address']}: {backend['connections']} connections,"
        f" {backend['flows']} flows left"
        for backend in snapshot["backends"]
    ]
    for mirror in snapshot["mirrors"]:
        ended = ", ".join(f"{reason} {count}" for reason, count in sorted(mirror["ended"].items())) or "none"
        lines.append(
            f"mirror {mirror['service']}/{mirror['name']} {mirror['address']}: {mirror['opened']} legs,"
            f" mirrored {mirror['acked_bytes']} of {mirror['client_bytes']} bytes,"
            f" lost: {_listed(mirror['lost_bytes'])}; {mirror['retransmits']} retransmissions,"
            f" {mirror['consumed_bytes']} bytes of answers consumed; ended: {ended}"
        )
    lines.append("counters: " + _listed(snapshot["counters"]))
    lines.append("drops: " + _listed(snapshot["drops"]))
    for number, counters in machine["queues"].items():
        lines.append(f"queue {number}: " + _listed(counters))
    lines.append("sender: " + _listed(machine["sender"]))
    if machine["internal_errors"]:
        lines.append(f"internal errors: {machine['internal_errors']}")
    return "\n".join(lines)


def _listed(counters: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counters.items() if count) or "none"
