"""The programs of bench.api, which ask a running natmirror until a SIGTERM, and then print what they got; and a server
that they can ask in its place.

python -m bench.api_clients scrape SOCKET
python -m bench.api_clients watch SOCKET
python -m bench.api_clients flood SOCKET
python -m bench.api_clients serve SOCKET
"""

import json
import os
import pty
import resource
import signal
import socket
import socketserver
import subprocess
import sys
import termios
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from itertools import cycle, repeat

_SCRAPED = ("/metrics", "/v1/status")
_PAGE = (("/v1/status",), ("/v1/status", "/v1/events?sort=-number&limit=60"))
"""What the status page asks for in turn, each second."""
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
_SCREEN = 40, 120  # lines and columns
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


def _each_second(targets: Iterable[Sequence[str]], asker: Asker) -> None:
    """Ask each second for the next targets."""
    due = time.monotonic()
    for some in targets:
        for target in some:
            asker.get(target)
        due += _SCRAPE_INTERVAL
        time.sleep(max(0.0, due - time.monotonic()))


def _scrape(asker: Asker) -> None:
    """Ask for the metrics and the status each second."""
    _each_second(repeat(_SCRAPED), asker)


def _show_page(asker: Asker) -> None:
    """Ask as the status page does."""
    _each_second(cycle(_PAGE), asker)


_SHOWN = b"every"
"""What natmirror top writes when it has its first answer."""


@contextmanager
def _top(path: str) -> Iterator[None]:
    """Run natmirror top in a terminal that something reads, until the end of the context."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, _SCREEN)
    command = [sys.executable, "-m", "natmirror", "top", "--api", path]
    environment = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as program:
        os.close(theirs)
        shown = b""
        while _SHOWN not in shown:  # to begin takes more than to go on
            if not (part := os.read(ours, _BUFFER_LEN)):
                raise OSError("natmirror top has shown no state")
            shown += part
        threading.Thread(target=_drain, args=(ours,), daemon=True).start()
        try:
            yield
        finally:
            program.kill()  # it has inherited a mask without SIGTERM


def _drain(descriptor: int) -> None:
    with suppress(OSError):  # the terminal's other end is closed
        while os.read(descriptor, _BUFFER_LEN):
            pass


def _flood(asker: Asker) -> None:
    """Ask for one list after another."""
    for target in cycle(_FLOODED):
        asker.get(target)


def _run(path: str, threads: Sequence[Callable[[Asker], None]], beside: AbstractContextManager[None]) -> None:
    """Ask with these threads, and with what ``beside`` runs, until a SIGTERM; then print the counts, and the processor
    seconds that it took to ask."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    asker = Asker(path)
    began_at = time.monotonic()
    for ask in threads:
        threading.Thread(target=ask, args=(asker,), daemon=True).start()
    with beside:
        print("asking", flush=True)
        signal.sigwait({signal.SIGTERM})
    counts = {"answers": asker.answers, "bytes": asker.bytes, "seconds": time.monotonic() - began_at}
    taken = sum(map(_processor_seconds, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
    print(json.dumps({**counts, "cpu_seconds": taken}), flush=True)


def _processor_seconds(whose: int) -> float:
    used = resource.getrusage(whose)
    return used.ru_utime + used.ru_stime


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
            _run(path, [_scrape], nullcontext())
        case ["watch", path]:
            _run(path, [_show_page], _top(path))
        case ["flood", path]:
            _run(path, [_scrape, *[_flood] * _CONNECTIONS], nullcontext())
        case ["serve", path]:
            _serve(path)
