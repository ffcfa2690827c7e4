"""The watchdog of services without a pool: their packets pass even while natmirror is frozen.

A queue that nobody is bound to lets packets pass (--queue-bypass), and so does a full one (fail-open); but a bound
queue that nobody reads holds them. So a small process of its own shares the queue's socket, whose verdicts are
therefore valid. While natmirror's heartbeat is missing it accepts what waits; when natmirror is gone it goes too, and
with it the last hold on the queue.
"""

import logging
import os
import select
import signal
import subprocess
import sys

from natmirror._ffi import ffi, lib

log = logging.getLogger("natmirror")

BEAT_INTERVAL = 0.1
"""Seconds between two beats."""
_MISSED_AFTER = 0.3
_RETRY_INTERVAL = 0.005
"""Seconds between two attempts to send verdicts that the kernel refuses."""


class Watchdog:
    """The parent's side: start() once, beat() every ``BEAT_INTERVAL`` seconds, close() at the end."""

    def __init__(self, queue_fd: int, number: int) -> None:
        self._queue_fd = queue_fd
        self._number = number
        self._pipe = -1
        self._process: subprocess.Popen[bytes] | None = None
        self._is_failing = False

    def start(self) -> None:
        """Start the process; OSError where there can be none."""
        theirs, ours = os.pipe()
        try:
            os.set_blocking(ours, False)
            command = [sys.executable, "-m", __name__, str(self._queue_fd), str(theirs), str(self._number)]
            self._process = subprocess.Popen(command, pass_fds=(self._queue_fd, theirs), stdin=subprocess.DEVNULL)
        except OSError:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._pipe = ours

    def beat(self) -> None:
        """Say that packets are being read; a process that is missing is started again."""
        if self._process is None:
            self._start_again()
            return
        try:
            os.write(self._pipe, b".")
        except BlockingIOError:
            pass  # as many beats as a pipe holds wait to be read already
        except BrokenPipeError:
            self.close()
            self._start_again()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            os.close(self._pipe)
            self._process.wait()
            self._process = None

    def release(self) -> None:
        """End the process until move(): its queue is not bound."""
        self.close()
        self._queue_fd = -1

    def move(self, queue_fd: int) -> None:
        """Watch a queue that was bound again: its socket is another one."""
        self._queue_fd = queue_fd
        self._start_again()

    def _start_again(self) -> None:
        """Without a process production goes on: the next beat tries again."""
        if self._queue_fd < 0:
            return
        try:
            self.start()
            self._is_failing = False
        except OSError as error:
            if not self._is_failing:
                log.error("cannot start the process that passes packets while natmirror is frozen: %s; retrying", error)
            self._is_failing = True


def _serve(queue_fd: int, heartbeat_fd: int, number: int) -> None:
    """The child: watch the heartbeat, and accept everything while it is missing."""
    codec = ffi.gc(lib.nq_new(queue_fd, number), lib.nq_free)
    packets = ffi.new("nq_packet[]", lib.NQ_BATCH)
    missing = False
    while True:
        is_refused = bool(lib.nq_is_refused(codec))
        timeout = _RETRY_INTERVAL if is_refused else None if missing else _MISSED_AFTER
        watched = [heartbeat_fd, queue_fd] if missing and not is_refused else [heartbeat_fd]
        ready = select.select(watched, [], [], timeout)[0]
        if is_refused:
            lib.nq_flush(codec)  # also after the heartbeat is back: nobody else has these packets
        if heartbeat_fd in ready:
            if not os.read(heartbeat_fd, 4096):
                return
            missing = False
        elif not is_refused:
            missing = True
            for packet in packets[0 : max(0, lib.nq_receive(codec, packets, False))]:
                lib.nq_accept(codec, packet.id, ffi.NULL, 0)
            lib.nq_flush(codec)


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # the parent's end is ours, and nothing else
    _serve(*map(int, sys.argv[1:4]))
