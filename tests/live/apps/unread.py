"""Run a command whose stderr is read until ``ready: ``, then never again, and is kept full: unread.py COMMAND...

The command keeps this process's id. A child reads the pipe, prints it, then fills the pipe and says ``full``.
"""

import os
import select
import sys


def read(pipe: int, parent: int) -> None:
    """Run in the child: read, then stop reading."""
    said = b""
    while b"ready: " not in said:
        if not (piece := os.read(pipe, 4096)):
            return
        sys.stdout.buffer.write(piece)
        sys.stdout.flush()
        said += piece
    # Open the pipe again: O_NONBLOCK on this description would keep the command's writes from blocking, too.
    end = os.open(f"/proc/{parent}/fd/2", os.O_WRONLY | os.O_NONBLOCK)
    try:
        while True:
            os.write(end, b"." * 4096 if select.select([], [end], [], 0)[1] else b".")
    except BlockingIOError:
        print("full", flush=True)
    os.close(end)
    gone = select.poll()
    gone.register(pipe, select.POLLHUP)
    while not any(event & select.POLLHUP for _, event in gone.poll()):
        pass


def main() -> None:
    parent = os.getpid()
    pipe, end = os.pipe()
    if os.fork() == 0:
        os.close(end)
        read(pipe, parent)
        return
    os.close(pipe)
    os.dup2(end, 2)
    os.close(end)
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
