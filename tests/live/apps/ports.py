"""Connect from given ports, so that the ports can be reused.

    python -m tests.live.apps.ports ADDRESS PORT SOURCE FIRST COUNT UNTIL [--reset]

Connects from each port, sends a request, checks the answer and prints "talked". Once the file UNTIL exists it closes
all connections, or with ``--reset`` resets them.
"""

import argparse
import socket
import struct
import sys
import time
from pathlib import Path

from tests.live.apps.wire import ANSWER_LEN, LENGTH, answer_to

_TIMEOUT = 20.0


def connect(arguments: argparse.Namespace, port: int) -> socket.socket:
    """Return a connection from a port, as soon as it succeeds."""
    end = socket.socket()
    end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    end.settimeout(_TIMEOUT)
    end.bind((arguments.source, port))
    end.connect((arguments.address, arguments.port))
    return end


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("source")
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("until", type=Path)
    parser.add_argument("--reset", action="store_true")
    arguments = parser.parse_args()
    ends = []
    for port in range(arguments.first, arguments.first + arguments.count):
        end = connect(arguments, port)
        body = f"from port {port}".encode()
        end.sendall(LENGTH.pack(len(body)) + body)
        answer = b""
        while len(answer) < ANSWER_LEN:
            answer += end.recv(ANSWER_LEN - len(answer)) or sys.exit("no answer")
        assert answer == answer_to(body)
        ends.append(end)
    print("talked", flush=True)
    while not arguments.until.exists():
        time.sleep(0.01)
    for end in ends:
        if arguments.reset:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            end.shutdown(socket.SHUT_WR)
            assert end.recv(1) == b""
        end.close()
    print("closed", flush=True)


if __name__ == "__main__":
    main()
