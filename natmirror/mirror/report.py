"""Notes legs and sessions, and shows mirrors as values for JSON; shown.py declares their fields."""

from collections.abc import Iterable, Sequence

from natmirror.mirror.copies import MirroredFlow, StreamCopy
from natmirror.mirror.copy_states import StreamState
from natmirror.mirror.ledger import add_connections
from natmirror.mirror.leg_notes import LegNote, note_copy, note_session, note_without_leg
from natmirror.mirror.parts import MirrorParts
from natmirror.mirror.sessions.master_session import MasterSession
from natmirror.mirror.sessions.totals import no_sessions
from natmirror.mirror.shown import MirrorEntry, MirrorMemory
from natmirror.net.endpoint import Endpoint
from natmirror.reasons import EndReason


class MirrorReport:
    """Reads legs, ledger and sessions; changes nothing."""

    def __init__(self, parts: MirrorParts) -> None:
        self._gear = parts.gear
        self._memory = parts.gear.memory
        self._legs = parts.legs
        self._ledger = parts.ledger
        self._sessions = parts.sessions
        self._streams = parts.streams

    def legs_of(self, flow: MirroredFlow) -> list[LegNote]:
        """Return the flow's legs and sessions."""
        stream = self._streams.get(flow)
        copies = () if stream is None else stream.copies
        noted = [note_copy(copy, copy.leg) for copy in copies if copy.leg is not None]
        noted += [note_without_leg(copy.mirror, EndReason.RECONNECTING) for copy in copies if copy.waits]
        return noted + [note_session(master) for master in self._sessions.masters_of(flow.row.id)]

    def lingering(self, leg_ids: Iterable[int] | None = None) -> list[tuple[str, Endpoint, LegNote]]:
        """Return the legs with these numbers, or all, that have outlived their flow, each with its service and
        client."""
        found = []
        for owner, leg in self._legs.owners(leg_ids):
            if isinstance(owner, StreamCopy) and owner.stream.state is StreamState.FORGOTTEN:
                found.append((owner.service_name, owner.stream.flow.client, note_copy(owner, leg)))
            elif isinstance(owner, MasterSession) and owner.connection.is_forgotten:
                found.append((owner.service_name, owner.connection.client, note_session(owner)))
        return found

    def mirrors(self, services: Sequence[str], now: float) -> list[MirrorEntry]:
        """Return the sums of each mirror, including its open legs. ``services`` names each service, by its number."""
        shown, sums = self._ledger.show(self._gear, services, now), self._sessions.sums()
        for entry in shown:
            key = (entry["service"], entry["name"])
            if key in sums or self._ledger.has_sessions(*key):
                entry["sessions"] = sums.get(key) or no_sessions()
        entries = {(entry["service"], entry["name"]): entry for entry in shown}
        for (service, mirror, reason), count in self._sessions.without_leg().items():
            if self._ledger.has_sessions(service, mirror):
                add_connections(entries[service, mirror], reason, count)
        return shown

    def memory(self) -> MirrorMemory:
        """Return the use and the limit of the memory budget."""
        memory = self._memory
        return {
            "used_bytes": memory.used,
            "limit_bytes": memory.limit,
            "client_limit_bytes": memory.client_limit,
            "largest_client_bytes": memory.most_used,
        }
