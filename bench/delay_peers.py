"""The programs of bench.delay: a client that sends small messages, and a host that notes when it has them.

python -m bench.delay_peers send ADDRESS PORT SECONDS
python -m bench.delay_peers receive PORT READER

Each message carries its number and the monotonic time of its sending, which all namespaces of a host share. When all
connections have closed, the receiver prints the delay of each message in seconds, as JSON by number.
"""

import json
import random
import selectors
import socket
import sys
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from struct import Struct

CONNECTIONS = 8
MEAN_INTERVAL = 0.025
"""Seconds between two messages of a connection, on average: less than the 40 ms for which Linux delays an
acknowledgement."""

_MESSAGE = Struct("!Id52x")
_ANSWER = b"answer"
_SLOW_INTERVAL = 0.2  # seconds


class Reader(StrEnum):
    """How a receiver treats its messages."""

    ANSWERS = "answers"
    """It answers each message at once."""
    ANSWERS_HALF = "answers-half"
    """It answers every second message at once."""
    READS = "reads"
    """It reads at once, and never answers."""
    SLOW = "slow"
    """It reads what has come every 0.2 s, and never answers."""


class Inbox:
    """The messages of one connection, in whatever pieces they come."""

    def __init__(self) -> None:
        self._rest = b""
        self.count = 0

    def take(self, data: bytes) -> Iterator[tuple[int, float]]:
        """Yield the number and the time of sending of each message that ``data`` completes."""
        data = self._rest + data
        whole = len(data) - len(data) % _MESSAGE.size
        self._rest = data[whole:]
        for message in _MESSAGE.iter_unpack(data[:whole]):
            self.count += 1
            yield message


def receive(port: int, reader: Reader) -> dict[int, float]:
    """Serve CONNECTIONS connections until they close; return each message's delay in seconds."""
    delays: dict[int, float] = {}
    opened = closed = 0
    with selectors.DefaultSelector() as waiting, socket.create_server(("", port)) as server:
        waiting.register(server, selectors.EVENT_READ)
        print("ready", flush=True)
        while closed < CONNECTIONS:
            for key, _ in waiting.select():
                if key.fileobj is server:
                    waiting.register(server.accept()[0], selectors.EVENT_READ, Inbox())
                    opened += 1
                    continue
                sock, inbox = key.fileobj, key.data
                assert isinstance(sock, socket.socket)
                assert isinstance(inbox, Inbox)
                data = sock.recv(1 << 16)
                now = time.monotonic()
                for number, sent_at in inbox.take(data):
                    delays[number] = now - sent_at
                    if reader is Reader.ANSWERS or (reader is Reader.ANSWERS_HALF and inbox.count % 2):
                        sock.sendall(_ANSWER)
                if not data:
                    waiting.unregister(sock)
                    sock.close()
                    closed += 1
            if reader is Reader.SLOW and opened == CONNECTIONS:
                time.sleep(_SLOW_INTERVAL)
    return delays


def send(address: str, port: int, seconds: float) -> int:
    """Send messages on CONNECTIONS connections for this time; return their number."""
    chance = random.Random(1)
    socks = [socket.create_connection((address, port)) for _ in range(CONNECTIONS)]
    for sock in socks:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    number, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(chance.expovariate(CONNECTIONS / MEAN_INTERVAL))
        chance.choice(socks).sendall(_MESSAGE.pack(number, time.monotonic()))
        number += 1
        for sock in socks:
            drain(sock)
    for sock in socks:
        sock.shutdown(socket.SHUT_WR)
    for sock in socks:
        while sock.recv(1 << 16):
            pass
        sock.close()
    return number


def drain(sock: socket.socket) -> None:
    """Read the answers that have come."""
    try:
        while sock.recv(1 << 16, socket.MSG_DONTWAIT):
            pass
    except BlockingIOError:
        pass


def main() -> None:
    """The command line."""
    roles: dict[str, Callable[[list[str]], object]] = {
        "send": lambda words: send(words[0], int(words[1]), float(words[2])),
        "receive": lambda words: receive(int(words[0]), Reader(words[1])),
    }
    print(json.dumps(roles[sys.argv[1]](sys.argv[2:])), flush=True)


if __name__ == "__main__":
    main()
