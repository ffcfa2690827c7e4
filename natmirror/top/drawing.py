"""Numbers and short curves for a narrow screen."""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_SHOWN = 60
"""Rates that a curve shows at least."""
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


class Glyphs(NamedTuple):
    """The characters that a terminal can show."""

    curve: str
    """The heights of a curve, from none to the highest."""
    ascending: str
    descending: str
    is_ascii: bool

    def fit(self, text: str) -> str:
        """Return text with what the terminal cannot show replaced."""
        return text.replace("…", "~").encode("ascii", "replace").decode() if self.is_ascii else text


UNICODE = Glyphs("▁▂▃▄▅▆▇█", "▲", "▼", is_ascii=False)
ASCII = Glyphs("_.:-=+*#", "^", "v", is_ascii=True)


def glyphs_of(environment: Mapping[str, str]) -> Glyphs:
    """Return what the terminal can show, by the locale that its user has set (locale(7)). The fonts of Linux's own
    console lack most curves."""
    locale = next((environment[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if environment.get(name)), "")
    is_utf8 = locale.lower().replace("-", "").endswith("utf8")
    return UNICODE if is_utf8 and environment.get("TERM") != "linux" else ASCII


def environment_glyphs() -> Glyphs:
    """Return what this process's terminal can show."""
    return glyphs_of(os.environ)


def curve(rates: Sequence[float | None], number: int, width: int, glyphs: Glyphs) -> str:
    """Return the latest rates as a curve of this width, its highest point that of the highest one; spaces where there
    is none. A narrow curve has the means of several rates, so that it shows a minute of one rate a second too.
    ``number`` counts the rates since the first one: while new ones come, each rate stays with its neighbours."""
    together = -(-_SHOWN // width)
    first = number - len(rates)
    groups: dict[int, list[float]] = {}
    for at, rate in enumerate(rates, first):
        groups.setdefault(at // together, []).extend(() if rate is None else (rate,))
    means = [sum(some) / len(some) if some else None for some in groups.values()][-width:]
    most = max((mean for mean in means if mean is not None), default=0.0)
    return "".join(" " if mean is None else _point(mean, most, glyphs) for mean in means).rjust(width)


def _point(rate: float, most: float, glyphs: Glyphs) -> str:
    if rate <= 0:
        return glyphs.curve[0]
    steps = len(glyphs.curve) - 1
    return glyphs.curve[max(1, round(steps * rate / most))]


def short(number: float | None) -> str:
    """Return a number in at most five characters: ``12.3k``; a dash for None."""
    if number is None:
        return "-"
    for unit, letter in _UNITS:
        if number >= 0.9995 * unit:
            value = number / unit
            return (
                f"{value:.2f}{letter}"
                if value < 9.995
                else f"{value:.1f}{letter}"
                if value < 99.95
                else f"{value:.0f}{letter}"
            )
    if number == int(number) or number >= 99.95:
        return f"{number:.0f}"
    return f"{number:.1f}" if number >= 0.05 else "0"


def percent(share: float | None) -> str:
    """Return a share of one processor; a dash for None."""
    return "-" if share is None else f"{100 * share:.1f}%"
