"""The backend's stream of connections with sessions: it puts the bytes in order and adds them to the read queue.

Bytes that did not pass here are reported as lost once the client has acknowledged them.
"""

from natmirror.fastpath.flow_flags import has_reader, is_ack_known, knows_window, set_reply_gap
from natmirror.mirror.copies import MirroredStream
from natmirror.mirror.sessions.read_queue import ReadEvent, ReadQueue
from natmirror.mirror.timers import AT_ONCE, TimerKind, Timers
from natmirror.net import seq
from natmirror.net.packet import Segment


class Replies:
    """Puts the backends' bytes in order for the read queue."""

    def __init__(self, timers: Timers, read_queue: ReadQueue) -> None:
        self._timers = timers
        self._read_queue = read_queue

    def feed(self, stream: MirroredStream, segment: Segment) -> None:
        """Take a segment of the backend, which its client takes."""
        row, replies = stream.flow.row, stream.replies
        if replies is None or not has_reader(row):
            return
        if not replies.is_placed:
            replies.place(segment.seq)
        edge = seq.latest(row.orig.edge, row.orig.ack)
        if not knows_window(row):
            edge = seq.latest(edge, seq.add(segment.seq, segment.payload_len))
        self._read(stream, replies.push(segment.seq, segment.payload, edge), edge)

    def read_rest(self, stream: MirroredStream) -> None:
        """Read the next bytes of a stream that had more in order than one call reads."""
        row, replies = stream.flow.row, stream.replies
        if replies is not None and has_reader(row):
            edge = seq.latest(row.orig.edge, row.orig.ack)
            self._read(stream, replies.push(replies.next, b"", edge), edge)

    def _read(self, stream: MirroredStream, data: bytes, edge: int) -> None:
        row, replies = stream.flow.row, stream.replies
        if replies is None:
            return
        if data:
            self._read_queue.add(ReadEvent.REPLY, row.id, data, row.held.holder)
        rest = replies.ready_len(edge)
        if not rest and is_ack_known(row.orig) and seq.lt(replies.next, row.orig.ack):
            self._read_queue.add(ReadEvent.REPLY_LOST, row.id)
            if data := replies.restart(row.orig.ack, edge):
                self._read_queue.add(ReadEvent.REPLY, row.id, data, row.held.holder)
            rest = replies.ready_len(edge)
        if rest:
            self._timers.set((TimerKind.WRITE_REST, stream.flow), AT_ONCE)
        set_reply_gap(row, replies.waiting_bytes > 0)
