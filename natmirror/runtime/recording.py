"""A recording: a pcap file that natmirror appends to for as long as it runs. Each append ends with a whole packet.

FILE.1 to FILE.4 are older ones: full files, and the file of an earlier run.
"""

from collections.abc import Iterable
from pathlib import Path

from natmirror.errors import CaptureError, HostError
from natmirror.replay.capture import pcap_bytes
from natmirror.runtime.append_file import AppendFile

MAX_LEN = 64 << 20
"""Bytes of a recording from which on the next file begins."""
KEPT = 4
"""Older files that are kept."""
_HEADER = pcap_bytes([])


class Recording:
    """The recording in ``path``. CaptureError where its file cannot be created. All methods may wait for the disk."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = AppendFile(path, MAX_LEN, KEPT, header=_HEADER, begins_anew=True)
        except HostError as error:
            raise CaptureError(str(error)) from None

    def append(self, packets: Iterable[tuple[float, bytes]]) -> None:
        """Append raw IP packets with their times in seconds since 1970, all or none. CaptureError where that fails."""
        try:
            self._file.append(pcap_bytes(packets)[len(_HEADER) :])
        except HostError as error:
            raise CaptureError(str(error)) from None

    def close(self) -> None:
        """Close the file."""
        self._file.close()
