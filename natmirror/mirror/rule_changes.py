"""Has the copies and sessions of open connections follow a reload, slice by slice, after the legs of removed and paused
mirrors have ended."""

from natmirror.fastpath import ClientMemory
from natmirror.fastpath.flow_flags import add_reader, has_reader, is_end_known, is_finished
from natmirror.mirror.copies import MirroredFlow, MirroredStream
from natmirror.mirror.copy_states import GOES_ON
from natmirror.mirror.ledger import Ledger
from natmirror.mirror.mirroring import Mirroring, max_waiting
from natmirror.mirror.reconnection import Reconnection
from natmirror.mirror.sampling import why_not_mirrored
from natmirror.mirror.sessions.read_queue import ReadEvent, ReadQueue
from natmirror.mirror.sessions.sessions import MasterSessions
from natmirror.net.endpoint import Endpoint
from natmirror.reasons import EndReason
from natmirror.rules import Mirror, Service
from natmirror.tcp.reassembler import Reassembler


class RuleChanges:
    """The changes of the mirrors of one engine's flows."""

    def __init__(
        self,
        ledger: Ledger,
        reconnection: Reconnection,
        mirroring: Mirroring,
        sessions: MasterSessions,
        read_queue: ReadQueue,
        memory: ClientMemory,
        streams: dict[MirroredFlow, MirroredStream],
    ) -> None:
        self._ledger = ledger
        self._sessions = sessions
        self._read_queue = read_queue
        self._memory = memory
        self._reconnection = reconnection
        self._mirroring = mirroring
        self._streams = streams

    def follow(self, flow: MirroredFlow, service: Service, backend: Endpoint | None) -> None:
        """Give the flow the mirrors that its service has now, as ``service``. Copies for new mirrors begin at a break,
        if the rules let them; of a flow without a stream there are none yet."""
        stream = self._streams.get(flow)
        if stream is None:
            stream = self._mirroring.begin_late(flow)
            stream.has_all_copies = True
        if not stream.has_all_copies or stream.is_released:
            return
        wanted = {mirror.name: mirror for mirror in service.copies}
        for copy in stream.copies:
            has_ended = copy.why_ended is not None
            if has_ended:
                self._reconnection.follow_rules(copy)
            if copy.service_name != service.name or copy.mirror.name not in wanted:
                continue
            if self._ledger.is_current(copy):
                del wanted[copy.mirror.name]
            elif has_ended:  # its successor has the same name
                self._ledger.copy_removed(copy)
                stream.copies = tuple(one for one in stream.copies if one is not copy)
        for mirror in wanted.values():
            self._add(stream, service, mirror, backend)
        self._reconnection.follow(stream)

    def follow_sessions(self, flow: MirroredFlow, service: Service, backend: Endpoint | None) -> None:
        """Give the flow sessions with the masters that its service has now, after follow(). A session with a new master
        begins at a message, if the rules let it."""
        stream = self._streams.get(flow)
        goes_on = stream is not None and stream.state in GOES_ON and not stream.is_released
        goes_on = goes_on and not is_finished(flow.row.orig)  # no message of the switch follows its FIN
        mirrors = [one for one in service.sessions if self._ledger.has_sessions(service.name, one.name)]
        if self._sessions.follow_rules(flow, mirrors if goes_on else (), backend) and stream is not None:
            self._read(stream)

    def _read(self, stream: MirroredStream) -> None:
        """Read a stream from now on, unless it is read already, for a master that has been added."""
        row, reassembler = stream.flow.row, stream.reassembler
        if has_reader(row):
            return
        if not stream.alive() and is_end_known(row.orig):
            reassembler.place(row.orig.end)
        if stream.replies is not None:
            stream.replies.clear()
        begin = row.reply.end if is_end_known(row.reply) else None
        stream.replies = Reassembler(row, "reply", begin, max_waiting(stream.flow), self._memory)
        for lost in (ReadEvent.ORIG_LOST, ReadEvent.REPLY_LOST):  # what has come since it was read before
            self._read_queue.add(lost, row.id)
        add_reader(row, is_late=begin is None or not reassembler.is_placed)

    def _add(self, stream: MirroredStream, service: Service, mirror: Mirror, backend: Endpoint | None) -> None:
        why_absent = why_not_mirrored(mirror, stream.flow.client[0], backend) or EndReason.MIRROR_ADDED
        copy = stream.make_copy(mirror, why_absent)
        copy.service_name = service.name
        self._ledger.copy_added(copy)
