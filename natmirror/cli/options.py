"""Options and types that several commands have."""

import re
from pathlib import Path

import click

from natmirror.ha import keepalived_hooks

_DURATION = re.compile(r"(\d{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

FILE = click.Path(path_type=Path)

api_option = click.option(
    "--api",
    "api_path",
    type=click.Path(path_type=Path, readable=False),  # client and server say better why they cannot use it
    default=keepalived_hooks.DEFAULT_API,
    envvar=keepalived_hooks.API_VARIABLE,
    show_envvar=True,
    show_default=True,
    metavar="SOCKET",
    help="Unix socket on which the running natmirror serves its HTTP API.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


iptables_option = click.option(
    "--iptables",
    "backend",
    type=click.Choice(["nft", "legacy"]),
    envvar="NATMIRROR_IPTABLES",
    show_envvar=True,
    show_default="the host's default",
    help="Use this variant of iptables.",
)


def read_duration(text: str) -> int | None:
    """Return the seconds of a duration such as ``90s`` or ``10m``; None where it is none."""
    match = _DURATION.fullmatch(text)
    return None if match is None else int(match[1]) * _SECONDS[match[2]]
