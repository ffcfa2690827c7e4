"""The API's process (natmirror/api), as natmirror sees it: started, answered, and started again when it ends.

natmirror itself makes the socket, so clients wait in its backlog while the process is started again. The process asks
for parts of lists, one after another; one thread makes them, by asking the packet threads. With more, a packet thread
waits for Python's interpreter lock behind several others. Each answer, and each part, waits until there is time for it
(allowance.py).
"""

import asyncio
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from natmirror import unprivileged
from natmirror.api import frames
from natmirror.errors import HostError, NatmirrorError
from natmirror.linux.unix_socket import CHECK_INTERVAL, PathSocket
from natmirror.runtime.allowance import Allowance
from natmirror.runtime.api_addresses import ApiAddresses
from natmirror.runtime.chores import ChoreFailure
from natmirror.threads import NamedThread, name_thread, yield_to_packets

log = logging.getLogger("natmirror")

_NAME = "the API's process"
_MODE = 0o660
_BACKLOG = 512
_DOCUMENT_THREADS = 3
_MAX_QUESTIONS = 1024  # of the clients that the process has
_MAX_LISTS = 256  # that are being read; each may hold the numbers of all legs of a thread
_MAX_QUESTION_LEN = 128 << 10  # bytes; a body has 64 KiB at most
_SLICES = 2  # of a packet thread, for one turn: packets pass between them
_TURNS = 8  # in a part of a list but its first, at most: a message costs other threads as much as its rows
_OTHER_VERSION = "this natmirror does not know the question: is it of another version?"
# Seconds
_LAST_TURN_AT = 0.5  # after which no more is added to a part: others wait for theirs, and not for long
_BEAT_TIMEOUT = 30.0
_JOIN_TIMEOUT = 5.0
_PAUSES = (0.1, 10.0)  # before it is started again: after a first failure, and at most
_LONG_LIFE = 60.0  # after which a failure counts as the first one
_MOST_ANSWERING, _IDLE_PAUSE = 5.0, 0.02  # before it is ended for other sockets
_IDLE_LOOKS = 10  # in a row: the process passes on the last answer meanwhile

Arguments = dict[str, Any]
"""The parameters of a request, by name; those that the client has not given are missing."""
Document = Callable[[Arguments], Any]
"""Returns a resource as values for JSON; raises TimeoutError, or as Command for arguments that are refused."""
Parts = Callable[[Arguments], Iterator[list[Any]]]
"""Yields the parts of a list: pairs of a row's position (api/lists.py) and the row. Raises TimeoutError, or as Command
for arguments that are refused."""
Command = Callable[[Arguments], "Future[Any]"]
"""Has a thread obey a command. The future has the answer, or ValueError, TypeError or KeyError for arguments that are
refused, or one of natmirror's errors. As long as it can be cancelled, the command has not begun."""


class _Makers(NamedTuple):
    """The threads that make answers, the time that these may take, and what explains why there is none."""

    documents: ThreadPoolExecutor
    lists: ThreadPoolExecutor
    allowance: Allowance
    why_busy: Callable[[], str]


class ApiProcess:
    """The API on the Unix socket ``path``, and on ``addresses``, from open() to close(). ``allowance`` is
    the time that answers may take; ``why_busy`` returns why there is no answer in time."""

    def __init__(
        self,
        path: Path,
        addresses: ApiAddresses,
        documents: Mapping[str, Document],
        lists: Mapping[str, Parts],
        commands: Mapping[str, Command],
        allowance: Allowance,
        why_busy: Callable[[], str],
    ) -> None:
        self._path = path
        self._addresses = addresses
        self._documents = documents
        self._lists = lists
        self.commands = commands
        self._makers = _Makers(_makers(_DOCUMENT_THREADS, "api-status"), _makers(1, "api-lists"), allowance, why_busy)
        self._process: subprocess.Popen[bytes] | None = None
        self._failure: tuple[str, float] | None = None
        self._thread = NamedThread(self._run, "api")

    def open(self) -> None:
        """Make the socket, and start the process soon. HostError where the socket cannot be made, or another natmirror
        listens on it."""
        self._listening = PathSocket(self._path, socket.SOCK_STREAM, _MODE, "serve the API", backlog=_BACKLOG)
        self._addresses.update()
        try:
            self._loop = asyncio.new_event_loop()
            self._main = self._loop.create_task(self._keep_running())
            self._thread.start()
        except (OSError, RuntimeError) as error:
            self._remove_sockets()
            raise HostError(f"cannot serve the API: {error}") from None

    def close(self) -> None:
        """End the process, and remove the socket."""
        if self._thread.is_alive():
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._main.cancel)
            self._thread.join(_JOIN_TIMEOUT)
        self._remove_sockets()
        for threads in (self._makers.documents, self._makers.lists):
            threads.shutdown(wait=False, cancel_futures=True)

    def _remove_sockets(self) -> None:
        self._listening.remove()
        self._listening.close()
        self._addresses.close()

    @property
    def pid(self) -> int | None:
        """Return the id of the process; None while it does not run."""
        process = self._process
        return None if process is None else process.pid

    def failures(self) -> list[ChoreFailure]:
        """Return why the process does not run, as values for JSON, if it does not; from any thread."""
        shown = self._addresses.failures()
        if (failure := self._failure) is None:
            return shown
        return [
            *shown,
            {"name": _NAME, "error": failure[0], "failing_seconds": round(time.monotonic() - failure[1], 3)},
        ]

    # In the thread

    def _run(self) -> None:
        yield_to_packets()
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._main)
        self._loop.close()

    async def _keep_running(self) -> None:
        pause = _PAUSES[0]
        while True:
            began_at = time.monotonic()
            try:
                why = await self._run_once()
            except Exception as error:  # e.g. no descriptors, no processes, no memory
                why = (isinstance(error, OSError) and error.strerror) or repr(error)
            if why is None:
                continue
            if time.monotonic() - began_at > _LONG_LIFE:
                pause = _PAUSES[0]
            self._note_failure(f"{why}; starting it again")
            await asyncio.sleep(pause)
            pause = min(2 * pause, _PAUSES[1])

    def _note_failure(self, why: str) -> None:
        if self._failure is None or self._failure[0] != why:
            log.warning("%s: %s", _NAME, why)
        self._failure = why, time.monotonic() if self._failure is None else self._failure[1]

    async def _run_once(self) -> str | None:
        """Start the process, and answer it until it ends; return why it has ended, or None if it was ended because it
        has to serve other sockets."""
        self._listening.restore()
        self._addresses.update()
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                self._process = process = self._start(theirs.fileno())
            try:
                ours.setblocking(False)
                streams = await asyncio.open_connection(sock=ours)
                conversation = _Conversation(*streams, self._documents, self._lists, self.commands, self._makers)
                watching = asyncio.create_task(self._watch_sockets(ours, conversation))
                try:
                    why = await conversation.run(self._note_beat)
                    if watching.done():
                        return None
                finally:
                    watching.cancel()
                    conversation.close()
            finally:
                with suppress(OSError):
                    ours.shutdown(socket.SHUT_RDWR)  # the process ends when it reads that
                self._process = None
                code = unprivileged.end(process)
        return why or f"it has ended, {code}"

    async def _watch_sockets(self, connection: socket.socket, conversation: "_Conversation") -> None:
        """Once there are other sockets, because the path of one was removed or the rules have changed, end the process,
        which has the old ones. Clients that wait for an answer get it first, if that does not take long."""
        while not (self._listening.restore() | self._addresses.update()):
            await asyncio.sleep(CHECK_INTERVAL)
        idle, until = 0, time.monotonic() + _MOST_ANSWERING
        while idle < _IDLE_LOOKS and time.monotonic() < until:
            await asyncio.sleep(_IDLE_PAUSE)
            idle = 0 if conversation.is_busy else idle + 1
        connection.shutdown(socket.SHUT_RDWR)

    def _note_beat(self) -> None:
        if self._failure is not None:
            log.info("%s: runs again", _NAME)
            self._failure = None

    def _start(self, connection: int) -> "subprocess.Popen[bytes]":
        passed = (connection, self._listening.socket.fileno(), *self._addresses.descriptors())
        keep = [number for number in passed if number >= 0]
        command = [sys.executable, "-m", "natmirror.api", *map(str, passed)]
        return unprivileged.start(command, os.environ, keep=keep, errors=None, is_ours=True)


class _Conversation:
    """The conversation with one process."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        documents: Mapping[str, Document],
        lists: Mapping[str, Parts],
        commands: Mapping[str, Command],
        makers: _Makers,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._documents = documents
        self._lists = lists
        self._commands = commands
        self._makers = makers
        self._parts: dict[int, Iterator[list[Any]]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._next = asyncio.Lock()

    async def run(self, on_beat: Callable[[], None]) -> str:
        """Answer questions until the process has ended, is silent, or talks nonsense; return why if it runs still."""
        while True:
            try:
                async with asyncio.timeout(_BEAT_TIMEOUT):
                    question = await frames.read(self._reader, _MAX_QUESTION_LEN)
            except TimeoutError:
                return f"it has been silent for {_BEAT_TIMEOUT:g} s"
            except ValueError as error:
                return f"it has sent {error}"
            if question is None:
                return ""
            if question["id"] == 0:
                on_beat()
            elif "withdraw" in question:
                self._forget(question["id"])
            elif question["id"] in self._tasks or len(self._tasks) >= _MAX_QUESTIONS:
                return "it has asked too much"
            else:
                self._tasks[question["id"]] = asyncio.create_task(self._answer(question["id"], question))

    @property
    def is_busy(self) -> bool:
        """Return whether a question or the next part of a list is under way."""
        return bool(self._tasks or self._parts)

    def close(self) -> None:
        """Forget all questions."""
        for number in list(self._tasks) + list(self._parts):
            self._forget(number)
        self._writer.close()

    def _forget(self, number: int) -> None:
        self._parts.pop(number, None)
        if (task := self._tasks.pop(number, None)) is not None:
            task.cancel()

    async def _answer(self, number: int, question: dict[str, Any]) -> None:
        try:
            answer = await self._made(number, question)
        except TimeoutError as error:
            answer = frames.encode({"id": number, "error": str(error) or self._makers.why_busy(), "status": 503})
        except KeyError as error:
            answer = frames.encode({"id": number, "error": f"expected the argument {error}", "status": 400})
        except NatmirrorError as error:
            answer = frames.encode({"id": number, "error": "\n".join(error.lines), "status": 400})
        except (TypeError, ValueError) as error:
            answer = frames.encode({"id": number, "error": str(error), "status": 400})
        except Exception:
            log.exception("API: internal error in the answer to %.80r", question)
            answer = frames.encode({"id": number, "error": "internal error, see natmirror's log", "status": 500})
        self._tasks.pop(number, None)
        with suppress(OSError):  # the process has ended
            self._writer.write(answer)
            await self._writer.drain()

    async def _made(self, number: int, question: dict[str, Any]) -> bytes:
        """Return the message with the answer to a question. ValueError where this natmirror does not know it."""
        loop = asyncio.get_running_loop()
        resource, command, arguments = question.get("get", ""), question.get("command", ""), question.get("arguments")
        if number in self._parts:
            return await self._part(number, self._parts[number], _TURNS)
        if not isinstance(arguments, dict):
            raise ValueError(_OTHER_VERSION)
        if resource in self._documents:
            if not question.get("first"):
                await self._wait()
            make = self._documents[resource]
            return await loop.run_in_executor(self._makers.documents, _document, number, make, arguments)
        if resource in self._lists:
            if len(self._parts) >= _MAX_LISTS:
                raise TimeoutError
            self._parts[number] = _begun_at_first_use(self._lists[resource], arguments)
            return await self._part(number, self._parts[number], 1)
        if command in self._commands:
            answer = await asyncio.wrap_future(self._commands[command](arguments))
            return frames.encode({"id": number, "answer": answer, "more": False})
        raise ValueError(_OTHER_VERSION)

    async def _part(self, number: int, slices: Iterator[list[Any]], turns: int) -> bytes:
        """Return the message with the next part of a list: the slices of at most so many turns, each when there is time
        for it, and of fewer where that takes long."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _LAST_TURN_AT
        rows: list[Any] = []
        goes_on = True
        while goes_on and turns and loop.time() < until:
            await self._wait()
            following = await loop.run_in_executor(self._makers.lists, list, islice(slices, _SLICES))
            rows += chain.from_iterable(following)
            goes_on = len(following) == _SLICES
            turns -= 1
        answer = {"id": number, "answer": rows, "at": time.time(), "more": goes_on}
        return await loop.run_in_executor(self._makers.lists, frames.encode, answer)

    async def _wait(self) -> None:
        """Wait until there is time for the next answer, behind those that wait already."""
        async with self._next:
            while (pause := self._makers.allowance.pause(time.monotonic())) > 0:
                await asyncio.sleep(pause)


def _document(number: int, make: Document, arguments: Arguments) -> bytes:
    return frames.encode({"id": number, "answer": make(arguments), "at": time.time(), "more": False})


def _begun_at_first_use(make: Parts, arguments: Arguments) -> Iterator[list[Any]]:
    yield from make(arguments)


def _makers(count: int, name: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, initializer=name_thread, initargs=(name,))
