"""Unix sockets with a path, open from their first moment to no one but those whom their mode admits, and bound again
after their path was removed."""

import logging
import os
import socket
import stat
import struct
from contextlib import suppress
from pathlib import Path

from natmirror.errors import HostError

log = logging.getLogger("natmirror")

CHECK_INTERVAL = 2.0
"""Seconds between two calls of restore()."""
_TIMEVAL = struct.Struct("@ll")
_DIRECTORY_MODE = 0o750


class PathSocket:
    """A socket bound to ``path``, which has this mode; its directory is made if that is missing. With ``backlog``, it
    listens. HostError where the host refuses, or another natmirror listens on the path; ``purpose`` is for the message.

    A program that cleans up may remove the path. So calls that wait for clients raise BlockingIOError after
    CHECK_INTERVAL, and the caller then calls restore().
    """

    def __init__(self, path: Path, kind: int, mode: int, purpose: str, *, backlog: int | None = None) -> None:
        self._path = path
        self._kind = kind
        self._mode = mode
        self._backlog = backlog
        self._logged = ""
        try:
            path.parent.mkdir(_DIRECTORY_MODE, parents=True, exist_ok=True)
            self.socket = self._bound()
            self._directory = path.parent.stat()
        except OSError as error:
            raise HostError(f"cannot {purpose} on {path}: {_why(error)}; choose another socket with --api") from None

    def restore(self) -> bool:
        """If the path does not lead to this socket any more, bind another one to it and close this one; return whether
        that was so. Log it, and once why it is not possible."""
        if self._is_in_place():
            return False
        try:
            self._restore_directory()
            bound = self._bound()
        except (OSError, HostError) as error:
            if (why := _why(error)) != self._logged:
                log.error(
                    "%s was removed, and natmirror cannot make it again: %s; restart natmirror to make it again",
                    *(self._path, why),
                )
            self._logged = why
            return False
        self.close()
        self.socket, self._logged = bound, ""
        log.warning("%s was removed, and natmirror has made it again: have no program clean up there", self._path)
        return True

    def remove(self) -> None:
        """Remove the path, if it leads to this socket."""
        if self._is_in_place():
            self._path.unlink(missing_ok=True)

    def shut_down(self) -> None:
        """Have a thread that waits for the socket return, and refuse clients."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def _is_in_place(self) -> bool:
        try:
            found = self._path.lstat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def _restore_directory(self) -> None:
        directory = self._path.parent
        if directory.exists():
            return
        directory.mkdir(_DIRECTORY_MODE, parents=True, exist_ok=True)
        with suppress(PermissionError):
            os.chown(directory, self._directory.st_uid, self._directory.st_gid)
        directory.chmod(stat.S_IMODE(self._directory.st_mode))

    def _bound(self) -> socket.socket:
        """Return a socket bound to the path. OSError or HostError where that is refused.

        The kernel takes the mode of the new file from the unbound socket's, less the umask: so the file never has a
        wider mode than the wanted one, and chmod() only adds what the umask has removed.
        """
        bound = socket.socket(socket.AF_UNIX, self._kind)
        try:
            _remove_stale(self._path, self._kind)
            bound.setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL.pack(*divmod(round(CHECK_INTERVAL * 1e6), 10**6))
            )
            os.fchmod(bound.fileno(), self._mode)
            bound.bind(str(self._path))
            self._path.chmod(self._mode)
            found = self._path.lstat()
            if self._backlog is not None:
                bound.listen(self._backlog)
        except (OSError, HostError):
            bound.close()
            raise
        self._identity = found.st_dev, found.st_ino
        return bound


def _remove_stale(path: Path, kind: int) -> None:
    """Remove the socket of a natmirror that was killed."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return
        with socket.socket(socket.AF_UNIX, kind) as probe:
            probe.setblocking(False)
            probe.connect(str(path))
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
        return
    except BlockingIOError:  # its backlog is full
        pass
    raise HostError(f"another natmirror serves {path}; choose another socket for this one with --api")


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
