"""The watchdog of services without a pool: their packets pass even while natmirror is frozen.

A queue that nobody is bound to lets packets pass (--queue-bypass), and so does a full one (fail-open); but a bound
queue that nobody reads holds them. So a small process of its own shares the queue's socket, whose verdicts are
therefore valid. While natmirror's heartbeat is missing it accepts what waits; when natmirror is gone it goes too, and
with it the last hold on the queue.
"""

import os
import select
import signal
import subprocess
import sys

from natmirror._ffi import ffi, lib

BEAT_INTERVAL = 0.1
"""Seconds between two beats."""
_MISSED_AFTER = 0.3


class Watchdog:
    """The parent's side: start() once, beat() every ``BEAT_INTERVAL`` seconds, close() at the end."""

    def __init__(self, queue_fd: int, number: int) -> None:
        self._queue_fd = queue_fd
        self._number = number
        self._pipe = -1
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process."""
        theirs, self._pipe = os.pipe()
        os.set_blocking(self._pipe, False)
        command = [sys.executable, "-m", __name__, str(self._queue_fd), str(theirs), str(self._number)]
        self._process = subprocess.Popen(command, pass_fds=(self._queue_fd, theirs), stdin=subprocess.DEVNULL)
        os.close(theirs)

    def beat(self) -> None:
        """Say that packets are being read."""
        try:
            os.write(self._pipe, b".")
        except BlockingIOError:
            pass  # as many beats as a pipe holds wait to be read already
        except BrokenPipeError:
            self._restart()

    def close(self) -> None:
        """End the process."""
        os.close(self._pipe)
        if self._process is not None:
            self._process.wait()

    def _restart(self) -> None:
        self.close()
        self.start()


def _serve(queue_fd: int, heartbeat_fd: int, number: int) -> None:
    """The child: watch the heartbeat, and accept everything while it is missing."""
    codec = ffi.gc(lib.nq_new(queue_fd, number), lib.nq_free)
    packets = ffi.new("nq_packet[]", lib.NQ_BATCH)
    missing = False
    while True:
        watched = [heartbeat_fd, queue_fd] if missing else [heartbeat_fd]
        ready = select.select(watched, [], [], None if missing else _MISSED_AFTER)[0]
        if heartbeat_fd in ready:
            if not os.read(heartbeat_fd, 4096):
                return
            missing = False
            continue
        missing = True
        for packet in packets[0 : max(0, lib.nq_receive(codec, packets, False))]:
            lib.nq_accept(codec, packet.id, ffi.NULL, 0)
        lib.nq_flush(codec)


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # the parent's end is ours, and nothing else
    _serve(*map(int, sys.argv[1:4]))
