"""PAWS: what a receiver refuses because of its timestamp is no version of a byte, but only while the receiver surely
refuses it."""

import pytest

from natmirror.actions import Hook
from natmirror.net import seq
from natmirror.net.packet import URG
from natmirror.reasons import EndReason
from natmirror.rules import Release
from tests.helpers.acknowledged import Connection, stamps
from tests.helpers.client_connection import IRS, ISS
from tests.helpers.support import CLIENT, SERVICE, packet

TCP_PAWS_WRAP = 2147  # seconds, as in Linux since 6.7
HALF = 1 << 31
FIRST_CLIENT, FIRST_BACKEND = 100_000, 5_000


def opened(fast: bool, release: Release, first: int = FIRST_CLIENT) -> Connection:
    """Return a connection whose backend has acknowledged "first", and has echoed ``first`` + 2."""
    one = Connection(fast=fast, release=release).open(stamps(first, 0), stamps(FIRST_BACKEND, first))
    for number, data in ((1, b"fir"), (2, b"st")):
        at = len(one.got)
        one.says(at, data, options=stamps(seq.add(first, number), FIRST_BACKEND))
        one.acks(at + len(data), options=stamps(FIRST_BACKEND + number, seq.add(first, number)))
    assert one.got == b"first"
    return one


def wait(one: Connection, seconds: float) -> None:
    """Let the time pass, minute by minute."""
    until = one.now + seconds
    while one.now < until:
        one.now = min(one.now + 60.0, until)
        one.engine.handle_timer(one.now)


def is_version(one: Connection, value: int) -> bool:
    """Return whether another version of the next bytes counts that has this timestamp."""
    one.says(5, b"LIES!", options=stamps(value, FIRST_BACKEND))
    one.says(5, b"TRUTH", options=b"")
    return one.ended == [EndReason.AMBIGUOUS]


@pytest.mark.parametrize("release", Release)
def test_an_old_timestamp_is_refused(fast: bool, release: Release) -> None:
    one = opened(fast, release)
    one.says(5, b"LIES!", options=stamps(FIRST_CLIENT, FIRST_BACKEND))
    one.says(5, b"TRUTH", options=stamps(FIRST_CLIENT + 3, FIRST_BACKEND))
    one.acks(10)
    assert (one.got, one.ended) == (b"firstTRUTH", [])


@pytest.mark.parametrize("release", Release)
def test_an_old_timestamp_counts_once_linux_has_forgotten_its_newer_one(fast: bool, release: Release) -> None:
    one = opened(fast, release)
    wait(one, TCP_PAWS_WRAP)
    one.says(5, b"TRUTH", options=stamps(90_000, FIRST_BACKEND))
    one.says(5, b"LIES!", options=stamps(FIRST_CLIENT + 3, FIRST_BACKEND))
    assert one.ended == [EndReason.AMBIGUOUS]


def test_traffic_without_newer_timestamps_does_not_renew_them(fast: bool) -> None:
    one = opened(fast, Release.ACKNOWLEDGED)
    for number in range(TCP_PAWS_WRAP // 60 + 1):
        wait(one, 60)
        one.says(5, b"")
        one.acks(5, at=number, data=b"x", letters="PA", options=stamps(FIRST_BACKEND + 3, FIRST_CLIENT + 2))
    assert is_version(one, 90_000)


def test_an_echo_that_comes_late_does_not_renew_a_timestamp(fast: bool) -> None:
    """The backend has got a timestamp long before it sends something."""
    one = opened(fast, Release.ACKNOWLEDGED)
    one.says(5, b"", "A", options=stamps(FIRST_CLIENT + 3, FIRST_BACKEND))
    wait(one, TCP_PAWS_WRAP - 5)
    one.acks(5, options=stamps(FIRST_BACKEND + 3, FIRST_CLIENT + 3))
    wait(one, 5)
    assert is_version(one, FIRST_CLIENT)


def test_an_old_timestamp_is_refused_again_after_a_silence(fast: bool) -> None:
    one = opened(fast, Release.ACKNOWLEDGED)
    wait(one, TCP_PAWS_WRAP)
    for number in (3, 4):
        one.says(5, b"", "A", options=stamps(FIRST_CLIENT + number, FIRST_BACKEND))
        one.acks(5, options=stamps(FIRST_BACKEND + number, FIRST_CLIENT + number))
    assert not is_version(one, FIRST_CLIENT)


@pytest.mark.parametrize("value", [FIRST_CLIENT + HALF, FIRST_CLIENT + HALF - 10])
def test_a_client_whose_clock_runs_half_around_is_not_judged_by_it(fast: bool, value: int) -> None:
    """Bare acknowledgements move TS.Recent, and the backend answers none of them."""
    one = opened(fast, Release.ACKNOWLEDGED)
    for ahead in (value, value + HALF - 50):
        one.says(5, b"", "A", options=stamps(ahead & 0xFFFF_FFFF, FIRST_BACKEND))
    one.acks(5, options=stamps(FIRST_BACKEND + 3, FIRST_CLIENT + 2))  # it was under way
    assert is_version(one, FIRST_CLIENT)


def test_a_timestamp_far_ahead_may_be_the_latest_of_the_backend(fast: bool) -> None:
    one = opened(fast, Release.ACKNOWLEDGED)
    one.says(5, b"", "A", options=stamps(FIRST_CLIENT + HALF - 10, FIRST_BACKEND))
    assert is_version(one, FIRST_CLIENT - 20)


@pytest.mark.parametrize("is_behind", [False, True])
def test_a_timestamp_of_0_counts_as_none(fast: bool, is_behind: bool) -> None:
    first = 0xFFFF_FFF0
    one = opened(fast, Release.ACKNOWLEDGED, first)
    if is_behind:
        one.says(100, b"later", options=stamps(5, FIRST_BACKEND))  # TS.Recent keeps its value
    one.says(5, b"", "A", options=stamps(0, FIRST_BACKEND))
    assert is_version(one, first - 1000)


def test_an_old_timestamp_is_refused_after_a_wrap(fast: bool) -> None:
    first = 0xFFFF_FFFB
    one = opened(fast, Release.ACKNOWLEDGED, first)
    one.says(5, b"", "A", options=stamps(3, FIRST_BACKEND))
    assert not is_version(one, first)


@pytest.mark.parametrize("release", Release)
def test_an_old_timestamp_does_not_keep_an_urgent_pointer_from_the_backend(fast: bool, release: Release) -> None:
    """Linux takes a bare acknowledgement that repeats another one, however its timestamp (tcp_disordered_ack())."""
    one = opened(fast, release)
    numbers, options = (seq.add(ISS, 6), seq.add(IRS, 1)), stamps(FIRST_CLIENT, FIRST_BACKEND)
    raw = bytearray(packet(CLIENT, SERVICE, "A", *numbers, options=options))
    raw[33] |= URG
    one.take(bytes(raw), Hook.PREROUTING)
    assert one.ended == [EndReason.AMBIGUOUS]
