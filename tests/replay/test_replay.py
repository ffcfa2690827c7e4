"""Replays of the lab's captures, of captures made here, and of broken ones."""

import random
import tempfile
from dataclasses import replace
from pathlib import Path

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.actions import Accept, Action
from natmirror.errors import CaptureError
from natmirror.lab.record import replayed
from natmirror.net import seq
from natmirror.net.checksum import Checksum, pseudo_header_sum
from natmirror.net.packet import PROTO_TCP
from natmirror.replay.capture import CUT_SHORT, FRAGMENT, Capture
from natmirror.replay.replay import Replay, checksum_of, replay
from natmirror.replay.streams import StreamsInMemory
from natmirror.rules import MirrorProtocol, Rules, WhenBehind, load_rules, parse_rules
from tests.helpers.captures import ONE_BACKEND, fragments_of, session, write
from tests.helpers.client_connection import IRS, ISS
from tests.helpers.support import C1, C2, CLIENT, MASTER, RULES, SERVICE, at, packet

PCAPS = Path(__file__).parents[2] / "pcaps"
CAPTURES = sorted(path for path in PCAPS.glob("*.pcap") if not path.name.endswith(".out.pcap"))


def actions(capture: Path, *, fast: bool) -> list[tuple[float, Action]]:
    """Return all actions with their times."""
    rules = load_rules(capture.with_suffix(".yaml"))
    return [(step.at, step.action) for step in Replay(rules, capture, fast=fast).steps()]


def production(capture: Path, protocol: MirrorProtocol | None, *, fast: bool = True) -> list[tuple[float, Action]]:
    """Return the verdicts on captured packets, with mirrors of a protocol, or without mirrors."""
    rules = load_rules(capture.with_suffix(".yaml"))
    services = [
        replace(
            service,
            mirrors=tuple(
                replace(mirror, protocol=protocol, when_behind=WhenBehind.DROP)
                for mirror in service.mirrors
                if protocol
            ),
        )
        for service in rules.services
    ]
    steps = Replay(replace(rules, services=tuple(services)), capture, fast=fast).steps()
    return [(step.at, step.action) for step in steps if step.cause == "capture" and isinstance(step.action, Accept)]


def test_the_captures_are_there() -> None:
    assert {path.stem for path in CAPTURES} >= {"openflow-osken", "openflow-testcontroller", "redis", "redis-loss"}


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_a_capture_gives_the_expected_output(capture: Path, fast: bool, tmp_path: Path) -> None:
    output = tmp_path / "out.pcap"
    assert replayed(capture, output, fast=fast) == capture.with_suffix(".txt").read_text()
    assert output.read_bytes() == capture.with_suffix(".out.pcap").read_bytes()


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_the_c_gear_changes_no_action(capture: Path) -> None:
    assert actions(capture, fast=True) == actions(capture, fast=False)


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_the_mirror_changes_no_action_towards_production(capture: Path) -> None:
    without = production(capture, None)
    assert production(capture, MirrorProtocol.RAW) == without
    assert production(capture, MirrorProtocol.OPENFLOW) == without
    assert production(capture, MirrorProtocol.OPENFLOW, fast=False) == without
    assert len(without) > 10


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_sessions_are_the_same_with_the_c_gear_off(capture: Path) -> None:
    rules = load_rules(capture.with_suffix(".yaml"))
    services = [
        replace(service, mirrors=tuple(replace(mirror, protocol=MirrorProtocol.OPENFLOW) for mirror in service.mirrors))
        for service in rules.services
    ]
    rules = replace(rules, services=tuple(services))
    taken = [[(step.at, step.action) for step in Replay(rules, capture, fast=fast).steps()] for fast in (True, False)]
    assert taken[0] == taken[1]


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_the_captured_mirrors_acknowledge_the_same_as_the_model(capture: Path, tmp_path: Path) -> None:
    rules = load_rules(capture.with_suffix(".yaml"))
    for mirror in ("model", "capture"):
        replay(rules, capture, tmp_path / "out.pcap", mirror=mirror, streams=tmp_path / mirror)
    streams = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    assert streams
    captured = {path.name: path.read_bytes() for path in (tmp_path / "capture").iterdir()}
    assert captured.keys() == streams.keys()
    for name, stream in streams.items():
        assert stream.startswith(captured[name])
        assert len(captured[name]) > 0.9 * len(stream), "all but the bytes in flight at the end"


def sent_by_clients(capture: Path) -> dict[int, list[tuple[int, bytes]]]:
    """Return the clients' data to the service by client port, in order of arrival, with its offset in the stream."""
    service = load_rules(capture.with_suffix(".yaml")).services[0]
    first: dict[int, int] = {}
    found: dict[int, list[tuple[int, bytes]]] = {}
    for captured in Capture(capture):
        ip = dpkt.ip.IP(captured.packet) if captured.packet else None
        if ip is None or ip.dst != service.address.packed or ip.p != PROTO_TCP or ip.data.dport != service.port:
            continue
        tcp = ip.data
        if tcp.flags & dpkt.tcp.TH_SYN:
            first[tcp.sport] = tcp.seq + 1
        if tcp.data:
            found.setdefault(tcp.sport, []).append((seq.diff(tcp.seq, first[tcp.sport]), bytes(tcp.data)))
    return found


@pytest.mark.parametrize("mirror", ["model", "capture"])
@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_each_leg_gets_the_bytes_that_the_client_sent_in_the_capture(capture: Path, mirror: str) -> None:
    streams = StreamsInMemory()
    run = Replay(load_rules(capture.with_suffix(".yaml")), capture, mirror=mirror, streams=streams)
    assert list(run.steps())
    expected: dict[str, bytes] = {}
    for port, pieces in sent_by_clients(capture).items():
        stream = bytearray()
        for begin, data in sorted(pieces):
            assert begin <= len(stream)
            stream[begin : begin + len(data)] = data
        expected[f"master-10.10.0.11-{port}"] = bytes(stream)
    assert streams == expected


def test_the_capture_with_losses_has_losses() -> None:
    [pieces] = sent_by_clients(PCAPS / "redis-loss.pcap").values()
    assert [begin for begin, _ in pieces] != sorted(begin for begin, _ in pieces)


def test_each_packet_counts_once_and_unrelated_ones_are_skipped(tmp_path: Path) -> None:
    unrelated = packet(at("192.0.2.1", 1), at("192.0.2.2", 2), "A", 1)
    capture = write(tmp_path / "in.pcap", [*session(), unrelated, packet(MASTER, CLIENT, "A", 1, 2)])
    report = replay(parse_rules(ONE_BACKEND), capture, tmp_path / "out.pcap", streams=tmp_path / "streams")
    assert dict(report.skipped) == {"already rewritten": 2, "unrelated": 1, "from a mirror": 1}
    assert (report.packets, report.accepted) == (11, 7)
    assert report.legs == [
        "leg ended: 10.10.0.11:40001 -> openflow => master: closed, 5 of 5 bytes acknowledged; the client ended the"
        " connection"
    ]
    [stream] = (tmp_path / "streams").iterdir()
    assert (stream.name, stream.read_bytes()) == ("master-10.10.0.11-40001.bin", b"hello")


def test_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    capture = write(tmp_path / "in.pcap", session())
    for name in ("one", "two"):
        replay(parse_rules(RULES), capture, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_clock_that_is_set_back_during_the_capture_does_no_harm(tmp_path: Path) -> None:
    capture = write(tmp_path / "in.pcap", session(), step=-0.5)
    report = replay(parse_rules(ONE_BACKEND), capture, tmp_path / "out.pcap")
    assert len(report.legs) == 1
    assert report.set_back == 8
    assert "8 packets have an earlier time" in str(report)


@pytest.mark.parametrize("cut", [0, 3, 23, 24, 30, 60, 200, 400])
def test_a_capture_that_breaks_off_is_an_error_and_its_packets_are_replayed(tmp_path: Path, cut: int) -> None:
    whole = write(tmp_path / "whole.pcap", session()).read_bytes()
    capture = tmp_path / "in.pcap"
    capture.write_bytes(whole[:cut])
    output = tmp_path / "out.pcap"
    if cut == 24:
        assert replay(parse_rules(ONE_BACKEND), capture, output).packets == 0
        return
    with pytest.raises(CaptureError, match=r"in\.pcap"):
        replay(parse_rules(ONE_BACKEND), capture, output, streams=tmp_path / "streams")
    if cut < 24:
        assert not output.exists()
        return
    with output.open("rb") as file:
        kept = list(dpkt.pcap.Reader(file))
    assert len(kept) >= (3 if cut == 400 else 0)


@pytest.mark.parametrize("name", ["missing.pcap", "."])
def test_a_missing_file_or_a_directory_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(CaptureError):
        replay(parse_rules(RULES), tmp_path / name, tmp_path / "out.pcap")


def test_an_output_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    capture = write(tmp_path / "in.pcap", session())
    with pytest.raises(CaptureError, match="No such file"):
        replay(parse_rules(RULES), capture, tmp_path / "nowhere" / "out.pcap")


def test_a_checksum_left_to_hardware_is_recognised(tmp_path: Path) -> None:
    raw = bytearray(packet(CLIENT, SERVICE, "PA", 1, 2, b"data"))
    assert checksum_of(bytes(raw)) is Checksum.UNVERIFIED
    raw[36:38] = pseudo_header_sum(CLIENT[0], SERVICE[0], PROTO_TCP, len(raw) - 20).to_bytes(2, "big")
    assert checksum_of(bytes(raw)) is Checksum.PARTIAL


def test_packets_cut_short_are_told(tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    whole = write(tmp_path / "whole.pcap", [packet(CLIENT, C2, "A", 1)]).read_bytes()
    path.write_bytes(whole[:32] + (39).to_bytes(4, "little") + whole[36:-1])
    report = replay(parse_rules(RULES), path, tmp_path / "out.pcap")
    assert dict(report.skipped) == {CUT_SHORT: 1}
    assert "packets cut short: 1; capture whole packets (tcpdump -s 0)" in report.notes


def test_streams_of_ports_with_a_common_prefix_keep_their_names(tmp_path: Path) -> None:
    clients = [at("10.10.0.11", 40011), at("10.10.0.11", 4001)]
    capture = write(tmp_path / "in.pcap", [raw for client in clients for raw in session(client=client)])
    replay(parse_rules(ONE_BACKEND), capture, tmp_path / "out.pcap", streams=tmp_path / "streams")
    names = sorted(path.name for path in (tmp_path / "streams").iterdir())
    assert names == ["master-10.10.0.11-4001.bin", "master-10.10.0.11-40011.bin"]


def test_the_capture_itself_is_never_overwritten(tmp_path: Path) -> None:
    capture = write(tmp_path / "in.pcap", session())
    before = capture.read_bytes()
    (tmp_path / "link.pcap").symlink_to(capture)
    for output in (capture, tmp_path / "link.pcap"):
        with pytest.raises(CaptureError, match="the capture itself"):
            replay(parse_rules(RULES), capture, output)
    assert capture.read_bytes() == before


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    capture = write(tmp_path / "in.pcap", session())
    with pytest.raises(CaptureError, match="No space left"):
        replay(parse_rules(RULES), capture, Path("/dev/full"))


def test_times_that_no_pcap_can_hold_are_an_error(tmp_path: Path) -> None:
    capture = write(tmp_path / "in.pcap", session())
    raw = bytearray(capture.read_bytes())
    raw[24:28] = b"\xff" * 4
    capture.write_bytes(raw)
    with pytest.raises(CaptureError, match="expected times from 1970 to 2106"):
        replay(parse_rules(RULES), capture, tmp_path / "out.pcap")


def outcome(rules: Rules, capture: Path, mirror: str, *, fast: bool) -> tuple[list[tuple[float, str, Action]], str]:
    """Return a replay's steps, and its error or no text."""
    done = []
    try:
        for step in Replay(rules, capture, mirror=mirror, fast=fast).steps():
            done.append((step.at, step.cause, step.action))
    except CaptureError as error:
        return done, str(error)
    return done, ""


@pytest.mark.parametrize("mirror", ["model", "capture"])
def test_legs_with_the_same_ends_and_numbers_have_a_file_each(tmp_path: Path, mirror: str) -> None:
    """A client that begins each connection with the same port and number; its mirror's legs, too, had the same."""
    leg = [
        packet(CLIENT, MASTER, "S", 7000),
        packet(MASTER, CLIENT, "SA", 1, 7001),
        packet(CLIENT, MASTER, "A", 7001, 2),
        packet(MASTER, CLIENT, "A", 2, 7006),
        packet(MASTER, CLIENT, "FA", 2, 7007),
    ]
    packets = []
    for data in (b"first", b"again"):
        own = session(data=data)
        packets += [*own[:5], *leg[:3], own[5], packet(C1, CLIENT, "A", IRS + 1, ISS + 6), leg[3], *own[6:], leg[4]]
    rules = parse_rules(ONE_BACKEND)
    capture = write(tmp_path / "in.pcap", packets)
    replay(rules, capture, tmp_path / "out.pcap", mirror=mirror, streams=tmp_path / "streams")
    streams = {path.name: path.read_bytes() for path in (tmp_path / "streams").iterdir()}
    assert streams == {"master-10.10.0.11-40001.bin": b"first", "master-10.10.0.11-40001-2.bin": b"again"}


def test_fragments_are_replayed_as_the_packet(tmp_path: Path) -> None:
    whole = session(data=b"x" * 3000)
    acknowledged = packet(C1, CLIENT, "A", seq.add(IRS, 1), seq.add(ISS, 3001))
    packets = [*whole[:5], *fragments_of(whole[5], 1480), acknowledged, *whole[6:]]
    lonely = fragments_of(whole[5], 1480, ident=8)[1]
    streams = StreamsInMemory()
    run = Replay(parse_rules(ONE_BACKEND), write(tmp_path / "in.pcap", [*packets, lonely]), streams=streams)
    assert list(run.steps())
    assert dict(run.report.skipped) == {"already rewritten": 2, FRAGMENT: 3}
    assert "fragments that became packets: 3 (1), others: incomplete 1" in str(run.report)
    assert list(streams.values()) == [b"x" * 3000]


@given(st.data())
def test_the_c_gear_changes_no_action_in_damaged_captures_either(data: st.DataObject) -> None:
    capture = data.draw(st.sampled_from(CAPTURES))
    raw = bytearray(capture.read_bytes())
    source = random.Random(data.draw(st.integers(0, 1 << 32)))
    for _ in range(data.draw(st.sampled_from([1, 5, 50, 400]))):
        raw[source.randrange(24, len(raw))] = source.randrange(256)
    rules, mirror = load_rules(capture.with_suffix(".yaml")), data.draw(st.sampled_from(["model", "capture"]))
    with tempfile.TemporaryDirectory() as directory:
        damaged = Path(directory, "damaged.pcap")
        damaged.write_bytes(raw)
        assert outcome(rules, damaged, mirror, fast=True) == outcome(rules, damaged, mirror, fast=False)
