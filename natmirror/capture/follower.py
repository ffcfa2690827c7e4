"""Asks the running natmirror about a client, in a thread of its own, so that no packet waits for an answer."""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event
from typing import Any

from natmirror.api.client import ask, ask_list
from natmirror.errors import NatmirrorError
from natmirror.threads import NamedThread

_INTERVAL = 0.5  # seconds
_SHORTEST = 0.1  # seconds from an answer to the next question about a new connection
_STATUS_INTERVAL = 10.0  # seconds
_LAST_TIMEOUT = 2.0  # seconds for the last answers


@dataclass(frozen=True, slots=True)
class Answers:
    """What the API answered in one round; ``error``: why it did not."""

    explained: dict[str, Any] | None = None
    ended: list[dict[str, Any]] | None = None
    events: list[dict[str, Any]] | None = None
    status: dict[str, Any] | None = None
    """None unless it was this round's turn."""
    error: str = ""


class Follower:
    """The thread. ``client`` is an address, or one with a port; ``since`` is from when on events are new."""

    def __init__(self, client: str, api_path: Path, since: str) -> None:
        self._client = client
        self._address = client.partition(":")[0]
        self._path = api_path
        self._since = since
        self._answers: SimpleQueue[Answers] = SimpleQueue()
        self._news = Event()
        self._is_over = False
        self._status_at = time.monotonic() + _STATUS_INTERVAL
        self._thread = NamedThread(self._run, "follower")

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def ask_soon(self) -> None:
        """Ask at once: the client has opened a connection."""
        self._news.set()

    def take(self) -> Iterator[Answers]:
        """Yield the answers that have come."""
        with suppress(Empty):
            while True:
                yield self._answers.get_nowait()

    def finish(self) -> None:
        """Ask a last time and end; wait for that for two seconds at most."""
        self._is_over = True
        self._news.set()
        self._thread.join(_LAST_TIMEOUT)

    def _run(self) -> None:
        is_over = False
        while not is_over:
            self._news.wait(_INTERVAL)
            self._news.clear()
            is_over = self._is_over
            self._answers.put(self._round())
            if not self._is_over:
                time.sleep(_SHORTEST)

    def _round(self) -> Answers:
        try:
            explained = ask("explain", self._path, client=self._client)
            ended = ask_list("ended", self._path, client=self._client)
            events = ask_list("events", self._path, since=self._since)
            if events:
                self._since = str(events[-1]["number"])
            status = None
            if time.monotonic() >= self._status_at:
                status = ask("status", self._path)
                self._status_at = time.monotonic() + _STATUS_INTERVAL
        except NatmirrorError as error:
            return Answers(error=str(error))
        return Answers(explained, ended, events, status)
