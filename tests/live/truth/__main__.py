"""Give Open vSwitch and the model of its tables 10,000 random orders in each version of OpenFlow, and compare them.

    python -m tests.live.truth [STEPS] [SEED]

Prints the figures of each version; fails if there is a difference.
"""

import sys

from natmirror.lab.openvswitch import OpenVSwitch
from natmirror.lab.topology import Lab
from natmirror.openflow.messages import VERSIONS
from tests.live.truth.comparison import Comparison


def main(steps: str = "10000", seed: str = "1") -> int:
    """Compare; return the exit code."""
    is_equal = True
    protocols = ",".join(f"OpenFlow{version.replace('.', '')}" for version in VERSIONS.values())
    with Lab() as lab:
        switch = OpenVSwitch(lab, 1, protocols=protocols)
        for version in VERSIONS:
            management = switch.directory / "br0.mgmt"
            figures = Comparison(management, version, int(seed), switch.appctl).run(int(steps))
            print(figures, flush=True)
            print(*figures.differences, sep="\n", file=sys.stderr)
            is_equal = is_equal and not figures.differences
    return not is_equal


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
