"""A client with many connections that checks every answer and writes down what it sent.

    python -m tests.live.apps.client ADDRESS PORT FILE [--connections N] [--requests N] [--size N] [--until FILE]
        [--sources ADDRESS,...] [--pause SECONDS] [--progress FILE] [--mptcp]

Connections come from the sources in turn; each source has ports of its own. With ``--until`` each connection sends a
request every 50 ms, or after another pause, until that file exists; then it ends at once. ``--progress`` is a file that
always has the monotonic time at which the longest waiting connection got its last answer. The client prints a line of
JSON for each connection: its local port, its bytes, their SHA-256, its error or null, and its waits: each gap of more
than 120 ms between two answers, as the time at which it began and its length.
"""

import argparse
import asyncio
import hashlib
import json
import random
import time
from errno import EADDRINUSE
from pathlib import Path

from tests.live.apps.wire import ANSWER_LEN, LENGTH, answer_to, new_socket

_NOTABLE_WAIT = 0.12
_PROGRESS_INTERVAL = 0.02
_PORTS = range(32768, 61000)
_TIMEOUT = 60.0
_LOOK_INTERVAL = 0.05


async def connect(arguments: argparse.Namespace, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection from the next source."""
    if not arguments.sources:
        return await asyncio.open_connection(arguments.address, arguments.port)
    sources = arguments.sources.split(",")
    place = number % len(sources)
    ports = _PORTS[place * len(_PORTS) // len(sources) : (place + 1) * len(_PORTS) // len(sources)]
    end = new_socket(mptcp=arguments.mptcp)
    end.setblocking(False)
    while True:
        try:
            end.bind((sources[place], random.choice(ports)))
            break
        except OSError as error:
            if error.errno != EADDRINUSE:
                raise
    await asyncio.get_running_loop().sock_connect(end, (arguments.address, arguments.port))
    return await asyncio.open_connection(sock=end)


class Waits:
    """The time of each connection's last answer, and its longer waits."""

    def __init__(self, connections: int) -> None:
        self.last = [0.0] * connections
        self.notable: list[list[tuple[float, float]]] = [[] for _ in range(connections)]

    def answered(self, number: int) -> None:
        """Note an answer on a connection."""
        now, before = time.monotonic(), self.last[number]
        if before and now - before > _NOTABLE_WAIT:
            self.notable[number].append((before, now - before))
        self.last[number] = now

    async def tell(self, file: Path) -> None:
        """Write the file again and again."""
        fresh = file.with_name(f"{file.name}.new")
        while True:
            fresh.write_text(f"{min(self.last)}")
            fresh.rename(file)
            await asyncio.sleep(_PROGRESS_INTERVAL)


async def pause(seconds: float, until: Path) -> None:
    """Wait so long, or until the file exists."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not until.exists():
        await asyncio.sleep(min(left, _LOOK_INTERVAL))


async def talk(arguments: argparse.Namespace, number: int, waits: Waits) -> dict[str, object]:
    """One connection from its SYN to its end."""
    source = random.Random(arguments.seed * 100_003 + number)
    digest, count = hashlib.sha256(), 0
    port, error = 0, None
    try:
        reader, writer = await connect(arguments, number)
        port = writer.get_extra_info("sockname")[1]
        if arguments.started:
            arguments.started.touch()
        sent = 0
        while not arguments.until.exists() if arguments.until else sent < arguments.requests:
            body = source.randbytes(source.randint(1, arguments.size) if arguments.vary else arguments.size)
            request = LENGTH.pack(len(body)) + body
            digest.update(request)
            count += len(request)
            sent += 1
            writer.write(request)
            answer = await asyncio.wait_for(reader.readexactly(ANSWER_LEN * arguments.answers), _TIMEOUT)
            if answer != answer_to(body) * arguments.answers:
                raise ValueError("a wrong answer")
            waits.answered(number)
            if arguments.until:
                await pause(arguments.pause, arguments.until)
        writer.write_eof()
        if await asyncio.wait_for(reader.read(), _TIMEOUT):
            raise ValueError("an answer to nothing")
        writer.close()
    except (OSError, ValueError, asyncio.IncompleteReadError, TimeoutError) as problem:
        error = f"{type(problem).__name__}: {problem}"
    record = {"port": port, "bytes": count, "sha256": digest.hexdigest(), "error": error}
    return {**record, "waits": waits.notable[number]}


async def main() -> None:
    """All connections at once."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("file", type=argparse.FileType("w"))
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--requests", type=int, default=1)
    parser.add_argument("--size", type=int, default=2000)
    parser.add_argument("--vary", action="store_true")
    parser.add_argument("--answers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sources", default="")
    parser.add_argument("--until", type=Path)
    parser.add_argument("--started", type=Path)
    parser.add_argument("--pause", type=float, default=0.05)
    parser.add_argument("--progress", type=Path)
    parser.add_argument("--mptcp", action="store_true")
    arguments = parser.parse_args()
    waits = Waits(arguments.connections)
    telling = asyncio.create_task(waits.tell(arguments.progress)) if arguments.progress else None
    results = await asyncio.gather(*(talk(arguments, number, waits) for number in range(arguments.connections)))
    if telling:
        telling.cancel()
    with arguments.file:  # left to the interpreter's end, what it has buffered may be lost
        for result in results:
            print(json.dumps(result), file=arguments.file)


if __name__ == "__main__":
    asyncio.run(main())
