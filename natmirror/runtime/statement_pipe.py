"""The stream on which a packet thread sends its statements to the process of the judges. It never waits."""

import socket

from natmirror.fastpath import NEVER
from natmirror.mirror.sessions.statement_queue import StatementQueue

_FULL_PAUSE = 0.02  # seconds until the next attempt, after the stream was full


class StatementPipe:
    """Sends the statements of ``queue``; only the packet thread itself uses it, between packets."""

    def __init__(self, queue: StatementQueue) -> None:
        self._queue = queue
        self._stream: socket.socket | None = None
        self._not_before = 0.0

    def connect(self, stream: socket.socket | None) -> None:
        """Send to a process that has just begun; None: to none."""
        self._close()
        if stream is not None:
            stream.setblocking(False)
            self._stream = stream
            self._queue.open()

    def _close(self) -> None:
        stream, self._stream = self._stream, None
        self._queue.close()
        if stream is not None:
            stream.close()

    @property
    def next_at(self) -> float:
        """Return when send() has something to do."""
        if self._stream is None:
            return NEVER
        if not self._queue.is_open:
            return 0.0
        due_at = self._queue.due_at()
        return NEVER if due_at is None else max(due_at, self._not_before)

    def send(self, now: float) -> None:
        """Send what waits, as far as the stream takes it. If the process has ended, or the queue is closed because too
        much waits, close the stream: then another process begins."""
        if self._stream is None or not self._queue.is_open:
            self._close()
            return
        try:
            self._queue.sent(self._stream.sendmsg(self._queue.parts()))
        except BlockingIOError:
            self._not_before = now + _FULL_PAUSE
        except OSError:
            self._close()
