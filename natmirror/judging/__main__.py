"""The process of the judges: ``python -m natmirror.judging MEMORY CONNECTION STATEMENTS...``, started by natmirror
itself.

The arguments are a limit on the memory of judges and sums, in bytes, and descriptors: the connection to natmirror, and
the stream of each packet thread. The process gives up all rights before it reads anything, and ends when natmirror
ends.
"""

import gc
import socket
import sys

from natmirror.judging.chamber import Chamber
from natmirror.unprivileged import confine, leave_processor

_MAX_MEMORY = 512 << 20  # bytes of address space, besides those that natmirror counts
_MEMORY_FACTOR = 3  # what is counted is an estimate, and what is freed leaves holes
_NEVER = 1 << 30


def main() -> None:
    """Judge until natmirror ends."""
    memory, *descriptors = map(int, sys.argv[1:])
    leave_processor()
    confine(_MAX_MEMORY + _MEMORY_FACTOR * memory)
    # Judges leave no reference cycles, and to traverse all their rules would take long.
    gc.set_threshold(*gc.get_threshold()[:2], _NEVER)
    connection, *streams = (socket.socket(fileno=number) for number in descriptors)
    Chamber(connection, streams).run()


if __name__ == "__main__":
    main()
