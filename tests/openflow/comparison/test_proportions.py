"""Fisher's exact test against the sum of all its terms."""

from fractions import Fraction
from math import comb

import pytest

from natmirror.openflow.comparison.proportions import chance_of_more


def exactly(count: int, of: int, other_count: int, other_of: int) -> Fraction:
    both = count + other_count
    terms = range(count, min(both, of) + 1)
    return Fraction(sum(comb(of, one) * comb(other_of, both - one) for one in terms), comb(of + other_of, both))


@pytest.mark.parametrize("of", [1, 7, 20])
@pytest.mark.parametrize("other_of", [1, 5, 30])
def test_it_is_the_sum_of_the_hypergeometric_terms(of: int, other_of: int) -> None:
    for count in range(of + 1):
        for other in range(other_of + 1):
            found = chance_of_more(count, of, other, other_of)
            if count * other_of > other * of:
                assert found == pytest.approx(float(exactly(count, of, other, other_of)), rel=1e-9)
            else:
                assert found == 1.0


def test_more_in_a_planted_version_is_no_chance() -> None:
    assert chance_of_more(207, 219, 107, 219) < 1e-20
    assert chance_of_more(16, 310, 0, 310) < 1e-4


def test_as_much_as_in_the_twin_is_chance() -> None:
    assert chance_of_more(12, 16, 12, 16) == 1.0
    assert chance_of_more(80, 100, 75, 100) > 0.2
    assert chance_of_more(1, 310, 0, 310) == pytest.approx(0.5)


def test_without_answers_nothing_can_be_said() -> None:
    assert chance_of_more(0, 0, 5, 10) == chance_of_more(3, 10, 0, 0) == 1.0


def test_large_numbers_take_no_long_time() -> None:
    assert chance_of_more(500_001, 1_000_000, 500_000, 1_000_000) == pytest.approx(0.5, abs=0.01)
    assert chance_of_more(600_000, 1_000_000, 500_000, 1_000_000) == 0.0
