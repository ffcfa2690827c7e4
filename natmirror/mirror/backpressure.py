"""Holding clients back for mirrors that are slower than their backends: what becomes of each flow's throttle as its
packets pass and its legs move."""

from natmirror.actions import Send
from natmirror.fastpath.flow_flags import throttle_client, unthrottle_client
from natmirror.fastpath.flow_states import State
from natmirror.mirror.copies import MirroredFlow, MirroredStream
from natmirror.mirror.outgoing import Outgoing
from natmirror.mirror.sampling import why_not_mirrored
from natmirror.mirror.timers import AT_ONCE, TimerKind, Timers
from natmirror.net import seq
from natmirror.net.build import synthesise
from natmirror.net.endpoint import endpoint_of
from natmirror.net.packet import ACK, Segment
from natmirror.tcp.client_window import ClientWindow


class Backpressure:
    """The throttles of all flows that have one."""

    def __init__(self, timers: Timers, outgoing: Outgoing, streams: dict[MirroredFlow, MirroredStream]) -> None:
        self._timers = timers
        self._outgoing = outgoing
        self._streams = streams
        self._throttles: dict[MirroredFlow, ClientWindow] = {}

    def accepted(self, flow: MirroredFlow) -> None:
        """The backend has accepted the connection: from here on the client is shown no more than throttling legs have
        room for."""
        if flow.is_picked_up:
            return
        buffers = [mirror.buffer for mirror in flow.service.mirrors if mirror.throttles]
        if buffers and any(
            not why_not_mirrored(mirror, flow.client[0]) for mirror in flow.service.mirrors if mirror.throttles
        ):
            first = seq.add(flow.row.iss, 1)
            self._throttles[flow] = ClientWindow(seq.add(first, min(buffers)), min(buffers))
            throttle_client(flow.row)

    def throttled_window(self, flow: MirroredFlow, segment: Segment) -> int:
        """Return the window field that the client is to see in a segment of its backend's."""
        throttle = self._throttles.get(flow)
        if throttle is None:
            return segment.window
        window = throttle.window(segment, flow.row.reply.scale)
        if (stream := self._streams.get(flow)) is not None:
            self._mark_waiting(stream, throttle)
        return window

    def hold(self, stream: MirroredStream) -> None:
        """After a leg has moved: how far its client may send; if that is much further than it knows, tell it."""
        flow = stream.flow
        throttle = self._throttles.get(flow)
        if throttle is None or len(stream.copies) < len(flow.service.copies):
            return  # nothing to hold, or legs are still to be opened
        row = flow.row
        edges = [seq.add(leg.una, copy.mirror.buffer) for copy, leg in stream.alive() if copy.mirror.throttles]
        nearest = min(edges, key=lambda edge: seq.diff(edge, row.reply.ack)) if edges else row.reply.edge
        throttle.hold = seq.latest(throttle.hold, nearest)
        self._mark_waiting(stream, throttle)
        due = throttle.is_update_due(row.orig.end, row.reply.edge) and not stream.is_over
        # Not now: packets of the same batch may tell the client more.
        self._timers.set((TimerKind.WINDOW_UPDATE, flow), AT_ONCE if due else None)
        if not edges and not due:
            self.release(flow)

    def _mark_waiting(self, stream: MirroredStream, throttle: ClientWindow) -> None:
        """Tell the legs that hold the client back whether it waits for them now."""
        row = stream.flow.row
        waits = throttle.is_used_up(row.orig.end, row.reply.edge) and not stream.is_over
        for copy, leg in stream.alive():
            holds = copy.mirror.throttles and seq.le(seq.add(leg.una, copy.mirror.buffer), throttle.hold)
            if leg.client_waits != (waits and holds):
                leg.client_waits = waits and holds
                leg.schedule()

    def tell_window(self, flow: MirroredFlow) -> None:
        """The client may send further than it knows: tell it, unless a packet of its backend's has done so."""
        throttle = self._throttles[flow]
        self._tell(flow, throttle)
        stream = self._streams.get(flow)
        if stream is not None:
            self._mark_waiting(stream, throttle)
        if stream is None or not any(copy.mirror.throttles for copy, _ in stream.alive()):
            self.release(flow)

    def _tell(self, flow: MirroredFlow, throttle: ClientWindow) -> None:
        reply = flow.row.reply
        if throttle.is_update_due(flow.row.orig.end, reply.edge):
            window = throttle.cut(reply.ack, seq.diff(reply.edge, reply.ack) >> reply.scale, reply.scale)
            ends = (endpoint_of(flow.service), flow.client)
            options = throttle.options()
            update = synthesise(*ends, seq=reply.end, ack=reply.ack, flags=ACK, window=window, options=options)
            self._outgoing.add([Send(update)])

    def let_go(self, flow: MirroredFlow) -> None:
        """Hold the client back no more, whatever its legs say. One that waits gets an update at once: it would learn it
        only by its own probes, which come minutes apart."""
        throttle = self._throttles.get(flow)
        if throttle is None:
            return
        try:
            throttle.hold = seq.latest(throttle.hold, flow.row.reply.edge)
            if flow.row.state in (State.ESTABLISHED, State.CLOSING):
                self._tell(flow, throttle)
        finally:
            self.release(flow)

    def release(self, flow: MirroredFlow) -> None:
        """No leg holds the client back any more."""
        if self._throttles.pop(flow, None) is not None:
            self._timers.set((TimerKind.WINDOW_UPDATE, flow), None)
            unthrottle_client(flow.row)
