"""The page of the commands: their usage, options and exit codes, as their own help has them."""

import inspect
import re
from collections.abc import Iterator

import click

from natmirror.cli.commands import main
from natmirror.ha import keepalived_hooks
from natmirror.reference import markdown
from natmirror.reference.markdown import literal

_INTRODUCTION = """
`natmirror --help` and `natmirror COMMAND --help` print the same texts. An error is one line on standard error.
"""


def page() -> str:
    """Return the page."""
    top, *others = all_contexts()
    sections = (f"## {one.command_path}\n\n{_command(one)}" for one in others)
    return markdown.page("Commands", _INTRODUCTION, f"## natmirror\n\n{_command(top)}", *sections)


def all_contexts() -> list[click.Context]:
    """Return the context of ``natmirror`` itself, then those of its commands."""
    top = click.Context(main, info_name="natmirror")
    return [top, *_contexts(top, main)]


def _contexts(parent: click.Context, group: click.Group) -> Iterator[click.Context]:
    """Yield the context of each command of a group, and of the groups in it."""
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        if isinstance(command, click.Group):
            yield from _contexts(_context(command, parent, name), command)
        elif command is not None:
            yield _context(command, parent, name)


def _context(command: click.Command, parent: click.Context, name: str) -> click.Context:
    return click.Context(command, parent=parent, info_name=name, **command.context_settings)


def _command(context: click.Context) -> str:
    command = context.command
    options = [(literal(name), meaning) for name, meaning in options_of(context)]
    return "\n\n".join(
        (
            markdown.code(usage(context)),
            inspect.cleandoc(command.help or ""),
            *([markdown.table(("option", "meaning"), options)] if options else []),
            markdown.table(("exit code", "meaning"), exit_codes_of(command)),
        )
    )


def options_of(context: click.Context) -> list[tuple[str, str]]:
    """Return each option of a command, and what it means."""
    options = [one for one in context.command.get_params(context) if isinstance(one, click.Option)]
    return [record for one in options if (record := one.get_help_record(context))]


def exit_codes_of(command: click.Command) -> list[tuple[str, str]]:
    """Return each exit code of a command, and what it means."""
    return re.findall(r"^(\d+): (.*)$", command.epilog or "", re.MULTILINE)


def usage(context: click.Context) -> str:
    """Return the usage of a command; keepalived_hooks.py parses the arguments of those that keepalived calls."""
    hook = keepalived_hooks.USAGE.get(context.info_name or "")
    return hook.replace("\n       ", "\n") if hook else context.command.get_usage(context).removeprefix("Usage: ")
