"""What became of the bytes: for each mirror, how much clients have sent, how much arrived, what was lost and why.

For each mirror, at any moment: bytes that clients sent = bytes acknowledged + bytes pending + bytes lost, by reason.
The reason is why a leg has ended, or why there never was one. A mirror with sessions of its own gets other bytes than
clients have sent: there those of its messages count in their place.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from natmirror.fastpath import Gear
from natmirror.mirror.copies import MirroredStream, StreamCopy
from natmirror.mirror.copy_states import StreamState
from natmirror.mirror.shown import LegSum, MirrorEntry
from natmirror.net.endpoint import Endpoint, endpoint_of, show
from natmirror.reasons import EndReason
from natmirror.rules import Mirror, Service
from natmirror.tcp.leg import Leg


class Account(Protocol):
    """Whatever has an account of its own for one mirror."""

    @property
    def mirror(self) -> Mirror:
        """Whose account it is."""

    @property
    def service_name(self) -> str:
        """The service's name."""


@dataclass(slots=True)
class Totals:
    """One mirror's sums over the legs and flows that are over."""

    endpoint: Endpoint
    opened: int = 0
    adopted: int = 0
    """Legs of another host's."""
    resumed: int = 0
    """Those of them whose mirrors have answered, and that went on."""
    client_bytes: int = 0
    sent_bytes: int = 0
    acked_bytes: int = 0
    consumed_bytes: int = 0
    retransmits: int = 0
    timeouts: int = 0
    ended: Counter[EndReason] = field(default_factory=Counter)
    """Legs by the reason of their end."""
    lost: Counter[EndReason] = field(default_factory=Counter)
    """Bytes by the reason why they did not arrive."""

    def leg_ended(self, copy: StreamCopy, leg: Leg, reason: EndReason) -> None:
        """A leg is over; if its flow is, then so is the account of its bytes."""
        self.count_leg(leg, reason)
        if copy.stream.state is StreamState.GONE:
            self.lost[reason] += copy.missing_bytes

    def count_leg(self, leg: Leg, reason: EndReason) -> None:
        """A leg is over, for a reason."""
        self.ended[reason] += 1
        for name in LEG_SUMS:
            setattr(self, name, getattr(self, name) + getattr(leg, name))

    def flow_forgotten(self, copy: StreamCopy) -> None:
        """A flow is over, and ``copy.stream.final_bytes`` known; its leg may live on for a while."""
        self.client_bytes += copy.stream.client_bytes
        if copy.why_over is not None:
            self.lost[copy.why_over] += copy.missing_bytes


LEG_SUMS: tuple[LegSum, ...] = ("sent_bytes", "acked_bytes", "consumed_bytes", "retransmits", "timeouts")
"""The fields that are summed over legs."""

Fates = tuple[str, tuple[tuple[str, EndReason | None], ...]]
"""Flows of one service whose copies have fared alike: for each mirror, why nothing more will arrive, or None."""


class Ledger:
    """The totals of all mirrors, and what living flows and legs add to them.

    Those are added up in C, over flows by their ``account`` and over legs by their ``mirror_id``, so that asking does
    not take long however many there are.
    """

    def __init__(self, services: tuple[Service, ...]) -> None:
        self._totals: dict[tuple[str, str], Totals] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._accounts: dict[Fates | None, int] = {None: 0}
        self._acked_before: Counter[tuple[str, str, EndReason]] = Counter()
        """Of living flows, what legs that have ended for a reason had delivered: service, mirror, reason."""
        self.reload(services)

    def reload(self, services: tuple[Service, ...]) -> None:
        """Go by these services' mirrors from now on; what stands to the account of others is not forgotten."""
        self._mirrors = {(service.name, mirror.name): mirror for service in services for mirror in service.mirrors}
        for key, mirror in self._mirrors.items():
            self._totals.setdefault(key, Totals(endpoint_of(mirror))).endpoint = endpoint_of(mirror)
            self._numbers.setdefault(key, len(self._numbers))

    def is_current(self, account: Account) -> bool:
        """Return whether the rules name a mirror still, as the same host that gets the same bytes."""
        mirror = self._mirrors.get(self._key(account))
        return mirror is not None and _nature(mirror) == _nature(account.mirror)

    def has_sessions(self, service: str, mirror: str) -> bool:
        """Return whether the rules name this mirror as one that speaks OpenFlow."""
        named = self._mirrors.get((service, mirror))
        return named is not None and named.speaks_openflow

    def totals_of(self, account: Account) -> Totals:
        """Return the totals of a mirror."""
        return self._totals[self._key(account)]

    def mirror_id(self, account: Account) -> int:
        """Return the number of a mirror, which its legs' rows in C have."""
        return self._numbers[self._key(account)]

    def session_ended(self, account: Account, leg: Leg, reason: EndReason) -> None:
        """A leg is over that did not carry its client's bytes, but ``row.client_bytes`` of its own."""
        totals = self.totals_of(account)
        totals.count_leg(leg, reason)
        totals.client_bytes += leg.row.client_bytes
        totals.lost[reason] += leg.row.client_bytes - leg.acked_bytes

    def account_number(self, stream: MirroredStream) -> int:
        """Return the number of the account that a living flow belongs to now, which its row in C has."""
        account = (stream.flow.service.name, tuple((copy.mirror.name, copy.why_over) for copy in stream.copies))
        return self._accounts.setdefault(account, len(self._accounts))

    def leg_ended(self, copy: StreamCopy, leg: Leg, reason: EndReason) -> None:
        """A leg is over."""
        self.totals_of(copy).leg_ended(copy, leg, reason)
        if copy.stream.state is not StreamState.GONE:
            self._acked_before[*self._key(copy), reason] += leg.acked_bytes

    def flow_forgotten(self, copy: StreamCopy) -> None:
        """A flow is over, see Totals."""
        self.totals_of(copy).flow_forgotten(copy)
        if copy.leg is not None and copy.leg.ended is not None:
            self._acked_before[*self._key(copy), copy.leg.ended] -= copy.acked_bytes

    def untracked(self, service: Service, count: int) -> None:
        """Bytes that a client has sent on a connection for which there is no flow."""
        for mirror in service.copies:
            totals = self._totals[service.name, mirror.name]
            totals.client_bytes += count
            totals.lost[EndReason.FLOW_TABLE_FULL] += count

    def show(self, gear: Gear, now: float) -> list[MirrorEntry]:
        """Return each mirror's account; a mirror that the rules do not name any more is shown while it has legs."""
        shown = {key: self._shown(*key, totals) for key, totals in self._totals.items()}
        self._add_flows(shown, gear.client_bytes(len(self._accounts)))
        sessions = {key for key, mirror in self._mirrors.items() if mirror.speaks_openflow}
        for (key, entry), sums in zip(shown.items(), gear.leg_sums(len(shown)), strict=True):
            entry["legs"] = sums.legs
            entry["client_bytes"] += sums.client_bytes if key in sessions else 0
            entry["pending_bytes"] = sums.client_bytes - sums.acked_bytes
            entry["in_flight_bytes"] = sums.in_flight_bytes
            entry["lag_seconds"] = round(max(now - sums.oldest_at, 0.0), 3)
            entry["rtt_seconds"] = round(sums.srtt, 6)
            for name in LEG_SUMS:
                entry[name] += getattr(sums, name)
            entry["lost_bytes"] = {reason: count for reason, count in entry["lost_bytes"].items() if count}
        return [entry for key, entry in shown.items() if key in self._mirrors or entry["legs"]]

    def _add_flows(self, shown: dict[tuple[str, str], MirrorEntry], client_bytes: list[int]) -> None:
        """Add what clients have sent on living flows, and what of it no leg will deliver."""
        for account, count in zip(self._accounts, client_bytes, strict=True):
            if account is None:
                continue
            service, fates = account
            for mirror, reason in fates:
                entry = shown[service, mirror]
                entry["client_bytes"] += count
                if reason is not None:
                    entry["lost_bytes"][reason] = entry["lost_bytes"].get(reason, 0) + count
        for (service, mirror, reason), count in self._acked_before.items():
            lost = shown[service, mirror]["lost_bytes"]
            lost[reason] = lost.get(reason, 0) - count

    @staticmethod
    def _key(account: Account) -> tuple[str, str]:
        return account.service_name, account.mirror.name

    @staticmethod
    def _shown(service: str, name: str, totals: Totals) -> MirrorEntry:
        return {
            "service": service,
            "name": name,
            "address": show(totals.endpoint),
            "legs": 0,
            "legs_opened": totals.opened,
            "legs_adopted": totals.adopted,
            "legs_resumed": totals.resumed,
            "legs_ended": dict(totals.ended),
            "client_bytes": totals.client_bytes,
            "sent_bytes": totals.sent_bytes,
            "acked_bytes": totals.acked_bytes,
            "pending_bytes": 0,
            "in_flight_bytes": 0,
            "lost_bytes": dict(totals.lost),
            "consumed_bytes": totals.consumed_bytes,
            "retransmits": totals.retransmits,
            "timeouts": totals.timeouts,
            "lag_seconds": 0.0,
            "rtt_seconds": 0.0,
            "sessions": None,
        }


def _nature(mirror: Mirror) -> tuple[object, ...]:
    """What of a mirror cannot change while it has legs."""
    return endpoint_of(mirror), mirror.source, mirror.protocol
