"""Ends a flow's copies and sessions whatever state a fault of ours has left them in.

Theory. After an exception nothing that Python knows of a flow is certain but its row in C, and that goes first: without
flags and legs C does nothing for mirrors any more. All that follows is tried step by step, and a step that fails too
costs that step alone.
"""

from collections.abc import Callable
from contextlib import suppress

from natmirror.fastpath import GAPPED, HELD, MIRRORED, READ, REPLY_GAPPED, WAITING, Gear
from natmirror.mirror.faults import Work
from natmirror.mirror.ledger import Ledger, MirroredFlow, MirroredStream, StreamCopy
from natmirror.mirror.legs import Holder, Legs
from natmirror.mirror.mirroring import Mirroring
from natmirror.mirror.sessions.master_session import MasterSession
from natmirror.mirror.sessions.sessions import MasterSessions
from natmirror.tcp.reassembler import Reassembler

_OF_MIRRORING = MIRRORED | READ | WAITING | GAPPED | REPLY_GAPPED


class Teardown:
    """``is_known`` says whether a flow is still in the table: the row of one that is not may be another's."""

    def __init__(
        self,
        gear: Gear,
        legs: Legs,
        ledger: Ledger,
        mirroring: Mirroring,
        shadowing: MasterSessions,
        is_known: Callable[[MirroredFlow], bool],
    ) -> None:
        self._gear = gear
        self._legs = legs
        self._ledger = ledger
        self._mirroring = mirroring
        self._shadowing = shadowing
        self._is_known = is_known

    def end(self, work: Work, flow: MirroredFlow, reason: str) -> None:
        """End what a kind of work does for a flow. Sessions read the stream that copies carry: they end with them."""
        if not self._is_known(flow):
            return
        if work is Work.THROTTLE:
            self._release(flow)
        elif work is Work.SESSION:
            self._shadowing.end_flow(flow, reason)
        elif not self._is_over(flow) and not (work is Work.TAKEOVER and self._is_settled(flow)):
            self._end_all(flow, reason)

    def end_leg(self, holder: Holder, reason: str) -> None:
        """End everything that the flow of a leg has; of a flow that is gone, the leg alone."""
        if isinstance(holder, MasterSession):
            self._shadowing.fail(holder.connection, reason)
        elif isinstance(holder, StreamCopy) and self._is_known(holder.tap.flow):
            self._end_all(holder.tap.flow, reason)
        if holder.leg is not None:
            self._legs.cut(holder, holder.leg, reason)

    def drop(self, flow: MirroredFlow) -> None:
        """After end(): the flow is about to leave the table."""
        tap = self._mirroring.taps.pop(flow, None)
        if tap is None:
            return
        tap.final_bytes = int(flow.row.orig.bytes)
        for strand in tap.strands:
            with suppress(Exception):
                self._ledger.flow_forgotten(strand)
        tap.strands = ()
        with suppress(Exception):
            self._shadowing.forgotten(flow, goes_on=False)

    def _is_over(self, flow: MirroredFlow) -> bool:
        """Whether nothing of the flow's is left to be ended."""
        tap = self._mirroring.taps.get(flow)
        if tap is None or len(tap.strands) < len(flow.service.copies) or flow.row.flags & (_OF_MIRRORING | HELD):
            return False
        return all(strand.leg is None or strand.leg.ended is not None for strand in tap.strands)

    def _is_settled(self, flow: MirroredFlow) -> bool:
        """Whether no leg of the flow's still depends on another host's record."""
        tap = self._mirroring.taps.get(flow)
        return tap is not None and tap.waits_from is None and not tap.is_asking

    def _end_all(self, flow: MirroredFlow, reason: str) -> None:
        self._gear.legs.link(flow.row, [])
        flow.row.flags &= ~_OF_MIRRORING
        self._release(flow)
        if flow.service.mirrors:
            with suppress(Exception):
                self._end_copies(flow, reason)
        self._shadowing.end_flow(flow, reason)

    def _release(self, flow: MirroredFlow) -> None:
        with suppress(Exception):
            self._mirroring.holding.let_go(flow)
        flow.row.flags &= ~HELD

    def _end_copies(self, flow: MirroredFlow, reason: str) -> None:
        """The tap stays: what the client sends from now on counts as lost for this reason."""
        tap = self._mirroring.taps.get(flow)
        if tap is None:
            tap = MirroredStream(flow, Reassembler(flow.row, "orig", None, 0, self._mirroring.budget), self._mirroring)
            self._mirroring.taps[flow] = tap
        for strand in tap.strands:
            if strand.leg is None:
                strand.absent = strand.absent or reason
            else:
                self._legs.cut(strand, strand.leg, reason)
        missing = flow.service.copies[len(tap.strands) :]
        tap.strands += tuple(StreamCopy(mirror, tap, absent=reason) for mirror in missing)
        tap.is_asking = tap.is_draining = False
        for stream in filter(None, (tap.reassembler, tap.replies)):
            with suppress(Exception):
                stream.clear()
        with suppress(Exception):
            flow.row.account = self._ledger.account(tap)
