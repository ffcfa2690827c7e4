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
from contextlib import suppress

from natmirror._ffi import ffi, lib
from natmirror.errors import HostError

BEAT_INTERVAL = 0.1
"""Seconds between two beats."""
_MISSED_AFTER = 0.3
_END_TIMEOUT = 2.0


class Watchdog:
    """The parent's side: start() once, beat() every ``BEAT_INTERVAL`` seconds, mend() now
    and then, close() at the end."""

    def __init__(self, queue_fd: int, number: int) -> None:
        self._queue_fd = queue_fd
        self._number = number
        self._pipe = -1
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process. HostError where the host refuses another one."""
        try:
            self._start()
        except (OSError, MemoryError) as error:
            raise HostError(
                f"cannot start the process that lets packets of queue {self._number} pass: {error}"
            ) from None

    def beat(self) -> None:
        """Say that packets are being read; without waiting, whatever has become of the process."""
        with suppress(OSError):  # full: as many beats as a pipe holds wait to be read; broken: mend() starts another
            os.write(self._pipe, b".")

    def mend(self) -> None:
        """Start another process where it has ended; from one other thread than that which beats, since it waits for the
        host. HostError where the host refuses: to be tried again."""
        if self._process is None or self._process.poll() is not None:
            self.start()

    def close(self) -> None:
        """End the process: it ends with the pipe, unless it is stopped."""
        os.close(self._pipe)
        if self._process is not None:
            try:
                self._process.wait(_END_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def _start(self) -> None:
        theirs, ours = os.pipe()
        try:
            os.set_blocking(ours, False)
            command = [sys.executable, "-m", __name__, str(self._queue_fd), str(theirs), str(self._number)]
            process = subprocess.Popen(command, pass_fds=(self._queue_fd, theirs), stdin=subprocess.DEVNULL)
            if self._pipe == -1:
                self._pipe, ours = ours, -1
            else:  # beat() may be writing: the descriptor keeps its number, which nothing else can get in between
                os.dup2(ours, self._pipe, inheritable=False)
            self._process = process
        finally:
            for end in (theirs, ours):
                if end != -1:
                    os.close(end)


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
