"""The programs of bench.api, which ask a running natmirror until a SIGTERM, and then print what they got; and a server
that they can ask in its place.

python -m bench.api_clients scrape SOCKET
python -m bench.api_clients flood SOCKET
python -m bench.api_clients serve SOCKET
"""

import json
import signal
import socket
import socketserver
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import cycle

_SCRAPED = ("/metrics", "/v1/status")
_FLOODED = (
    "/v1/flows",
    "/v1/legs",
    "/v1/flows?limit=1",
    "/v1/legs?sort=-lag_bytes&limit=20",
    "/v1/flows?client=10.10.0.9",
    "/v1/status",
    "/v1/openapi.json",
)
"""Whole lists, some rows of them, a search that finds nothing, all counters, and what costs the API's process alone."""
_CONNECTIONS = 8
_SCRAPE_INTERVAL = 1.0  # seconds
_ANSWER_TIMEOUT = 30.0  # seconds
_BUFFER_LEN = 1 << 20
_CODE = slice(9, 12)  # of "HTTP/1.1 200"
_NO_ANSWER = "none"
_BODY = b"0" * 100_000  # as long as a list of some hundred flows
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(_BODY), _BODY)


class Asker:
    """Sends requests to the API's socket, and counts answers. Several threads may ask."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.bytes = 0
        self.answers: Counter[str] = Counter()
        """The number of answers by their status code; ``none``: the connection has ended without one."""

    def get(self, target: str) -> None:
        """Send a request on a connection of its own, and read the whole answer."""
        buffer, code = bytearray(_BUFFER_LEN), _NO_ANSWER
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_ANSWER_TIMEOUT)
                connection.connect(self._path)
                connection.sendall(f"GET {target} HTTP/1.1\r\nHost: natmirror\r\nConnection: close\r\n\r\n".encode())
                while count := connection.recv_into(buffer):
                    if code == _NO_ANSWER:
                        code = buffer[_CODE].decode()
                    self.bytes += count
        except OSError:
            code = _NO_ANSWER
        self.answers[code] += 1


def _scrape(asker: Asker) -> None:
    """Ask for the metrics and the status each second."""
    due = time.monotonic()
    while True:
        for target in _SCRAPED:
            asker.get(target)
        due += _SCRAPE_INTERVAL
        time.sleep(max(0.0, due - time.monotonic()))


def _flood(asker: Asker) -> None:
    """Ask for one list after another."""
    for target in cycle(_FLOODED):
        asker.get(target)


def _run(path: str, threads: Sequence[Callable[[Asker], None]]) -> None:
    """Ask with these threads until a SIGTERM; then print the counts, and the processor seconds that it took to ask."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    asker = Asker(path)
    began_at = time.monotonic()
    for ask in threads:
        threading.Thread(target=ask, args=(asker,), daemon=True).start()
    print("asking", flush=True)
    signal.sigwait({signal.SIGTERM})
    counts = {"answers": asker.answers, "bytes": asker.bytes, "seconds": time.monotonic() - began_at}
    print(json.dumps({**counts, "cpu_seconds": time.process_time()}), flush=True)


class _Answering(socketserver.StreamRequestHandler):
    """Answers each request with the same bytes, at once."""

    def handle(self) -> None:
        while self.rfile.readline().strip():
            pass
        self.wfile.write(_ANSWER)


class _Server(socketserver.ThreadingUnixStreamServer):
    """A server without any limits."""

    daemon_threads = True
    request_queue_size = 64


def _serve(path: str) -> None:
    """Answer until a SIGTERM."""
    with _Server(path, _Answering) as server:
        print("serving", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["scrape", path]:
            _run(path, [_scrape])
        case ["flood", path]:
            _run(path, [_scrape, *[_flood] * _CONNECTIONS])
        case ["serve", path]:
            _serve(path)
