"""The running natmirror, as the process that serves its API sees it: questions, answers, and commands."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from itertools import count
from typing import Any

from natmirror.api import frames
from natmirror.api.resources import ROUTES, Kind

_MAX_ANSWER_LEN = 64 << 20
# What natmirror makes at the same time: a flood of requests for lists delays no document, nor the first part of another
# list, and no flood the metrics.
_MAX_DOCUMENTS = 2
_MAX_FIRST_PARTS = 2
_MAX_PARTS = 2
_MAX_COMMANDS = 16  # that natmirror has at the same time
_LISTS = frozenset(route.name for route in ROUTES if route.kind is Kind.LIST)
BUSY = "natmirror is too busy to answer: try again"
_SILENT = "natmirror does not answer: try again, and restart it if natmirror health gets no answer, either"

# Seconds
_GET_TIMEOUT = 10.0
_COMMAND_TIMEOUT = 60.0  # a reload waits for iptables
_BEAT_INTERVAL = 5.0


class Refused(Exception):
    """The request is refused: the status code and the text for the client, and the methods that would be allowed."""

    def __init__(self, status: int, text: str, methods: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.methods = methods


class Program:
    """The running natmirror. run() returns when it has ended."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._numbers = count(1)
        self._answers: dict[int, asyncio.Queue[dict[str, Any]]] = {}
        self._documents = asyncio.Semaphore(_MAX_DOCUMENTS)
        self._first_parts = asyncio.Semaphore(_MAX_FIRST_PARTS)
        self._parts = asyncio.Semaphore(_MAX_PARTS)
        self._commands = 0

    async def run(self) -> None:
        """Pass answers to those who have asked, until natmirror has ended."""
        beats = asyncio.create_task(self._beat())
        try:
            while (message := await frames.read(self._reader, _MAX_ANSWER_LEN)) is not None:
                if (queue := self._answers.get(message["id"])) is not None:  # else the client has given up
                    queue.put_nowait(message)
        finally:
            beats.cancel()

    async def get(
        self, resource: str, arguments: dict[str, Any], *, comes_first: bool = False
    ) -> AsyncGenerator[tuple[Any, float], None]:
        """Yield a resource, or the parts of a list, each with its time in seconds since 1970. ``comes_first``: it waits
        for no other request, nor for the packet threads to have time. Refused where natmirror does not answer."""
        line = self._first_parts if resource in _LISTS else self._documents
        async with self._question() as (number, answers):
            question: dict[str, Any] = {"id": number, "get": resource, "arguments": arguments, "first": comes_first}
            while True:
                try:
                    async with asyncio.timeout(_GET_TIMEOUT), nullcontext() if comes_first else line:
                        self._send(question)
                        answer = _checked(await answers.get())
                except TimeoutError:
                    raise Refused(503, _SILENT) from None
                yield answer["answer"], answer["at"]
                if not answer["more"]:
                    return
                question, line = {"id": number, "more": True}, self._parts

    async def command(self, name: str, arguments: dict[str, Any]) -> Any:
        """Give natmirror a command, and return its answer. Refused where natmirror refuses it or does not answer. If
        the caller is cancelled, natmirror does not begin a command that it has not begun yet."""
        if self._commands == _MAX_COMMANDS:
            raise Refused(503, BUSY)
        self._commands += 1
        try:
            async with self._question() as (number, answers), asyncio.timeout(_COMMAND_TIMEOUT):
                self._send({"id": number, "command": name, "arguments": arguments})
                return _checked(await answers.get())["answer"]
        except TimeoutError:
            raise Refused(503, _SILENT) from None
        finally:
            self._commands -= 1

    @asynccontextmanager
    async def _question(self) -> AsyncIterator[tuple[int, asyncio.Queue[dict[str, Any]]]]:
        number, answers = next(self._numbers), asyncio.Queue[dict[str, Any]]()
        self._answers[number] = answers
        try:
            yield number, answers
        finally:
            del self._answers[number]
            self._send({"id": number, "withdraw": True})

    async def _beat(self) -> None:
        while True:
            self._send({"id": 0})
            await asyncio.sleep(_BEAT_INTERVAL)

    def _send(self, message: dict[str, Any]) -> None:
        """Send a message. Few are under way at the same time, and none is long, so that they need not wait."""
        self._writer.write(frames.encode(message))


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        raise Refused(answer["status"], answer["error"])
    return answer
