"""The command that shows a running natmirror live."""

import sys
from pathlib import Path
from typing import Any

import click

from natmirror.cli import exit_codes
from natmirror.cli.exit_codes import epilog
from natmirror.cli.options import api_option

_NO_TERMINAL = "natmirror top needs a terminal; natmirror status prints the same once, and natmirror legs has the legs"


@click.command(epilog=epilog(exit_codes.TOP))
@click.option(
    "--interval",
    type=click.FloatRange(0.5, 60.0),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Ask for the state this often.",
)
@click.option("--service", metavar="NAME", help="Only this service.")
@api_option
def top(interval: float, service: str | None, api_path: Path) -> None:
    """Show live what passes, and what is wrong.

    The condition and its problems come first, then packets, bits and new connections a second of each service,
    backends, mirrors, the processor time of natmirror's threads, and the legs, those that are behind longest first.
    Curves show the last two minutes. ? lists the keys: sort, filter, pause, pace. If natmirror stops, the screen says
    so and goes on when it is back.
    """
    from natmirror.api.client import ask
    from natmirror.errors import HostError, RefusedError

    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise HostError(_NO_TERMINAL)
    status = ask("status", api_path)  # before the terminal changes: its errors are those of the other commands
    if service is not None and service not in (names := [one["service"] for one in status["services"]]):
        raise RefusedError(f"there is no service {service:.70}: there are {', '.join(names)}")
    from natmirror.threads import yield_to_packets

    yield_to_packets()  # to import and draw takes processor time, perhaps on the core of a packet thread
    from natmirror.top.app import TopApp
    from natmirror.top.drawing import environment_glyphs
    from natmirror.top.view import View

    def ask_again(resource: str, parameters: dict[str, Any]) -> Any:
        return ask(resource, api_path, **parameters)

    app = TopApp(ask_again, View(interval=interval, service=service), environment_glyphs())
    app.run(mouse=False)
    if app.failure is not None:
        raise app.failure
