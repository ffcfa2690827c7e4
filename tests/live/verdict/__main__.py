"""Run a learning switch in production and its variants as masters at the same time, and print the verdicts about them.

    python -m tests.live.verdict [--version 1.3] [--answers 1000] [--rate 8] [--seed 1] [--addresses 1]
                                 [--production same] [--twin MIRROR] [VARIANT ...]

Without variants: equal controllers, and all planted bugs. A twin is a mirror with production's own variant, and has its
name with a 2. Fails if there is a false alarm about an equal
controller, or if a bug is not named in time.
"""

import argparse
import itertools
import sys
import time

from natmirror.lab.topology import Lab, leftovers
from tests.live.verdict.catalogue import USUAL, VARIANTS
from tests.live.verdict.measure import measure, mistakes
from tests.live.verdict.outcome import table
from tests.live.verdict.stage import Stage

_TRUTH = 0.99
"""Share of the snapshots in which natmirror's model of production has to have the switch's rules."""
_SLOWEST = 0.5
"""Answers that each frame of the traffic leads to at least."""


def main() -> int:
    """Run; return the exit code."""
    options = _options()
    wrong: list[str] = []
    groups = [(options.production, options.variants)] if options.variants else USUAL
    for version, (production, variants) in itertools.product(options.version, groups):
        names = [name for name in variants if version in VARIANTS[name].versions]
        begun = time.monotonic()
        timeout = 60 + options.answers / (options.rate * _SLOWEST)
        with (
            Lab(switches=2) as lab,
            Stage(
                lab,
                version,
                names,
                production=production,
                twin=options.twin,
                rate=options.rate,
                seed=options.seed,
                addresses=options.addresses,
            ) as stage,
        ):
            outcomes, truth = measure(stage, options.answers, timeout)
        print(f"OpenFlow {version}, {time.monotonic() - begun:.0f} s, production: {production}")
        print(table(outcomes))
        equal = f"{truth.equal} of {truth.count} snapshots equal"
        rules = f"{truth.rules} rules, {truth.doubtful} doubtful ones gone"
        print(f"model: {equal}, {rules}", *truth.different, "", sep="\n    ", flush=True)
        wrong += [f"{version} {one}" for one in mistakes(outcomes, options.answers)]
        if truth.equal < _TRUTH * truth.count:
            wrong.append(f"{version} model: {equal}")
        wrong += [f"{version} left behind: {name}" for name in leftovers()]
    print(*wrong, sep="\n", file=sys.stderr)
    return bool(wrong)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.live.verdict", description=__doc__.splitlines()[0])
    parser.add_argument("variants", nargs="*", metavar="VARIANT", choices=[*VARIANTS, []])
    parser.add_argument("--version", action="append", choices=["1.0", "1.3"])
    parser.add_argument("--answers", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=8.0, help="frames that hosts send by themselves, in a second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--addresses", type=int, default=1, help="from how many addresses each host sends")
    parser.add_argument("--production", default="same", choices=VARIANTS)
    parser.add_argument("--twin", help="the mirror that runs production's own version")
    options = parser.parse_args()
    options.version = options.version or ["1.0", "1.3"]
    return options


if __name__ == "__main__":
    sys.exit(main())
