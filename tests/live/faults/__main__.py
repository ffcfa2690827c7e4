"""Plant the faults of a host one at a time beside traffic, and print what natmirror says and what the clients lose.

    python -m tests.live.faults [WORD]

With a word, only faults whose name has it.
"""

import sys

from natmirror.lab.topology import Lab
from tests.live.faults import FAULTS
from tests.live.faults.stage import SEEN_WITHIN, SOURCES, Stage, table
from tests.live.scene import Scene


def main(word: str = "") -> int:
    """Plant the faults; return the exit code."""
    mistakes = []
    for iptables, all_faults in FAULTS.values():
        if not (faults := [fault for fault in all_faults if word in fault.name]):
            continue
        with Lab() as lab:
            for address in SOURCES[1:]:
                lab.address("s1", "eth0", address)
            scene = Scene(lab)
            stage = Stage(scene, iptables, faults)
            for fault in faults:
                stage.play(fault)
            outcomes = stage.end()
            scene.close()
        print(table(outcomes), flush=True)
        mistakes += [
            f"{one.fault.name}: {'; '.join(wrong)}" for one in outcomes if (wrong := one.mistakes(SEEN_WITHIN))
        ]
    print(*mistakes, sep="\n", file=sys.stderr)
    return bool(mistakes)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
