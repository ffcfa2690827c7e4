"""Take keepalived's reports of this host's role, on a Unix socket of their own.

A report is one datagram, ``master 4711``: a role, and a number that grows from one report to the next. The answer is
one too: empty if natmirror obeys, else why not. So no client that connects and is silent can delay a report, no report
needs a descriptor, and no report needs the process that serves the API.
"""

import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from natmirror.ha.role import HostRole
from natmirror.linux.unix_socket import PathSocket
from natmirror.threads import NamedThread

log = logging.getLogger("natmirror")

_MODE = 0o660
_MAX_LEN = 256
_MAX_DIGITS = 20
_JOIN_TIMEOUT = 2.0  # seconds
_REST = 0.1  # pause after an error


class RoleServer:
    """Serves ``path`` until close(). ``report`` takes a role and its number; it raises ValueError where natmirror
    refuses it, and TimeoutError. HostError where the socket cannot be made."""

    def __init__(self, path: Path, report: Callable[[HostRole, int], None]) -> None:
        self._report = report
        self._is_closing = threading.Event()
        self._socket = PathSocket(path, socket.SOCK_DGRAM, _MODE, "take reports of the role")
        self._thread = NamedThread(self._serve, "role")
        self._thread.start()

    def close(self) -> None:
        """Stop serving, and remove the socket."""
        self._is_closing.set()
        self._socket.shut_down()
        self._thread.join(_JOIN_TIMEOUT)
        self._socket.remove()
        self._socket.close()

    def _serve(self) -> None:
        while not self._is_closing.is_set():
            try:
                datagram, sender = self._socket.socket.recvfrom(_MAX_LEN)
                if not self._is_closing.is_set():
                    self._answer(datagram, sender)
            except BlockingIOError:  # no report came for a while
                self._socket.restore()
            except Exception as error:  # e.g. no memory
                log.error("role: cannot take a report: %r; trying again", error)
                self._is_closing.wait(_REST)

    def _answer(self, datagram: bytes, sender: bytes | str | None) -> None:
        try:
            self._report(*_parse(datagram))
            answer = ""
        except ValueError as error:
            answer = str(error)
        except TimeoutError:
            answer = "natmirror is too busy to answer: try again"
        if sender:
            with suppress(OSError):  # the sender has gone
                self._socket.socket.sendto(answer.encode(), socket.MSG_DONTWAIT, sender)


def _parse(datagram: bytes) -> tuple[HostRole, int]:
    """Return the role and the number of a report; ValueError where it is malformed."""
    role, _, number = datagram.decode(errors="replace").partition(" ")
    if not number.isascii() or not number.isdecimal() or len(number) > _MAX_DIGITS:
        raise ValueError(f"expected a role and the number of the report, found {datagram!r:.80}")
    return HostRole(role), int(number)
