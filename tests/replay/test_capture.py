"""Capture files: link layers, times, padding."""

from pathlib import Path

import dpkt
import pytest

from natmirror.errors import CaptureError
from natmirror.replay.capture import Writer, ipv4_of, read
from tests.helpers.support import C2, CLIENT, packet

IP = packet(CLIENT, C2, "A", 1)


@pytest.mark.parametrize(
    ("link", "frame"),
    [
        (1, bytes(12) + b"\x08\x00" + IP),
        (1, bytes(12) + b"\x81\x00\x00\x05\x08\x00" + IP),
        (1, bytes(12) + b"\x88\xa8\x00\x05\x81\x00\x00\x06\x08\x00" + IP),
        (113, bytes(14) + b"\x08\x00" + IP),
        (276, b"\x08\x00" + bytes(18) + IP),
        (12, IP),
    ],
    ids=["ethernet", "vlan", "qinq", "cooked", "cooked2", "raw"],
)
def test_link_layers(link: int, frame: bytes) -> None:
    assert ipv4_of(link, frame) == IP
    for cut in range(len(frame) - len(IP) + 1):
        assert ipv4_of(link, frame[:cut]) is None


def test_other_link_types_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    with path.open("wb") as file:
        dpkt.pcap.Writer(file, linktype=105).writepkt(b"802.11", 1.0)
    with pytest.raises(CaptureError, match="link type 105"):
        list(read(path))


def test_microseconds_stay_below_a_second(tmp_path: Path) -> None:
    with Writer(tmp_path / "out.pcap") as writer:
        writer.write(7.9999999, IP)
    assert (tmp_path / "out.pcap").read_bytes()[24:32] == (8).to_bytes(4, "little") + bytes(4)


def test_padding_of_short_frames_is_cut_off() -> None:
    assert ipv4_of(1, bytes(12) + b"\x08\x00" + IP + bytes(6)) == IP
