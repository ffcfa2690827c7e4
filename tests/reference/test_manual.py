"""The man page has each command with its options and exit codes, in lines that roff reads as they are meant."""

import re

import click
import pytest

from natmirror.reference import manual
from natmirror.reference.commands import all_contexts, exit_codes_of, options_of

PAGE = manual.page()
REQUESTS = {".TH", ".SH", ".SS", ".TP", ".PP", ".nf", ".fi"}


def part(path: str) -> str:
    """Return the part of the page about a command."""
    title = ".SH OPTIONS" if path == "natmirror" else f".SS {path}".replace("-", r"\-")
    return re.split(r"^\.S[HS] (?!EXIT)", PAGE.partition(f"\n{title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


@pytest.mark.parametrize("context", all_contexts(), ids=lambda one: one.command_path)
def test_each_command_has_its_options_and_exit_codes(context) -> None:  # type: ignore[no-untyped-def]
    text = part(context.command_path)
    for name, meaning in options_of(context) + exit_codes_of(context.command):
        assert f"\\fB{manual.escaped(name)}\\fR\n{manual.escaped(meaning)}\n" in text


def test_a_line_is_a_request_only_where_it_is_meant_to_be() -> None:
    assert {line.split()[0] for line in PAGE.splitlines() if line.startswith((".", "'"))} == REQUESTS


def test_text_is_kept_as_it_is_by_roff() -> None:
    assert manual.escaped(r"--a \b") == r"\-\-a \eb"
    assert manual.escaped(".b") == r"\&.b"


def test_paragraphs_are_filled_but_for_those_that_click_leaves_as_they_are() -> None:
    command = click.Command("x", help="One\nsentence.\n\n\b\n-a\n  b\n\nThe end.")
    filled, kept, last = ["One", "sentence."], [".nf", r"\-a", "  b", ".fi"], ["The end."]
    assert manual.description(command) == [*filled, ".PP", *kept, ".PP", *last]
