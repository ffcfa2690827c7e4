"""The explanation pages agree with what the code declares."""

import re
import shlex
from pathlib import Path

import click
import pytest

from natmirror.cli.commands import main
from natmirror.events.kinds import EventKind
from natmirror.findings import ALL_CODES, FindingCode
from natmirror.tcp.leg_states import TRANSITIONS, LegEvent, LegState

DOCS = Path(__file__).parent.parent / "docs"
FROM_EACH_STATE = {LegEvent.RST, LegEvent.ABORT, LegEvent.ABANDON}
"""The events that the picture has in words, because they lead from each state to the end."""


def test_the_picture_of_a_leg_has_the_states_and_transitions_of_the_table() -> None:
    picture = (DOCS / "pictures" / "leg.svg").read_text(encoding="utf-8")
    names = re.findall(r'class="name"[^>]*>(\w+)<', picture)
    assert sorted(names) == sorted(state.name for state in LegState)
    edges = re.findall(r'data-edge="([^"]+)"[^>]*/><text class="event"[^>]*>(\w+)<', picture)
    assert all(edge.split()[1] == shown for edge, shown in edges)
    assert {edge for edge, _ in edges} == {
        f"{before.name} {event.name} {after.name}"
        for (before, event), after in TRANSITIONS.items()
        if event not in FROM_EACH_STATE
    }
    for event in FROM_EACH_STATE:
        assert {before for before, by in TRANSITIONS if by is event} == {*LegState} - {LegState.CLOSED}
        assert {after for (_, by), after in TRANSITIONS.items() if by is event} == {LegState.CLOSED}
        assert event.name in picture


@pytest.mark.parametrize("code", ALL_CODES)
def test_the_troubleshooting_page_leads_to_each_code(code: FindingCode) -> None:
    page = (DOCS / "explanation" / "troubleshooting.md").read_text(encoding="utf-8")
    assert f"[`{code}`](../reference/findings.md#{code})" in page


def test_the_troubleshooting_page_names_commands_that_exist() -> None:
    page = (DOCS / "explanation" / "troubleshooting.md").read_text(encoding="utf-8")
    lines = re.findall(r"^    (natmirror [^#\n]+)", page, re.MULTILINE)
    assert len(lines) > 20
    for line in lines:
        words = shlex.split(line)[1:]
        command = main.commands[words[0]]
        parser = command.make_parser(click.Context(command))
        options, _, _ = parser.parse_args(words[1:])
        assert {*options.get("kind", ())} <= {*EventKind}, line


def test_each_cell_of_the_comparison_has_a_source() -> None:
    page = (DOCS / "explanation" / "comparison.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    heading, *rows = [[cell.strip() for cell in row] for row in rows]
    assert len(rows) > 15
    for name, own, *others in rows:
        assert len(others) == len(heading) - 2, name
        assert "](" in own, name
        assert all("[^" in cell or cell == "\N{EN DASH}" for cell in others), (name, others)
    text, notes = re.sub(r"^\[\^[a-z-]+\]:", "", page, flags=re.M), re.findall(r"^\[\^([a-z-]+)\]:", page, re.M)
    assert sorted(notes) == sorted({*re.findall(r"\[\^([a-z-]+)\]", text)})
    for note in re.split(r"^\[\^", page, flags=re.M)[1:]:
        assert re.search(r"<https?://[^>]+>", note), note
