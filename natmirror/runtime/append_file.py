"""A file that natmirror appends to for as long as it runs, in pieces that are written as a whole.

If the disk takes only a part of a piece, the file is cut back to what it had before, and the caller tries again later.
A file that has grown to its limit becomes FILE.1, and older ones move up by one. If another program moves or removes
the file, a new one begins. One process writes a file: another one that shall write it too gets an error.
"""

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from natmirror.errors import HostError

_MODE = 0o640


def older_names(path: Path, kept: int) -> list[Path]:
    """Return the names of the older files of ``path``, the newest first."""
    return [path.with_name(f"{path.name}.{number}") for number in range(1, kept + 1)]


def open_at_once(path: Path) -> BinaryIO:
    """Open a file to read it, and wait for nothing, such as a pipe's writer. OSError where it cannot be opened."""
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


def is_being_written(path: Path) -> bool:
    """Return whether an AppendFile has the file open, of this or of another process. OSError where it cannot be
    opened."""
    with open_at_once(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # a file system without locks
            return False
    return False


class AppendFile:
    """The file ``path``, which begins with ``header``. From ``max_len`` bytes on the next file begins, and ``kept``
    older ones are kept. The file of an earlier run goes on, or becomes FILE.1 with ``begins_anew``.

    HostError where it cannot be created, or another AppendFile has it open. All methods may wait for the disk.
    """

    def __init__(self, path: Path, max_len: int, kept: int, *, header: bytes = b"", begins_anew: bool = False) -> None:
        self._path = path
        self._max_len = max_len
        self._kept = kept
        self._header = header
        self._len = 0
        self._fd: int | None = None
        self._open(begins_anew=begins_anew)

    def append(self, data: bytes) -> None:
        """Append all of the data or none. HostError where that fails."""
        if self._fd is None or self._len >= self._max_len or self._was_moved(self._fd):
            self.close()
            self._open(begins_anew=True)
        self._write(data if self._len else self._header + data)

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            with suppress(OSError):  # append() has synchronised all data
                os.close(fd)

    def _open(self, *, begins_anew: bool) -> None:
        try:
            with suppress(FileNotFoundError):
                found = self._path.stat()
                if not stat.S_ISREG(found.st_mode):
                    raise HostError(f"{self._path}: expected a file, found something else")
                if is_being_written(self._path):
                    raise BlockingIOError
                if found.st_size <= len(self._header):
                    self._path.unlink()
                elif begins_anew or found.st_size >= self._max_len:
                    self._rotate()
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._fd = os.open(self._path, flags, _MODE)
            self._len = os.fstat(self._fd).st_size
            with suppress(OSError):  # a file system without locks, or a process that was faster: each line is whole
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HostError(f"{self._path}: another program writes it, such as a second natmirror") from None
        except OSError as error:
            raise HostError(f"{self._path}: {error.strerror}") from None

    def _rotate(self) -> None:
        names = [self._path, *older_names(self._path, self._kept)]
        for older, newer in reversed([*zip(names[1:], names, strict=False)]):
            with suppress(FileNotFoundError):
                newer.replace(older)

    def _was_moved(self, fd: int) -> bool:
        try:
            return not os.path.samestat(os.stat(self._path), os.fstat(fd))
        except OSError:
            return True

    def _write(self, data: bytes) -> None:
        assert self._fd is not None
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
            if data:
                os.fdatasync(self._fd)
        except OSError as error:
            try:
                os.ftruncate(self._fd, self._len)
            except OSError:
                self.close()  # the next append() begins a new file
            raise HostError(f"{self._path}: {error.strerror}") from None
        self._len += len(data)
