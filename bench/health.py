"""The cost of ``natmirror health``, which keepalived runs: measured in turn with a Python that does nothing (root).

python -m bench.health [ROUNDS]
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.topology import Lab

_RULES = Path(__file__).parents[1] / "rules" / "lb.yaml"
_ROUNDS = 100


def seconds(command: Sequence[str]) -> float:
    """Run a command, and return the seconds that it takes; CalledProcessError where it fails."""
    began_at = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began_at


def main() -> None:
    """Run the commands against a natmirror in the lab, and print their times."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else _ROUNDS
    with Lab() as lab:
        balancer = LoadBalancer(lab, _RULES)
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "natmirror health": [
                str(Path(sys.executable).with_name("natmirror")),
                "health",
                "--api",
                str(balancer.api),
            ],
            "natmirror --version": [str(Path(sys.executable).with_name("natmirror")), "--version"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                times[name].append(seconds(command))
        balancer.stop()
    nothing = statistics.median(times["python -c pass"])
    for name, taken in times.items():
        median = statistics.median(taken)
        print(f"{name}: median {1000 * median:.1f} ms, worst {1000 * max(taken):.1f} ms, ratio {median / nothing:.2f}")


if __name__ == "__main__":
    main()
