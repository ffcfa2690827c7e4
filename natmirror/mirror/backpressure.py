"""Throttles clients whose mirrors are slower than their backends.

A throttle limits the window that the client sees. The limit moves as the flow's packets pass and its legs move.
"""

from natmirror.actions import Send
from natmirror.fastpath.flow_flags import throttle_client, unthrottle_client
from natmirror.fastpath.flow_states import IS_OPEN
from natmirror.mirror.copies import MirroredFlow, MirroredStream
from natmirror.mirror.outgoing import Outgoing
from natmirror.mirror.sampling import why_flow_not_mirrored
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
        """Begin to throttle a flow, if a mirror asks for it: its backend has accepted the connection, and from now on
        the client sees no larger window than the legs to throttling mirrors have room for."""
        if flow.is_picked_up:
            return
        buffers = [mirror.buffer for mirror in flow.service.mirrors if mirror.throttles]
        if buffers and any(
            not why_flow_not_mirrored(mirror, flow, None) for mirror in flow.service.mirrors if mirror.throttles
        ):
            first = seq.add(flow.row.iss, 1)
            self._throttles[flow] = ClientWindow(seq.add(first, min(buffers)), min(buffers))
            throttle_client(flow.row)

    def throttled_window(self, flow: MirroredFlow, segment: Segment) -> int:
        """Return the window field for the client, in a segment of its backend."""
        throttle = self._throttles.get(flow)
        if throttle is None:
            return segment.window
        window = throttle.window(segment, flow.row.reply.scale)
        flow.row.shown = throttle.shown
        if (stream := self._streams.get(flow)) is not None:
            self._mark_waiting(stream, throttle)
        return window

    def update(self, stream: MirroredStream) -> None:
        """Follow a leg that has moved: set the number up to which the client may send. If that is much higher than the
        client knows, schedule a window update."""
        flow = stream.flow
        throttle = self._throttles.get(flow)
        if throttle is None or not stream.has_all_copies:
            return  # not throttled, or legs are still to be opened
        row = flow.row
        edges = [seq.add(leg.una, copy.mirror.buffer) for copy, leg in stream.alive() if copy.mirror.throttles]
        nearest = min(edges, key=lambda edge: seq.diff(edge, row.reply.ack)) if edges else row.reply.edge
        throttle.hold = seq.latest(throttle.hold, nearest)
        self._mark_waiting(stream, throttle)
        due = throttle.is_update_due(row.orig.end, row.reply.edge) and not stream.has_ended
        # Not now: later packets of the same batch may open the window further.
        self._timers.set((TimerKind.WINDOW_UPDATE, flow), AT_ONCE if due else None)
        if not edges and not due:
            self.remove(flow)

    def _mark_waiting(self, stream: MirroredStream, throttle: ClientWindow) -> None:
        """Set for each leg that throttles the client whether the client waits for it now."""
        row = stream.flow.row
        waits = throttle.is_used_up(row.orig.end, row.reply.edge) and not stream.has_ended
        for copy, leg in stream.alive():
            holds = copy.mirror.throttles and seq.le(seq.add(leg.una, copy.mirror.buffer), throttle.hold)
            if leg.client_waits != (waits and holds):
                leg.client_waits = waits and holds
                leg.schedule()

    def send_window_update(self, flow: MirroredFlow) -> None:
        """Send the client a window update, unless a packet of its backend has opened its window meanwhile."""
        throttle = self._throttles[flow]
        self._send_window(flow, throttle)
        stream = self._streams.get(flow)
        if stream is not None:
            self._mark_waiting(stream, throttle)
        if stream is None or not any(copy.mirror.throttles for copy, _ in stream.alive()):
            self.remove(flow)

    def _send_window(self, flow: MirroredFlow, throttle: ClientWindow) -> None:
        """Send the client a window update, if one is still due and the connection has not ended meanwhile."""
        reply = flow.row.reply
        if flow.row.state in IS_OPEN and throttle.is_update_due(flow.row.orig.end, reply.edge):
            window = throttle.cut(reply.ack, seq.diff(reply.edge, reply.ack) >> reply.scale, reply.scale)
            flow.row.shown = throttle.shown
            ends = (endpoint_of(flow.service), flow.client)
            options = throttle.options()
            update = synthesise(*ends, seq=reply.end, ack=reply.ack, flags=ACK, window=window, options=options)
            self._outgoing.add([Send(update)])

    def lift(self, flow: MirroredFlow) -> None:
        """Stop throttling the flow, whatever the state of its legs, and send a waiting client a window update at once:
        its own window probes come minutes apart."""
        throttle = self._throttles.get(flow)
        if throttle is None:
            return
        try:
            throttle.hold = seq.latest(throttle.hold, flow.row.reply.edge)
            self._send_window(flow, throttle)
        finally:
            self.remove(flow)

    def remove(self, flow: MirroredFlow) -> None:
        """Remove the flow's throttle: no leg throttles its client any more."""
        if self._throttles.pop(flow, None) is not None:
            self._timers.set((TimerKind.WINDOW_UPDATE, flow), None)
            unthrottle_client(flow.row)
