"""Serve this natmirror's health on a Unix socket: each connection gets a code and the reason, and is closed.

It has a thread of its own, beside the API's, which long lists may keep busy. Any user may ask: the answer holds nothing
secret.
"""

import logging
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from errno import EMFILE, ENFILE
from pathlib import Path

from natmirror.errors import HostError

log = logging.getLogger("natmirror")

_BACKLOG = 16
_MODE = 0o666
_SEND_TIMEOUT = 0.2
_JOIN_TIMEOUT = 2.0
_REST = 0.1


class HealthServer:
    """Answers on ``path`` until close(); ``health`` returns the code and the reason. HostError where that cannot be.

    A socket that is there is a dead run's: the API, whose place is beside it, has been served before.
    """

    def __init__(self, path: Path, health: Callable[[], tuple[int, str]]) -> None:
        self._path = path
        self._health = health
        self._closing = threading.Event()
        self._spare = -1
        self._logged: type[Exception] | None = None  # the fault that has been logged last
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            path.unlink(missing_ok=True)
            self._socket.bind(str(path))
            os.chmod(path, _MODE)
            self._socket.listen(_BACKLOG)
            self._open_spare()
        except OSError as error:
            self._socket.close()
            raise HostError(f"cannot serve its health on {path}: {error.strerror or error}") from None
        self._thread = threading.Thread(target=self._serve, name="health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering, and take the socket away."""
        self._closing.set()
        self._path.unlink(missing_ok=True)
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(_JOIN_TIMEOUT)
        self._socket.close()
        self._close_spare()

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                self._answer_one()
            except Exception as error:  # for one, nothing is left even with the spare descriptor
                if self._closing.is_set():
                    return
                if type(error) is not self._logged:
                    self._logged = type(error)
                    log.error("health: cannot answer: %s", error or repr(error))
                self._closing.wait(_REST)
            else:
                self._logged = None

    def _answer_one(self) -> None:
        try:
            peer, _ = self._socket.accept()
        except OSError as error:
            if error.errno not in (EMFILE, ENFILE) or self._closing.is_set():
                raise
            self._close_spare()
            peer, _ = self._socket.accept()
        with peer, suppress(OSError):
            peer.settimeout(_SEND_TIMEOUT)
            code, reason = self._health()
            peer.sendall(f"{code} {reason}\n".encode())
        self._open_spare()

    def _open_spare(self) -> None:
        """Hold a descriptor in reserve for a question that comes when no others are left: without an answer keepalived
        would take this host for stuck."""
        if self._spare == -1:
            with suppress(OSError):
                self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _close_spare(self) -> None:
        if self._spare != -1:
            os.close(self._spare)
            self._spare = -1
