"""``python -m bench.top_picture DIRECTORY``: natmirror top, drawn while real traffic passes (root, two minutes).

In the lab, a thousand connections say nothing while others carry small packets and bulk in turn. One backend has never
run, and a mirror answers no more at the end. The screen is Textual's own drawing of what a terminal shows; the
directory gets ``top.svg``, at 120 columns and 40 lines, and ``top-80x24.svg``.
"""

import asyncio
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from bench.machine import LOAD_CORES, running_on
from bench.network import BACKEND, MIRRORS, PORT, Network, raise_files_limit
from bench.programs import compile_programs
from natmirror.api.client import ask
from natmirror.errors import HostError
from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.topology import SERVICE
from natmirror.top.app import TopApp
from natmirror.top.drawing import UNICODE
from natmirror.top.view import View

_SILENT = 1000
_NEVER_RUNS = "10.20.0.12"
_RULES = f"""
switches: [10.10.0.0/24]
services:
  - name: openflow
    address: {SERVICE}
    port: {PORT}
    pool:
      health: {{check: tcp, interval: 1s}}
      backends: [{{name: c1, address: {BACKEND}}}, {{name: c2, address: {_NEVER_RUNS}}}]
    mirrors:
      - {{name: master, address: {MIRRORS[0]}}}
      - {{name: analysis, address: {MIRRORS[1]}}}
  - name: bulk
    address: {SERVICE}
    port: {PORT + 1}
    pool: {{backends: [{{name: c1, address: {BACKEND}}}]}}
"""
_SIZES = {"top.svg": (120, 40), "top-80x24.svg": (80, 24)}
_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)

# Seconds
_OPEN_TIMEOUT = 30.0
_AFTER = 8.0
_BEHIND = 7.0


_TRAFFIC = (
    (0, 85, "latency", PORT, {"connections": 20, "rate": 300}),
    (0, 30, "latency", PORT, {"connections": 30, "rate": 900}),
    (0, 12, "connections", PORT, {"connections": 2}),
    (15, 10, "bulk", PORT + 1, {"connections": 2}),
    (30, 20, "connections", PORT, {"connections": 1}),
    (40, 8, "latency", PORT, {"connections": 30, "rate": 1500}),
    (48, 30, "bulk", PORT + 1, {"connections": 1}),
    (55, 30, "latency", PORT, {"connections": 30, "rate": 600}),
)
"""When clients begin, for how long they run, and what they do: so that curves have a shape."""


async def _pass_traffic(network: Network) -> None:
    at = 0.0
    for begins_at, seconds, name, port, options in _TRAFFIC:
        await asyncio.sleep(begins_at - at)
        at = begins_at
        command = network.client(name, SERVICE, seconds=seconds, port=port, **options)
        network.lab.start("s1", command, name=name)


async def _draw(api: Path, network: Network) -> dict[str, str]:
    def asking(resource: str, parameters: dict[str, Any]) -> Any:
        return ask(resource, api, **parameters)

    app = TopApp(asking, View(), UNICODE)
    drawn: dict[str, str] = {}
    async with app.run_test(size=_SIZES["top.svg"]) as pilot:
        await _pass_traffic(network)
        await asyncio.sleep(_AFTER)
        network.lab.run("m", ["ip", "address", "delete", f"{MIRRORS[1]}/24", "dev", "eth0"])
        await asyncio.sleep(_BEHIND)
        for name, size in _SIZES.items():
            await pilot.resize_terminal(*size)
            await asyncio.sleep(2)
            drawn[name] = _FONTS.sub("", app.export_screenshot(title="natmirror top"))
    return drawn


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, exists=True, path_type=Path))
def main(directory: Path) -> None:
    """Draw natmirror top into DIRECTORY, while real traffic passes."""
    raise_files_limit()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="natmirror-bench-") as place,
            running_on(LOAD_CORES),
            Network(compile_programs(Path(place)), flows=_SILENT) as network,
        ):
            rules = network.lab.directory / "rules.yaml"
            rules.write_text(_RULES)
            balancer = LoadBalancer(network.lab, rules)
            network.hold(SERVICE, _SILENT, _OPEN_TIMEOUT)
            drawn = asyncio.run(_draw(balancer.api, network))
            balancer.stop()
    except HostError as error:
        click.echo(f"top_picture: {error}", err=True)
        sys.exit(2)
    for name, text in drawn.items():
        (directory / name).write_text(text)


if __name__ == "__main__":
    main()
