"""The screen in a terminal: keys, the prompt of the filter, resizing, and a terminal that is left as it was."""

import asyncio
import signal
import time
from collections.abc import Callable
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input, Static

from natmirror.top.asking import Answer, Asker, Trouble
from natmirror.top.drawing import Glyphs
from natmirror.top.known import Known
from natmirror.top.screen import frame
from natmirror.top.view import View, parse_filter

Ask = Callable[[str, dict[str, Any]], Any]
"""Asks natmirror for a resource, with parameters; raises one of natmirror's errors."""
# Seconds
_REDRAW_INTERVAL = 1.0
"""Ages grow though nothing is answered."""
_GATHER_TIME = 0.1
"""Answers of all askers within this time are drawn together: to draw takes a processor long, perhaps the packets'."""
_FIRST_ROWS = 10


class _Reported(Message):
    """A result of one of the askers."""

    def __init__(self, resource: str, result: Answer | Trouble) -> None:
        super().__init__()
        self.resource = resource
        self.result = result


class TopApp(App[None]):
    """The screen of one natmirror, which ``ask`` asks. ``failure`` is the exception that an answer of another version
    has led to; the screen has ended then. ``clock`` returns the monotonic time, ``wall`` the seconds since 1970."""

    AUTO_FOCUS = None
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #screen { height: 1fr; }
    Input { dock: bottom; display: none; }
    """
    BINDINGS: ClassVar = [
        Binding("q", "quit"),
        Binding("ctrl+c", "quit", priority=True),
        Binding("s", "sort(1)"),
        Binding("S", "sort(-1)"),
        Binding("r", "reverse"),
        Binding("f,slash", "filter"),
        Binding("escape", "clear", priority=True),
        Binding("p,space", "pause"),
        Binding("plus", "pace(-1)"),
        Binding("minus", "pace(1)"),
        Binding("question_mark,h", "help"),
        Binding("ctrl+z", "suspend_process", priority=True),
    ]

    def __init__(
        self,
        ask: Ask,
        view: View,
        glyphs: Glyphs,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(
            ansi_color=True
        )  # the terminal's own colours, which fit dark and light ones; none with NO_COLOR
        self.theme = "ansi-dark"
        self.view = view
        self.known = Known()
        self.failure: Exception | None = None
        self._glyphs = glyphs
        self._clock = clock
        self._wall = wall
        self.leg_rows = _FIRST_ROWS
        """For how many legs there is room."""
        self._drawn_at = clock()
        self._gathering: Timer | None = None

        def asker(resource: str, question: Callable[[], dict[str, Any] | None]) -> Asker:
            def report(result: Answer | Trouble) -> None:
                self.post_message(_Reported(resource, result))

            return Asker(
                f"ask-{resource}", question, lambda parameters: ask(resource, parameters), report, self._interval
            )

        self._askers = {
            "status": asker("status", lambda: None if self.view.is_paused else {}),
            "legs": asker("legs", self._legs_question),
        }

    def compose(self) -> ComposeResult:
        yield Static(id="screen")
        yield Input(placeholder="10.10.0.0/24  c1  mirror=m  state=established", compact=True)

    def on_mount(self) -> None:
        """Begin to ask."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            loop.add_signal_handler(number, self.exit)
        self.query_one(Input).can_focus = False
        for one in self._askers.values():
            one.start()
        self.set_interval(_REDRAW_INTERVAL / 2, self._draw_again)
        self.draw()

    def on_unmount(self) -> None:
        """Ask no more."""
        for one in self._askers.values():
            one.stop()

    def on_resize(self) -> None:
        """Fill the terminal's new size."""
        self.draw()

    def draw(self) -> None:
        """Show what is known now; nothing while the screen begins or ends, when an answer may still come."""
        screens, prompts = self.query("#screen").results(Static), self.query(Input)
        screen, prompt = next(iter(screens), None), next(iter(prompts), None)
        if screen is None or prompt is None:
            return
        (width, height), typing = self.size, prompt.display
        try:
            shown = frame(
                *(self.known, self.view, width, height - typing, self._glyphs),
                *(self._clock(), self._wall()),
            )
        except (LookupError, TypeError, ValueError) as error:
            self._fail(error)
            return
        if shown.leg_rows > self.leg_rows:
            self._askers["legs"].hurry()
        self.leg_rows = shown.leg_rows
        screen.update(shown.text, layout=False)
        self._drawn_at = self._clock()

    def _draw_again(self) -> None:
        if self._clock() - self._drawn_at >= _REDRAW_INTERVAL:
            self.draw()

    def _draw_soon(self) -> None:
        if self._gathering is None:
            self._gathering = self.set_timer(_GATHER_TIME, self._draw_gathered)

    def _draw_gathered(self) -> None:
        self._gathering = None
        self.draw()

    def _fail(self, error: Exception) -> None:
        self.failure = error
        self.exit()

    # Answers

    def _interval(self) -> float:
        return self.view.interval

    def _legs_question(self) -> dict[str, Any] | None:
        is_asked = not (self.view.is_paused or self.view.shows_help or self.known.trouble) and self.leg_rows
        return self.view.question(self.leg_rows) if is_asked else None

    def on__reported(self, message: _Reported) -> None:
        """Take a result."""
        known, result = self.known, message.result
        try:
            if isinstance(result, Answer):
                if message.resource == "status":
                    known.take_status(result, self.view.interval)
                else:
                    known.take_legs(result)
            elif message.resource == "status":
                known.miss_status(result, self._clock())
            else:
                known.legs_trouble = result.text if result.is_refused else ""
        except (LookupError, TypeError, ValueError) as error:
            self._fail(error)
            return
        self._draw_soon()

    # Keys

    def _change(self, *, asks_legs: bool = False) -> None:
        self.view.message = ""
        if asks_legs:
            self._askers["legs"].hurry()
        self.draw()

    def action_sort(self, step: int) -> None:
        """Sort by the next column."""
        self.view.sort_by_next(step)
        self._change(asks_legs=True)

    def action_reverse(self) -> None:
        """Reverse the order."""
        self.view.is_descending = not self.view.is_descending
        self._change(asks_legs=True)

    def action_pause(self) -> None:
        """Ask nothing, or ask again."""
        self.view.is_paused = not self.view.is_paused
        if not self.view.is_paused:
            self._askers["status"].hurry()
        self._change(asks_legs=not self.view.is_paused)

    def action_pace(self, step: int) -> None:
        """Ask more often, or less."""
        self.view.change_interval(step)
        for one in self._askers.values():
            one.hurry()
        self._change()

    def action_help(self) -> None:
        """Show the keys, or the tables again."""
        self.view.shows_help = not self.view.shows_help
        self._change(asks_legs=not self.view.shows_help)

    def action_filter(self) -> None:
        """Open the prompt."""
        prompt = self.query_one(Input)
        prompt.display = prompt.can_focus = True
        prompt.value = " ".join(f"{key}={value}" for key, value in self.view.filter.items())
        prompt.focus()
        self._change()

    def action_clear(self) -> None:
        """Close help or the prompt, or take the filter away."""
        if self.view.shows_help:
            self.view.shows_help = False
        elif not self._close_prompt():
            self.view.filter = {}
        self._change(asks_legs=True)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Filter by what was typed."""
        self.view.message = ""
        try:
            self.view.filter = parse_filter(event.value, self.known.names())
        except ValueError as error:
            self.view.message = str(error)
            self.draw()
            return
        self._close_prompt()
        self._change(asks_legs=True)

    def _close_prompt(self) -> bool:
        """Close the prompt; return False if it was not open."""
        prompt = self.query_one(Input)
        was_open = bool(prompt.display)
        prompt.display = prompt.can_focus = False
        self.set_focus(None)
        return was_open

    @property
    def shown(self) -> str:
        """The screen as plain text."""
        content = self.query_one("#screen", Static).content
        return content.plain if isinstance(content, Text) else str(content)
