"""Delays the packets of a queue, as a long path would.

    python -m tests.live.apps.delay QUEUE SECONDS

It prints "ready" once the queue is bound.
"""

import argparse
import select
import time
from collections import deque

from netfilterqueue import NetfilterQueue, Packet


def main() -> None:
    """Delay packets until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("queue", type=int)
    parser.add_argument("seconds", type=float)
    arguments = parser.parse_args()
    waiting: deque[tuple[float, Packet]] = deque()
    queue = NetfilterQueue()
    queue.bind(arguments.queue, lambda packet: waiting.append((time.monotonic() + arguments.seconds, packet)), 65_535)
    print("ready", flush=True)
    while True:
        timeout = max(waiting[0][0] - time.monotonic(), 0.0) if waiting else None
        if select.select([queue.get_fd()], [], [], timeout)[0]:
            queue.run(False)
        while waiting and waiting[0][0] <= time.monotonic():
            waiting.popleft()[1].accept()


main()
