"""The initial sequence numbers of legs in a capture."""

from pathlib import Path

import pytest

from natmirror.actions import Send
from natmirror.errors import CaptureError
from natmirror.net import seq
from natmirror.replay.capture import Writer
from natmirror.replay.replay import Replay
from natmirror.replay.streams import StreamsInMemory
from natmirror.rules import parse_rules
from natmirror.tcp.initial_numbers import InitialNumbers
from tests.helpers.captures import ONE_BACKEND, write
from tests.helpers.client_connection import IRS, ISS
from tests.helpers.support import C1, CLIENT, MASTER, SERVICE, packet


def mirrored(iss: int, *, shows_syn: bool = True, begun: int = 0) -> list[bytes]:
    """Return a connection's packets as the host receives them, with those of its leg, which begins with the number
    ``iss`` on the wire; the client's own number is ``begun`` higher than usual."""
    first, last = seq.add(ISS, begun + 1), seq.add(iss, 1)
    syn = [packet(CLIENT, MASTER, "S", iss)] if shows_syn else []
    return [
        packet(CLIENT, SERVICE, "S", seq.add(first, -1)),
        packet(C1, CLIENT, "SA", IRS, first),
        packet(CLIENT, SERVICE, "A", first, seq.add(IRS, 1)),
        *syn,
        *syn,  # a retransmission
        packet(MASTER, CLIENT, "SA", IRS, last),
        packet(CLIENT, SERVICE, "PA", first, seq.add(IRS, 1), b"hello"),
        packet(MASTER, CLIENT, "A", seq.add(IRS, 1), seq.add(last, 5)),
        packet(CLIENT, SERVICE, "FA", seq.add(first, 5), seq.add(IRS, 1)),
        packet(C1, CLIENT, "FA", seq.add(IRS, 1), seq.add(first, 6)),
        packet(MASTER, CLIENT, "FA", seq.add(IRS, 1), seq.add(last, 6)),
        packet(CLIENT, SERVICE, "A", seq.add(first, 6), seq.add(IRS, 2)),
    ]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("shows_syn", [True, False])
@pytest.mark.parametrize("iss", [ISS, 0x1234_5678, 0xFFFF_FFFF])
def test_a_leg_has_the_number_that_the_capture_gives_it(tmp_path: Path, iss: int, shows_syn: bool, fast: bool) -> None:
    """ISS is the client's own number, as in older captures."""
    capture = write(tmp_path / "in.pcap", mirrored(iss, shows_syn=shows_syn))
    streams = StreamsInMemory()
    run = Replay(parse_rules(ONE_BACKEND), capture, mirror="capture", fast=fast, streams=streams)
    sent = [step.action.packet for step in run.steps() if isinstance(step.action, Send)]
    assert int.from_bytes(sent[0][24:28], "big") == iss
    assert list(streams.values()) == [b"hello"]
    assert run.report.legs == [
        "leg ended: 10.10.0.11:40001 -> openflow => master: closed, 5 of 5 bytes acknowledged; the client ended the"
        " connection"
    ]


def test_each_leg_between_the_same_endpoints_has_its_own_number(tmp_path: Path) -> None:
    numbers = [0x1234_5678, 0x9234_5678]
    packets = [raw for count, iss in enumerate(numbers) for raw in mirrored(iss, begun=70_000 * count)]
    streams = StreamsInMemory()
    run = Replay(
        parse_rules(ONE_BACKEND), write(tmp_path / "in.pcap", packets, step=0.1), mirror="capture", streams=streams
    )
    sent = [step.action.packet for step in run.steps() if isinstance(step.action, Send)]
    assert [int.from_bytes(raw[24:28], "big") for raw in sent if raw[33] == 2] == numbers
    assert list(streams.values()) == [b"hello"] * 2


def test_a_leg_that_is_not_in_the_capture_gets_another_number(tmp_path: Path) -> None:
    packets = [raw for raw in mirrored(ISS) if MASTER[0] not in (raw[12:16], raw[16:20])]
    run = Replay(parse_rules(ONE_BACKEND), write(tmp_path / "in.pcap", packets), mirror="capture")
    sent = [step.action.packet for step in run.steps() if isinstance(step.action, Send)]
    assert {int.from_bytes(raw[24:28], "big") for raw in sent if raw[33] == 2} == {
        InitialNumbers(bytes(16)).first(CLIENT, MASTER, 100.02)
    }


def test_a_leg_that_is_not_in_the_capture_does_not_take_the_number_of_the_next_one(tmp_path: Path) -> None:
    """As if the mirror had been added to the rules in between."""
    without = [raw for raw in mirrored(ISS) if MASTER[0] not in (raw[12:16], raw[16:20])]
    with Writer(tmp_path / "in.pcap") as writer:
        for begun, packets in ((100.0, without), (500.0, mirrored(0x1234_5678, begun=70_000))):
            for count, raw in enumerate(packets):
                writer.write(begun + count * 0.01, raw)
    streams = StreamsInMemory()
    run = Replay(parse_rules(ONE_BACKEND), tmp_path / "in.pcap", mirror="capture", streams=streams)
    sent = [step.action.packet for step in run.steps() if isinstance(step.action, Send)]
    numbers = [int.from_bytes(raw[24:28], "big") for raw in sent if raw[33] == 2]
    assert (numbers[0] != 0x1234_5678, numbers[-1]) == (True, 0x1234_5678)
    assert list(streams.values()) == [b"", b"hello"]


def test_numbers_before_the_break_of_a_capture_are_used(tmp_path: Path) -> None:
    capture = write(tmp_path / "in.pcap", mirrored(0x1234_5678))
    whole = capture.read_bytes()
    capture.write_bytes(whole[:-3])
    streams = StreamsInMemory()
    run = Replay(parse_rules(ONE_BACKEND), capture, mirror="capture", streams=streams)
    with pytest.raises(CaptureError):
        list(run.steps())
    assert list(streams.values()) == [b"hello"]
