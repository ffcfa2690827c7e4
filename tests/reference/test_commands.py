"""The page of the commands has each command, option and exit code."""

import click
import pytest

from natmirror.cli.commands import main
from natmirror.ha.exit_codes import MEANINGS, MISUSED
from natmirror.reference import commands


def commands_of(group: click.Command, path: str) -> dict[str, click.Command]:
    """Return a command, or the commands of a group and of the groups in it, by their words."""
    if not isinstance(group, click.Group):
        return {path: group}
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        found |= commands_of(command, f"{path} {name}")
    return found


COMMANDS = {"natmirror": main, **commands_of(main, "natmirror")}


def part(title: str) -> str:
    """Return the page's part about a command."""
    [text] = [one for one in commands.page().split("\n## ") if one.startswith(f"{title}\n")]
    return text


@pytest.mark.parametrize("title", COMMANDS)
def test_each_command_has_its_usage_help_options_and_exit_codes(title: str) -> None:
    text, command = part(title), COMMANDS[title]
    assert f"```\n{title} [" in text
    assert command.help is not None
    assert command.help.split("\n")[0] in text
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, "each option says what it does"
            assert all(f"{name}" in text for name in parameter.opts)
    assert "| 0 | " in text


@pytest.mark.parametrize("command", COMMANDS.values())
def test_each_help_begins_with_a_sentence(command: click.Command) -> None:
    assert command.help is not None
    assert command.help.split("\n\n")[0].rstrip().endswith(".")


def test_each_exit_code_of_health_is_explained() -> None:
    text = part("natmirror health")
    assert all(f"| {code} | " in text for code in (*MEANINGS, MISUSED))
