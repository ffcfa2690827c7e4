"""Adds up the snapshots of several engines, which share the clients and the memory budget."""

from collections.abc import Iterable, Sequence
from operator import itemgetter

from natmirror.engine.shown import Snapshot
from natmirror.histograms import add_histograms
from natmirror.mirror.sessions.totals import add_counts, add_sessions
from natmirror.mirror.shown import MirrorEntry
from natmirror.nat.client_limits import ClientLimitEntry
from natmirror.nat.services import BackendCounts
from natmirror.nat.traffic import ServiceTraffic
from natmirror.reasons import ClientLimit


def aggregate(snapshots: Sequence[Snapshot]) -> Snapshot:
    """Return the sums of snapshots from Engine.snapshot()."""
    return {
        "counters": add_counts(one["counters"] for one in snapshots),
        "drops": add_counts(one["drops"] for one in snapshots),
        "packets_decided_in_python": add_counts(one["packets_decided_in_python"] for one in snapshots),
        "packets_over_limit": add_counts(one["packets_over_limit"] for one in snapshots),
        "flows": sum(one["flows"] for one in snapshots),
        "pinned_flows": sum(one["pinned_flows"] for one in snapshots),
        "client_limits": _client_limits(row for one in snapshots for row in one["client_limits"]),
        "mirrors": _mirrors(row for one in snapshots for row in one["mirrors"]),
        "mirror_memory": max((one["mirror_memory"] for one in snapshots), key=itemgetter("largest_client_bytes")),
        "faults": {
            "internal_errors": add_counts(one["faults"]["internal_errors"] for one in snapshots),
            "off": [entry for one in snapshots for entry in one["faults"]["off"]],
        },
        "answers_not_kept": add_counts(one["answers_not_kept"] for one in snapshots),
        "services": _services(row for one in snapshots for row in one["services"]),
        "backends": _backends(row for one in snapshots for row in one["backends"]),
    }


def _services(rows: Iterable[ServiceTraffic]) -> list[ServiceTraffic]:
    """Add up the rows of the services of the same name."""
    found: dict[str, ServiceTraffic] = {}
    for row in rows:
        sums = found.setdefault(row["service"], row)
        if sums is not row:
            sums["flows"] += row["flows"]
            sums["connections"] += row["connections"]
            sums["client_packets"] += row["client_packets"]
            sums["client_bytes"] += row["client_bytes"]
            sums["backend_packets"] += row["backend_packets"]
            sums["backend_bytes"] += row["backend_bytes"]
    return list(found.values())


def _backends(rows: Iterable[BackendCounts]) -> list[BackendCounts]:
    """Add up the rows of the same backends; an engine may lack some, just after a reload of the rules."""
    found: dict[tuple[str, str, str], BackendCounts] = {}
    for row in rows:
        sums = found.setdefault((row["service"], row["name"], row["address"]), row)
        if sums is not row:
            sums["flows"] += row["flows"]
            sums["connections"] += row["connections"]
            sums["refused_syns"] += row["refused_syns"]
            sums["unanswered_syns"] += row["unanswered_syns"]
            sums["full_syns"] += row["full_syns"]
            sums["removed"] |= row["removed"]
    return list(found.values())


def _client_limits(rows: Iterable[ClientLimitEntry]) -> list[ClientLimitEntry]:
    """Add up the rows of the same limits."""
    found: dict[tuple[str, ClientLimit], ClientLimitEntry] = {}
    for row in rows:
        sums = found.setdefault((row["service"], row["limit"]), row)
        if sums is not row:
            sums["refused_syns"] += row["refused_syns"]
            sums["limited_clients"] += row["limited_clients"]
            last, other = sums["last_seconds"], row["last_seconds"]
            if other is not None and (last is None or other < last):
                sums["last_client"], sums["last_seconds"] = row["last_client"], other
    return list(found.values())


def _mirrors(rows: Iterable[MirrorEntry]) -> list[MirrorEntry]:
    """Add up the rows of the same mirrors."""
    found: dict[tuple[str, str, str], MirrorEntry] = {}
    for row in rows:
        key = (row["service"], row["name"], row["address"])
        found[key] = _mirror(found[key], row) if key in found else row
    return list(found.values())


def _mirror(one: MirrorEntry, other: MirrorEntry) -> MirrorEntry:
    return {
        "service": one["service"],
        "name": one["name"],
        "address": one["address"],
        "legs": one["legs"] + other["legs"],
        "legs_unanswered": one["legs_unanswered"] + other["legs_unanswered"],
        "connections_not_copied": add_counts((one["connections_not_copied"], other["connections_not_copied"])),
        "connections_excluded": add_counts((one["connections_excluded"], other["connections_excluded"])),
        "legs_opened": one["legs_opened"] + other["legs_opened"],
        "legs_adopted": one["legs_adopted"] + other["legs_adopted"],
        "legs_resumed": one["legs_resumed"] + other["legs_resumed"],
        "legs_ended": add_counts((one["legs_ended"], other["legs_ended"])),
        "client_bytes": one["client_bytes"] + other["client_bytes"],
        "held_bytes": one["held_bytes"] + other["held_bytes"],
        "never_acked_bytes": one["never_acked_bytes"] + other["never_acked_bytes"],
        "sent_bytes": one["sent_bytes"] + other["sent_bytes"],
        "acked_bytes": one["acked_bytes"] + other["acked_bytes"],
        "pending_bytes": one["pending_bytes"] + other["pending_bytes"],
        "in_flight_bytes": one["in_flight_bytes"] + other["in_flight_bytes"],
        "lost_bytes": add_counts((one["lost_bytes"], other["lost_bytes"])),
        "consumed_bytes": one["consumed_bytes"] + other["consumed_bytes"],
        "retransmits": one["retransmits"] + other["retransmits"],
        "timeouts": one["timeouts"] + other["timeouts"],
        "lag_seconds": max(one["lag_seconds"], other["lag_seconds"]),
        "rtt_seconds": max(one["rtt_seconds"], other["rtt_seconds"]),
        "leg_lag": add_histograms((one["leg_lag"], other["leg_lag"])),
        "leg_rtt": add_histograms((one["leg_rtt"], other["leg_rtt"])),
        "sessions": add_sessions(one["sessions"], other["sessions"]),
    }
