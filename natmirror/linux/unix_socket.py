"""Unix sockets with a path, open from their first moment to no one but those whom their mode admits."""

import os
import socket
import stat
from pathlib import Path

from natmirror.errors import HostError

_DIRECTORY_MODE = 0o750


def bind(path: Path, kind: int, mode: int, purpose: str) -> socket.socket:
    """Return a socket bound to ``path``, which gets this mode; make its directory if that is missing. HostError where
    the host refuses, or another natmirror listens on it; ``purpose`` is for the message.

    The kernel takes the mode of the new file from the unbound socket's, less the umask: so the file never has a wider
    mode than the wanted one, and chmod() only adds what the umask has removed.
    """
    bound = socket.socket(socket.AF_UNIX, kind)
    try:
        path.parent.mkdir(_DIRECTORY_MODE, parents=True, exist_ok=True)
        _remove_stale(path, kind)
        os.fchmod(bound.fileno(), mode)
        bound.bind(str(path))
        path.chmod(mode)
    except OSError as error:
        bound.close()
        raise HostError(
            f"cannot {purpose} on {path}: {error.strerror or error}; choose another socket with --api"
        ) from None
    except HostError:
        bound.close()
        raise
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
