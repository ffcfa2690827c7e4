"""The functions behind the API: for the resources that it shows, and the commands that it obeys.

The API's threads call them. They pass work that belongs to another thread to it, and wait for the result.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from natmirror.errors import NatmirrorError
from natmirror.runtime.backend_control import BackendControl
from natmirror.runtime.engine_proxy import EngineProxy
from natmirror.runtime.host_maintenance import HostMaintenance
from natmirror.runtime.mailbox import Mailbox
from natmirror.runtime.reloader import Reloader
from natmirror.runtime.run_status import RunStatus
from natmirror.runtime.shown import EmptyAnswer, ReloadAnswer
from natmirror.runtime.worker_events import WorkerEvents

_ANSWER_TIMEOUT = 5.0
_RELOAD_TIMEOUT = 60.0
_RELEASE_TIMEOUT = 10.0  # a change of the rules may be under way

Request = dict[str, Any]
Command = Callable[[Request], EmptyAnswer | ReloadAnswer]


def resources(status: RunStatus, events: WorkerEvents) -> dict[str, Callable[[], Any]]:
    """Return the function behind each resource."""
    return {
        "status": status.status,
        "flows": status.flows,
        "ended": events.ended_legs,
        "decisions": status.decisions,
    }


def commands(
    mailbox: Mailbox,
    maintenance: HostMaintenance,
    *,
    backends: BackendControl,
    engines: Sequence[EngineProxy],
    reloader: Reloader,
) -> dict[str, Command]:
    """Return the function that obeys each command; it raises ValueError where the command is refused. ``mailbox`` is
    the main thread's, ``maintenance`` has the thread that reloads."""

    def in_main_thread(obey: Callable[[Request], None]) -> Command:
        def command(request: Request) -> EmptyAnswer:
            _refusing(lambda: mailbox.ask(partial(obey, request), _ANSWER_TIMEOUT))
            return {}

        return command

    def reload(request: Request) -> ReloadAnswer:
        return {"changes": _refusing(lambda: maintenance.thread.ask(reloader.reload, _RELOAD_TIMEOUT))}

    def release_kernel(request: Request) -> EmptyAnswer:
        maintenance.thread.ask(maintenance.release_kernel, _RELEASE_TIMEOUT)
        return {}

    def resume_mirroring(request: Request) -> None:
        for engine in engines:
            engine.resume_mirroring()

    return {
        "drain": in_main_thread(backends.drain),
        "undrain": in_main_thread(backends.undrain),
        "reload": reload,
        "release-kernel": release_kernel,
        "resume-mirroring": in_main_thread(resume_mirroring),
    }


def _refusing(do: Callable[[], Any]) -> Any:
    """Call a function and return its result; turn natmirror's own errors into ValueError, which the API answers."""
    try:
        return do()
    except NatmirrorError as error:
        raise ValueError(str(error)) from None
