"""Capture files: link layers, times, padding, lengths, fragments, pcapng."""

import io
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import dpkt
import pcapy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.errors import CaptureError
from natmirror.net.checksum import pseudo_header_sum
from natmirror.net.packet import FIN, PROTO_TCP, PSH, Segment, parse
from natmirror.replay.capture import CUT_SHORT, FRAGMENT, NOT_IPV4, Capture, Captured, Writer
from natmirror.replay.link_layers import ByteOrder, Frame, ipv4_of
from natmirror.replay.replay import Replay, checksum_of
from natmirror.rules import parse_rules
from tests.helpers import pcapng
from tests.helpers.captures import ONE_BACKEND, fragments_of, session
from tests.helpers.support import C2, CLIENT, packet

IP = packet(CLIENT, C2, "A", 1)
MAC = bytes(12)
PPP_IP = b"\x00\x21" + IP
LABELS = b"\0\x01\0\x40" + b"\0\x02\x01\x40"  # the second is the last
PPPOE = b"\x11\0\0\x01" + len(PPP_IP).to_bytes(2, "big")
SNAP = b"\xaa\xaa\x03\0\0\0\x08\x00" + IP


def nflog(order: ByteOrder) -> bytes:
    """Return a frame of NFLOG with a prefix before the packet."""
    layout = ("<" if order == "little" else ">") + "HH"
    return b"\x02\0\0\x01" + struct.pack(layout, 7, 10) + b"log\0" + struct.pack(layout, len(IP) + 4, 9) + IP


@pytest.mark.parametrize(
    ("link", "frame"),
    [
        pytest.param(1, MAC + b"\x08\x00" + IP, id="ethernet"),
        pytest.param(1, MAC + b"\x81\x00\x00\x05\x08\x00" + IP, id="vlan"),
        pytest.param(1, MAC + b"\x88\xa8\x00\x05\x81\x00\x00\x06\x08\x00" + IP, id="qinq"),
        pytest.param(1, MAC + b"\x91\x00\x00\x05\x81\x00\x00\x06\x08\x00" + IP, id="old qinq"),
        pytest.param(1, MAC + b"\x91\x00\x00\x05" + b"\x81\x00\x00\x06" * 2 + b"\x08\x00" + IP, id="three vlans"),
        pytest.param(1, MAC + b"\x88\x47" + LABELS + IP, id="mpls"),
        pytest.param(1, MAC + b"\x81\x00\x00\x05\x88\x64" + PPPOE + PPP_IP, id="pppoe in a vlan"),
        pytest.param(1, MAC + len(SNAP).to_bytes(2, "big") + SNAP, id="snap"),
        pytest.param(1, MAC + b"\0\x50" + b"\x06\x06\x03" + IP, id="llc"),
        pytest.param(113, bytes(14) + b"\x08\x00" + IP, id="cooked"),
        pytest.param(113, bytes(14) + b"\x81\x00\x00\x05\x08\x00" + IP, id="vlan in cooked"),
        pytest.param(113, bytes(14) + b"\x00\x04" + SNAP, id="snap in cooked"),
        pytest.param(276, b"\x08\x00" + bytes(18) + IP, id="cooked2"),
        pytest.param(12, IP, id="raw"),
        pytest.param(101, IP, id="raw in a file"),
        pytest.param(228, IP, id="ipv4"),
        pytest.param(0, b"\x02\0\0\0" + IP, id="null"),
        pytest.param(0, b"\0\0\0\x02" + IP, id="null of another host"),
        pytest.param(108, b"\0\0\0\x02" + IP, id="loop"),
        pytest.param(9, b"\xff\x03" + PPP_IP, id="ppp"),
        pytest.param(9, b"\x21" + IP, id="compressed ppp"),
        pytest.param(9, b"\x02\x81" + LABELS + IP, id="mpls in ppp"),
        pytest.param(50, b"\xff\x03" + PPP_IP, id="ppp in hdlc"),
        pytest.param(50, b"\x0f\0\x08\x00" + IP, id="cisco hdlc"),
        pytest.param(51, PPPOE + PPP_IP, id="pppoe alone"),
        pytest.param(239, nflog("little"), id="nflog"),
    ],
)
def test_link_layers(link: int, frame: bytes) -> None:
    assert ipv4_of(Frame(1.0, link, frame, False, "little")) == IP
    for cut in range(len(frame) - len(IP) + 1):
        assert ipv4_of(Frame(1.0, link, frame[:cut], False, "little")) is None


def test_nflog_has_the_order_of_bytes_of_its_host() -> None:
    assert ipv4_of(Frame(1.0, 239, nflog("big"), False, "big")) == IP
    assert ipv4_of(Frame(1.0, 239, nflog("big"), False, "little")) is None


@pytest.mark.parametrize("frame", [MAC + b"\x86\xdd" + b"\x60" + IP, MAC + b"\x08\x06" + IP, b""], ids=str)
def test_other_frames_have_no_ipv4(frame: bytes) -> None:
    assert ipv4_of(Frame(1.0, 1, frame, False, "little")) is None


def test_other_link_types_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    with path.open("wb") as file:
        dpkt.pcap.Writer(file, linktype=105).writepkt(b"802.11", 1.0)
    with pytest.raises(CaptureError, match="link type 105"):
        Capture(path)


@pytest.mark.parametrize(
    ("content", "found"), [(b"", "an empty file"), (b"\x1f\x8b\x08", "decompress it first"), (b"text", "unknown file")]
)
def test_other_files_are_an_error(tmp_path: Path, content: bytes, found: str) -> None:
    (tmp_path / "in.pcap").write_bytes(content)
    with pytest.raises(CaptureError, match=found):
        Capture(tmp_path / "in.pcap")


def test_microseconds_stay_below_a_second(tmp_path: Path) -> None:
    with Writer(tmp_path / "out.pcap") as writer:
        writer.write(7.9999999, IP)
    assert (tmp_path / "out.pcap").read_bytes()[24:32] == (8).to_bytes(4, "little") + bytes(4)


def captured(tmp_path: Path, frames: list[bytes], *, link: int = 1, snap_len: int = 262_144) -> list[Captured]:
    """Return what a pcap file with these frames has."""
    path = tmp_path / "in.pcap"
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file, snaplen=262_144, linktype=link)
        for number, frame in enumerate(frames):
            writer.writepkt_time(frame[:snap_len], number)
    raw, at = bytearray(path.read_bytes()), 24
    for frame in frames:
        raw[at + 12 : at + 16] = len(frame).to_bytes(4, "little")
        at += 16 + min(len(frame), snap_len)
    path.write_bytes(raw)
    return list(Capture(path))


def test_padding_of_short_frames_is_cut_off(tmp_path: Path) -> None:
    assert [one.packet for one in captured(tmp_path, [MAC + b"\x08\x00" + IP + bytes(6)])] == [IP]


def test_only_packets_that_miss_bytes_are_cut_short(tmp_path: Path) -> None:
    frames = [MAC + b"\x08\x00" + IP + bytes(6), MAC + b"\x08\x00" + IP + b"!" * 6, MAC + b"\x08\x06" + bytes(46)]
    assert [(one.packet, one.reason) for one in captured(tmp_path, frames, snap_len=54)] == [
        (IP, ""),
        (IP, ""),
        (None, CUT_SHORT),
    ]
    assert [one.reason for one in captured(tmp_path, frames, snap_len=53)] == [CUT_SHORT] * 3
    assert [one.reason for one in captured(tmp_path, frames)][2] == NOT_IPV4


def test_nflog_cuts_packets_without_a_word(tmp_path: Path) -> None:
    assert [one.reason for one in captured(tmp_path, [nflog("little")[:-1]], link=239)] == [CUT_SHORT]


def without_length(raw: bytes, checksum: int | None = None) -> bytes:
    """Return a packet as its sender gives it to hardware that will cut it."""
    sum_at = slice(36, 38)
    out = bytearray(raw)
    out[2:4] = bytes(2)
    if checksum is not None:
        out[sum_at] = checksum.to_bytes(2, "big")
    return bytes(out)


def test_a_packet_with_a_length_of_0_has_that_of_its_frame(tmp_path: Path) -> None:
    whole = packet(CLIENT, C2, "PA", 1, 2, b"x" * 3000)
    pseudo = pseudo_header_sum(CLIENT[0], C2[0], PROTO_TCP, 0)
    found = captured(tmp_path, [MAC + b"\x08\x00" + without_length(whole)])
    assert [one.packet for one in found] == [whole]
    found = captured(tmp_path, [MAC + b"\x08\x00" + without_length(whole, pseudo)])
    assert found[0].packet is not None
    assert checksum_of(found[0].packet).name == "PARTIAL"
    short = captured(tmp_path, [MAC + b"\x08\x00" + without_length(whole)], snap_len=100)
    assert [one.reason for one in short] == [CUT_SHORT]


def test_a_packet_above_64_kib_becomes_several(tmp_path: Path) -> None:
    data = bytes(number % 251 for number in range(150_000))
    head = packet(CLIENT, C2, "FPA", 0xFFFF_FF00, 2)
    found = captured(tmp_path, [MAC + b"\x08\x00" + without_length(head) + data])
    segments = [parse(one.packet) for one in found if one.packet is not None]
    assert all(isinstance(one, Segment) for one in segments)
    stream, expected = b"", 0xFFFF_FF00
    for one in segments:
        assert isinstance(one, Segment) and one.seq == expected
        assert bool(one.flags & (PSH | FIN)) == (one is segments[-1])
        assert checksum_of(one.raw).name == "PARTIAL"
        stream, expected = stream + one.payload, (expected + one.payload_len) & 0xFFFF_FFFF
    assert stream == data and len(segments) == 3


def test_fragments_become_the_packet(tmp_path: Path) -> None:
    whole = packet(CLIENT, C2, "PA", 1, 2, b"x" * 3000)
    found = captured(tmp_path, fragments_of(whole, 1480), link=101)
    assert [one.reason for one in found] == [FRAGMENT, FRAGMENT, ""]
    assert found[2].packet is not None
    assert found[2].packet[20:] == whole[20:]


SECTIONS = [
    pytest.param(pcapng.section("<") + pcapng.interface("<") + pcapng.packet("<", 0, 5_000_000, IP), id="little"),
    pytest.param(pcapng.section(">") + pcapng.interface(">") + pcapng.packet(">", 0, 5_000_000, IP), id="big"),
    pytest.param(
        pcapng.section("<") + pcapng.interface("<", resolution=9) + pcapng.packet("<", 0, 5_000_000_000, IP), id="nano"
    ),
    pytest.param(
        pcapng.section("<") + pcapng.interface("<", resolution=0x80 | 20) + pcapng.packet("<", 0, 5 << 20, IP),
        id="powers of two",
    ),
    pytest.param(
        pcapng.section("<") + pcapng.interface("<", offset=3) + pcapng.packet("<", 0, 2_000_000, IP), id="offset"
    ),
    pytest.param(
        pcapng.section("<")
        + pcapng.interface("<", link=1) * 2
        + pcapng.packet("<", 1, 5_000_000, MAC + b"\x08\0" + IP),
        id="two interfaces",
    ),
    pytest.param(
        pcapng.section("<")
        + pcapng.interface("<")
        + pcapng.block("<", 0x0BAD, b"custom")
        + pcapng.packet("<", 0, 5_000_000, IP, options=struct.pack("<HH", 1, 4) + b"\xff\xfe\xfd\xfc"),
        id="other blocks",
    ),
]


@pytest.mark.parametrize("content", SECTIONS)
def test_pcapng_is_read_as_libpcap_reads_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "in.pcapng"
    path.write_bytes(content)
    [one] = Capture(path)
    assert (one.at, one.packet) == (5.0, IP)
    header, frame = pcapy.open_offline(str(path)).next()
    assert header.getts() == (5, 0) and frame.endswith(IP)


def test_pcapng_with_sections_that_differ_in_everything(tmp_path: Path) -> None:
    ethernet = MAC + b"\x08\x00" + IP
    (tmp_path / "in.pcapng").write_bytes(
        pcapng.section("<")
        + pcapng.interface("<", link=101, snap_len=100)
        + pcapng.interface("<", link=1, snap_len=200)
        + pcapng.packet("<", 0, 1_000_000, IP)
        + pcapng.packet("<", 1, 2_000_000, ethernet)
        + pcapng.section(">")
        + pcapng.interface(">", link=239)
        + pcapng.interface(">", link=105)
        + pcapng.packet(">", 0, 3_000_000, nflog("big"))
        + pcapng.packet(">", 1, 4_000_000, b"802.11")
        + pcapng.old_packet(">", 0, 5_000_000, nflog("big"))
    )
    assert [(one.at, one.packet, one.reason) for one in Capture(tmp_path / "in.pcapng")] == [
        (1.0, IP, ""),
        (2.0, IP, ""),
        (3.0, IP, ""),
        (4.0, None, "link type 105"),
        (5.0, IP, ""),
    ]


def test_simple_packets_have_the_time_of_the_packet_before(tmp_path: Path) -> None:
    whole = pcapng.section("<") + pcapng.interface("<", snap_len=60) + pcapng.packet("<", 0, 7_000_000, IP)
    long = packet(CLIENT, C2, "PA", 1, 2, b"x" * 100)
    (tmp_path / "in.pcapng").write_bytes(
        whole + pcapng.simple_packet("<", IP, len(IP)) + pcapng.simple_packet("<", long[:60], len(long))
    )
    capture = Capture(tmp_path / "in.pcapng")
    assert [(one.at, one.packet, one.reason) for one in capture] == [
        (7.0, IP, ""),
        (7.0, IP, ""),
        (7.0, None, CUT_SHORT),
    ]
    assert not capture.has_times


def broken_pcapng() -> Iterator[tuple[str, bytes]]:
    begin = pcapng.section("<") + pcapng.interface("<")
    one = pcapng.packet("<", 0, 5_000_000, IP)
    yield "breaks off inside a block", begin + one + one[:-1]
    yield "breaks off inside a block", begin + one + one[:5]
    yield "whose two lengths differ", begin + one + one[:-4] + bytes(4)
    yield "with a length of 4294967292", begin + one + struct.pack("<II", 6, 0xFFFF_FFFC)
    yield "with a length of 8", begin + one + struct.pack("<II", 6, 8)
    yield "of interface 1, which", begin + one + pcapng.packet("<", 1, 5_000_000, IP)
    yield "longer than its block", begin + one + pcapng.packet("<", 0, 0, IP, length=1000)
    yield "too short for its fields", begin + one + pcapng.block("<", 6, bytes(8))
    yield "without its byte-order magic", begin + one + pcapng.block("<", 0x0A0D0D0A, bytes(16))
    yield "more than 10000 interfaces", begin + one + pcapng.interface("<") * 10_000


@pytest.mark.parametrize(("message", "content"), list(broken_pcapng()))
def test_broken_pcapng_is_an_error_after_the_packets_before(tmp_path: Path, message: str, content: bytes) -> None:
    (tmp_path / "in.pcapng").write_bytes(content)
    found = []
    with pytest.raises(CaptureError, match=f"in.pcapng: .*{message}.* after 1 packets"):
        for one in Capture(tmp_path / "in.pcapng"):
            found.append(one.packet)
    assert found == [IP]


def test_pcapng_without_a_section_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "in.pcapng").write_bytes(bytes.fromhex("0a0d0d0a") + bytes(20))
    with pytest.raises(CaptureError, match="without a section header"):
        Capture(tmp_path / "in.pcapng")


def test_times_after_2038_are_read(tmp_path: Path) -> None:
    file = io.BytesIO()
    dpkt.pcap.Writer(file, linktype=101).writepkt_time(IP, 3_000_000_000)
    (tmp_path / "in.pcap").write_bytes(file.getvalue())
    assert [one.at for one in Capture(tmp_path / "in.pcap")] == [3_000_000_000.0]


BEGINNINGS = [
    b"",
    pcapng.section("<"),
    pcapng.section(">") + pcapng.interface(">"),
    bytes.fromhex("0a0d0d0a"),
    dpkt.pcap.FileHdr().pack_hdr(),
    bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000"),
]


def replayed(content: bytes) -> str:
    """Return the report on a file with this content, or the error."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "in")
        path.write_bytes(content)
        try:
            run = Replay(parse_rules(ONE_BACKEND), path)
            assert list(run.steps()) is not None
        except CaptureError as error:
            return str(error)
        return str(run.report)


@given(st.sampled_from(BEGINNINGS), st.binary(max_size=300))
def test_any_bytes_give_a_report_or_an_error(begin: bytes, rest: bytes) -> None:
    assert replayed(begin + rest)


@given(st.data())
def test_any_change_to_a_pcapng_file_gives_a_report_or_an_error(data: st.DataObject) -> None:
    frames = [pcapng.packet("<", number & 1, number * 10_000, raw) for number, raw in enumerate(session())]
    raw = bytearray(
        pcapng.section("<") + pcapng.interface("<", resolution=6) + pcapng.interface("<", offset=1) + b"".join(frames)
    )
    for at in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=8)):
        raw[at] = data.draw(st.integers(0, 255))
    assert replayed(bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw))


@given(
    st.sampled_from([0, 1, 9, 12, 50, 51, 101, 104, 108, 113, 228, 239, 276]),
    st.sampled_from(
        [IP, nflog("little"), MAC + b"\x88\x47" + LABELS + IP, fragments_of(IP, 16)[0], without_length(IP)]
    ),
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=6),
    st.integers(0, 100),
)
def test_any_frame_gives_a_report(link: int, frame: bytes, changes: list[tuple[int, int]], length: int) -> None:
    raw = bytearray(frame)
    for at, value in changes:
        raw[at % len(raw)] = value
    file = pcapng.section("<") + pcapng.interface("<", link=link) + pcapng.packet("<", 0, 1, bytes(raw[:length]))
    assert "packets read: 1" in replayed(file)
