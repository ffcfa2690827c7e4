"""Ends a flow's copies and sessions in whatever state a fault has left them.

Theory. After an exception only the flow's row in C can be trusted, none of Python's objects. So the row comes first:
without its flags and legs, C does nothing more for mirrors. If a later step fails, the other steps are still done.
"""

from collections.abc import Callable
from contextlib import suppress

from natmirror.fastpath import client_bytes
from natmirror.fastpath.flow_flags import clear_mirroring, concerns_mirroring, unthrottle_client
from natmirror.mirror.copies import MirroredFlow, MirroredStream, StreamCopy
from natmirror.mirror.copy_states import IS_ASKING, StreamEvent, StreamState
from natmirror.mirror.faults import Work
from natmirror.mirror.legs import LegOwner
from natmirror.mirror.parts import MirrorParts
from natmirror.mirror.sessions.master_session import MasterSession
from natmirror.reasons import EndReason
from natmirror.tcp.reassembler import Reassembler


class Teardown:
    """Ends the mirroring work of flows.

    ``is_known`` says whether a flow is still in the table: the row of a removed one may be another flow's.
    """

    def __init__(self, parts: MirrorParts, is_known: Callable[[MirroredFlow], bool]) -> None:
        self._memory = parts.gear.memory
        self._legs = parts.legs
        self._ledger = parts.ledger
        self._reconnection = parts.reconnection
        self._backpressure = parts.backpressure
        self._outcomes = parts.outcomes
        self._sessions = parts.sessions
        self._streams = parts.streams
        self._is_known = is_known

    def end(self, work: Work, flow: MirroredFlow, reason: EndReason) -> None:
        """End a kind of work for a flow. Sessions read the same stream as copies: they end with these."""
        if not self._is_known(flow):
            return
        if work is Work.THROTTLE:
            self._unthrottle(flow)
        elif work is Work.SESSION:
            self._sessions.end_flow(flow, reason)
        elif work is Work.VERDICT:
            self._sessions.end_judgement(flow)
        elif not self._has_nothing_left(flow) and not (work is Work.TAKEOVER and self._is_settled(flow)):
            self._end_all(flow, reason)

    def end_leg(self, owner: LegOwner, reason: EndReason) -> None:
        """End all copies and sessions of a leg's flow; if the flow is forgotten, end only the leg."""
        if isinstance(owner, MasterSession):
            self._sessions.fail(owner.connection, reason)
        elif isinstance(owner, StreamCopy) and self._is_known(owner.stream.flow):
            self._end_all(owner.stream.flow, reason)
        if owner.leg is not None:
            self._outcomes.cut(owner, owner.leg, reason)

    def drop(self, flow: MirroredFlow) -> None:
        """Remove an ended flow's stream, before the flow leaves the table."""
        stream = self._streams.pop(flow, None)
        if stream is None:
            return
        stream.final_bytes = client_bytes(flow.row)
        stream.move(StreamEvent.FORGOTTEN)
        for copy in stream.copies:
            with suppress(Exception):
                self._ledger.flow_forgotten(copy)
        stream.copies = ()
        with suppress(Exception):
            self._sessions.forgotten(flow, continues=False)

    def _has_nothing_left(self, flow: MirroredFlow) -> bool:
        """Return whether the flow has no copy, leg or throttle that could be ended."""
        stream = self._streams.get(flow)
        if stream is None or not stream.has_all_copies or concerns_mirroring(flow.row):
            return False
        return all(copy.leg is None or copy.leg.ended is not None for copy in stream.copies)

    def _is_settled(self, flow: MirroredFlow) -> bool:
        """Return whether no leg of the flow depends on another host's record any more."""
        stream = self._streams.get(flow)
        return stream is not None and stream.state is not StreamState.STANDBY and stream.state not in IS_ASKING

    def _end_all(self, flow: MirroredFlow, reason: EndReason) -> None:
        self._legs.link(flow.row, [])
        clear_mirroring(flow.row)
        self._unthrottle(flow)
        if flow.service.mirrors:
            with suppress(Exception):
                self._end_copies(flow, reason)
        self._sessions.end_flow(flow, reason)

    def _unthrottle(self, flow: MirroredFlow) -> None:
        with suppress(Exception):
            self._backpressure.lift(flow)
        unthrottle_client(flow.row)

    def _end_copies(self, flow: MirroredFlow, reason: EndReason) -> None:
        """End the flow's copies. Keep its stream: bytes that the client sends from now on count as lost for this
        reason."""
        stream = self._streams.get(flow)
        if stream is None:
            stream = MirroredStream(flow, Reassembler(flow.row, "orig", None, 0, self._memory))
            self._streams[flow] = stream
        for copy in stream.copies:
            if copy.waits:
                with suppress(Exception):
                    self._ledger.change_fate(copy, reason)
                copy.why_absent = reason
            elif copy.leg is None:
                copy.why_absent = copy.why_absent or reason
            else:
                self._outcomes.cut(copy, copy.leg, reason)
        if not stream.has_all_copies:
            for mirror in flow.service.copies[len(stream.copies) :]:
                stream.make_copy(mirror, reason)
            stream.has_all_copies = True
        stream.has_rest = stream.awaits_last = False
        if stream.state in IS_ASKING:
            stream.move(StreamEvent.ANSWERED)
        for half in filter(None, (stream.reassembler, stream.replies)):
            with suppress(Exception):
                half.clear()
        with suppress(Exception):
            self._reconnection.follow(stream)
