"""Clients that talk as long as they run, and write down how each connection and each of its requests fares.

    python -m tests.live.apps.caller ADDRESS PORT FILE SOURCE,...

Two lasting connections from each source send a small request every 50 ms; one that ends is opened again. Besides, the
program opens a new connection every 100 ms, from each source in turn, and closes it after one answer. It writes a line
of JSON for each answered request of a lasting connection (``echo``), for each lasting connection that ended (``loss``),
and for each new connection (``call``): the number of the lasting connection, the monotonic time at which the request or
the connection began, the seconds it took, and its error or null.
"""

import argparse
import asyncio
import itertools
import json
import time
from typing import TextIO

from tests.live.apps.wire import ANSWER_LEN, LENGTH, answer_to

_BODY = bytes(100)
_LASTING = 2  # connections of each source
# Seconds
_PAUSE = 0.05
_INTERVAL = 0.1
_CALL_TIMEOUT = 1.5


class Caller:
    """The clients of one service."""

    def __init__(self, address: str, port: int, file: TextIO) -> None:
        self._to = address, port
        self._file = file

    async def last(self, source: str, number: int) -> None:
        """Keep one connection open, and ask on it again and again."""
        while True:
            try:
                async with asyncio.timeout(_CALL_TIMEOUT):
                    reader, writer = await asyncio.open_connection(*self._to, local_addr=(source, 0))
            except OSError:  # a TimeoutError is one
                await asyncio.sleep(_PAUSE)
                continue
            began = time.monotonic()
            try:
                while True:
                    began = time.monotonic()
                    await _ask(reader, writer)
                    self._note("echo", began, number)
                    await asyncio.sleep(_PAUSE)
            except (OSError, ValueError, asyncio.IncompleteReadError) as error:
                self._note("loss", began, number, error)
            writer.close()

    async def call(self, source: str) -> None:
        """Open one connection, ask once, and close it."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(_CALL_TIMEOUT):
                reader, writer = await asyncio.open_connection(*self._to, local_addr=(source, 0))
                try:
                    await _ask(reader, writer)
                finally:
                    writer.close()
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            self._note("call", began, None, error)
        else:
            self._note("call", began)

    def _note(self, kind: str, began: float, number: int | None = None, error: Exception | None = None) -> None:
        line = {"kind": kind, "number": number, "began": began, "took": time.monotonic() - began}
        text = None if error is None else f"{type(error).__name__}: {error}"
        print(json.dumps({**line, "error": text}), file=self._file, flush=True)


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(LENGTH.pack(len(_BODY)) + _BODY)
    if await reader.readexactly(ANSWER_LEN) != answer_to(_BODY):
        raise ValueError("a wrong answer")


async def main() -> None:
    """Call until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("file", type=argparse.FileType("w"))
    parser.add_argument("sources")
    arguments = parser.parse_args()
    caller, sources = Caller(arguments.address, arguments.port, arguments.file), arguments.sources.split(",")
    async with asyncio.TaskGroup() as tasks:
        for number in range(_LASTING * len(sources)):
            tasks.create_task(caller.last(sources[number % len(sources)], number))
        for source in itertools.cycle(sources):
            tasks.create_task(caller.call(source))
            await asyncio.sleep(_INTERVAL)


if __name__ == "__main__":
    asyncio.run(main())
