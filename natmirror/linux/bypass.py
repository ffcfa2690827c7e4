"""The bypass of services without a pool: their packets pass even while natmirror is frozen.

A queue that no program is bound to lets packets pass (--queue-bypass), and so does a full one (fail-open). But a bound
queue whose program does not read it holds the packets. So a small process shares the queue's socket, and may give
verdicts through it. While natmirror's heartbeat is missing it accepts all waiting packets. When natmirror ends, this
process ends too, which unbinds the queue.
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
"""Seconds between two heartbeats."""
_MISSED_AFTER = 0.3  # seconds
_RETRY_INTERVAL = 0.005
"""Seconds between two attempts to send verdicts that the kernel refuses."""
_END_TIMEOUT = 2.0
_LOCK_TIMEOUT = 0.1  # seconds for which the packets of other queues wait too


class Bypass:
    """The parent's side: start() once, beat() every ``BEAT_INTERVAL`` seconds, mend() from time to time, close() at the
    end.

    The queue's thread calls beat(), release() and move(). Another thread calls mend(), because it waits for the host.
    """

    def __init__(self, queue_fd: int, number: int) -> None:
        self._queue_fd = queue_fd
        self._number = number
        self._pipe = -1
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = Lock()  # never held by beat()

    def start(self) -> None:
        """Start the process. HostError where the host refuses."""
        self.mend()

    def beat(self) -> None:
        """Tell the process that natmirror reads the queue; never wait, even if the process has ended."""
        with suppress(OSError):  # a full pipe holds enough beats; if it is broken, mend() starts another process
            os.write(self._pipe, b".")

    def mend(self) -> None:
        """Start the process again if it has ended and the queue is bound. HostError where the host refuses: call it
        again later."""
        with self._lock:
            if self._queue_fd < 0 or (self._process is not None and self._process.poll() is None):
                return
            try:
                self._start()
            except (OSError, MemoryError) as error:
                raise HostError(f"cannot start the bypass process of queue {self._number}: {error}") from None

    def release(self) -> None:
        """End the process: the queue is going to be bound again, and the old socket would keep it bound. HostError
        where mend() has not returned: the queue's thread does not wait for the host."""
        if not self._lock.acquire(timeout=_LOCK_TIMEOUT):
            raise HostError(f"the bypass process of queue {self._number} is being started")
        try:
            self._queue_fd = -1
            if self._process is not None:
                self._process.kill()  # binding the queue again drops the packets that it has received
            self._end()
        finally:
            self._lock.release()

    def move(self, queue_fd: int) -> None:
        """Note that the queue is bound again, with another socket: mend() starts a process for it."""
        with self._lock:
            self._queue_fd = queue_fd

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        """Close the pipe, which ends the process; kill it if it does not end, as when it is stopped."""
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
            else:  # beat() may be writing: keep the descriptor's number, and never leave it free for another file
                os.dup2(ours, self._pipe, inheritable=False)
            self._process = process
        finally:
            for end in (theirs, ours):
                if end != -1:
                    os.close(end)


def _serve(queue_fd: int, heartbeat_fd: int, number: int) -> None:
    """Run in the child: watch the heartbeat, and accept all packets while it is missing."""
    codec = ffi.gc(lib.nq_new(queue_fd, number), lib.nq_free)
    packets = ffi.new("nq_packet[]", lib.NQ_BATCH)
    missing = False
    while True:
        is_refused = bool(lib.nq_is_refused(codec))
        timeout = _RETRY_INTERVAL if is_refused else None if missing else _MISSED_AFTER
        watched = [heartbeat_fd, queue_fd] if missing and not is_refused else [heartbeat_fd]
        ready = select.select(watched, [], [], timeout)[0]
        if is_refused:
            lib.nq_flush(codec)  # even if the heartbeat is back: only this process has these packets
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
        signal.signal(ignored, signal.SIG_IGN)  # only the end of the parent ends this process
    _serve(*map(int, sys.argv[1:4]))
