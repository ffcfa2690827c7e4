"""Numbers in words."""

import pytest

from natmirror.openflow.comparison.numbers import duration, share, times


@pytest.mark.parametrize(
    ("part", "of", "text"),
    [
        (1, 3, "33.3 %"),
        (0, 5, "0 %"),
        (5, 5, "100 %"),
        (9999, 10_000, "99.99 %"),
        (1, 100_000, "0.001 %"),
        (0, 0, "0 %"),
    ],
)
def test_a_share_is_never_rounded_to_all_or_nothing(part: int, of: int, text: str) -> None:
    assert share(part, of) == text


def test_durations() -> None:
    assert [duration(one) for one in (0.0012, 0.2, 1.94, -0.003)] == ["1.2 ms", "200 ms", "1.9 s", "-3.0 ms"]


def test_times() -> None:
    assert [times(one) for one in (1, 2)] == ["once", "2 times"]
