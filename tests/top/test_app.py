"""The keys, by Textual's pilot, with a natmirror that answers at once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widget import Widget
from textual.widgets import Input, Static

from natmirror.errors import NoAnswerError
from natmirror.top import app as app_module
from natmirror.top.app import TopApp
from natmirror.top.asking import Trouble
from natmirror.top.drawing import UNICODE
from natmirror.top.screen import Frame, frame
from natmirror.top.view import View
from tests.helpers.top import Natmirror

Do = Callable[[Pilot[None], TopApp], Awaitable[None]]


def run(natmirror: Natmirror, do: Do, size: tuple[int, int] = (80, 24)) -> TopApp:
    """Run the screen while ``do`` presses keys."""

    async def running() -> TopApp:
        app = TopApp(natmirror, View(interval=0.5), UNICODE)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: "openflow/master" in app.shown)
            await do(pilot, app)
        return app

    return asyncio.run(running())


async def until(pilot: Pilot[None], condition: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await pilot.pause(0.01)


def test_keys_change_what_is_asked() -> None:
    natmirror = Natmirror()

    async def do(pilot: Pilot[None], app: TopApp) -> None:
        assert natmirror.latest("legs")["sort"] == "-lag_seconds"
        await pilot.press("s")
        await until(pilot, lambda: natmirror.latest("legs")["sort"] == "-retransmits")
        await pilot.press("r")
        await until(pilot, lambda: natmirror.latest("legs")["sort"] == "retransmits")
        await pilot.press("S")
        await until(pilot, lambda: natmirror.latest("legs").get("lagging") == 0.001)
        assert "legs that are behind, the longest first" in app.shown
        await pilot.press("minus")
        assert app.view.interval == 1.0 and "every 1 s" in app.shown
        await pilot.press("question_mark")
        assert "reverse the order" in app.shown
        await pilot.press("escape")
        assert "openflow/master" in app.shown
        await pilot.press("q")

    assert run(natmirror, do).failure is None


def test_a_filter_is_typed_refused_mended_and_taken_away() -> None:
    natmirror = Natmirror()

    async def do(pilot: Pilot[None], app: TopApp) -> None:
        await pilot.press("slash", *"mastr", "enter")
        assert "there is no mastr: did you mean master?" in app.shown
        await pilot.press("backspace", *"er", "enter")
        await until(pilot, lambda: natmirror.latest("legs").get("mirror") == "master")
        assert "only mirror=master" in app.shown
        await pilot.press("f", *" qs", "escape")  # keys are text while the prompt is open
        assert app.view.filter == {"mirror": "master"} and app.is_running
        await pilot.press("escape")
        await until(pilot, lambda: "mirror" not in natmirror.latest("legs"))

    run(natmirror, do)


@pytest.mark.parametrize("gone", [Static, Input])
def test_an_answer_that_comes_while_the_screen_ends_is_no_fault(gone: type[Widget]) -> None:
    async def do(pilot: Pilot[None], app: TopApp) -> None:
        await app.query_one(gone).remove()
        app.draw()

    assert run(Natmirror(), do).failure is None


def test_answers_that_come_together_are_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = 0

    def counting(*arguments: Any) -> Frame:
        nonlocal drawn
        drawn += 1
        return frame(*arguments)

    monkeypatch.setattr(app_module, "frame", counting)

    async def do(pilot: Pilot[None], app: TopApp) -> None:
        await pilot.press("p")
        before = drawn
        for _ in range(50):
            app.post_message(app_module._Reported("status", Trouble("no natmirror answers", is_refused=False)))
        await until(pilot, lambda: "NO ANSWER since " in app.shown)
        assert drawn - before < 10

    run(Natmirror(), do)


def test_nothing_is_asked_while_it_is_paused() -> None:
    natmirror = Natmirror()

    async def do(pilot: Pilot[None], app: TopApp) -> None:
        await pilot.press("p")
        assert "PAUSED" in app.shown
        most = len(natmirror.asked) + 2  # one question of each kind may have been under way
        await pilot.pause(1.5)
        assert len(natmirror.asked) <= most
        await pilot.press("p")
        await until(pilot, lambda: len(natmirror.asked) > most)

    run(natmirror, do)


def test_it_goes_on_by_itself_when_natmirror_is_back() -> None:
    natmirror = Natmirror()

    async def do(pilot: Pilot[None], app: TopApp) -> None:
        natmirror.error = NoAnswerError("no natmirror answers on /run/api.sock")
        await until(pilot, lambda: "NO ANSWER since " in app.shown)
        assert "openflow/master" in app.shown
        natmirror.error = None
        await until(pilot, lambda: "NO ANSWER" not in app.shown)

    run(natmirror, do)


def test_the_screen_follows_the_terminals_size() -> None:
    natmirror = Natmirror(legs=100)

    async def do(pilot: Pilot[None], app: TopApp) -> None:
        for width, height in ((120, 40), (40, 10), (80, 24)):
            await pilot.resize_terminal(width, height)
            await until(pilot, lambda height=height: len(app.shown.split("\n")) == height)  # type: ignore[misc]
            await until(pilot, lambda: app.shown.count("10.10.0.11:") == app.leg_rows)

    run(natmirror, do)


@pytest.mark.parametrize("changes", [{"services": None}, {"condition": {}}])
def test_an_answer_of_another_version_ends_it(changes: dict[str, Any]) -> None:
    async def running() -> TopApp:
        app = TopApp(Natmirror(**changes), View(), UNICODE)
        async with app.run_test() as pilot:
            await until(pilot, lambda: app.failure is not None)
        return app

    assert isinstance(asyncio.run(running()).failure, LookupError | TypeError)
