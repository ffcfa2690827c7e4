"""Asks a running natmirror for its state, and sends it commands: the counterpart of http_server.py."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx

from natmirror import __version__
from natmirror.api.owner import require_owner
from natmirror.api.resources import MAX_LIMIT, ROUTES, Route
from natmirror.errors import HostError, NoAnswerError, RefusedError

_TIMEOUT = 5.0
_ROUTES = {route.name: route for route in ROUTES}
_OWN_SERVER = f"natmirror/{__version__}"
_other_versions: set[str] = set()


def other_version() -> str | None:
    """Return the version of the natmirror that has answered, if it is not this one, so that its answers may lack what
    this one expects; else None."""
    return next(iter(_other_versions), None)


def ask(name: str, path: Path, **parameters: Any) -> Any:
    """Return the resource ``name`` of the natmirror that serves the socket ``path``; NoAnswerError where none answers.
    HostError where this user may not ask, where natmirror is stopped or where it refuses the request. A parameter that
    is None is not sent."""
    words = {key: _text(value) for key, value in parameters.items() if value is not None}
    return _call(_ROUTES[name], f"?{urlencode(words)}" if words else "", path)


def ask_list(name: str, path: Path, limit: int | None = None, **parameters: Any) -> list[Any]:
    """Return the rows of a list, at most ``limit``; else as ask()."""
    rows: list[Any] = []
    cursor = None
    while True:
        left = None if limit is None else min(limit - len(rows), MAX_LIMIT)
        page = ask(name, path, **parameters, limit=left, cursor=cursor)
        rows += page["items"]
        cursor = page["next"]
        if cursor is None or (limit is not None and len(rows) >= limit):
            return rows


def send_command(name: str, arguments: Mapping[str, Any], path: Path, timeout: float = _TIMEOUT) -> Any:
    """Send a command to a running natmirror and return its answer. ``arguments`` has the parameters of the command's
    path and of its body. NoAnswerError where none answers within ``timeout`` seconds, HostError where it refuses the
    command."""
    route, left = _ROUTES[name], dict(arguments)
    in_path = {one: left.pop(one) for one in route.parameters_of_path}
    return _call(route, "", path, timeout, in_path, json=left)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _call(
    route: Route, query: str, path: Path, timeout: float = _TIMEOUT, in_path: Mapping[str, str] = {}, **more: Any
) -> Any:
    require_owner(path)
    transport = httpx.HTTPTransport(
        uds=str(path), verify=False
    )  # a Unix socket needs no certificates, which take long to load
    resource = route.path.format_map({name: quote(value, safe="") for name, value in in_path.items()})
    try:
        with httpx.Client(transport=transport, timeout=_TIMEOUT + timeout) as client:
            response = client.request(route.method, f"http://natmirror{resource}{query}", **more)
            if (server := response.headers.get("Server", _OWN_SERVER)) != _OWN_SERVER:
                _other_versions.add(server.partition("/")[2])
            answer = response.json()
    except (httpx.HTTPError, OSError, ValueError) as error:
        raise NoAnswerError(f"no natmirror answers on {path}: {error}") from None
    if response.is_error:
        is_refused = response.status_code < httpx.codes.INTERNAL_SERVER_ERROR
        raise (RefusedError if is_refused else HostError)(answer["error"])
    return answer
