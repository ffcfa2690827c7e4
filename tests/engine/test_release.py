"""Bytes are released to mirrors when the backend acknowledges them; what a receiver refuses never reaches a mirror."""

import random

import pytest

from natmirror.actions import Hook
from natmirror.net import seq
from natmirror.net.build import finish
from natmirror.net.checksum import Checksum
from natmirror.net.packet import OPT_NOP, OPT_WINDOW_SCALE, URG
from natmirror.reasons import EndReason
from natmirror.rules import Release
from tests.helpers.acknowledged import Connection, stamps
from tests.helpers.client_connection import IRS, ISS
from tests.helpers.support import CLIENT, RULES, SERVICE, packet, segment

WATCHED = RULES[: RULES.index("    pool:")] + RULES[RULES.index("    mirrors:") :]
SMALL = RULES.replace("10.20.0.13}", "10.20.0.13, buffer: 64KiB}")
SCALED = bytes((OPT_NOP, OPT_WINDOW_SCALE, 3, 4))


def punted(one: Connection) -> int:
    """Return how many packets C has punted to Python."""
    return sum(one.engine.snapshot(one.now)["packets_decided_in_python"].values())


def test_a_mirror_gets_bytes_once_the_backend_has_acknowledged_them(fast: bool) -> None:
    one = Connection(fast=fast).open()
    before = one.engine.snapshot(one.now)["mirror_memory"]["used_bytes"]
    one.says(0, b"hello")
    assert (one.got, one.ledger["client_bytes"], one.ledger["held_bytes"]) == (b"", 0, 5)
    assert one.engine.snapshot(one.now)["mirror_memory"]["used_bytes"] > before
    one.acks(5)
    assert (one.got, one.ledger["client_bytes"], one.ledger["held_bytes"]) == (b"hello", 5, 0)
    assert one.engine.snapshot(one.now)["mirror_memory"]["used_bytes"] == before


def test_a_packet_is_released_in_part(fast: bool) -> None:
    one = Connection(fast=fast).open()
    one.says(0, b"0123456789")
    one.acks(4)
    assert one.got == b"0123"
    one.acks(10, data=b"reply")
    assert one.got == b"0123456789"


def test_what_one_acknowledgement_releases_leaves_together(fast: bool) -> None:
    one = Connection(fast=fast).open()
    for number in range(10):
        one.says(100 * number, bytes([number]) * 100)
    assert one.backend is not None
    one.take(packet(one.backend, CLIENT, "A", seq.add(IRS, 1), seq.add(ISS, 1001)), Hook.FORWARD)
    assert [len(data) for _, _, _, data in one.mirrored()] == [1000]


def test_an_acknowledgement_of_more_than_was_seen_releases_nothing(fast: bool) -> None:
    one = Connection(fast=fast).open()
    one.says(0, b"hello")
    one.acks(6)
    one.acks(100_000)
    assert (one.got, one.ended) == (b"", [])
    one.acks(5)
    assert one.got == b"hello"


def test_the_client_cannot_acknowledge_its_own_bytes(fast: bool) -> None:
    one = Connection(fast=fast).open()
    one.says(0, b"hello")
    one.take(packet(SERVICE, CLIENT, "A", seq.add(IRS, 1), seq.add(ISS, 6)), Hook.PREROUTING)
    one.says(5, b"", "A")
    assert one.got == b""


@pytest.mark.parametrize("release", Release)
def test_an_identical_retransmission_costs_nothing(fast: bool, release: Release) -> None:
    one = Connection(fast=fast, release=release).open()
    one.says(0, b"hello")
    one.says(0, b"hello world")
    one.says(3, b"lo wor")
    one.acks(11)
    assert (one.got, one.ended) == (b"hello world", [])


@pytest.mark.parametrize("release", Release)
@pytest.mark.parametrize(("at", "data"), [(0, b"LIE"), (2, b"LIE world"), (4, b"o, WORLD")])
def test_two_versions_of_a_byte_end_the_copy_before_the_acknowledgement(
    fast: bool, release: Release, at: int, data: bytes
) -> None:
    one = Connection(fast=fast, release=release).open()
    one.says(0, b"hello, world")
    one.says(at, data)
    assert one.ended == [EndReason.AMBIGUOUS]
    one.acks(12)
    assert one.ledger["lost_bytes"] == {} if release is Release.SEEN else {EndReason.AMBIGUOUS: 12}
    assert one.engine.snapshot(one.now)["mirror_memory"]["used_bytes"] == 0


@pytest.mark.parametrize("release", Release)
def test_two_versions_of_a_byte_out_of_order_end_the_copy(fast: bool, release: Release) -> None:
    one = Connection(fast=fast, release=release).open()
    one.says(5, b"later")
    one.says(7, b"LIE")
    assert one.ended == [EndReason.AMBIGUOUS]


@pytest.mark.parametrize("release", Release)
def test_another_version_after_the_acknowledgement_is_none(fast: bool, release: Release) -> None:
    one = Connection(fast=fast, release=release).open()
    one.says(0, b"hello")
    one.acks(5)
    one.says(0, b"LIES!")
    one.says(2, b"LIE!!")
    one.acks(5)
    assert (one.got[:5], one.ended) == (b"hello", [])


@pytest.mark.parametrize("release", Release)
def test_what_a_receiver_refuses_is_no_version_of_a_byte(fast: bool, release: Release) -> None:
    one = Connection(fast=fast, release=release).open(stamps(1000, 0) + SCALED, stamps(5000, 1000) + SCALED)
    one.says(0, b"first", ack=0, options=stamps(1001, 5000))
    one.acks(5, options=stamps(5001, 1001), data=b"x" * 200, letters="PA")
    one.says(6 + (1 << 16), b"LIE", ack=-(0xFFFF << 5) - 201, options=stamps(1002, 5001))  # RFC 5961 §5
    one.says(5, b"LIE", "FA", ack=-(0xFFFF << 5) - 201, options=stamps(1002, 5001))
    one.says(5, b"LIE", ack=201 + (0xFFFF << 4), options=stamps(1002, 5001))  # of a byte that was never sent
    one.says(5, b"LIE", ack=200, options=stamps(999, 5001))  # PAWS
    one.says(5, b"LIE", ack=200, options=stamps(1002, 5001), ttl=1)
    one.says(6 + (0xFFFF << 4), b"LIE", ack=200, options=stamps(1002, 5001))
    one.says(5, b"LIE", "P", ack=200, options=stamps(1002, 5001))
    one.says(5, b"TRUTH", ack=200, options=stamps(1002, 5001))
    one.acks(10, at=200, options=stamps(5002, 1002))
    assert (one.got, one.ended) == (b"firstTRUTH", [])


@pytest.mark.parametrize("release", Release)
@pytest.mark.parametrize("age", [201 + (0xFFFF << 5), 1 << 30, (1 << 31) - 201 - (0xFFFF << 4), (1 << 31) - 201])
def test_an_old_acknowledgement_with_the_next_bytes_may_be_taken(fast: bool, release: Release, age: int) -> None:
    """Linux's header prediction takes data that is next before it reads the acknowledgement."""
    for truth in (None, b"TRUTH"):
        one = Connection(fast=fast, release=release).open(SCALED, SCALED)
        one.says(0, b"first", ack=0)
        one.acks(5, data=b"x" * 200, letters="PA")
        one.says(5, b"LIE", ack=-age)
        if truth:
            one.says(5, truth, ack=200)
            assert one.ended == [EndReason.AMBIGUOUS]
        else:
            one.acks(8, at=200)
            assert (one.got, one.ended) == (b"firstLIE", [])
            one.says(8, b"more", ack=200)
            one.says(12, b"never", ack=201 + (0xFFFF << 4))
            one.acks(12, at=200)
            assert (one.got, one.ended) == (b"firstLIEmore", [])


@pytest.mark.parametrize("is_fin_last", [True, False])
def test_a_byte_past_the_window_and_a_fin_with_its_number_are_two_versions(fast: bool, is_fin_last: bool) -> None:
    one = Connection(fast=fast).open()
    size, fin = 0xFFFF // 3, 0xFFFF + 3
    one.says(0, b"abc")
    one.says(fin, b"LIE")  # past the window, so that the backend refuses it
    one.acks(3)
    if not is_fin_last:
        one.says(fin, b"", "FA")
    for at in range(3, fin, size):
        one.says(at, b"right" * (size // 5))
    if is_fin_last:
        one.says(fin, b"", "FA")
    one.acks(fin + 1)
    assert b"L" not in one.got
    assert one.ended == [EndReason.AMBIGUOUS]


@pytest.mark.parametrize("release", Release)
def test_a_fin_past_the_window_may_be_taken_or_not(fast: bool, release: Release) -> None:
    """The backend may have opened the window by an acknowledgement that is under way."""
    one = Connection(fast=fast, release=release).open()
    one.says(0, b"abc")
    one.says(0xFFFF + 1, b"", "FA")
    assert one.ended == [EndReason.AMBIGUOUS]


@pytest.mark.parametrize(("at", "ack", "is_copied"), [(3, -1000, False), (-1000, -1000, True), (3, 1, True)])
def test_data_before_the_handshake_may_come_after_it(fast: bool, at: int, ack: int, is_copied: bool) -> None:
    one = Connection(fast=fast)
    first = one.passed(packet(CLIENT, SERVICE, "S", ISS), Hook.PREROUTING)
    one.backend = (first.dst, first.dport)
    one.passed(packet(one.backend, CLIENT, "SA", IRS, seq.add(ISS, 1)), Hook.FORWARD)
    one.take(packet(CLIENT, SERVICE, "PA", seq.add(ISS, 1 + at), seq.add(IRS, 1 + ack), b"LIE"), Hook.PREROUTING)
    one.from_client("A")
    assert one.ledger["legs_opened"] == is_copied


def test_a_bad_sum_is_no_version_of_a_byte(fast: bool) -> None:
    one = Connection(fast=fast).open()
    raw = bytearray(packet(CLIENT, SERVICE, "PA", seq.add(ISS, 1), seq.add(IRS, 1), b"LIE"))
    raw[-1] ^= 1
    one.take(bytes(raw), Hook.PREROUTING, Checksum.UNVERIFIED)
    one.says(0, b"TRUTH")
    one.acks(5)
    assert (one.got, one.ended) == (b"TRUTH", [])


def test_a_thousand_blind_injections_end_no_copy(fast: bool) -> None:
    dice = random.Random(19)
    one = Connection(fast=fast).open()
    one.says(0, b"before ")
    for _ in range(1000):
        raw = packet(
            CLIENT,
            SERVICE,
            dice.choice(("PA", "FA", "R", "RA", "A")),
            dice.getrandbits(32),
            dice.getrandbits(32),
            b"LIE",
        )
        one.take(raw, Hook.PREROUTING)
    one.says(7, b"and after")
    one.acks(16)
    assert (one.got, one.ended) == (b"before and after", [])


def test_a_fin_is_released_with_its_acknowledgement(fast: bool) -> None:
    one = Connection(fast=fast).open()
    one.says(0, b"bye", "FPA")
    one.acks(3)
    assert (one.got, one.mirrored()) == (b"bye", [])
    assert one.backend is not None
    one.take(packet(one.backend, CLIENT, "A", seq.add(IRS, 1), seq.add(ISS, 5)), Hook.FORWARD)
    assert ["F" in letters for letters, *_ in one.mirrored()] == [True]


@pytest.mark.parametrize("release", Release)
def test_a_byte_with_the_number_of_a_fin_ends_the_copy(fast: bool, release: Release) -> None:
    one = Connection(fast=fast, release=release).open()
    one.says(0, b"bye", "FPA")
    one.says(3, b"not yet")
    assert one.ended == [EndReason.AMBIGUOUS]
    one.acks(10)
    assert one.ledger["client_bytes"] == 10


def test_the_last_bytes_before_a_reset_wait_for_their_acknowledgement(fast: bool) -> None:
    one = Connection(fast=fast).open()
    one.says(0, b"last words")
    one.says(10, b"", "R")
    assert (one.got, one.ended) == (b"", [])
    one.acks(10)
    assert (one.got, one.ended) == (b"last words", [EndReason.CLIENT_RESET])


def test_bytes_that_were_never_acknowledged_are_told_at_the_end(fast: bool) -> None:
    one = Connection(fast=fast).open()
    one.says(0, b"taken")
    one.acks(5)
    one.says(5, b"not taken")
    one.says(14, b"", "R")
    one.now += 2.0
    one.engine.handle_timer(one.now)
    assert one.ended == [EndReason.CLIENT_RESET]
    one.now += 20.0
    one.engine.handle_timer(one.now)
    ledger = one.ledger
    assert (ledger["client_bytes"], ledger["acked_bytes"], ledger["never_acked_bytes"]) == (5, 5, 9)


def test_a_backends_reset_acknowledges_what_it_has(fast: bool) -> None:
    one = Connection(fast=fast).open()
    one.says(0, b"0123456789")
    one.acks(6, letters="RA")
    assert (one.got, one.ended) == (b"012345", [EndReason.CLIENT_RESET])


def test_bytes_that_are_acknowledged_but_were_never_seen_are_a_hole(fast: bool) -> None:
    one = Connection(fast=fast).open()
    one.says(0, b"seen")
    one.says(8, b"later")
    one.acks(13)
    assert (one.got, one.ended) == (b"seen", [EndReason.HOLE])


@pytest.mark.parametrize("is_half_closed", [False, True])
@pytest.mark.parametrize("release", Release)
def test_the_acknowledgement_of_a_hole_ends_the_copy_though_nothing_is_held(
    fast: bool, release: Release, is_half_closed: bool
) -> None:
    one = Connection(fast=fast, release=release).open()
    one.says(0, b"first")
    one.acks(5, letters="FA" if is_half_closed else "A")
    one.says(10, b"later", ack=int(is_half_closed))
    assert one.ended == [], "the bytes between may still come"
    one.acks(15, at=int(is_half_closed))
    assert (one.got, one.ended, one.ledger["lost_bytes"]) == (b"first", [EndReason.HOLE], {EndReason.HOLE: 10})
    before = punted(one)
    one.acks(15, at=int(is_half_closed))
    assert punted(one) == before, "a hole costs one packet"


@pytest.mark.parametrize("release", Release)
def test_what_comes_with_the_numbers_of_a_hole_reaches_no_mirror(fast: bool, release: Release) -> None:
    one = Connection(fast=fast, release=release).open()
    one.says(0, b"first")
    one.acks(5)
    one.says(10, b"", "A")  # so the five bytes before were sent, on another path
    one.acks(10)
    one.says(5, b"LIES!")
    one.acks(10)
    assert (one.got, one.ended) == (b"first", [EndReason.HOLE])


def test_data_of_a_syn_that_its_answer_acknowledges_is_no_hole(fast: bool) -> None:
    one = Connection(fast=fast)
    out = one.passed(packet(CLIENT, SERVICE, "S", ISS, data=b"early"), Hook.PREROUTING)
    one.backend = (out.dst, out.dport)
    one.passed(packet(one.backend, CLIENT, "SA", IRS, seq.add(ISS, 6)), Hook.FORWARD)
    one.says(5, b"", "A")
    one.connect_mirror()
    one.says(0, b"LIES!")
    one.acks(5)
    assert (one.got, one.ended) == (b"early", [])


def test_an_acknowledgement_that_overtakes_its_bytes_makes_no_hole(fast: bool) -> None:
    """As captures have it."""
    one = Connection(fast=fast).open()
    one.says(0, b"first")
    one.acks(5)
    one.acks(10)
    one.says(5, b"after")
    one.says(15, b"later")
    one.acks(10)
    one.says(10, b"sixth")
    one.acks(20)
    assert (one.got, one.ended) == (b"firstaftersixthlater", [])


def test_held_bytes_count_towards_the_buffer(fast: bool) -> None:
    one = Connection(SMALL, fast=fast).open(SCALED, SCALED)
    for number in range(50):
        one.says(1400 * number, bytes(1400))
    assert one.ended == [EndReason.BUFFER_FULL]


def test_a_large_window_is_released_in_slices(fast: bool) -> None:
    rules = RULES.replace("10.20.0.13}", "10.20.0.13, buffer: 4MiB}")
    scale = bytes((OPT_NOP, OPT_WINDOW_SCALE, 3, 7))
    one = Connection(rules, fast=fast).open(scale, scale)
    sent = random.Random(1).randbytes(1_400_000)
    for at in range(0, len(sent), 60_000):
        one.says(at, sent[at : at + 60_000])
    one.acks(len(sent))
    for _ in range(500):
        due = one.engine.next_timer()
        if due is None or one.got == sent:
            break
        one.now = max(one.now, due)
        for send in one.engine.handle_timer(one.now):
            one.to_mirror += [segment(raw) for raw in finish(send.packet, send.segment_len)]
        one.answer()
    assert one.got == sent


def test_a_service_whose_replies_pass_elsewhere_is_told_at_once(fast: bool) -> None:
    one = Connection(WATCHED, fast=fast)
    one.take(packet(CLIENT, SERVICE, "S", ISS), Hook.PREROUTING)
    one.says(0, b"", "A")
    one.says(0, b"hello")
    assert one.ended == [EndReason.NO_ACKNOWLEDGEMENTS]
    one.says(5, b"again")
    assert one.ended == []
    assert one.ledger["lost_bytes"] == {EndReason.NO_ACKNOWLEDGEMENTS: 10}


def test_bytes_past_the_known_window_are_a_version_because_the_window_may_be_further_at_the_backend(fast: bool) -> None:
    one = Connection(fast=fast).open(SCALED, SCALED)
    one.says(0xFFFF << 4, b"LIE")
    for at in range(0, 0xFFFF << 4, 50_000):
        one.says(at, bytes(50_000))
    assert one.ended == [EndReason.AMBIGUOUS]


@pytest.mark.parametrize("release", Release)
def test_a_fin_with_the_number_of_a_byte_ends_the_copy(fast: bool, release: Release) -> None:
    one = Connection(fast=fast, release=release).open()
    one.says(0, b"not yet")
    one.says(3, b"", "FA")
    assert one.ended == [EndReason.AMBIGUOUS]


def test_a_late_repetition_of_acknowledged_bytes_with_a_fin_ends_no_copy(fast: bool) -> None:
    one = Connection(fast=fast).open()
    one.says(0, b"not yet")
    one.acks(7)
    one.says(3, b"", "FA")
    assert one.ended == []


@pytest.mark.parametrize("data", [b"urgent", b""])
def test_an_urgent_pointer_ends_the_copy(fast: bool, data: bytes) -> None:
    one = Connection(fast=fast).open()
    raw = bytearray(packet(CLIENT, SERVICE, "PA", seq.add(ISS, 1), seq.add(IRS, 1), data))
    raw[33] |= URG
    one.take(bytes(raw), Hook.PREROUTING)
    assert one.ended == [EndReason.AMBIGUOUS]


def test_an_urgent_pointer_before_the_backends_window_changes_nothing(fast: bool) -> None:
    one = Connection(fast=fast).open()
    one.says(0, b"hello")
    one.acks(5)
    for at, data in ((-1000, b"urgent"), (0, b"LIES"), (-1, b""), (4, b"")):
        one.says(at, data, "UA")
    one.says(5, b" world")
    one.acks(11)
    assert (one.got, one.ended) == (b"hello world", [])


@pytest.mark.parametrize("release", Release)
def test_another_version_of_bytes_that_are_acknowledged_and_not_released_yet_changes_nothing(
    fast: bool, release: Release
) -> None:
    one = Connection(fast=fast, release=release).open(SCALED, SCALED)
    for number in range(6):
        one.says(60_000 * number, bytes(60_000))
    assert one.backend is not None
    raw = packet(one.backend, CLIENT, "A", seq.add(IRS, 1), seq.add(ISS, 1 + 360_000))
    one.engine.receive(raw, Hook.FORWARD, one.now, Checksum.VALID)
    one.engine.receive(
        packet(CLIENT, SERVICE, "PA", seq.add(ISS, 1 + 300_000), seq.add(IRS, 1), b"LIE"),
        *(Hook.PREROUTING, one.now, Checksum.VALID),
    )
    assert one.ended == []


def test_a_version_that_was_left_out_for_want_of_room_ends_the_copy_when_another_one_comes(fast: bool) -> None:
    one = Connection(SMALL, fast=fast).open(SCALED, SCALED)
    for number in range(44):
        one.says(1500 * (number + 1), bytes(1500))
    assert one.ended == []
    for number in range(46):
        one.says(1500 * number, bytes(1500))
    assert one.ended != []


def test_a_syn_with_another_number_before_the_handshake_replaces_no_connection(fast: bool) -> None:
    one = Connection(fast=fast)
    one.syn()
    one.syn_ack()
    one.take(packet(CLIENT, SERVICE, "S", seq.add(ISS, 77_777)), Hook.PREROUTING)
    one.from_client("A")
    one.connect_mirror()
    one.says(0, b"hello")
    one.acks(5)
    assert one.got == b"hello"


def test_a_repeated_foreign_syn_replaces_no_connection_whose_backend_answers(fast: bool) -> None:
    one = Connection(fast=fast).open()
    for _ in range(5):
        one.take(packet(CLIENT, SERVICE, "S", seq.add(ISS, 77_777)), Hook.PREROUTING)
        one.acks(0)
        one.now += 0.8
    one.says(0, b"hello")
    one.acks(5)
    assert one.got == b"hello"


def test_data_on_a_connection_that_natmirror_does_not_follow_is_counted(fast: bool) -> None:
    one = Connection(fast=fast)
    one.syn()
    one.syn_ack()
    one.says(0, b"", "R")
    one.says(0, b"hello")
    assert one.ledger["lost_bytes"] == {EndReason.NOT_FOLLOWED: 5}
    one.acks(5)
    one.says(0, b"hello")
    assert one.ledger["lost_bytes"] == {EndReason.NOT_FOLLOWED: 5}, "bytes that the backend has count once"


def test_another_version_of_bytes_that_were_given_up_for_memory_ends_the_copy(fast: bool) -> None:
    one = Connection(fast=fast).open()
    one.says(3, b"TRUTH")
    [stream] = one.engine._mirroring.streams.values()
    stream.reassembler.give_up()
    one.says(0, b"gap")
    one.says(3, b"LIES!")
    assert one.ended == [EndReason.MEMORY_FULL]
