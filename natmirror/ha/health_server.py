"""Serve this natmirror's health on a Unix socket: send each client a code and the reason, and close the connection.

The server has a thread of its own, because the API's may be busy with long lists. Any user may connect: the answer
contains nothing secret.
"""

import logging
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from errno import EMFILE, ENFILE
from pathlib import Path

from natmirror.linux import descriptors
from natmirror.linux.unix_socket import PathSocket
from natmirror.threads import NamedThread

log = logging.getLogger("natmirror")

_BACKLOG = 16
_MODE = 0o666
_SEND_TIMEOUT = 0.2  # seconds
_JOIN_TIMEOUT = 2.0
_REST = 0.1  # pause after an error


class HealthServer:
    """Serves ``path`` until close(); ``health`` returns the code and the reason. HostError where the socket cannot be
    made."""

    def __init__(self, path: Path, health: Callable[[], tuple[int, str]]) -> None:
        self._health = health
        self._closing = threading.Event()
        self._spare = -1
        self._logged: type[Exception] | None = None  # the kind of error that was last logged
        self._socket = PathSocket(path, socket.SOCK_STREAM, _MODE, "serve health", backlog=_BACKLOG)
        self._open_spare()
        self._thread = NamedThread(self._serve, "readiness")
        self._thread.start()

    def close(self) -> None:
        """Stop serving, and remove the socket."""
        self._closing.set()
        self._socket.shut_down()
        self._thread.join(_JOIN_TIMEOUT)
        self._socket.remove()
        self._socket.close()
        self._close_spare()

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                self._answer_one()
            except BlockingIOError:
                self._socket.restore()
            except Exception as error:  # e.g. no descriptor is left, not even the spare one
                if self._closing.is_set():
                    return
                if type(error) is not self._logged:
                    self._logged = type(error)
                    log.error("health: cannot answer: %r; trying again", error)
                self._closing.wait(_REST)
            else:
                self._logged = None

    def _answer_one(self) -> None:
        """Answer one client. BlockingIOError where none connects for a while."""
        try:
            peer, _ = self._socket.socket.accept()
        except OSError as error:
            if error.errno not in (EMFILE, ENFILE) or self._closing.is_set():
                raise
            self._close_spare()
            with descriptors.released():  # another thread may take what the spare one gives back
                self._answer(self._socket.socket.accept()[0])
        else:
            self._answer(peer)
        self._open_spare()

    def _answer(self, peer: socket.socket) -> None:
        with peer, suppress(OSError):
            peer.settimeout(_SEND_TIMEOUT)
            code, reason = self._health()
            peer.sendall(f"{code} {reason}\n".encode())

    def _open_spare(self) -> None:
        """Reserve a descriptor for a client that connects when no other is left. Without an answer keepalived would
        conclude that this host is stuck."""
        if self._spare == -1:
            with suppress(OSError):
                self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _close_spare(self) -> None:
        if self._spare != -1:
            os.close(self._spare)
            self._spare = -1
