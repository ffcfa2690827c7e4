"""``python -m bench.worst``: the longest single call that a peer is known to cause in a packet thread's loop.

Each input plays a switch, backend, mirror or master against an engine, in both gears, and drives it as a worker does:
punted packets go to decide(), due timers to handle_timer() with a worker's slice of time. It needs no root. Calls are
measured in the thread's CPU time. The figure is the least of three runs' longest calls, because other load of the
machine only adds to it. ``--other CHECKOUT`` runs the same inputs in another checkout, with its own environment, and
prints its figures too.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.worst_inputs import INPUTS
from bench.worst_peers import Loop

_RUNS = 3


def measure(names: list[str]) -> dict[str, list[float]]:
    """Return for each input the longest call in milliseconds, with the C gear and without."""
    gc.disable()
    found: dict[str, list[float]] = {}
    for name in names:
        rules, play = INPUTS[name]
        found[name] = [min(_longest(rules, play, fast) for _ in range(_RUNS)) for fast in (True, False)]
    return found


def _longest(rules: str, play: Callable[[Loop], None], fast: bool) -> float:
    loop = Loop(rules, fast=fast)
    play(loop)
    gc.collect()
    return loop.longest * 1000


def _measure_other(checkout: Path, names: list[str]) -> dict[str, list[float]]:
    """Return the same figures of another checkout's natmirror, with these inputs."""
    argv = [str(checkout / ".venv" / "bin" / "python"), "-m", "bench.worst", "--json", *names]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    # A folder with this checkout's bench and the other checkout's natmirror.
    with tempfile.TemporaryDirectory(prefix="natmirror-worst-") as folder:
        (Path(folder) / "bench").symlink_to(Path(__file__).resolve().parent)
        result = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(result.stdout))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.worst", description=__doc__.partition("\n")[0])
    parser.add_argument("--other", type=Path, metavar="CHECKOUT", help="print the figures of this checkout too")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="an input's name or a part of it; default: all")
    arguments = parser.parse_args()
    names = [name for name in INPUTS if not arguments.inputs or any(part in name for part in arguments.inputs)]
    if arguments.json:
        json.dump(measure(names), sys.stdout)
        return
    others = "" if arguments.other is None else f"{'other: C':>13}{'Python':>9}"
    print(f"{'longest call in ms':42}{'with C':>9}{'Python':>9}{others}")
    for name in names:
        figures = measure([name])[name]
        figures += [] if arguments.other is None else _measure_other(arguments.other, [name])[name]
        widths = [9, 9, 13, 9]
        print(
            f"{name:42}" + "".join(f"{one:{width}.2f}" for one, width in zip(figures, widths, strict=False)), flush=True
        )


if __name__ == "__main__":
    main()
