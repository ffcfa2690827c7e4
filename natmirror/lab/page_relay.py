"""Passes the status page of a natmirror in the lab on to the loopback address of this machine, where a browser is."""

import asyncio
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from pyroute2 import netns

from natmirror.lab.topology import Lab

_LOOPBACK = "127.0.0.1"
_PIECE_LEN = 1 << 16


class PageRelay:
    """Relays connections to a free port of this machine, ``address``, to ``endpoint`` on a host of the lab. A context
    manager."""

    def __init__(self, lab: Lab, host: str, endpoint: tuple[str, int]) -> None:
        self._namespace = lab.ns(host)
        self._endpoint = endpoint
        self._listening = _listen(endpoint[1])
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)
        self.address = f"http://{_LOOPBACK}:{self._listening.getsockname()[1]}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
            with suppress(asyncio.CancelledError):
                self._loop.run_until_complete(task)
        self._listening.close()
        self._loop.close()

    def _run(self) -> None:
        self._loop.create_task(self._serve())
        self._loop.run_forever()

    async def _serve(self) -> None:
        async with await asyncio.start_server(self._relay, sock=self._listening) as server:
            await server.serve_forever()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            to_page = self._socket_inside()
            await self._loop.sock_connect(to_page, self._endpoint)
            there_reader, there_writer = await asyncio.open_connection(sock=to_page)
            await asyncio.gather(_pass_on(reader, there_writer), _pass_on(there_reader, writer))

    def _socket_inside(self) -> socket.socket:
        """Return a socket of the host's namespace, where it stays."""
        netns.pushns(self._namespace)
        try:
            made = socket.socket()
        finally:
            netns.popns()
        made.setblocking(False)
        return made


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_PIECE_LEN):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


def _listen(port: int) -> socket.socket:
    """Return a socket that listens on the same port of the loopback address, or on a free one."""
    for wanted in (port, 0):
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((_LOOPBACK, wanted))
        except OSError:
            made.close()
            continue
        made.listen()
        made.setblocking(False)
        return made
    raise OSError(f"no port of {_LOOPBACK} is free")
