"""The answer to GET /metrics, which is all that the address of the rules key ``metrics`` answers."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from natmirror.api.http_server import READING, Answer, Request
from natmirror.api.parameters import check_query
from natmirror.api.program import Program, Refused
from natmirror.api.resources import METRICS_PATH
from natmirror.metrics.page import CONTENT_TYPE, MetricsPage

_MAX_AGE = 0.9  # seconds for which a page serves all who ask, so that they cost the packet threads no more than one


class Metrics:
    """Answers GET /metrics, by asking ``program`` for its status."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._page = MetricsPage()
        self._lock = asyncio.Lock()
        self._rendered = b""
        self._rendered_at = 0.0

    def respond(self, request: Request) -> Answer:
        """Return the page. Refused where the request asks for something else."""
        if request.path != METRICS_PATH:
            raise Refused(404, f"there is only {METRICS_PATH} at this address")
        if request.method != "GET":
            raise Refused(405, "the metrics can only be read, with GET", READING)
        check_query(request.query, ())
        return Answer(CONTENT_TYPE, self._pieces())

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        async with self._lock:
            if time.monotonic() - self._rendered_at > _MAX_AGE:
                async with aclosing(self._program.get("status", {}, comes_first=True)) as answers:
                    status, _ = await anext(answers)
                self._rendered = self._page.render(status)
                self._rendered_at = time.monotonic()
        yield self._rendered
