"""What other threads want of the main one, and how it is woken for that."""

import select
import socket
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any

from natmirror.runtime.chores import read_mail, settle


class Mailbox:
    """Functions that the main thread is to call. Any thread may post() and request(), one does the rest."""

    def __init__(self) -> None:
        self._letters: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)

    def post(self, do: Callable[[], None]) -> None:
        """Have something done soon."""
        self._letters.put(do)
        self.wake()

    def request(self, do: Callable[[], Any]) -> "Future[Any]":
        """Have something done soon; return what will have what it gives, or raises."""
        done: Future[Any] = Future()
        self.post(partial(settle, done, do))
        return done

    def wake(self) -> None:
        """Have wait() return."""
        with suppress(OSError):  # full: it is about to; no memory: it does so once a second
            self._wake_write.send(b"?")

    def wakeup_fd(self) -> int:
        """Return what a signal may be written to, see signal.set_wakeup_fd()."""
        return self._wake_write.fileno()

    def wait(self, timeout: float) -> None:
        """Wait until something is wanted, or so many seconds are over."""
        if select.select([self._wake_read], [], [], max(0.0, timeout))[0]:
            self._wake_read.recv(4096)

    def read(self) -> None:
        """Do what is wanted; a fault costs the one letter, and is logged."""
        read_mail(self._letters)

    def close(self) -> None:
        """Give the descriptors back."""
        self._wake_read.close()
        self._wake_write.close()
