"""The process that serves the API: ``python -m natmirror.api CONNECTION LISTENING METRICS API``, started by natmirror
itself.

The arguments are descriptors: the connection to natmirror, the API's listening socket, and those of the rules keys
``metrics`` and ``api``, or -1. The process gives up all rights before it reads anything, and ends when natmirror
ends.
"""

import asyncio
import os
import socket
import sys
from pathlib import Path

from natmirror.api.http_server import HttpServer
from natmirror.api.metrics import Metrics
from natmirror.api.page_files import PageFiles
from natmirror.api.program import Program
from natmirror.api.read_only import read_only
from natmirror.api.routes import Routes
from natmirror.unprivileged import confine, leave_processor_in_session

_MAX_MEMORY = 512 << 20  # bytes of address space
_MAX_REMOTE = 64  # connections to each address of the rules


async def _serve(
    page: PageFiles, description: bytes, connection: socket.socket, *listening: socket.socket | None
) -> None:
    program = Program(*await asyncio.open_connection(sock=connection))
    metrics = Metrics(program)
    servers = (
        HttpServer(Routes(program, metrics, page, description).respond),
        HttpServer(metrics.respond, _MAX_REMOTE),
        # With limits of its own, so that remote clients who read slowly take none of the Unix socket's
        HttpServer(read_only(Routes(program, metrics, page, description).respond), _MAX_REMOTE),
    )
    serving = [
        asyncio.create_task(server.serve(one))
        for server, one in zip(servers, listening, strict=True)
        if one is not None
    ]
    await asyncio.wait({*serving, asyncio.create_task(program.run())}, return_when=asyncio.FIRST_COMPLETED)
    for task in serving:
        if task.done():
            task.result()
    os._exit(0)  # natmirror has ended: clients' connections end with this process


def main() -> None:
    """Serve the API until natmirror ends."""
    page, description = PageFiles.read(), Path(__file__).with_name("openapi.json").read_bytes()
    leave_processor_in_session()
    confine(_MAX_MEMORY)
    connection, *listening = (None if word == "-1" else socket.socket(fileno=int(word)) for word in sys.argv[1:])
    assert connection is not None, "natmirror itself has started this process"
    for one in listening:
        if one is not None:
            one.setblocking(False)
    asyncio.run(_serve(page, description, connection, *listening))


if __name__ == "__main__":
    main()
