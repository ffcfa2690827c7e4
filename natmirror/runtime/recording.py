"""A recording: a pcap file that natmirror appends to for as long as it runs.

Each append ends with a whole packet: if the disk takes only a part, the file is cut back to what it had before, and the
caller tries again later. A file that has grown to MAX_LEN becomes FILE.1, and FILE.1 to FILE.4 move up by one. So does
the file of an earlier run. If another program moves or removes the file, a new one begins.
"""

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from natmirror.errors import CaptureError
from natmirror.replay.capture import pcap_bytes

MAX_LEN = 64 << 20
"""Bytes of a recording from which on the next file begins."""
KEPT = 4
"""Older files that are kept."""
_MODE = 0o640
_HEADER = pcap_bytes([])


class Recording:
    """The recording in ``path``. CaptureError where its file cannot be created. All methods may wait for the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._len = 0
        self._fd: int | None = None
        self._open()

    def append(self, packets: Iterable[tuple[float, bytes]]) -> None:
        """Append raw IP packets with their times in seconds since 1970, all or none. CaptureError where that fails."""
        data = pcap_bytes(packets)[len(_HEADER) :]
        if self._fd is None or self._len >= MAX_LEN or self._was_moved(self._fd):
            self.close()
            self._open()
        self._write(data if self._len else _HEADER + data)

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            with suppress(OSError):  # append() has synchronised all data
                os.close(fd)

    def _open(self) -> None:
        try:
            with suppress(FileNotFoundError):
                found = self._path.stat()
                if not stat.S_ISREG(found.st_mode):
                    raise CaptureError(f"{self._path}: expected a file, found something else")
                if found.st_size > len(_HEADER):
                    self._rotate()
                else:
                    self._path.unlink()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            self._fd, self._len = os.open(self._path, flags, _MODE), 0
        except OSError as error:
            raise CaptureError(f"{self._path}: {error.strerror}") from None

    def _rotate(self) -> None:
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{number}") for number in range(1, KEPT + 1))]
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
            raise CaptureError(f"{self._path}: {error.strerror}") from None
        self._len += len(data)
