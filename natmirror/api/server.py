"""The state of a running natmirror as JSON over HTTP on a Unix socket.

========================== ==============================================================================
GET /v1/status             counters, drops by reason, backends, mirrors with their ledgers, queues
GET /v1/flows              the flows, each with its legs
GET /v1/ended              the legs that ended last: when, why, how much of its client's bytes each had
GET /v1/decisions          for each OpenFlow switch: what its backend has ordered last, and what masters would have
POST /v1/drain             ``{"service": …, "backend": …, "deadline": seconds or null}``: no new connections for it
POST /v1/undrain           ``{"service": …, "backend": …}``: a drained backend takes connections again
POST /v1/reload            ``{}``: go by what the rules file says now; returns the changes, or what is wrong with it
POST /v1/resume-mirroring  ``{}``: switch on what was switched off after internal errors
POST /v1/role              ``{"role": "master", "backup" or "fault"}``: the role that keepalived has given this host
========================== ==============================================================================

The server runs in threads of its own and never touches an engine: it asks the engine's own thread, which answers
between two batches of packets.
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
_REST = 0.1

log = logging.getLogger("natmirror")


class Server:
    """Answers on ``path`` until close(). ``resources`` return what to answer, or raise TimeoutError; ``orders`` take
    the arguments, and raise ValueError where they cannot be obeyed.

    HostError where the socket cannot be made, or another natmirror answers there.
    """

    def __init__(
        self,
        path: Path,
        resources: Mapping[str, Callable[[], Any]],
        orders: Mapping[str, Callable[[dict[str, Any]], Any]] | None = None,
    ) -> None:
        self._path = path
        self._resources = resources
        self._orders = orders or {}
        logging.getLogger("waitress").setLevel(logging.ERROR)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_dead(path)
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
        self._server.accept = self._accept_or_rest
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="api", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering, and take the socket away."""
        self._closing.set()
        self._server.task_dispatcher.shutdown()
        self._server.trigger.pull_trigger(self._server.close)  # in the loop, which has nothing left then
        self._thread.join(_TIMEOUT)
        self._path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                self._server.run()
            except Exception:  # for one, the host has no memory left
                log.exception("API: internal error; it goes on")
                self._closing.wait(_REST)

    def _accept_or_rest(self) -> Any:
        """Accept, or rest: where no descriptor is left, the loop would look at the same connection again and again."""
        try:
            return self._accept()
        except OSError:
            self._closing.wait(_REST)
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
        if request.path.startswith(PREFIX) and name in self._orders:
            return self._run_order(name, request)
        if not request.path.startswith(PREFIX) or name not in self._resources:
            raise NotFound("there are " + " and ".join(PREFIX + resource for resource in self._resources))
        if request.method != "GET":
            raise MethodNotAllowed(["GET"], "the state can only be read")
        try:
            return self._resources[name]()
        except TimeoutError:
            raise ServiceUnavailable("it is too busy to answer") from None

    def _run_order(self, name: str, request: Request) -> Any:
        if request.method != "POST":
            raise MethodNotAllowed(["POST"], "this is an order: it has to be posted")
        arguments = request.get_json(silent=True)
        if not isinstance(arguments, dict):
            raise BadRequest("expected a JSON object")
        try:
            return self._orders[name](arguments)
        except (KeyError, TypeError, ValueError) as error:
            raise BadRequest(f"expected {error} too" if isinstance(error, KeyError) else str(error)) from None
        except TimeoutError:
            raise ServiceUnavailable("it is too busy to answer") from None


def _remove_dead(path: Path) -> None:
    """Take away the socket that a killed run has left behind."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise HostError(f"another natmirror serves its state on {path}; give this one another place with --api")
