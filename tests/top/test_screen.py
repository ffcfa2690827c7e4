"""The screen, at the sizes of terminals, from answers of a natmirror."""

from typing import Any

import pytest

from natmirror.top.asking import Answer, Trouble
from natmirror.top.drawing import ASCII, UNICODE, Glyphs
from natmirror.top.known import Known
from natmirror.top.screen import frame
from natmirror.top.view import ORDERS, View
from tests.helpers.status import BACKEND
from tests.helpers.top import known, leg, status_at

WALL = 1767323101.0  # 03:05:01 UTC
SIZES = ((80, 24), (120, 40), (40, 10), (200, 60))


def lines(
    what: Known, view: View | None = None, size: tuple[int, int] = (80, 24), glyphs: Glyphs = UNICODE, now: float = 60.2
) -> list[str]:
    text = frame(what, view or View(), *size, glyphs, now, WALL).text
    found = text.plain.split("\n")
    assert len(found) == size[1]
    assert max(map(len, found)) <= size[0]
    return found


def settled(legs: int = 30, view: View | None = None, **changes: Any) -> Known:
    return known(60, [leg(number) for number in range(legs)], (view or View()).question(legs), **changes)


def row(found: list[str], name: str) -> str:
    return next(line for line in found if line.startswith(name))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("glyphs", [UNICODE, ASCII])
@pytest.mark.parametrize("view", [View(), View(shows_help=True), View(is_paused=True), View(message="no")])
def test_the_screen_fits_each_terminal(size: tuple[int, int], glyphs: Glyphs, view: View) -> None:
    found = lines(settled(), view, size, glyphs)
    assert found[0].startswith("NOT FIT")
    if glyphs is ASCII:
        assert "\n".join(found).isascii()


def test_rates_states_threads_and_the_worst_legs_are_on_a_small_terminal() -> None:
    found = lines(settled())
    assert found[0].endswith("03:05:01Z, every 1 s")
    assert found[1].startswith("FAILURE no-forwarding: ")
    assert row(found, "answer 0.2 s old, 1 connection, dropped 0/s, missed 0/s, mirror-memory")
    assert row(found, "openflow ").split() == ["openflow", "1", "1.00k", "█" * 10, "10.0M", "█" * 10, "5", "█" * 10]
    assert row(found, "openflow/c1").split()[1] == "down"
    assert row(found, "openflow/master").split()[1] == "up"
    assert row(found, "threads") == "threads  packets-0 25.0%  api 1.0%"
    at = found.index("legs that are behind, the longest first, answer 0.2 s old")
    assert found[at + 1].split() == ["client", "backend", "mirror", "leg", "mirrored", "lag", "▼"]
    assert found[at + 2].startswith("10.10.0.11:0")
    assert found[-1].startswith(" s  sort   r  reverse")
    assert found[-2].startswith("10.10.0.11:")  # legs have all that is left


def test_there_is_room_for_so_many_legs_as_are_asked_for() -> None:
    for size in SIZES:
        shown = frame(settled(legs=100), View(), *size, UNICODE, 60.2, WALL)
        assert shown.leg_rows == sum(line.startswith("10.10.0.11:") for line in shown.text.plain.split("\n"))


def test_rows_that_are_not_well_stay_where_a_table_has_too_many() -> None:
    backends = [BACKEND | {"name": f"c{number}", "state": "up"} for number in range(30)]
    backends[20]["state"] = "draining"
    found = lines(settled(backends=backends))
    assert row(found, "openflow/c20").split()[1] == "draining"
    [more] = [line for line in found if line.startswith("and ")]
    assert more.endswith(" more, all well")
    assert sum(line.startswith("10.10.0.11:") for line in found) == 3


def test_each_problem_has_as_many_lines_as_the_others() -> None:
    [problem] = status_at(0)["condition"]["problems"]
    for count, most in ((1, 2), (2, 3), (3, 3), (9, 3)):
        problems = [problem | {"code": f"code-{number}"} for number in range(count)]
        found = lines(settled(condition={"state": "degraded", "unfit_because": None, "problems": problems}))
        shown = found[1 : found.index(row(found, "answer"))]
        assert len(shown) <= most
        assert sum("FAILURE code-" in line for line in shown) == (count if count <= 3 else 2)
    assert shown[-1] == "    and 7 more: natmirror status"


def test_one_service_alone_can_be_shown() -> None:
    backends = [BACKEND, BACKEND | {"service": "web"}]
    found = lines(settled(backends=backends), View(service="web"))
    assert row(found, "web/c1")
    assert not [line for line in found if line.startswith("openflow")]


def test_old_answers_say_how_old_they_are() -> None:
    text = frame(settled(), View(), 80, 24, UNICODE, 75.0, WALL).text
    assert "answer 15 s old, 1 connection" in text.plain
    at = text.plain.index("answer 15 s old")
    assert "yellow" in [str(span.style) for span in text.spans if span.start <= at < span.end]


def test_a_natmirror_that_does_not_answer_is_the_first_thing_to_see() -> None:
    what = settled()
    what.miss_status(Trouble("no natmirror answers on /run/api.sock", is_refused=False), 61.0)
    what.miss_status(Trouble("natmirror, pid 5, is stopped", is_refused=False), 70.0)
    found = lines(what, now=81.0)
    assert found[1] == "NO ANSWER since 03:04:41Z, for 20 s: natmirror, pid 5, is stopped"
    assert row(found, "openflow/master")  # what was known last stays
    what.take_status(Answer({}, status_at(82), 82.0), 1.0)
    assert not [line for line in lines(what, now=82.0) if "NO ANSWER" in line]


def test_nothing_is_known_at_first() -> None:
    what = Known()
    assert lines(what)[0].startswith("legs that are behind, the longest first, natmirror has not answered yet")


def test_another_order_is_marked_and_waits_for_its_answer() -> None:
    view = View(order=ORDERS[4], is_descending=False, filter={"mirror": "master"})
    found = lines(settled(), view)
    [title] = [line for line in found if line.startswith("legs by client")]
    assert title == "legs by client, only mirror=master, answer 0.2 s old, the answer to this questi…"
    what = settled(view=view)
    assert row(lines(what, view, (120, 40)), "client ▲")
    what.legs = []
    assert "there is none" in lines(what, view)


def test_a_refused_filter_says_why() -> None:
    what = settled()
    what.legs_trouble = "there is no mirror m: there are master"
    assert row(lines(what), "legs that are behind, the longest first, there is no mirror m: there are master")
