"""Serves the state and the commands of a running natmirror, as JSON over HTTP on a Unix socket.

========================== ===========================================================================================
GET /v1/status             counters, dropped packets by reason, backends, mirrors with their accounts, queues
GET /v1/flows              the flows, each with its legs
GET /v1/ended              the latest legs that have ended: when, why, and how many bytes each mirror got
GET /v1/decisions          what backend and masters have decided for each OpenFlow switch
POST /v1/drain             ``{"service": …, "backend": …, "deadline": seconds or null}``: drain a backend
POST /v1/undrain           ``{"service": …, "backend": …}``: give a drained backend new connections again
POST /v1/reload            ``{}``: read the rules file again and apply it; the answer lists the changes
POST /v1/resume-mirroring  ``{}``: switch on what was switched off after internal errors
POST /v1/release-kernel    ``{}``: install no kernel rules again that an operator removes
========================== ===========================================================================================

natmirror/runtime/shown.py declares the fields of the answers. The server runs in threads of its own and never touches
an engine: it asks the engine's thread, which answers between two batches of packets.
"""

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from waitress.server import create_server
from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed, NotFound, ServiceUnavailable
from werkzeug.wrappers import Request, Response

from natmirror.api import PREFIX
from natmirror.errors import HostError

_MODE = "660"
_THREADS = 2
_TIMEOUT = 5.0
_PAUSE = 0.1

log = logging.getLogger("natmirror")


class Server:
    """The HTTP server on the Unix socket ``path``, until close().

    ``resources`` return the answers to GET, or raise TimeoutError. ``commands`` take the arguments of POST and return
    the answer; they raise ValueError, TypeError or KeyError for arguments that they refuse.

    Raise HostError where the socket cannot be made, or another natmirror answers on it.
    """

    def __init__(
        self,
        path: Path,
        resources: Mapping[str, Callable[[], Any]],
        commands: Mapping[str, Callable[[dict[str, Any]], Any]] | None = None,
    ) -> None:
        self._path = path
        self._resources = resources
        self._commands = commands or {}
        logging.getLogger("waitress").setLevel(logging.ERROR)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale_socket(path)
            self._server = create_server(
                self._answer,
                unix_socket=str(path),
                unix_socket_perms=_MODE,
                threads=_THREADS,
                asyncore_use_poll=True,  # select() takes no descriptor above 1,023
            )
        except OSError as error:
            raise HostError(f"cannot serve the state on {path}: {error.strerror or error}") from None
        self._accept = self._server.accept
        self._server.accept = self._accept_or_pause
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="api", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering, and remove the socket."""
        self._closing.set()
        self._server.task_dispatcher.shutdown()
        self._server.trigger.pull_trigger(self._server.close)  # in the loop, once it has no request left
        self._thread.join(_TIMEOUT)
        self._path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                self._server.run()
            except Exception:  # e.g. the host has no memory left
                log.exception("API: internal error; the API continues")
                self._closing.wait(_PAUSE)

    def _accept_or_pause(self) -> Any:
        """Accept a connection; pause after a failure, since without a free descriptor the loop retries at once."""
        try:
            return self._accept()
        except OSError:
            self._closing.wait(_PAUSE)
            raise

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        try:
            response = Response(json.dumps(self._resource(request)), mimetype="application/json")
        except HTTPException as error:
            body = json.dumps({"error": error.description})
            response = Response(body, status=error.code, mimetype="application/json")
        return response(environ, start_response)

    def _resource(self, request: Request) -> Any:
        name = request.path.removeprefix(PREFIX)
        if request.path.startswith(PREFIX) and name in self._commands:
            return self._run_command(name, request)
        if not request.path.startswith(PREFIX) or name not in self._resources:
            raise NotFound("there are " + ", ".join(PREFIX + name for name in (*self._resources, *self._commands)))
        if request.method != "GET":
            raise MethodNotAllowed(["GET"], "the state can only be read, with GET")
        try:
            return self._resources[name]()
        except TimeoutError:
            raise ServiceUnavailable("it is too busy to answer: try again") from None

    def _run_command(self, name: str, request: Request) -> Any:
        if request.method != "POST":
            raise MethodNotAllowed(["POST"], "this is a command: send it with POST")
        arguments = request.get_json(silent=True)
        if not isinstance(arguments, dict):
            raise BadRequest("expected a JSON object with the arguments")
        try:
            return self._commands[name](arguments)
        except (KeyError, TypeError, ValueError) as error:
            raise BadRequest(f"expected the argument {error}" if isinstance(error, KeyError) else str(error)) from None
        except TimeoutError:
            raise ServiceUnavailable("it is too busy to answer: try again") from None


def _remove_stale_socket(path: Path) -> None:
    """Remove the socket of a natmirror that was killed."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise HostError(f"another natmirror serves its state on {path}; choose another path for this one with --api")
