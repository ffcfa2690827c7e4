"""Options and types that several commands have."""

from pathlib import Path

import click

from natmirror.ha import keepalived_hooks

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
