"""Run the health checks of a rules file alone. Print each change, and ten times a second the state, as lines of JSON.

python -m tests.live.apps.monitor RULES
"""

import json
import sys
import time

from natmirror.backends.monitor import Monitor
from natmirror.linux.reachability import Reachability
from natmirror.linux.vrf import ProductionVrf
from natmirror.rules import load_rules

_PERIOD = 0.1


def tell(**entry: object) -> None:
    """Print a line."""
    sys.stdout.write(json.dumps({"at": time.monotonic(), **entry}) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run until killed."""
    monitor = Monitor(
        load_rules(sys.argv[1]),
        lambda one: tell(service=one.service, backend=one.backend.name, up=one.is_up, reason=one.reason),
        lambda: None,
        Reachability(ProductionVrf()),
    )
    monitor.start()
    while True:
        tell(status=monitor.status())
        time.sleep(_PERIOD)


if __name__ == "__main__":
    main()
