"""The bypass of services without a pool: their packets pass even while natmirror is frozen.

A queue that no program is bound to lets packets pass (--queue-bypass), and so does a full one (fail-open); but a bound
queue that is not read holds them. So a small process of its own shares the queue's socket, whose verdicts are
therefore valid. While natmirror's heartbeat is missing it accepts what waits; when natmirror is gone it goes too, and
with it the last hold on the queue.
"""

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from threading import Lock

from natmirror._ffi import ffi, lib
from natmirror.errors import HostError

BEAT_INTERVAL = 0.1
"""Seconds between two beats."""
_MISSED_AFTER = 0.3
_RETRY_INTERVAL = 0.005
"""Seconds between two attempts to send verdicts that the kernel refuses."""
_END_TIMEOUT = 2.0
_LOCK_TIMEOUT = 0.1  # packets of other queues wait as long


class Bypass:
    """The parent's side: start() once, beat() every ``BEAT_INTERVAL`` seconds, mend() now and then, close() at the end.

    beat(), release() and move() belong to the thread that has the queue; mend() waits for the host, and so to another.
    """

    def __init__(self, queue_fd: int, number: int) -> None:
        self._queue_fd = queue_fd
        self._number = number
        self._pipe = -1
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = Lock()  # never held by beat()

    def start(self) -> None:
        """Start the process. HostError where the host refuses another one."""
        self.mend()

    def beat(self) -> None:
        """Say that packets are being read; without waiting, whatever has become of the process."""
        with suppress(OSError):  # full: as many beats as a pipe holds wait to be read; broken: mend() starts another
            os.write(self._pipe, b".")

    def mend(self) -> None:
        """Start another process where it has ended, unless its queue is not bound. HostError where the host refuses: to
        be tried again."""
        with self._lock:
            if self._queue_fd < 0 or (self._process is not None and self._process.poll() is None):
                return
            try:
                self._start()
            except (OSError, MemoryError) as error:
                raise HostError(
                    f"cannot start the process that lets packets of queue {self._number} pass: {error}"
                ) from None

    def release(self) -> None:
        """End the process: its queue is going to be bound again, and its hold on the old socket would keep that.
        HostError where mend() has not come back: the thread that has the queue does not wait for the host."""
        if not self._lock.acquire(timeout=_LOCK_TIMEOUT):
            raise HostError(f"the process that lets packets of queue {self._number} pass is just being started")
        try:
            self._queue_fd = -1
            if self._process is not None:
                self._process.kill()  # the packets that it has are dropped with the queue
            self._end()
        finally:
            self._lock.release()

    def move(self, queue_fd: int) -> None:
        """The queue is bound again, with another socket: mend() starts a process for it."""
        with self._lock:
            self._queue_fd = queue_fd

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        """It ends with the pipe, unless it is stopped."""
        if self._pipe != -1:
            os.close(self._pipe)
            self._pipe = -1
        if self._process is not None:
            try:
                self._process.wait(_END_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
            self._process = None

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
        is_refused = bool(lib.nq_is_refused(codec))
        timeout = _RETRY_INTERVAL if is_refused else None if missing else _MISSED_AFTER
        watched = [heartbeat_fd, queue_fd] if missing and not is_refused else [heartbeat_fd]
        ready = select.select(watched, [], [], timeout)[0]
        if is_refused:
            lib.nq_flush(codec)  # also after the heartbeat is back: no other process has these packets
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
