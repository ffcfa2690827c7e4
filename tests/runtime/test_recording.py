"""A recording that rotates, and that goes on after whatever happens to its file."""

from pathlib import Path

import pytest

from natmirror.errors import CaptureError
from natmirror.net.build import build
from natmirror.replay.capture import Capture
from natmirror.runtime import recording as module
from natmirror.runtime.recording import KEPT, Recording
from tests.helpers.support import CLIENT, MASTER

PACKET = build(MASTER, CLIENT, seq=1, ack=1, flags=16, window=1, payload=b"order")


def count(path: Path) -> int:
    return len(list(Capture(path)))


def test_a_full_file_and_that_of_an_earlier_run_are_kept_under_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_LEN", 100)
    path = tmp_path / "orders.pcap"
    for number in range(1, KEPT + 4):
        one = Recording(path)
        one.append([(1.0, PACKET)] * number)
        one.append([(1.0, PACKET)])  # in the next file: the first one is full
        one.close()
    last = KEPT + 3
    names = [path, *(path.with_name(f"orders.pcap.{number}") for number in range(1, KEPT + 1))]
    assert sorted(tmp_path.iterdir()) == names
    assert [count(name) for name in names] == [1, last, 1, last - 1, 1]


def test_a_file_without_packets_pushes_no_older_one_out(tmp_path: Path) -> None:
    path = tmp_path / "orders.pcap"
    for packets in ([(1.0, PACKET)], [], []):
        one = Recording(path)
        one.append(packets)
        one.close()
    assert (count(path), count(path.with_name("orders.pcap.1"))) == (0, 1)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("is_moved", [True, False])
def test_a_file_that_was_moved_or_removed_begins_again(tmp_path: Path, is_moved: bool) -> None:
    path = tmp_path / "orders.pcap"
    one = Recording(path)
    one.append([(1.0, PACKET)] * 2)
    if is_moved:
        path.rename(tmp_path / "moved.pcap")
    else:
        path.unlink()
    one.append([(1.0, PACKET)])
    one.close()
    assert count(path) == 1
    assert not is_moved or count(tmp_path / "moved.pcap") == 2


def test_only_natmirror_and_its_group_read_a_recording(tmp_path: Path) -> None:
    Recording(tmp_path / "orders.pcap").close()
    assert (tmp_path / "orders.pcap").stat().st_mode & 0o007 == 0


def test_something_that_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="expected a file, found something else"):
        Recording(tmp_path)
