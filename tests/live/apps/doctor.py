"""natmirror doctor, again and again in one process, which saves its start.

    python -m tests.live.apps.doctor RULES API

For each line of standard input, ``look`` or ``fix``, it prints its answer as a line of JSON, as ``natmirror doctor
--json`` does.
"""

import json
import sys
from pathlib import Path

from natmirror.doctor.subject import Subject
from natmirror.doctor.visit import visit


def main(rules: str, api: str) -> None:
    """Serve until standard input ends."""
    print("ready", flush=True)
    for line in sys.stdin:
        found = visit(lambda: Subject(Path(rules), Path(api)), mends=line.strip() == "fix", say=lambda text: None)
        print(json.dumps(found.show()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
