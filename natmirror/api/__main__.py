"""The process that serves the API: ``python -m natmirror.api LISTENING CONNECTION``, started by natmirror itself.

The arguments are descriptors: the API's listening socket, and the connection to natmirror. The process gives up all
rights before it reads anything, and ends when natmirror ends.
"""

import asyncio
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from natmirror.api.http_server import HttpServer
from natmirror.api.program import Program
from natmirror.api.routes import Routes
from natmirror.unprivileged import give_up_rights

_NICE = 5  # packets come first
_OOM_SCORE = 800  # of 1,000: the kernel kills this process rather than the one that passes packets
_MAX_MEMORY = 512 << 20  # bytes of address space


def _confine() -> None:
    """Give up all rights, and leave processor and memory to others. The unit forbids some of these calls."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # only the end of natmirror ends this process
    with suppress(OSError):
        os.nice(_NICE)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(str(_OOM_SCORE))
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, _MAX_MEMORY))
    give_up_rights()


async def _serve(listening: socket.socket, connection: socket.socket, description: bytes) -> None:
    program = Program(*await asyncio.open_connection(sock=connection))
    serving = asyncio.create_task(HttpServer(Routes(program, description).respond).serve(listening))
    await asyncio.wait({serving, asyncio.create_task(program.run())}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()
    os._exit(0)  # natmirror has ended: clients' connections end with this process


def main() -> None:
    """Serve the API until natmirror ends."""
    description = Path(__file__).with_name("openapi.json").read_bytes()
    _confine()
    listening, connection = (socket.socket(fileno=int(word)) for word in sys.argv[1:3])
    listening.setblocking(False)
    asyncio.run(_serve(listening, connection, description))


if __name__ == "__main__":
    main()
