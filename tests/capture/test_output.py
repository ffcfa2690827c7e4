"""The file that a capture writes."""

import os
from pathlib import Path

import pytest

from natmirror.capture.output import Output, ReaderGone
from natmirror.errors import CaptureError, HostError


def test_only_its_owner_may_read_it_and_it_replaces_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(bytes(100))
    path.chmod(0o644)
    with Output(path) as output:
        output.write(b"block")
        output.flush()
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"block", 0o600)


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with Output(Path("/dev/full")) as output, pytest.raises(CaptureError, match="/dev/full: No space left on device"):
        output.write(bytes(1 << 16))
    with pytest.raises(CaptureError, match="No such file"):
        Output(tmp_path / "none" / "out")
    with pytest.raises(CaptureError, match="Is a directory"):
        Output(tmp_path)


def test_a_file_that_becomes_full_ends_with_a_whole_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, left = os.write, [150_000]

    def write(fd: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(28, "No space left on device")
        count = real(fd, data[: min(left[0], 50_000)])
        left[0] -= count
        return count

    monkeypatch.setattr(os, "write", write)
    with Output(tmp_path / "out") as output, pytest.raises(CaptureError, match="No space"):
        for _ in range(4):
            output.write(bytes(70_000))
    assert (tmp_path / "out").stat().st_size == 140_000


def test_a_pipe_whose_reader_has_gone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with Output(tmp_path / "pipe") as output:
        output.write(b"block")
        output.flush()
        assert os.read(reader, 100) == b"block"
        os.close(reader)
        output.write(b"block")
        with pytest.raises(ReaderGone):
            output.flush()


def test_a_terminal_gets_no_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with pytest.raises(HostError, match="no text for a terminal"):
        Output(Path("-"))
