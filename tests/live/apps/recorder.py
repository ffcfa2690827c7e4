"""A server that answers requests and writes down, for each connection, what it received.

    python -m tests.live.apps.recorder PORT FILE [--answers N] [--rate BYTES] [--mptcp]

With ``--rate`` each connection is read no faster than that, in bytes a second. A line of JSON for each connection that
has ended: the client's address and port, bytes, their SHA-256, how it ended, and after how many seconds.
"""

import argparse
import asyncio
import hashlib
import json
import socket
import time
from typing import TextIO

from tests.live.apps.wire import LENGTH, answer_to, new_socket, read_request


class Recorder:
    """Serves connections, and records them."""

    def __init__(self, file: TextIO, answers: int, rate: float | None) -> None:
        self._file = file
        self._answers = answers
        self._rate = rate

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        digest, count, end = hashlib.sha256(), 0, "eof"
        peer = writer.get_extra_info("peername")
        began = time.monotonic()
        try:
            while True:
                request = await read_request(reader, self._rate)
                digest.update(request)
                count += len(request)
                writer.write(answer_to(request[LENGTH.size :]) * self._answers)
                await writer.drain()
        except asyncio.IncompleteReadError as error:
            digest.update(error.partial)
            count += len(error.partial)
        except OSError as error:
            end = type(error).__name__
        record = {"address": peer[0], "port": peer[1], "bytes": count, "sha256": digest.hexdigest(), "end": end}
        record["seconds"] = time.monotonic() - began
        print(json.dumps(record), file=self._file, flush=True)
        writer.close()


async def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("file", type=argparse.FileType("w"))
    parser.add_argument("--answers", type=int, default=1)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--mptcp", action="store_true")
    arguments = parser.parse_args()
    recorder = Recorder(arguments.file, arguments.answers, arguments.rate)
    listener = new_socket(mptcp=arguments.mptcp)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", arguments.port))
    server = await asyncio.start_server(recorder.serve, sock=listener, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
