"""The man page natmirror(8): the same texts as the page of the commands, in the macros of man(7)."""

import inspect
from collections.abc import Iterable

import click

from natmirror import __version__
from natmirror.reference.commands import all_contexts, exit_codes_of, options_of, usage

_NAME = "NAT for a pool of controllers behind one address, and a real TCP copy of every connection"
_FILES = {
    "/etc/natmirror/rules.yaml": "The rules that the service natmirror.service runs with.",
    "/run/natmirror/api.sock": "The socket on which natmirror answers its commands, to root and to members of the"
    " group natmirror.",
    "/var/lib/natmirror": "What the service keeps over restarts: events, and what commands have set with --persist.",
}
_SEE_ALSO = "iptables(8), nft(8), systemctl(1), keepalived(8). The documents are in /usr/share/doc/natmirror/docs."


def page() -> str:
    """Return the man page."""
    top, *others = all_contexts()
    lines = [
        f'.TH NATMIRROR 8 "" "natmirror {__version__}" "System administration"',
        ".SH NAME",
        f"natmirror \\- {escaped(_NAME)}",
        ".SH SYNOPSIS",
        *_synopsis(top),
        ".SH DESCRIPTION",
        *description(top.command),
        ".SH OPTIONS",
        *_tagged(options_of(top)),
        ".SH EXIT STATUS",
        *_tagged(exit_codes_of(top.command)),
        ".SH COMMANDS",
    ]
    for one in others:
        lines += [f".SS {escaped(one.command_path)}", *_synopsis(one), ".PP", *description(one.command)]
        lines += [*_tagged(options_of(one)), ".PP", "Exit status:", *_tagged(exit_codes_of(one.command))]
    lines += [".SH FILES", *_tagged(_FILES.items()), ".SH SEE ALSO", escaped(_SEE_ALSO)]
    return "\n".join(lines) + "\n"


def _synopsis(context: click.Context) -> list[str]:
    return [".nf", *(escaped(line.strip()) for line in usage(context).splitlines()), ".fi"]


def description(command: click.Command) -> list[str]:
    """Return a command's help: paragraphs, of which click leaves those behind a \\b as they are."""
    lines: list[str] = []
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        kept, text = paragraph.startswith("\b\n"), paragraph.removeprefix("\b\n")
        shown = [escaped(line) for line in text.splitlines()]
        lines += [".PP", *((".nf", *shown, ".fi") if kept else shown)]
    return lines[1:]


def _tagged(rows: Iterable[tuple[str, str]]) -> list[str]:
    return [line for name, meaning in rows for line in (".TP", _bold(name), escaped(meaning))]


def _bold(text: str) -> str:
    return f"\\fB{escaped(text)}\\fR"


def escaped(text: str) -> str:
    """Return a line of text as roff reads it: with hyphens that can be copied into a shell, and no request."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("\n", " ")
    return f"\\&{text}" if text.startswith((".", "'")) else text
