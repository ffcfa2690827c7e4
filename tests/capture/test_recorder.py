"""The file of a capture: its interfaces, comments, order and bounds, as Wireshark and natmirror's own reader see it."""

from pathlib import Path

from natmirror.capture.recorder import HOLD, Bounds
from natmirror.replay.capture import Capture
from tests.helpers import tshark
from tests.helpers.captured import START, Written, connection, ended, seen
from tests.helpers.support import C1, CLIENT, MASTER, SERVICE, packet


def saved(written: Written, path: Path, lost: int = 0) -> Path:
    path.write_bytes(written.finish(lost))
    return path


def handshake(written: Written) -> None:
    """Add a SYN and its copy on all sides."""
    written.add(0.000, packet(CLIENT, SERVICE, "S", 1), "sw0", "in")
    written.add(0.001, packet(CLIENT, C1, "S", 1), "pl0", "out")
    written.add(0.002, packet(C1, CLIENT, "SA", 9, 2), "pl0", "in")
    written.add(0.003, packet(SERVICE, CLIENT, "SA", 9, 2), "sw0", "out")
    written.add(0.004, packet(CLIENT, MASTER, "S", 5), "natmirror0", "in", ethernet=False)
    written.add(0.005, packet(CLIENT, MASTER, "S", 5), "tun7", "out", ethernet=False)
    written.add(0.006, packet(MASTER, CLIENT, "SA", 7, 6), "pl0", "in")


def test_wireshark_sees_four_interfaces_with_names_and_comments(tmp_path: Path) -> None:
    written = Written()
    handshake(written)
    written.learn(connection("syn-received", m="waits-for-handshake"))
    written.learn(connection(m=None))
    path = saved(written, tmp_path / "out.pcapng", lost=3)
    rows = tshark.fields(path, "frame.interface_name", "frame.packet_flags_direction", "frame.comment")
    assert [(name, int(way, 0)) for name, way, _ in rows] == [
        ("client side (sw0)", 1),
        ("backend side (pl0)", 2),
        ("backend side (pl0)", 1),
        ("client side (sw0)", 2),
        ("copy to m (tun7)", 2),
        ("answers of m (pl0)", 1),
    ]
    assert rows[0][2] == "10.10.0.11:40001 to openflow, with the backend c1\\nchosen by maglev"
    assert rows[4][2] == "10.10.0.11:40001: copied to m"
    assert not tshark.malformed(path)
    told = tshark.info(path)
    assert "Number of interfaces in file: 4" in told and "Strict time order:   True" in told
    assert "Encapsulation = Raw IP" in told and "Encapsulation = Ethernet" in told
    assert "Capture comment:     a comment" in told and "Capture application: natmirror" in told
    assert written.recorder.summary() == [
        "answers of m (pl0): 1 packet, 54 B",
        "backend side (pl0): 2 packets, 108 B",
        "client side (sw0): 2 packets, 108 B",
        "copy to m (tun7): 1 packet, 40 B",
    ]


def test_sides_without_a_packet_are_in_the_file_and_copies_that_never_left_are_named(tmp_path: Path) -> None:
    written = Written()
    written.add(0, packet(CLIENT, MASTER, "S", 5), "natmirror0", "in", ethernet=False)
    told = tshark.info(saved(written, tmp_path / "out.pcapng"))
    assert told.count("(no packet)") == 4 and "Number of packets:   0" in told
    assert written.recorder.summary()[-1].startswith("natmirror made 1 packet for m, and none left this host: ")


def test_a_capture_without_a_packet_says_how_that_can_be(tmp_path: Path) -> None:
    written = Written()
    saved(written, tmp_path / "out.pcapng")
    assert written.recorder.summary()[-1].startswith("no packet came meanwhile: an open connection without data")


def test_packets_leave_in_the_order_of_time_after_they_have_waited(tmp_path: Path) -> None:
    written = Written()
    written.add(0.2, packet(CLIENT, C1, "A", 2), "pl0", "out")
    written.add(0.1, packet(CLIENT, SERVICE, "A", 1), "sw0", "in")
    written.recorder.advance(0.1 + HOLD - 0.01)
    assert not written.recorder.sums
    written.recorder.advance(0.1 + HOLD)
    assert len(written.recorder.sums) == 1
    rows = tshark.fields(saved(written, tmp_path / "out.pcapng"), "frame.time_epoch", "tcp.seq_raw")
    assert rows == [("1700000000.100000000", "1"), ("1700000000.200000000", "2")]


def test_natmirrors_own_reader_reads_it(tmp_path: Path) -> None:
    written = Written()
    handshake(written)
    found = [one.packet for one in Capture(saved(written, tmp_path / "out.pcapng"))]
    assert found[0] == packet(CLIENT, SERVICE, "S", 1) and found[4] == packet(CLIENT, MASTER, "S", 5)
    assert len(found) == 6


def test_the_capture_ends_at_its_bounds(tmp_path: Path) -> None:
    few = Written(Bounds(2, 1_000_000))
    handshake(few)
    few.recorder.advance(100)
    assert few.recorder.full == "it has 2 packets (--limit)"
    assert len(tshark.fields(saved(few, tmp_path / "few"), "frame.number")) == 2
    small = Written(Bounds(None, 1_000_000))
    for number in range(1000):
        small.add(number / 1000, packet(CLIENT, SERVICE, "A", number * 1400, data=bytes(1400)), "sw0", "in")
    small.recorder.advance(100)
    assert small.recorder.full == "it has 1 MB (--size)"
    path = saved(small, tmp_path / "small")
    assert 990_000 < path.stat().st_size <= 1_000_000
    assert not tshark.malformed(path)


def test_held_packets_have_a_bound() -> None:
    written = Written(Bounds(None, 1 << 30))
    for number in range(1100):
        written.add(0, packet(CLIENT, SERVICE, "A", number, data=bytes(64_000)), "sw0", "in")
        written.recorder.advance(0)
    assert 0 < next(iter(written.recorder.sums.values())).packets < 100


def test_a_packet_that_was_cut_off_and_one_without_a_length_are_not_malformed(tmp_path: Path) -> None:
    written = Written()
    whole = packet(CLIENT, SERVICE, "PA", 1, data=bytes(1000))
    cut = seen(whole, "sw0", "in")
    cut.frame = cut.frame[:60]
    written.recorder.take(cut, 0)
    written.add(0.1, whole[:2] + b"\0\0" + whole[4:], "sw0", "in")  # BIG TCP, TSO
    written.add(0.2, b"\x45", "sw0", "in")
    path = saved(written, tmp_path / "out.pcapng")
    assert tshark.fields(path, "frame.len", "frame.cap_len") == [("1054", "60"), ("1054", "1054")]
    assert not tshark.malformed(path)


def test_a_legs_end_whose_packets_are_written_stands_at_its_next_one(tmp_path: Path) -> None:
    written = Written()
    handshake(written)
    written.recorder.advance(100)
    written.clock.now = START + 1_400_000_000
    written.story.ended([ended("2023-11-14T22:13:21.001+00:00", "stall-timeout")])
    written.recorder.settle()
    written.add(1.1, packet(CLIENT, SERVICE, "A", 2), "sw0", "in")
    written.add(1.2, packet(CLIENT, MASTER, "R", 6), "pl0", "out")
    rows = tshark.fields(saved(written, tmp_path / "out.pcapng"), "tcp.flags.reset", "frame.comment")
    assert [row[0] for row in rows if "stall-timeout" in row[1]] in (["1"], ["True"])


def test_a_legs_end_stands_at_the_packet_that_ends_it(tmp_path: Path) -> None:
    written = Written()
    written.learn(connection(m=None))
    handshake(written)
    written.add(1.0, packet(MASTER, CLIENT, "RA", 8, 6), "pl0", "in")
    written.add(1.5, packet(CLIENT, SERVICE, "A", 2), "sw0", "in")
    written.clock.now = START + 1_400_000_000
    written.story.ended([ended("2023-11-14T22:13:21.001+00:00", "mirror-reset")] * 2)
    written.recorder.settle()
    rows = tshark.fields(
        saved(written, tmp_path / "out.pcapng"), "frame.time_relative", "frame.comment", only="frame.comment"
    )
    assert [row for row in rows if "ended" in row[1]] == [
        (
            "1.000000000",
            "10.10.0.11:40001: the leg to m has ended, mirror-reset: what mirror-reset means; it acknowledged 7 of 10"
            " bytes",
        )
    ]


def test_a_comment_after_the_last_packet_stands_there_unless_a_program_reads_on(tmp_path: Path) -> None:
    for is_live in (False, True):
        written = Written()
        written.recorder.is_live = is_live
        written.add(0.0, packet(CLIENT, SERVICE, "A", 1), "sw0", "in")
        written.add(0.1, packet(CLIENT, C1, "A", 1), "pl0", "out")
        written.recorder.advance(100)
        assert sum(sums.packets for sums in written.recorder.sums.values()) == (2 if is_live else 1)
        written.story.answer()
        written.story.silence("gone")
        rows = tshark.fields(saved(written, tmp_path / "out.pcapng"), "frame.interface_name", "frame.comment")
        assert rows[1][1].startswith("" if is_live else "no answer from natmirror") and len(rows) == 2
