"""C's tracker follows a packet exactly as Python's does."""

import random

import pytest

from natmirror._ffi import ffi
from natmirror.fastpath import FlowRow
from natmirror.fastpath.flow_flags import LOOSE, PICKED_UP, SERVICE_MIRRORED
from natmirror.net import seq
from natmirror.tcp import tracker
from natmirror.tcp.following import follow_in_c, follow_in_python
from tests.helpers.support import C1, CLIENT, SERVICE, packet, segment

ISS, IRS = 0xFFFF_FFF0, 0x7FFF_FFF0
LETTERS = ("A", "A", "A", "PA", "PA", "FA", "F", "S", "SA", "R", "RA", "UA", "P")


def begun(flags: int) -> FlowRow:
    row: FlowRow = ffi.new("nm_flow *")
    row.flags = flags
    tracker.begin(row, segment(packet(CLIENT, SERVICE, "S", ISS)), data_len=0)
    if flags & PICKED_UP:
        tracker.begin_picked_up(row)
    return row


@pytest.mark.parametrize("flags", [0, SERVICE_MIRRORED, PICKED_UP | LOOSE, SERVICE_MIRRORED | PICKED_UP | LOOSE])
@pytest.mark.parametrize("seed", range(40))
def test_both_gears_follow_alike(seed: int, flags: int) -> None:
    rng, rows = random.Random(seed), (begun(flags), begun(flags))
    for letters, from_client in (("SA", False), ("A", True)) * (not flags & PICKED_UP) + tuple(
        (rng.choice(LETTERS), rng.random() < 0.5) for _ in range(60)
    ):
        own, other = (ISS, IRS) if from_client else (IRS, ISS)
        at = seq.add(own, (letters != "SA") + rng.choice((0, 0, 0, 1, 5, 70_000)))
        ack = seq.add(other, 1 + rng.choice((0, 0, 0, 1, 5, 70_000)))
        ends = (CLIENT, SERVICE) if from_client else (C1, CLIENT)
        one = segment(packet(*ends, letters, at, ack, b"x" * rng.choice((0, 0, 1, 5)), window=rng.choice((0, 100, 9))))
        found = [
            follow(row, one, from_client) for follow, row in zip((follow_in_python, follow_in_c), rows, strict=True)
        ]
        assert found[0] == found[1]
        assert bytes(ffi.buffer(rows[0])) == bytes(ffi.buffer(rows[1]))


def test_both_gears_follow_alike_a_client_that_has_more_of_its_backend_than_passed_here() -> None:
    rows = [ffi.new("nm_flow *"), ffi.new("nm_flow *")]
    for row, follow in zip(rows, (follow_in_python, follow_in_c), strict=True):
        row.flags = SERVICE_MIRRORED
        tracker.begin(row, segment(packet(CLIENT, SERVICE, "S", ISS, 0, b"early")), data_len=5)
        follow(row, segment(packet(C1, CLIENT, "SA", IRS, seq.add(ISS, 6))), False)
        follow(row, segment(packet(CLIENT, SERVICE, "A", seq.add(ISS, 6), seq.add(IRS, 9))), True)
        assert row.orig.ack == seq.add(IRS, 1)
    assert bytes(ffi.buffer(rows[0])) == bytes(ffi.buffer(rows[1]))
