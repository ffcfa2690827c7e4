"""The file of a capture: only its owner may read it, and it ends with a whole block, whatever happens."""

import os
import sys
from pathlib import Path
from stat import S_ISREG
from types import TracebackType
from typing import Self

from natmirror.errors import CaptureError, HostError

_STANDARD_OUTPUT = "-"
_PRIVATE = 0o600
_AT_ONCE = 1 << 16


class ReaderGone(Exception):
    """The program that read the capture from a pipe has ended."""


class Output:
    """The file, or standard output for ``-``; a context manager. It replaces a file that is there, as tcpdump does.
    CaptureError where it cannot be written, ReaderGone where no program reads a pipe any more."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._buffer = bytearray()
        self._good = 0
        if str(path) == _STANDARD_OUTPUT:
            if sys.stdout.isatty():
                raise HostError(
                    "a capture is no text for a terminal: pipe it into a program, as in | wireshark -k -i -"
                )
            self._fd = os.dup(sys.stdout.fileno())
        else:
            try:
                self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)
            except OSError as error:
                raise self._failed(error) from None
        self.is_file = S_ISREG(os.fstat(self._fd).st_mode) and str(path) != _STANDARD_OUTPUT
        """Whether it is no pipe, device or terminal."""
        if self.is_file:
            os.fchmod(self._fd, _PRIVATE)
            os.ftruncate(self._fd, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def write(self, block: bytes) -> None:
        """Write a block; it may stay in memory until flush()."""
        self._buffer += block
        if len(self._buffer) >= _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write what is in memory. If not all of it fits, none of it stays in the file."""
        try:
            view = memoryview(bytes(self._buffer))
            while view:
                view = view[os.write(self._fd, view) :]
        except BrokenPipeError:
            raise ReaderGone from None
        except OSError as error:
            if self.is_file:
                os.ftruncate(self._fd, self._good)
            raise self._failed(error) from None
        self._good += len(self._buffer)
        self._buffer.clear()

    def _failed(self, error: OSError) -> CaptureError:
        return CaptureError(f"{self._path}: {error.strerror}")
