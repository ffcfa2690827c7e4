"""The command in a terminal: the terminal is left as it was, whatever ends the command."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.api import served
from tests.helpers.top import leg, status_at

ENTER, LEAVE, SHOW_CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"
COLOURS = re.compile(rb"\x1b\[([0-9;]*)m")
_TIMEOUT = 20.0


class Terminal:
    """A terminal of 80 columns and 24 lines, and natmirror top in it."""

    def __init__(self, api: Path, **env: str) -> None:
        self._ours, self.theirs = pty.openpty()
        termios.tcsetwinsize(self.theirs, (24, 80))
        self.before = termios.tcgetattr(self.theirs)
        self.text = b""
        environment = {name: text for name, text in os.environ.items() if name not in ("NO_COLOR", "LC_ALL", "LANG")}
        self.program = subprocess.Popen(
            [sys.executable, "-m", "natmirror", "top", "--api", str(api), "--interval", "0.5"],
            **dict.fromkeys(("stdin", "stdout", "stderr"), self.theirs),  # type: ignore[call-overload]
            env={**environment, "TERM": "xterm-256color", "LC_CTYPE": "C.UTF-8", **env},
            start_new_session=True,
        )

    def until(self, condition: Callable[[], bool]) -> None:
        """Read what the program writes until a condition holds."""
        deadline = time.monotonic() + _TIMEOUT
        while not condition():
            assert time.monotonic() < deadline, self.text[-3000:]
            if select.select([self._ours], [], [], 0.05)[0]:
                self.text += os.read(self._ours, 65536)

    def until_text(self, text: str) -> None:
        self.until(lambda: text.encode() in self.text)

    def press(self, key: bytes) -> None:
        os.write(self._ours, key)

    def is_as_before(self) -> bool:
        """Return whether the terminal's settings are as they were, and its own screen is shown."""
        left = self.text.rfind(LEAVE) > self.text.rfind(ENTER) and SHOW_CURSOR in self.text[self.text.rfind(LEAVE) :]
        return left and termios.tcgetattr(self.theirs) == self.before

    def state(self) -> str:
        """Return the letter of the program's state (proc(5))."""
        return Path(f"/proc/{self.program.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def close(self) -> None:
        if self.program.poll() is None:
            self.program.kill()
        self.program.wait()
        os.close(self._ours)
        os.close(self.theirs)


@contextmanager
def running(tmp_path: Path, **env: str) -> Iterator[Terminal]:
    path, second = tmp_path / "api.sock", iter(range(1, 1_000_000))
    with served(path, {"status": lambda: status_at(next(second)), "legs": lambda: [leg(1), leg(2)]}):
        terminal = Terminal(path, **env)
        try:
            terminal.until_text("10.10.0.11:2")
            yield terminal
        finally:
            terminal.close()


@pytest.mark.parametrize("end", [b"q", b"\x03", signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_left_as_it_was(tmp_path: Path, end: bytes | signal.Signals) -> None:
    with running(tmp_path) as terminal:
        assert ENTER in terminal.text
        if isinstance(end, bytes):
            terminal.press(end)
        else:
            terminal.program.send_signal(end)
        terminal.until(lambda: terminal.program.poll() is not None and terminal.is_as_before())
        assert terminal.program.returncode == 0
        assert b"Traceback" not in terminal.text


@pytest.mark.parametrize("how", [b"\x1a", signal.SIGTSTP])
def test_it_can_be_suspended_and_goes_on(tmp_path: Path, how: bytes | signal.Signals) -> None:
    with running(tmp_path) as terminal:
        if isinstance(how, bytes):
            terminal.press(how)
        else:
            terminal.program.send_signal(how)
        terminal.until(lambda: terminal.state() == "T" and terminal.is_as_before())
        count = terminal.text.count(ENTER)
        terminal.program.send_signal(signal.SIGCONT)
        terminal.until(lambda: terminal.text.count(ENTER) > count)
        terminal.until(lambda: terminal.state() != "T" and b"openflow" in terminal.text[terminal.text.rfind(ENTER) :])
        terminal.press(b"q")
        terminal.until(lambda: terminal.program.poll() is not None and terminal.is_as_before())


def test_colours_can_be_switched_off_and_a_terminal_without_utf8_gets_ascii(tmp_path: Path) -> None:
    with running(tmp_path, NO_COLOR="1", LC_ALL="C") as terminal:
        terminal.press(b"q")
        terminal.until(lambda: terminal.program.poll() is not None)
        assert terminal.text.isascii()
        numbers = {int(one) for codes in COLOURS.findall(terminal.text) for one in codes.split(b";") if one}
        assert not {one for one in numbers if (30 <= one <= 48 and one != 39) or 90 <= one <= 107}


def test_without_a_terminal_it_says_what_to_use(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "natmirror", "top", "--api", str(tmp_path / "api.sock")]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "natmirror: natmirror top needs a terminal; natmirror status prints the same once, and natmirror legs has the"
        " legs\n"
    )
