"""The ledger: for each mirror, the bytes that clients sent, that the mirror acknowledged, and that were lost.

For each mirror, at any moment: client bytes = bytes acknowledged + bytes pending + bytes lost, by reason. Client bytes
are those that the backends have acknowledged or, with ``release: seen``, all that clients have sent. Outside this sum
stand the bytes that wait for a backend's acknowledgement, and those whose connection ended without it.
The reason is that of the leg's end, or the reason why there was no leg. A master gets sessions of its own instead of
clients' bytes: for it the bytes of its sessions' messages count as sent.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from natmirror.fastpath import AccountSums, Array, Gear
from natmirror.mirror.copies import MirroredStream, StreamCopy
from natmirror.mirror.copy_states import StreamState
from natmirror.mirror.shown import LegSum, MirrorEntry
from natmirror.net.endpoint import Endpoint, endpoint_of, show
from natmirror.reasons import EndReason
from natmirror.rules import Mirror, Service
from natmirror.tcp.leg import Leg


class CopyOrSession(Protocol):
    """The part of a copy or a session that the ledger needs: its mirror and its service."""

    @property
    def mirror(self) -> Mirror: ...

    @property
    def service_name(self) -> str: ...


@dataclass(slots=True)
class Totals:
    """One mirror's sums over legs that have ended and flows that were forgotten."""

    endpoint: Endpoint
    opened: int = 0
    adopted: int = 0
    """Legs adopted from another host."""
    resumed: int = 0
    """Adopted legs that continued after their mirrors had answered."""
    client_bytes: int = 0
    sent_bytes: int = 0
    acked_bytes: int = 0
    consumed_bytes: int = 0
    retransmits: int = 0
    timeouts: int = 0
    ended: Counter[EndReason] = field(default_factory=Counter)
    """Legs that ended, by reason."""
    lost: Counter[EndReason] = field(default_factory=Counter)
    """Bytes that the mirror did not get, by reason."""
    never_acked_bytes: int = 0
    """Bytes that clients sent and backends never acknowledged."""

    def leg_ended(self, copy: StreamCopy, leg: Leg, reason: EndReason) -> None:
        """Add a copy's leg that has ended; if its flow is forgotten, also the bytes that its mirror did not get."""
        self.count_leg(leg, reason)
        if copy.stream.state is StreamState.FORGOTTEN:
            self.lost[reason] += copy.missing_bytes

    def count_leg(self, leg: Leg, reason: EndReason) -> None:
        """Add the sums of a leg that has ended."""
        self.ended[reason] += 1
        for name in LEG_SUMS:
            setattr(self, name, getattr(self, name) + getattr(leg, name))

    def flow_forgotten(self, copy: StreamCopy) -> None:
        """Add a copy whose flow is forgotten: its ``stream.final_bytes`` is set. Its leg may stay open for a while."""
        self.client_bytes += copy.stream.client_bytes
        self.never_acked_bytes += copy.stream.flow.row.orig.bytes - copy.stream.client_bytes
        if copy.why_ended is not None:
            self.lost[copy.why_ended] += copy.missing_bytes


LEG_SUMS: tuple[LegSum, ...] = ("sent_bytes", "acked_bytes", "consumed_bytes", "retransmits", "timeouts")
"""The fields that are summed over legs."""

EXCLUDED = frozenset((EndReason.NOT_SELECTED, EndReason.NOT_SAMPLED, EndReason.MIRROR_IS_BACKEND))
"""Why a connection is not copied to a mirror though nothing is missing there: the rules say so."""
_COMPLETE = frozenset((EndReason.CLOSED, EndReason.CLIENT_RESET, EndReason.RELEASED))
"""The ends of copies that miss nothing: the mirror has all bytes, or the other host continues the copy."""

Fates = tuple[str, tuple[tuple[str, str, EndReason | None], ...], tuple[str, ...]]
"""A service; for each of its copies the names of service and mirror, and the reason why the mirror gets no more bytes,
or None; and the mirrors whose copies pause. Flows for which these are equal share an account."""


class Ledger:
    """The totals of all mirrors, and the sums over flows in the table and open legs.

    C computes the sums, of flows by their ``account`` and of legs by their ``mirror_id``, so that show() is quick
    however many there are.
    """

    def __init__(self, services: tuple[Service, ...]) -> None:
        self._totals: dict[tuple[str, str], Totals] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._accounts: dict[Fates | None, int] = {None: 0}
        self._not_lost: Counter[tuple[str, str, EndReason]] = Counter()
        """Bytes of flows in the table that are not lost for the reason of their account, by service, mirror and that
        reason: ended legs have delivered them, or the totals have them already."""
        self.reload(services)

    def reload(self, services: tuple[Service, ...]) -> None:
        """Use the mirrors of these services from now on; keep the totals of removed ones."""
        self._mirrors = {(service.name, mirror.name): mirror for service in services for mirror in service.mirrors}
        for key, mirror in self._mirrors.items():
            self._totals.setdefault(key, Totals(endpoint_of(mirror))).endpoint = endpoint_of(mirror)
            self._numbers.setdefault(key, len(self._numbers))

    def present_mirror(self, of: CopyOrSession) -> Mirror | None:
        """Return the mirror as the rules have it now; None if they do not name it any more, or give it another
        endpoint, source address or protocol."""
        mirror = self._mirrors.get(self._key(of))
        return mirror if mirror is not None and identity(mirror) == identity(of.mirror) else None

    def is_current(self, of: CopyOrSession) -> bool:
        """Return whether present_mirror() returns a mirror."""
        return self.present_mirror(of) is not None

    def why_ended_by_rules(self, of: CopyOrSession) -> EndReason | None:
        """Return the reason why the mirror gets nothing any more by the present rules, or None if it may."""
        mirror = self.present_mirror(of)
        if mirror is None:
            return EndReason.MIRROR_REMOVED
        return EndReason.MIRROR_PAUSED if mirror.is_paused else None

    def has_sessions(self, service: str, mirror: str) -> bool:
        """Return whether the rules have this mirror with ``protocol: openflow``."""
        named = self._mirrors.get((service, mirror))
        return named is not None and named.speaks_openflow

    def totals_of(self, of: CopyOrSession) -> Totals:
        return self._totals[self._key(of)]

    def mirror_id(self, of: CopyOrSession) -> int:
        """Return the number by which the legs' rows in C name the mirror."""
        return self._numbers[self._key(of)]

    def session_ended(self, of: CopyOrSession, leg: Leg, reason: EndReason) -> None:
        """Add a session's leg that has ended. It carried ``row.client_bytes`` of its own, not its client's bytes."""
        totals = self.totals_of(of)
        totals.count_leg(leg, reason)
        totals.client_bytes += leg.row.client_bytes
        totals.lost[reason] += leg.row.client_bytes - leg.acked_bytes

    def account_number(self, stream: MirroredStream) -> int:
        """Return the number of a flow's account, for its row in C. What a standby stream lacks, it lacks on the other
        host."""
        copies = stream.copies
        fates = tuple([(copy.service_name, copy.mirror.name, copy.why_ended) for copy in copies])
        if stream.state is StreamState.STANDBY:
            fates = tuple([(service, mirror, reason and EndReason.RELEASED) for service, mirror, reason in fates])
        pausing = tuple([copy.mirror.name for copy in copies if copy.pauses])
        account = (stream.flow.service.name, fates, pausing)
        return self._accounts.setdefault(account, len(self._accounts))

    def leg_ended(self, copy: StreamCopy, leg: Leg, reason: EndReason) -> None:
        """Add a copy's leg that has ended."""
        self.totals_of(copy).leg_ended(copy, leg, reason)
        if copy.stream.state is not StreamState.FORGOTTEN:
            self._not_lost[*self._key(copy), reason] += copy.before + leg.acked_bytes

    def change_fate(self, copy: StreamCopy, reason: EndReason | None, client_bytes: int | None = None) -> None:
        """Add what a copy without a living leg lacks until now to the totals. From now on it lacks its client's bytes
        for another reason, or (None) gets them again. ``client_bytes``: as many of them came before, if not all."""
        key, before = self._key(copy), client_bytes
        if before is None:
            before = max(copy.stream.certain_bytes, copy.before + copy.acked_bytes)
        if copy.why_ended is not None:
            self.totals_of(copy).lost[copy.why_ended] += before - copy.before - copy.acked_bytes
            self._not_lost[*key, copy.why_ended] -= copy.before + copy.acked_bytes
        copy.leg, copy.why_absent, copy.before = None, reason, before
        if reason is not None:
            self._not_lost[*key, reason] += before

    def copy_added(self, copy: StreamCopy) -> None:
        """Add a copy that a reload has added to an older flow: the earlier bytes do not count for it."""
        copy.before = copy.stream.certain_bytes
        self.totals_of(copy).client_bytes -= copy.before
        if copy.why_ended is not None:
            self._not_lost[*self._key(copy), copy.why_ended] += copy.before

    def bytes_corrected(self, copy: StreamCopy) -> None:
        """Follow a correction, by which the client has sent fewer bytes, perhaps fewer than came before a copy without
        a living leg: the totals have the others."""
        excess = copy.before + copy.acked_bytes - copy.stream.client_bytes
        if copy.why_ended is not None and excess > 0:
            self.totals_of(copy).client_bytes += excess
            self._not_lost[*self._key(copy), copy.why_ended] -= excess
            copy.before -= excess

    def copy_removed(self, copy: StreamCopy) -> None:
        """Add a copy without a living leg that a reload has removed from its flow: later bytes do not count for it."""
        self.change_fate(copy, None)
        self.totals_of(copy).client_bytes += copy.before

    def flow_forgotten(self, copy: StreamCopy) -> None:
        """Add a copy whose flow is forgotten, see Totals."""
        self.totals_of(copy).flow_forgotten(copy)
        if copy.why_ended is not None:
            self._not_lost[*self._key(copy), copy.why_ended] -= copy.before + copy.acked_bytes

    def not_copied(self, service: Service, count: int, reason: EndReason) -> None:
        """Count bytes that a client sent on a connection which has no copies: all are lost."""
        for mirror in service.copies:
            totals = self._totals[service.name, mirror.name]
            totals.client_bytes += count
            totals.lost[reason] += count

    def show(self, gear: Gear, services: Sequence[str], now: float) -> list[MirrorEntry]:
        """Return the sums of each mirror; ``services`` names each service, by its number. A mirror that the rules no
        longer name is included while it has legs."""
        shown = {key: self._shown(gear, *key, totals) for key, totals in self._totals.items()}
        of_accounts, without_account = gear.account_sums(len(self._accounts), len(services))
        self._add_flows(shown, of_accounts)
        for service, connections in zip(services, without_account, strict=True):
            self._add_connections(shown, service, (), connections)
        for entry, sums in zip(shown.values(), gear.leg_sums(len(shown)), strict=True):
            entry["legs"], entry["legs_unanswered"] = sums.legs, sums.unanswered
            entry["client_bytes"] += sums.session_bytes  # a copy's bytes are in its flow's account
            entry["held_bytes"] = sums.held_bytes
            entry["pending_bytes"] = sums.client_bytes - sums.acked_bytes
            entry["in_flight_bytes"] = sums.in_flight_bytes
            entry["lag_seconds"] = round(max(now - sums.oldest_at, 0.0), 3)
            entry["rtt_seconds"] = round(sums.srtt, 6)
            for name in LEG_SUMS:
                entry[name] += getattr(sums, name)
            entry["lost_bytes"] = {reason: count for reason, count in entry["lost_bytes"].items() if count}
        return [entry for key, entry in shown.items() if key in self._mirrors or entry["legs"]]

    def _add_flows(self, shown: dict[tuple[str, str], MirrorEntry], sums: Array[AccountSums]) -> None:
        """Add the bytes that clients have sent on flows in the table, and those of them that no leg will deliver; and
        the connections that are not copied."""
        for account, of_account in zip(self._accounts, sums, strict=True):
            if account is None:
                continue
            service, fates, _ = account
            for *key, reason in fates:
                entry = shown[key[0], key[1]]
                entry["client_bytes"] += of_account.client_bytes
                if reason is not None:
                    _add(entry["lost_bytes"], reason, of_account.client_bytes)
            self._add_connections(shown, service, fates, of_account.connections)
        for (service, mirror, reason), count in self._not_lost.items():
            _add(shown[service, mirror]["lost_bytes"], reason, -count)

    def _add_connections(
        self,
        shown: dict[tuple[str, str], MirrorEntry],
        service: str,
        fates: tuple[tuple[str, str, EndReason | None], ...],
        count: int,
    ) -> None:
        """Add a service's connections to each raw mirror of the rules that does not get their bytes."""
        reasons = {
            key: EndReason.MIRROR_ADDED
            for key, mirror in self._mirrors.items()
            if key[0] == service and not mirror.speaks_openflow
        } | {(of, mirror): reason for of, mirror, reason in fates if (of, mirror) in self._mirrors}
        for key, reason in reasons.items():
            if reason is not None:
                add_connections(shown[key], reason, count)

    @staticmethod
    def _key(of: CopyOrSession) -> tuple[str, str]:
        return of.service_name, of.mirror.name

    def _shown(self, gear: Gear, service: str, name: str, totals: Totals) -> MirrorEntry:
        lags, round_trips = gear.mirror_times(self._numbers[service, name])
        return {
            "service": service,
            "name": name,
            "address": show(totals.endpoint),
            "legs": 0,
            "legs_unanswered": 0,
            "connections_not_copied": {},
            "connections_excluded": {},
            "legs_opened": totals.opened,
            "legs_adopted": totals.adopted,
            "legs_resumed": totals.resumed,
            "legs_ended": dict(totals.ended),
            "client_bytes": totals.client_bytes,
            "sent_bytes": totals.sent_bytes,
            "acked_bytes": totals.acked_bytes,
            "held_bytes": 0,
            "never_acked_bytes": totals.never_acked_bytes,
            "pending_bytes": 0,
            "in_flight_bytes": 0,
            "lost_bytes": dict(totals.lost),
            "consumed_bytes": totals.consumed_bytes,
            "retransmits": totals.retransmits,
            "timeouts": totals.timeouts,
            "lag_seconds": 0.0,
            "rtt_seconds": 0.0,
            "leg_lag": lags,
            "leg_rtt": round_trips,
            "sessions": None,
        }


def add_connections(entry: MirrorEntry, reason: EndReason, count: int) -> None:
    """Add connections whose bytes a mirror does not get for a reason, unless it misses nothing."""
    if count and reason not in _COMPLETE:
        _add(entry["connections_excluded" if reason in EXCLUDED else "connections_not_copied"], reason, count)


def _add(counts: dict[EndReason, int], reason: EndReason, count: int) -> None:
    counts[reason] = counts.get(reason, 0) + count


def identity(mirror: Mirror) -> tuple[object, ...]:
    """Return the properties of a mirror that cannot change while it has legs."""
    return endpoint_of(mirror), mirror.source, mirror.protocol
