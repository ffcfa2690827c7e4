"""Numbers and curves for a narrow screen."""

import pytest

from natmirror.top.drawing import ASCII, UNICODE, curve, glyphs_of, short


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (0.04, "0"),
        (0.3, "0.3"),
        (7.0, "7"),
        (99.94, "99.9"),
        (99.96, "100"),
        (999.4, "999"),
        (999.6, "1.00k"),
        (12_345.0, "12.3k"),
        (999_900.0, "1.00M"),
        (9_999_000_000.0, "10.0G"),
        (123e9, "123G"),
        (4e15, "4000T"),
    ],
)
def test_a_number_has_five_characters_at_most(number: float | None, text: str) -> None:
    assert short(number) == text


def test_a_curve_is_scaled_to_its_highest_point_and_shows_that_there_is_something() -> None:
    assert curve([0.0, 1.0, 50.0, 100.0], 4, 60, UNICODE).strip() == "▁▂▅█"
    assert curve([0.0, None, 100.0], 3, 60, ASCII)[-3:] == "_ #"
    assert curve([], 0, 10, ASCII) == " " * 10


def test_a_narrow_curve_has_means_that_stay_while_new_rates_come() -> None:
    rates = [float(number // 6) for number in range(60)]
    assert curve(rates, 60, 10, ASCII) == "_.::-=++*#"
    before, after = (curve(rates[:count], count, 10, ASCII) for count in (50, 53))
    assert before.strip()[:-1] == after.strip()[:-1]


@pytest.mark.parametrize(
    ("environment", "glyphs"),
    [
        ({"LANG": "en_US.UTF-8"}, UNICODE),
        ({"LANG": "C.utf8"}, UNICODE),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "C"}, ASCII),
        ({"LANG": "en_US.UTF-8", "LC_CTYPE": "de_DE.ISO-8859-1"}, ASCII),
        ({"LANG": "en_US.UTF-8", "LC_ALL": ""}, UNICODE),
        ({"LANG": "en_US.UTF-8", "TERM": "linux"}, ASCII),
        ({}, ASCII),
    ],
)
def test_a_terminal_without_utf8_gets_ascii(environment: dict[str, str], glyphs: object) -> None:
    assert glyphs_of(environment) is glyphs


def test_what_ascii_lacks_is_replaced() -> None:
    assert ASCII.fit("a…é") == "a~?"
    assert UNICODE.fit("a…é") == "a…é"
