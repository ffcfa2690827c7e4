"""Makes the comments of a capture from what the API answers: a connection's backend and why, its copies, their ends,
and events.

A comment belongs to a connection and a side, or to all, and to a time. It stands at the first such packet from that
time on; if none comes for a while, at any packet of the connection, then at any at all. That a leg has ended stands at
its last packet before.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from natmirror.api.text import counted
from natmirror.capture.sides import CLIENT, Place, Side, Sorter
from natmirror.events.event import read_time
from natmirror.mirror.shown import CopyWait
from natmirror.net.endpoint import parse_endpoint

_SECOND = 1_000_000_000
_SLACK = _SECOND // 500  # the API rounds times to milliseconds
_PATIENCE = 10 * _SECOND
_OPEN_STATES = ("syn-sent", "syn-received", "established", "half-closed", "closing")


@dataclass(slots=True)
class Words:
    """How the command line tells of what ``natmirror explain`` answers."""

    choice: Callable[[Any], Iterable[str]]
    """Why a service's new connections get the backend that they get."""
    binding: Callable[[Any], Iterable[str]]
    """What holds of a connection and its backend."""
    copy: Callable[[Any], str]
    """Whether a mirror gets a connection's bytes, and why not."""
    reason: Callable[[str], str]
    """What an end reason means."""


@dataclass(slots=True)
class Comment:
    """A comment that waits for its packet."""

    at: int
    """From when on its packet may be, in nanoseconds since 1970; 0: any packet that has not been written."""
    since: int
    """From when on it waits."""
    text: str
    port: int | None = None
    sides: tuple[Side, ...] = ()
    """Empty: any."""
    is_end: bool = False
    """It stands at the last such packet before a leg's end, if that has not been written."""

    def fits(self, at: int, port: int | None, side: Side) -> bool:
        """Return whether it stands at a packet of this time, port and side."""
        if at < self.at:
            return False
        waited = at - self.since
        is_there = not self.sides or side in self.sides or waited >= _PATIENCE
        return is_there and (self.port in (None, port) or waited >= 2 * _PATIENCE)


class Story:
    """What has happened to a client's connections. ``tell`` gets each comment as a line for the operator, ``clock``
    returns the time in nanoseconds since 1970."""

    def __init__(self, sorter: Sorter, words: Words, tell: Callable[[str], None], clock: Callable[[], int]) -> None:
        self._sorter = sorter
        self._words = words
        self._tell = tell
        self._clock = clock
        self._start = clock() / _SECOND
        self._comments: list[Comment] = []
        self._seen: dict[str, tuple[str, str | None]] = {}
        self._copies: dict[tuple[str, str], tuple[bool, str | None]] = {}
        self._ended: set[tuple[str, str, str]] = set()
        self._last_event: int | None = None
        self._answers = True
        self.version = ""
        """The version of the rules that run."""

    def take(self, at: int, port: int | None, side: Side) -> list[str]:
        """Return the comments that stand at a packet, and forget them."""
        if not self._comments:
            return []
        found = [one for one in self._comments if one.fits(at, port, side)]
        for one in found:
            self._comments.remove(one)
        return [one.text for one in found]

    def ends(self) -> list[Comment]:
        """Return the comments on legs' ends that wait for a packet from then on, and forget them."""
        found = [one for one in self._comments if one.is_end]
        self._comments = [one for one in self._comments if not one.is_end]
        return found

    def put_back(self, comment: Comment) -> None:
        """Have a comment wait that has found no packet before its time."""
        comment.is_end = False
        self._comments.append(comment)

    def rest(self) -> list[str]:
        """Return the comments that have found no packet, and forget them."""
        found, self._comments = self._comments, []
        return [one.text for one in found]

    def status(self, status: Mapping[str, Any]) -> None:
        """Take a status."""
        version = status["loaded_rules"]["version"]
        if self.version and version != self.version:
            self._add(f"other rules run now: version {version}")
        self.version = version

    def explained(self, answer: Mapping[str, Any], *, is_first: bool) -> None:
        """Take an answer of ``natmirror explain`` about the client."""
        services = {one["service"]: one for one in answer["services"]}
        for one in answer["connections"]:
            self._connection(one, services.get(one["service"]), is_first=is_first)
        if answer["connection_count"] <= len(answer["connections"]):
            present = {one["client"] for one in answer["connections"]}
            for client in self._seen.keys() - present:
                del self._seen[client]

    def ended(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take the client's legs that have ended."""
        for one in rows:
            key = one["ended_at"], one["client"], one["mirror"]
            at = read_time(one["ended_at"])
            if at < self._start or key in self._ended:
                continue
            self._ended.add(key)
            mirror = self._sorter.name_of(one["service"], one["mirror"])
            self._copies.pop((one["client"], mirror), None)
            why = f"{one['reason']}: {self._words.reason(one['reason'])}"
            got = f"it acknowledged {one['acked_bytes']} of {counted(one['client_bytes'], 'byte')}"
            text = f"{one['client']}: the leg to {mirror} has ended, {why}; {got}"
            sides = Side(Place.COPY, mirror), Side(Place.ANSWERS, mirror)
            self._add(text, parse_endpoint(one["client"])[1], sides, int(at * _SECOND) + _SLACK, is_end=True)

    def events(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take the events since the last ones."""
        for one in rows:
            self._last_event = one["number"]
            self._add(f"{one['severity']} {one['kind']}: {one['text']}", at=int(read_time(one["time"]) * _SECOND))

    def say(self, line: str) -> None:
        """Tell the operator something that is no comment."""
        self._tell(line)

    @property
    def since(self) -> str:
        """From where on events are new: a number, or a time at first."""
        return str(self._last_event or datetime.fromtimestamp(self._start, UTC).isoformat(timespec="milliseconds"))

    def silence(self, error: str) -> None:
        """Take it that natmirror does not answer."""
        if self._answers:
            self._answers = False
            self._add(f"no answer from natmirror, so comments may be missing from here on ({error})")

    def answer(self) -> None:
        """Take it that natmirror answers."""
        if not self._answers:
            self._answers = True
            self._add("natmirror answers again")

    def _connection(self, one: Mapping[str, Any], service: Mapping[str, Any] | None, *, is_first: bool) -> None:
        client, state, backend = one["client"], one["state"], one["backend"]
        port, is_open = parse_endpoint(client)[1], state in _OPEN_STATES
        before, backend_before = self._seen.get(client, ("", None))
        was_open = before in _OPEN_STATES
        if (is_open and not was_open) or not (before or is_first):
            self._add("\n".join(self._begin(one, service, is_first)), port, (CLIENT,))
        elif was_open and not is_open:
            self._add("\n".join((f"{client}: {state}", *self._words.binding(one))), port, (CLIENT,))
        elif was_open and backend != backend_before:
            self._add(f"{client}: now with the backend {backend}", port, (CLIENT,))
        self._seen[client] = state, backend
        for copy in one["copies"] if is_open else ():
            self._copy(client, port, one["service"], copy)

    def _begin(self, one: Mapping[str, Any], service: Mapping[str, Any] | None, is_first: bool) -> Iterator[str]:
        when = ", open since before the capture" if is_first and one["state"] != "syn-sent" else ""
        where = one["service"] if one["backend"] is None else f"{one['service']}, with the backend {one['backend']}"
        yield f"{one['client']} to {where}{when}"
        if service is not None and not when and one["backend"] == service["backend"]:
            yield from self._words.choice(service)
        yield from self._words.binding(one)

    def _copy(self, client: str, port: int, service: str, copy: Mapping[str, Any]) -> None:
        if copy["reason"] == CopyWait.HANDSHAKE:
            return
        mirror = self._sorter.name_of(service, copy["mirror"])
        found = copy["copied"], copy["reason"]
        if self._copies.get((client, mirror)) == found:
            return
        self._copies[client, mirror] = found
        side = Side(Place.COPY, mirror) if copy["copied"] else CLIENT
        self._add(f"{client}: {self._words.copy(copy)}", port, (side,))

    def _add(
        self, text: str, port: int | None = None, sides: tuple[Side, ...] = (), at: int = 0, *, is_end: bool = False
    ) -> None:
        self._comments.append(Comment(at, max(at, self._clock()), text, port, sides, is_end))
        self._tell(text)
