"""Asks a running natmirror for its state, and sends it commands: the counterpart of server.py."""

from pathlib import Path
from typing import Any

import httpx

from natmirror.api import PREFIX
from natmirror.errors import HostError, NoAnswerError

_TIMEOUT = 5.0


def ask(resource: str, path: Path) -> Any:
    """Return a resource of the natmirror that serves the socket ``path``; NoAnswerError where none answers."""
    return _call("GET", resource, path)


def send_command(name: str, arguments: dict[str, Any], path: Path, timeout: float = _TIMEOUT) -> Any:
    """Send a command to a running natmirror and return its answer. NoAnswerError where none answers within
    ``timeout`` seconds, HostError where it refuses the command."""
    return _call("POST", name, path, timeout, json=arguments)


def _call(method: str, resource: str, path: Path, timeout: float = _TIMEOUT, **more: Any) -> Any:
    transport = httpx.HTTPTransport(
        uds=str(path), verify=False
    )  # a Unix socket needs no certificates, which take long to load
    try:
        with httpx.Client(transport=transport, timeout=_TIMEOUT + timeout) as client:
            response = client.request(method, f"http://natmirror{PREFIX}{resource}", **more)
            answer = response.json()
    except (httpx.HTTPError, OSError, ValueError) as error:
        raise NoAnswerError(f"no natmirror answers on {path}: {error}") from None
    if response.is_error:
        raise HostError(f"natmirror on {path}: {answer['error']}")
    return answer
