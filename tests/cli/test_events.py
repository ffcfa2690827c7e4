"""The command events: from a running natmirror, from the file, and what it refuses."""

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from natmirror.cli.commands import main
from natmirror.events import EventKind, EventRing, EventSeverity
from natmirror.events.event import encode, read_time
from tests.helpers.api import served


@pytest.fixture
def ring() -> EventRing:
    one = EventRing(lambda: read_time("2026-11-30T03:00:00Z"))
    one.add(EventKind.BACKEND_DOWN, EventSeverity.WARNING, "web/c1 is down: no answer", service="web", backend="c1")
    one.add(EventKind.BACKEND_UP, EventSeverity.INFO, "web/c1 is up", service="web", backend="c1")
    return one


@pytest.fixture
def file(tmp_path: Path, ring: EventRing) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(map(encode, ring.all())))
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["events", *map(str, words)], catch_exceptions=False)


LINES = (
    "2026-11-30T03:00:00.000+00:00 warning backend-down      web/c1 is down: no answer\n"
    "2026-11-30T03:00:00.000+00:00 info    backend-up        web/c1 is up\n"
)


def test_events_are_one_line_each(tmp_path: Path, ring: EventRing) -> None:
    path = tmp_path / "api.sock"
    with served(path, {"events": lambda: [one.entry() for one in ring.all()]}):
        assert run("--api", path).output == LINES
        assert json.loads(run("--api", path, "--json").output) == [one.entry() for one in ring.all()]
        assert run("--api", path, "--severity", "warning", "--since", "1h", "--kind", "backend-up").exit_code == 0


def test_where_no_natmirror_answers_the_file_has_the_events(tmp_path: Path, file: Path) -> None:
    nowhere = ("--api", tmp_path / "nothing.sock", "--file", file)
    assert run(*nowhere).output == LINES
    assert run(*nowhere, "--severity", "warning").output == LINES.splitlines(keepends=True)[0]
    assert run(*nowhere, "--kind", "backend-up").output == LINES.splitlines(keepends=True)[1]
    assert run(*nowhere, "--since", "2026-11-30T03:00:01").output == ""
    assert run(*nowhere, "--since", "999999d").output == LINES  # before 1970
    assert run(*nowhere, "--limit", "1", "--json").output.count("number") == 1


def test_no_color_switches_colours_off(tmp_path: Path, file: Path) -> None:
    words = ["events", "--api", str(tmp_path / "nothing.sock"), "--file", str(file)]
    assert "\x1b[" in CliRunner().invoke(main, words, color=True, env={"NO_COLOR": ""}).output
    assert CliRunner().invoke(main, words, color=True, env={"NO_COLOR": "1"}).output == LINES


def test_without_natmirror_and_without_a_file_there_is_an_error(tmp_path: Path) -> None:
    result = run("--api", tmp_path / "nothing.sock", "--file", tmp_path / "events.jsonl")
    assert result.exit_code == 1
    assert "no natmirror answers" in result.output


def test_follow_prints_what_comes_and_ends_with_an_interrupt(
    tmp_path: Path, file: Path, ring: EventRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pause(seconds: float) -> None:
        if len(ring.all()) == 3:
            raise KeyboardInterrupt
        ring.add(EventKind.STOPPED, EventSeverity.INFO, "natmirror has stopped")
        file.write_bytes(b"".join(map(encode, ring.all())))

    monkeypatch.setattr(time, "sleep", pause)
    result = run("--api", tmp_path / "nothing.sock", "--file", file, "--follow", "--json")
    assert [json.loads(line) for line in result.output.splitlines()] == [one.entry() for one in ring.all()]
    assert result.exit_code == 0


@pytest.mark.parametrize("words", [("--since", "yesterday"), ("--kind", "nonsense"), ("--limit", "0")])
def test_a_wrong_word_is_a_usage_error(words: tuple[str, str]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert words[0] in result.output
