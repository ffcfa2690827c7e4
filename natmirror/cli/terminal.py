"""What the commands know of the terminal: its size, and whether it wants colours."""

import os
import shutil
import sys

import click


def size() -> os.terminal_size | None:
    """Return the size of the terminal that stdout is, or None if stdout is none."""
    return shutil.get_terminal_size() if sys.stdout.isatty() else None


def echo(text: str) -> None:
    """Print text, with its colours if stdout is a terminal and NO_COLOR is not set (https://no-color.org)."""
    click.echo(text, color=False if os.environ.get("NO_COLOR") else None)
