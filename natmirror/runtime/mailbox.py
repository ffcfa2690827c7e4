"""Requests from one thread to another: a queue of functions that the other thread calls, and a way to wake it.

Each thread that takes requests owns a Mailbox: the main thread, the workers, and the chore threads. A thread that waits
on descriptors is woken through a Waker.
"""

import logging
import select
import socket
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

log = logging.getLogger("natmirror")


class Mailbox:
    """A queue of functions for the owner to call. Any thread may post() and request(); the owner calls the functions in
    read().

    ``wake`` wakes the owner and never waits. ``on_error`` gets a posted function's exception, which affects no other
    function.
    """

    def __init__(self, wake: Callable[[], None], on_error: Callable[[Exception], None] | None = None) -> None:
        self._functions: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._wake = wake
        self._on_error = on_error or _log_error

    def post(self, do: Callable[[], None]) -> None:
        """Have the owner call a function soon."""
        self._functions.put(do)
        self._wake()

    def request(self, question: Callable[[], Any]) -> "Future[Any]":
        """Have the owner call a function soon; return the future of its result or exception."""
        answer: Future[Any] = Future()
        self.post(partial(settle, answer, question))
        return answer

    def ask(self, question: Callable[[], Any], timeout: float) -> Any:
        """Have the owner call a function; return its result. TimeoutError where the owner has not begun within
        ``timeout`` seconds: then it never calls the function."""
        answer = self.request(question)
        try:
            return answer.result(timeout)
        except TimeoutError:
            if answer.cancel():
                raise
        return answer.result(timeout)

    def read(self) -> None:
        """Call the functions that have been posted so far."""
        for _ in range(self._functions.qsize()):
            try:
                do = self._functions.get_nowait()
            except Empty:  # after the owner's end, several threads may read at once
                return
            try:
                do()
            except Exception as error:
                self._on_error(error)

    def __len__(self) -> int:
        return self._functions.qsize()


class Waker:
    """Wakes a thread that waits until ``fd`` is readable. wake() has no effect before open() and after close()."""

    def __init__(self) -> None:
        self._ends: tuple[socket.socket, socket.socket] | None = None

    def open(self) -> None:
        """Open the descriptors. OSError where none are left."""
        self._ends = socket.socketpair()
        for end in self._ends:
            end.setblocking(False)

    def close(self) -> None:
        """Close the descriptors."""
        ends, self._ends = self._ends, None
        for end in ends or ():
            end.close()

    @property
    def fd(self) -> int:
        """Return the descriptor to wait on; after wake() it is readable until drain()."""
        return self._opened()[0].fileno()

    @property
    def signal_fd(self) -> int:
        """Return the descriptor for signal.set_wakeup_fd(), so that a signal wakes the thread too."""
        return self._opened()[1].fileno()

    def wake(self) -> None:
        """Wake the thread; from any thread, without waiting."""
        ends = self._ends
        if ends is not None:
            with suppress(OSError):  # full: it wakes anyway; closed: it has ended; no memory: it wakes soon anyway
                ends[1].send(b"?")

    def drain(self) -> None:
        """Forget all wake() calls so far; call it when ``fd`` is readable."""
        self._opened()[0].recv(4096)

    def wait(self, timeout: float) -> None:
        """Wait for wake(), at most ``timeout`` seconds."""
        if select.select([self.fd], [], [], max(0.0, timeout))[0]:
            self.drain()

    def _opened(self) -> tuple[socket.socket, socket.socket]:
        assert self._ends is not None, "open() comes first"
        return self._ends


def settle(answer: "Future[Any]", question: Callable[[], Any]) -> None:
    """Call a function and settle its future, unless that is settled or cancelled already."""
    if answer.done() or not answer.set_running_or_notify_cancel():
        return
    try:
        answer.set_result(question())
    except Exception as error:  # fails the request, not the thread
        answer.set_exception(error)


def _log_error(error: Exception) -> None:
    log.error("internal error: a request from another thread failed", exc_info=error)
