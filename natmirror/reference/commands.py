"""The page of the commands: their usage, arguments, options and exit codes, as click's own help has them."""

import inspect

import click

from natmirror.cli.commands import main
from natmirror.ha import keepalived_hooks
from natmirror.reference import markdown


def page() -> str:
    """Return the page."""
    top = click.Context(main, info_name="natmirror")
    blocks = [_command(top)]
    for name in main.list_commands(top):
        command = main.get_command(top, name)
        assert command is not None
        blocks.append(f"## natmirror {name}\n\n{_command(click.Context(command, parent=top, info_name=name))}")
    return markdown.page("Commands", *blocks)


def _command(context: click.Context) -> str:
    command = context.command
    usage = keepalived_hooks.USAGE.get(command.name or "") or command.get_usage(context).removeprefix("Usage: ")
    records = [record for one in command.get_params(context) if (record := one.get_help_record(context))]
    blocks = [
        markdown.code(usage),
        _text(command.help),
        markdown.table(("option", "meaning"), [(markdown.literal(name), text) for name, text in records])
        if records
        else "",
        _text(command.epilog),
    ]
    return "\n\n".join(block for block in blocks if block)


def _text(text: str | None) -> str:
    return inspect.cleandoc(text or "").replace("\b\n", "")
