"""The resources and the commands of the API.

========================== ===========================================================================================
GET /v1/status             counters, dropped packets by reason, backends, mirrors with their accounts, queues
GET /v1/flows              the flows, each with its legs
GET /v1/ended              the latest legs that have ended: when, why, and how many bytes each mirror got
GET /v1/decisions          what backend and masters have decided for each OpenFlow switch
GET /metrics               the metrics, for Prometheus (natmirror/metrics)
POST /v1/drain             ``{"service": …, "backend": …, "deadline": seconds or null}``: drain a backend
POST /v1/undrain           ``{"service": …, "backend": …}``: give a drained backend new connections again
POST /v1/reload            ``{}``: read the rules file again and apply it; the answer lists the changes.
                           ``{"dry_run": true}``: list them, and what connections would lose
POST /v1/resume-mirroring  ``{}``: switch on what was switched off after internal errors
POST /v1/release-kernel    ``{}``: install no kernel rules again that an operator removes
========================== ===========================================================================================

natmirror/runtime/shown.py declares the fields of the answers.
"""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from natmirror.api import PREFIX
from natmirror.api.http_server import JSON, Answer, Request
from natmirror.api.metrics import METRICS_PATH, Metrics
from natmirror.api.program import Program, Refused

DOCUMENTS = ("status",)
LISTS = ("flows", "ended", "decisions")
COMMANDS = ("drain", "undrain", "reload", "resume-mirroring", "release-kernel")


class Routes:
    """Answers requests, by asking ``program``."""

    def __init__(self, program: Program, metrics: Metrics) -> None:
        self._program = program
        self._metrics = metrics

    def respond(self, request: Request) -> Answer:
        """Return the answer to a request. Refused where there is none."""
        if request.path == METRICS_PATH:
            return self._metrics.respond(request)
        return Answer(JSON, self._pieces(request))

    async def _pieces(self, request: Request) -> AsyncGenerator[bytes, None]:
        name = request.path.removeprefix(PREFIX)
        if not request.path.startswith(PREFIX) or name not in (*DOCUMENTS, *LISTS, *COMMANDS):
            known = ", ".join(PREFIX + name for name in (*DOCUMENTS, *LISTS, *COMMANDS)) + f", {METRICS_PATH}"
            raise Refused(404, f"there are {known}")
        if name in COMMANDS:
            if request.method != "POST":
                raise Refused(405, "this is a command: send it with POST")
            yield json.dumps(await self._program.command(name, _arguments(request.body))).encode()
            return
        if request.method != "GET":
            raise Refused(405, "the state can only be read, with GET")
        if name in DOCUMENTS:
            async with aclosing(self._program.get(name)) as answers:
                yield json.dumps(await anext(answers)).encode()
            return
        before = b"["
        async with aclosing(self._program.get(name)) as parts:
            async for part in parts:
                if part:
                    yield before + json.dumps(part)[1:-1].encode()
                    before = b", "
        yield b"[]" if before == b"[" else b"]"


def _arguments(body: bytes) -> dict[str, Any]:
    try:
        arguments = json.loads(body)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise Refused(400, "expected a JSON object with the arguments")
    return arguments
