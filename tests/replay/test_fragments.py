"""Fragments become packets as in the kernel, within bounds; tests/live/test_fragments.py compares with the kernel."""

import pytest

from natmirror.net.checksum import ones_sum
from natmirror.replay.fragments import Fate, Reassembly, is_fragment
from tests.helpers.captures import fragments_of
from tests.helpers.support import C1, CLIENT, packet

WHOLE = packet(CLIENT, C1, "PA", 1, 2, bytes(range(200)))
A, B, C = fragments_of(WHOLE, 80)


def outcome(*fragments: bytes, step: float = 0.0) -> tuple[list[bytes], dict[str, int]]:
    """Return the packets that fragments become, and what became of the other fragments."""
    reassembly = Reassembly()
    packets = [reassembly.add(one, 100 + number * step) for number, one in enumerate(fragments)]
    reassembly.finish()
    assert reassembly.used + reassembly.unused.total() == len(fragments)
    return [one for one in packets if one is not None], {fate.value: count for fate, count in reassembly.unused.items()}


@pytest.mark.parametrize("order", [(A, B, C), (C, B, A), (B, A, C), (C, A, B)])
def test_fragments_in_any_order(order: tuple[bytes, ...]) -> None:
    assert all(map(is_fragment, order)) and not is_fragment(WHOLE)
    [whole], others = outcome(*order)
    assert (whole[20:], int.from_bytes(whole[2:4], "big"), whole[6:8]) == (WHOLE[20:], len(WHOLE), bytes(2))
    assert ones_sum(whole[:20]) == 0xFFFF and not others


def test_the_packet_has_the_header_of_its_first_fragment() -> None:
    first = bytearray(A)
    first[8] = 9
    [whole], _ = outcome(C, bytes(first), B)
    assert whole[8] == 9


def test_a_duplicate_is_ignored_even_with_other_bytes() -> None:
    other = A[:20] + bytes(80)
    [whole], others = outcome(A, other, B, C)
    assert whole[20:] == WHOLE[20:] and others == {"duplicate": 1}


def test_an_overlap_discards_the_packet() -> None:
    overlapping = bytearray(B)
    overlapping[7] = 9  # 72 bytes behind the first byte
    assert outcome(A, bytes(overlapping)) == ([], {"overlapping": 2})


def test_bytes_behind_the_last_fragment_discard_the_packet() -> None:
    beyond = bytearray(B)
    beyond[6:8] = (0x2000 | 40).to_bytes(2, "big")
    assert outcome(C, bytes(beyond)) == ([], {"contradictory": 2})


def test_a_packet_above_64_kib_is_discarded() -> None:
    last = bytearray(C)
    last[6:8] = (8191).to_bytes(2, "big")
    middle = bytearray(A)
    fragments = []
    for at in range(80, 8191 * 8, 80):
        middle[6:8] = (0x2000 | at // 8).to_bytes(2, "big")
        fragments.append(bytes(middle[: 20 + min(80, 8191 * 8 - at)]))
    packets, others = outcome(A, *fragments, bytes(last))
    assert not packets and others["contradictory"] == len(fragments) + 2


def test_fragments_of_different_packets_do_not_mix() -> None:
    assert outcome(A, *fragments_of(WHOLE, 80, ident=8)[1:]) == ([], {"incomplete": 3})


def test_fragments_wait_for_30_seconds() -> None:
    assert len(outcome(A, B, C, step=14.9)[0]) == 1
    assert outcome(A, B, C, step=15.0) == ([], {"incomplete": 3})


def test_an_identification_that_comes_again_after_many_fragments_is_another_packet() -> None:
    def others(count: int) -> list[bytes]:
        return [fragments_of(WHOLE, 80, ident=1000 + number)[0] for number in range(count)]

    assert len(outcome(A, B, *others(63), C)[0]) == 1
    assert outcome(A, B, *others(64), C) == ([], {"incomplete": 67})


def test_memory_is_bounded() -> None:
    reassembly = Reassembly()
    piece = fragments_of(packet(CLIENT, C1, "PA", 1, 2, bytes(1460)), 1200)[0]
    for number in range(20_000):
        one = bytearray(piece)
        one[4:6], one[14:16] = (number & 0xFFFF).to_bytes(2, "big"), (number >> 6).to_bytes(2, "big")
        assert reassembly.add(bytes(one), 100.0) is None
    assert reassembly.unused[Fate.TOO_MANY] > 17_000
    assert reassembly.add(A, 131.0) is None
    assert [reassembly.add(one, 131.0) for one in (B, C)][1] is not None, "the old ones have gone"


def test_congestion_marks_are_combined() -> None:
    def marked(tos: tuple[int, int, int]) -> list[bytes]:
        return [one[:1] + bytes([mark]) + one[2:] for one, mark in zip((A, B, C), tos, strict=True)]

    assert [one[1] for one in outcome(*marked((2, 3, 2)))[0]] == [3]
    assert [one[1] for one in outcome(*marked((2, 1, 2)))[0]] == [2]
    assert outcome(*marked((0, 3, 0)))[1] == {"contradictory": 3}
