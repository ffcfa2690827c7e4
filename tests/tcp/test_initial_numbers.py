"""Initial sequence numbers of legs: RFC 6528, and above all earlier numbers between the same ends."""

from hypothesis import given
from hypothesis import strategies as st

from natmirror import fastpath
from natmirror.net import seq
from natmirror.tcp.initial_numbers import InitialNumbers
from tests.helpers.siphash import siphash
from tests.helpers.support import CLIENT, MASTER, at

KEY = bytes(range(16))
OTHER = at("10.10.0.12", 40001)
STEP = 1 << 20


def test_the_hash_in_c_is_the_published_one() -> None:
    for size in range(40):
        assert fastpath.siphash(KEY, bytes(range(size))) == siphash(KEY, bytes(range(size)))
    assert len({fastpath.subkey(KEY, b"one"), fastpath.subkey(KEY, b"other"), fastpath.subkey(bytes(16), b"one")}) == 3


def test_the_number_is_a_clock_of_four_microseconds_and_a_keyed_hash_of_the_ends() -> None:
    numbers = InitialNumbers(KEY)
    first = numbers.first(CLIENT, MASTER, 0.0)
    ends = CLIENT[0] + MASTER[0] + CLIENT[1].to_bytes(2, "big") + MASTER[1].to_bytes(2, "big")
    assert first == siphash(fastpath.subkey(KEY, b"initial"), ends) & 0xFFFF_FFFF
    assert numbers.first(CLIENT, MASTER, 1.0) == seq.add(first, 250_000)
    assert numbers.first(CLIENT, MASTER, 4e-6) == seq.add(first, 1)
    others = [
        numbers.first(OTHER, MASTER, 0.0),
        numbers.first((CLIENT[0], 40002), MASTER, 0.0),
        numbers.first(CLIENT, at("10.20.0.14", 6653), 0.0),
        numbers.first(MASTER, CLIENT, 0.0),
        InitialNumbers(bytes(16)).first(CLIENT, MASTER, 0.0),
    ]
    assert len({first, *others}) == 6


def test_a_new_leg_begins_above_one_that_was_faster_than_the_clock() -> None:
    numbers = InitialNumbers(KEY)
    first = numbers.first(CLIENT, MASTER, 10.0)
    last = seq.add(first, 5_000_000)
    numbers.note_last(CLIENT, MASTER, last, 10.1)
    assert numbers.first(CLIENT, MASTER, 10.1) == seq.add(last, STEP)
    assert numbers.first(CLIENT, MASTER, 10.1) == seq.add(last, STEP), "first() changes nothing"
    assert numbers.first(OTHER, MASTER, 10.1) == InitialNumbers(KEY).first(OTHER, MASTER, 10.1)
    assert numbers.first(CLIENT, MASTER, 31.0) == seq.add(first, 21 * 250_000), "the clock has passed it"


@given(
    st.lists(
        st.tuples(st.floats(0.0, 5.0), st.one_of(st.integers(1, 100), st.integers(0, 1 << 24))), min_size=2, max_size=30
    ),
    st.integers(0, 1 << 14),
)
def test_each_number_lies_above_all_earlier_ones(lives: list[tuple[float, int]], begun: int) -> None:
    """Whatever the clock and the legs do, also across the wrap."""
    numbers, now, last = InitialNumbers(KEY), float(begun), None
    for pause, length in lives:
        now += pause
        first = numbers.first(CLIENT, MASTER, now)
        assert last is None or 0 < seq.diff(first, last) < 1 << 31
        last = seq.add(first, length)
        numbers.note_last(CLIENT, MASTER, last, now)


def test_remembered_numbers_are_bounded_and_the_oldest_is_forgotten_first() -> None:
    numbers = InitialNumbers(KEY)
    ends = [at(f"10.10.{number >> 8 & 255}.{number & 255}", 1000 + (number >> 16)) for number in range(65_537)]
    for local in ends:
        numbers.note_last(local, MASTER, seq.add(numbers.first(local, MASTER, 5.0), 1 << 24), 5.0)
    first = [numbers.first(local, MASTER, 5.0) for local in (ends[0], ends[1], ends[-1])]
    fresh = [InitialNumbers(KEY).first(local, MASTER, 5.0) for local in (ends[0], ends[1], ends[-1])]
    assert [seq.diff(*pair) for pair in zip(first, fresh, strict=True)] == [0, (1 << 24) + STEP, (1 << 24) + STEP]
    numbers.note_last(ends[1], MASTER, fresh[1], 5.0)
    assert numbers.first(ends[1], MASTER, 5.0) != fresh[1], "the last number counts"


def test_a_number_that_the_clock_has_passed_is_not_remembered() -> None:
    numbers = InitialNumbers(KEY)
    last = seq.add(numbers.first(CLIENT, MASTER, 10.0), 1000)
    numbers.note_last(CLIENT, MASTER, last, 11.0)
    assert numbers._last == {}


@given(st.integers(1, 20_000), st.integers(0, 20_000), st.integers(0, 1 << 31))
def test_however_long_a_leg_has_lived_the_next_one_begins_above_it(stood: int, other_at: int, length: int) -> None:
    """The clock runs through half of all numbers in 2.4 hours; it is compared with a leg's number only at the leg's
    end."""
    numbers = InitialNumbers(KEY)
    last = seq.add(numbers.first(CLIENT, MASTER, 0.0), length)
    numbers.first(OTHER, MASTER, float(min(other_at, stood)))
    numbers.note_last(CLIENT, MASTER, last, float(stood))
    for pause in (0.0, 30.0, 240.0):
        assert 0 < seq.diff(numbers.first(CLIENT, MASTER, stood + pause), last) < 1 << 31
