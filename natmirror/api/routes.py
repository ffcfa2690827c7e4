"""Answers the requests that resources.py declares, and refuses others with a hint."""

import json
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from natmirror.api import times
from natmirror.api.http_server import READING, Answer, Request
from natmirror.api.lists import Cursor, CursorError, Position, SortedPage, parse_cursor
from natmirror.api.metrics import Metrics
from natmirror.api.page_files import PageFiles
from natmirror.api.parameters import check_body, check_query
from natmirror.api.program import BUSY, Program, Refused
from natmirror.api.resources import DEFAULT_LIMIT, JSON, METRICS_PATH, ROUTES, Kind, Route
from natmirror.api.times import with_moments
from natmirror.api.values import closest

_MAX_SORTED_PAGES = 8  # at the same time: each keeps up to MAX_LIMIT rows
_ROWS_AT_ONCE = 50
_WORST_FIRST = "-lag_seconds"
"""The order of legs in which natmirror finds those of the first page without a walk through all flows, if legs that are
not behind are left out."""


class Routes:
    """Answers requests, by asking ``program``. ``metrics`` has the page of metrics, ``page`` the files of the status
    page, ``description`` is the file openapi.json."""

    def __init__(self, program: Program, metrics: Metrics, page: PageFiles, description: bytes) -> None:
        self._program = program
        self._metrics = metrics
        self._page = page
        self._description = description
        self._sorted_pages = 0

    def respond(self, request: Request) -> Answer:
        """Return the answer to a request. Refused where there is none."""
        if request.path == METRICS_PATH:
            return self._metrics.respond(request)
        route, in_path = _find(request)
        if route.kind is Kind.COMMAND:
            check_query(request.query, route.query)
            pieces = self._obey(route, {**check_body(route, request), **in_path})
        elif route.name in ("page", "page-file"):
            return self._page.respond(in_path.get("file"), request)
        elif route.kind is Kind.FILE:
            check_query(request.query, route.query)
            pieces = self._file()
        elif route.kind is Kind.LIST:
            pieces = self._list(route, {**check_query(request.query, route.query), **in_path})
        else:
            pieces = self._document(route, {**check_query(request.query, route.query), **in_path})
        return Answer(route.content_type, pieces)

    async def _file(self) -> AsyncGenerator[bytes, None]:
        yield self._description

    async def _obey(self, route: Route, arguments: dict[str, Any]) -> AsyncGenerator[bytes, None]:
        yield json.dumps(await self._program.command(route.name, arguments)).encode()

    async def _document(self, route: Route, arguments: dict[str, Any]) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._program.get(route.name, arguments)) as answers:
            answer, now = await anext(answers)
        yield (json.dumps(with_moments(answer, now)) if route.content_type == JSON else str(answer)).encode()

    async def _list(self, route: Route, arguments: dict[str, Any]) -> AsyncGenerator[bytes, None]:
        sort, limit = arguments.pop("sort", None), arguments.pop("limit", None)
        after = _cursor(arguments.pop("cursor", None), sort)
        if sort is not None:
            if after is None and sort == _WORST_FIRST and arguments.get("lagging"):
                arguments["worst"] = (limit or DEFAULT_LIMIT) + 1  # the one behind the page tells that there are more
            pieces = self._sorted(route, arguments, SortedPage(sort, limit or DEFAULT_LIMIT, after))
        else:
            more = {} if after is None else {"after": after.position}
            pieces = self._in_natural_order(route, arguments | more, sys.maxsize if limit is None else limit)
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece

    async def _sorted(self, route: Route, arguments: dict[str, Any], page: SortedPage) -> AsyncGenerator[bytes, None]:
        if self._sorted_pages == _MAX_SORTED_PAGES:
            raise Refused(503, BUSY)
        self._sorted_pages += 1
        try:
            async with aclosing(self._program.get(route.name, arguments)) as parts:
                async for rows, now in parts:
                    page.add(rows, now)
                    yield b" "  # so the client need not wait long for nothing (RFC 8259 §2 allows white space)
            items, end = page.finish()
            yield _head(now)
            for first in range(0, len(items), _ROWS_AT_ONCE):
                yield (b", " if first else b"") + b", ".join(items[first : first + _ROWS_AT_ONCE])
            yield _tail(end)
        except CursorError as error:
            raise _wrong_cursor(error) from None
        finally:
            self._sorted_pages -= 1

    async def _in_natural_order(
        self, route: Route, arguments: dict[str, Any], limit: int
    ) -> AsyncGenerator[bytes, None]:
        """Yield the pieces of a page while natmirror makes its rows."""
        before, left, end = b"", limit, None
        last: Position = []
        async with aclosing(self._program.get(route.name, arguments)) as parts:
            async for rows, now in parts:
                if not before:
                    before = _head(now)
                if len(rows) > left:
                    end = Cursor(None, None, rows[left - 1][0] if left else last)
                    rows = rows[:left]
                if rows:
                    yield before + json.dumps([with_moments(row, now) for _, row in rows])[1:-1].encode()
                    before, left, last = b", ", left - len(rows), rows[-1][0]
                if end is not None:
                    break
        yield (b"" if before == b", " else before) + _tail(end)


def _head(now: float) -> bytes:
    return b'{"at": ' + json.dumps(times.show(now)).encode() + b', "items": ['


def _tail(end: Cursor | None) -> bytes:
    return b'], "next": ' + json.dumps(None if end is None else str(end)).encode() + b"}"


def _cursor(text: str | None, sort: str | None) -> Cursor | None:
    try:
        return None if text is None else parse_cursor(text, sort)
    except CursorError as error:
        raise _wrong_cursor(error) from None


def _wrong_cursor(error: CursorError) -> Refused:
    return Refused(400, f"the parameter cursor: {error}")


def _find(request: Request) -> tuple[Route, Mapping[str, str]]:
    """Return the route of a request, and the parameters in its path."""
    found = [(route, in_path) for route in ROUTES if (in_path := route.match(request.path)) is not None]
    if not found:
        raise Refused(404, f"there is no {request.path:.100}: {closest(request.path, [one.path for one in ROUTES])}")
    for route, in_path in found:
        if route.method == request.method:
            return route, in_path
    methods = ", ".join(READING if route.method == "GET" else route.method for route, _ in found)
    raise Refused(405, f"{request.path} takes {methods}, not {request.method:.20}", methods)
