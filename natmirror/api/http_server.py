"""HTTP/1.1 on a listening socket, for many clients of which some are slow, silent or hostile.

h11 parses and writes HTTP, and does no I/O; asyncio has the connections, of which a silent one costs only memory. So
each wait has a limit of its own here: for a request's first byte, for the rest of it, for a client that does not read.
"""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

import h11

from natmirror import __version__
from natmirror.api.program import Refused
from natmirror.api.resources import JSON

MAX_BODY_LEN = 64 << 10
NOT_MODIFIED = 304
READING = "GET, HEAD"
"""The methods by which a resource is read, in the header Allow."""
_PROTECTIVE_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'",
    ),
)
"""What a browser has to know of each answer: it takes nothing from elsewhere, and no other page may show or read it."""
_NO_STORE = (("Cache-Control", "no-store"),)
MAX_CONNECTIONS = 800  # the usual limit on a process's descriptors is 1,024
_MAX_HEAD_LEN = 16 << 10
_PIECE_LEN = 16 << 10
_BACKLOG = 512

# Seconds
IDLE_TIMEOUT = 60.0
REQUEST_TIMEOUT = 10.0
WRITE_TIMEOUT = 10.0
_LINGER = 2.0


@dataclass(frozen=True, slots=True)
class Request:
    """A request that has been read as a whole. ``host`` is the name by which the client knows this server, ``etags``
    what it has stored (If-None-Match); both are empty if it does not say."""

    method: str
    path: str
    query: str
    content_type: str = ""
    body: bytes = b""
    host: str = ""
    etags: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: its body comes in pieces. Refused where there is none. ``caching`` has the headers for caches; status
    304 says that the client has the body already."""

    content_type: str
    pieces: AsyncGenerator[bytes, None]
    caching: tuple[tuple[str, str], ...] = _NO_STORE
    status: int = 200


Respond = Callable[[Request], Answer]
"""Returns the answer to a request; raises Refused where there is none."""


class HttpServer:
    """Serves the connections of a listening socket, ``most`` at once: another one ends the longest silent one, or if
    there is none, the one whose answer has taken longest."""

    def __init__(self, respond: Respond, most: int = MAX_CONNECTIONS) -> None:
        self._respond = respond
        self._most = most
        self._open = 0
        self._silent: dict[_Connection, None] = {}  # without a whole request; the longest silent first
        self._answered: dict[_Connection, None] = {}  # with one; the longest first

    async def serve(self, listening: socket.socket) -> None:
        """Serve until cancelled."""
        async with await asyncio.start_server(self._serve_one, sock=listening, backlog=_BACKLOG) as server:
            await server.serve_forever()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(reader, writer)
        self._open += 1
        if self._open > self._most:
            longest = next(iter(self._silent or self._answered), connection)
            self._forget(longest)
            longest.abort()
        self._silent[connection] = None
        try:
            while await self._serve_request(connection):
                pass
        except (OSError, TimeoutError, h11.LocalProtocolError):  # the client has gone, is silent, or does not read
            connection.abort()
        finally:
            self._open -= 1
            self._forget(connection)
            connection.close()

    async def _serve_request(self, connection: "_Connection") -> bool:
        """Answer the next request; return whether the connection stays open for another one."""
        self._forget(connection)
        self._silent[connection] = None
        try:
            async with asyncio.timeout(IDLE_TIMEOUT):
                await connection.wait_for_data()
            async with asyncio.timeout(REQUEST_TIMEOUT):
                request = await connection.read_request()
            self._forget(connection)
            if request is None:
                return False
            self._answered[connection] = None
            await connection.while_connected(connection.send_answer(self._respond(request)))
        except h11.RemoteProtocolError as error:
            await connection.send_error(Refused(error.error_status_hint, str(error)))
        except Refused as refused:
            await connection.send_error(refused)
        return await connection.begins_next()

    def _forget(self, connection: "_Connection") -> None:
        self._silent.pop(connection, None)
        self._answered.pop(connection, None)


class _Connection:
    """A client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_LEN)
        self._reading: asyncio.Task[bytes] | None = None
        self._asks_for_head = False

    # Requests

    async def wait_for_data(self) -> None:
        """Wait until the client has sent something, or closed the connection."""
        if not self._http.trailing_data[0]:
            self._http.receive_data(await self._read())

    async def read_request(self) -> Request | None:
        """Return the next request; None where the client has closed the connection. Refused where it is too long."""
        head, body = None, b""
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    await self._send(h11.InformationalResponse(status_code=100, headers=[]))
                self._http.receive_data(await self._read())
            elif isinstance(event, h11.Request):
                head, self._asks_for_head = event, event.method == b"HEAD"
                announced = next((int(value) for name, value in event.headers if name == b"content-length"), 0)
                _require_short(announced)
            elif isinstance(event, h11.Data):
                body += event.data
                _require_short(len(body))
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return _request(head, body)
            else:
                return None

    async def while_connected(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work; cancel it where the client closes the connection."""
        task = asyncio.create_task(work)
        reading = self._start_reading()
        try:
            await asyncio.wait({task, reading}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and not reading.result():
                raise ConnectionResetError
            await task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):  # the caller has it already
                await task

    # Answers

    async def send_answer(self, answer: Answer) -> None:
        """Send an answer while its pieces are made. Refused where not even the first one could be made."""
        async with aclosing(answer.pieces) as pieces:
            first = await anext(pieces)
            if self._asks_for_head or answer.status == NOT_MODIFIED:
                await self._send(_head_of(answer), h11.EndOfMessage())
                return
            second = await anext(pieces, None)
            if second is None:
                await self._send(_head_of(answer, len(first)), h11.Data(first), h11.EndOfMessage())
                return
            await self._send(_head_of(answer), h11.Data(first), h11.Data(second))
            try:
                async for piece in pieces:
                    await self._send(h11.Data(piece))
            except Refused as refused:  # the client has a part already: it sees that the end is missing
                raise ConnectionResetError from refused
            await self._send(h11.EndOfMessage())

    async def send_error(self, refused: Refused) -> None:
        """Send an error, unless an answer has begun."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            raise ConnectionResetError
        body = json.dumps({"error": refused.text}).encode()
        head = _head(refused.status, JSON, len(body), refused.methods)
        await self._send(head, h11.Data(b"" if self._asks_for_head else body), h11.EndOfMessage())

    async def begins_next(self) -> bool:
        """Prepare for the next request; return False if there is none. Then read, for a short time, what the client may
        still be sending: closing a socket with unread data would take the answer from it."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            return True
        self._writer.write_eof()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER):
                while await self._read():
                    pass
        return False

    # The stream

    async def _send(self, *events: h11.Event) -> None:
        self._writer.write(b"".join(self._http.send(event) or b"" for event in events))
        async with asyncio.timeout(WRITE_TIMEOUT):
            await self._writer.drain()

    def _start_reading(self) -> "asyncio.Task[bytes]":
        if self._reading is None:
            self._reading = asyncio.create_task(self._reader.read(_PIECE_LEN))
        return self._reading

    async def _read(self) -> bytes:
        data = await self._start_reading()
        self._reading = None
        return data

    def abort(self) -> None:
        """Close the connection at once."""
        self._writer.transport.abort()

    def close(self) -> None:
        """Close the connection after what was written."""
        if self._reading is not None and not self._reading.cancel() and not self._reading.cancelled():
            self._reading.exception()  # else asyncio would log it
        self._writer.close()


def _request(head: h11.Request, body: bytes) -> Request:
    """Return a request as a value. HEAD asks what GET asks; a proxy's client names the server in the target."""
    headers = {name: value.decode("latin-1") for name, value in reversed(head.headers)}
    method, target = head.method.decode("ascii"), head.target.decode("ascii")
    host = headers.get(b"host", "")
    if target.lower().startswith("http://"):
        host, slash, rest = target[len("http://") :].partition("/")
        target = slash + rest
    path, _, query = target.partition("?")
    content_type, etags = headers.get(b"content-type", ""), headers.get(b"if-none-match", "")
    return Request("GET" if method == "HEAD" else method, path, query, content_type, body, host, etags)


def _head_of(answer: Answer, length: int | None = None) -> h11.Response:
    return _head(answer.status, answer.content_type, length, caching=answer.caching)


def _head(
    status: int,
    content_type: str,
    length: int | None = None,
    methods: str = "",
    caching: tuple[tuple[str, str], ...] = _NO_STORE,
) -> h11.Response:
    headers = [("Content-Type", content_type), ("Server", f"natmirror/{__version__}"), *caching, *_PROTECTIVE_HEADERS]
    if length is not None:
        headers.append(("Content-Length", str(length)))
    if methods:
        headers.append(("Allow", methods))
    return h11.Response(status_code=status, headers=headers)


def _require_short(length: int) -> None:
    if length > MAX_BODY_LEN:
        raise Refused(413, f"the body has more than {MAX_BODY_LEN} bytes")
