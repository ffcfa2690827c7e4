"""Gets the parts of a dump, each within a time of its own: what hangs costs that part alone."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from natmirror.errors import NatmirrorError

TIMEOUT = 8.0
"""Seconds for a part, unless it says otherwise."""
_AT_ONCE = 4
_MAX_LEN = 2 << 20  # characters of a part: a host may have a million routes, and each takes time to replace
_NO_DATA = "there is nothing here"


@dataclass(frozen=True, slots=True)
class Part:
    """A file of the archive. ``get`` returns its text, or values for JSON; ``timeout`` bounds it, in
    seconds."""

    file: str
    sentence: str
    get: Callable[[], Any]
    timeout: float = TIMEOUT
    is_of_kernel: bool = False
    """Whether the kernel tells it, not natmirror."""


@dataclass(frozen=True, slots=True)
class Collected:
    """A part as it was got: its content, or why there is none, and how long that took."""

    part: Part
    content: Any
    error: str
    seconds: float

    @property
    def is_document(self) -> bool:
        """Return whether the content is values for JSON, not text."""
        return not self.error and not isinstance(self.content, str)


def collect(parts: Iterable[Part]) -> list[Collected]:
    """Return all parts, some of them got at the same time."""
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return list(threads.map(_get, parts))


def _get(part: Part) -> Collected:
    """Get a part in a thread that may be left behind, hanging."""
    found: list[Any] = []
    errors: list[str] = []

    def get() -> None:
        try:
            found.append(part.get())
        except NatmirrorError as error:
            errors.append(" ".join(error.lines))
        except Exception as error:  # whatever the host does: it costs this part alone
            errors.append(f"{type(error).__name__}: {error}")

    began_at = time.monotonic()
    thread = threading.Thread(target=get, daemon=True)
    thread.start()
    thread.join(part.timeout)
    seconds = time.monotonic() - began_at
    if found:
        return Collected(part, _cut(found[0]), "", seconds)
    return Collected(part, "", errors[0] if errors else f"it did not come within {part.timeout:g} s", seconds)


def _cut(content: Any) -> Any:
    if not isinstance(content, str):
        return content
    if len(content) > _MAX_LEN:
        return f"{content[:_MAX_LEN].rpartition(chr(10))[0]}\nthe rest is left out: {len(content)} characters\n"
    return content or f"{_NO_DATA}\n"


def output_of(command: Sequence[str], timeout: float = TIMEOUT) -> str:
    """Return what a command prints, errors too, below a line with the command itself; what it has printed until then if
    it does not end in time. FileNotFoundError where there is no such program."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        end = ""
        try:
            text, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            text, _ = process.communicate()
            end = f"it did not end within {timeout:g} s and was killed\n"
    if process.returncode and not end:
        end = f"exit code {process.returncode}\n"
    return f"# {' '.join(command)}\n{text}{end}"
