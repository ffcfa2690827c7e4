"""Tells by the counters when a limit is reached: per client, of a backend, or of the flow table.

While a limit stays reached, further events come after longer and longer times, each with all that happened meanwhile.
"""

from dataclasses import dataclass, field

from natmirror.engine.counters import EngineCounter
from natmirror.engine.shown import Snapshot
from natmirror.events import EventKind, EventRing, EventSeverity
from natmirror.nat.client_limits import ClientLimitEntry
from natmirror.nat.services import BackendCounts
from natmirror.reasons import ClientLimit
from natmirror.runtime.cadence import Cadence

_CONSEQUENCES = {
    ClientLimit.MAX_CONNECTIONS: "answered with a RST",
    ClientLimit.NEW_CONNECTIONS: "dropped, which clients send again",
}


@dataclass(slots=True)
class _Limit:
    """A limit: how often it was met in all, and since the last event."""

    total: int = 0
    more: int = 0
    clients: int = 0
    """The number of clients that the last event knew of."""
    cadence: Cadence = field(default_factory=Cadence)

    def note(self, total: int, now: float) -> int:
        """Note how often the limit was met in all. Return how often it was since the last event, if it is time to tell
        that; 0 if it is not."""
        if total > self.total:
            self.cadence.note(now, is_first=not self.more)
            self.more += total - self.total
        self.total = total
        if not self.more or not self.cadence.is_due(now):
            return 0
        found, self.more = self.more, 0
        self.cadence.note_told()
        return found


class LimitWatch:
    """Compares the counters with those of earlier looks, and adds events to ``ring``. Time is an argument, in seconds
    of any steady clock."""

    def __init__(self, ring: EventRing) -> None:
        self._ring = ring
        self._limits: dict[tuple[str, ...], _Limit] = {}

    def look(self, sums: Snapshot, now: float) -> None:
        """Look at the counters of all engines together."""
        for limit in sums["client_limits"]:
            self._look_at_clients(limit, now)
        for backend in sums["backends"]:
            self._look_at_backend(backend, now)
        self._look_at_table(sums["counters"][EngineCounter.FLOWS_UNTRACKED], now)

    def _limit(self, *key: str) -> _Limit:
        return self._limits.setdefault(key, _Limit())

    def _look_at_clients(self, entry: ClientLimitEntry, now: float) -> None:
        service, limit = entry["service"], self._limit(entry["service"], entry["limit"])
        if not (count := limit.note(entry["refused_syns"], now)):
            return
        clients, limit.clients = entry["limited_clients"] - limit.clients, entry["limited_clients"]
        client = entry["last_client"]
        others = f" and {_others(clients - 1)} have" if clients > 1 else " has" if clients else " still has"
        self._tell(
            f"service {service}: {client}{others} reached {entry['limit']} {entry['value']} of per-client:"
            f" {_syns(count)} {_CONSEQUENCES[entry['limit']]}; natmirror explain {client} shows what it has",
            f"client-{entry['limit']}",
            count,
            service=service,
        )

    def _look_at_backend(self, entry: BackendCounts, now: float) -> None:
        service, name = entry["service"], entry["name"]
        count = self._limit(service, name, entry["address"]).note(entry["full_syns"], now)
        if count:
            self._tell(
                f"backend {service}/{name} has reached its max-connections {entry['max_connections']}: {count} new"
                " connections of the service came while it was full, and got another backend if one was open",
                "max-connections",
                count,
                service=service,
                backend=name,
            )

    def _look_at_table(self, untracked: int, now: float) -> None:
        if count := self._limit().note(untracked, now):
            self._tell(
                f"the flow table is full: {count} connections pass without being tracked, and are not mirrored; raise"
                " max-flows, or look for a flood",
                "max-flows",
                count,
            )

    def _tell(
        self, text: str, code: str, count: int, *, service: str | None = None, backend: str | None = None
    ) -> None:
        self._ring.add(
            EventKind.LIMIT_REACHED,
            EventSeverity.WARNING,
            text,
            service=service,
            backend=backend,
            code=code,
            count=count,
        )


def _others(count: int) -> str:
    return "1 other client" if count == 1 else f"{count} other clients"


def _syns(count: int) -> str:
    return "1 SYN was" if count == 1 else f"{count} SYNs were"
