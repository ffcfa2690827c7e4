"""The functions behind the API: for the resources that it shows, and the commands that it obeys.

ApiProcess calls them. A command belongs to another thread, and its future is settled there.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from natmirror.runtime.api_process import Command, Document, Parts
from natmirror.runtime.backend_control import BackendControl
from natmirror.runtime.engine_proxy import EngineProxy
from natmirror.runtime.host_maintenance import HostMaintenance
from natmirror.runtime.mailbox import Mailbox
from natmirror.runtime.reloader import Reloader
from natmirror.runtime.run_status import RunStatus
from natmirror.runtime.shown import CommandAnswer, EmptyAnswer, ReloadAnswer
from natmirror.runtime.worker_events import WorkerEvents

Request = dict[str, Any]


def documents(status: RunStatus) -> dict[str, Document]:
    """Return the function behind each resource that is no list."""
    return {"status": status.status}


def lists(status: RunStatus, events: WorkerEvents) -> dict[str, Parts]:
    """Return the function behind each list."""
    return {"flows": status.flows, "ended": lambda: iter([events.ended_legs()]), "decisions": status.decisions}


def commands(
    mailbox: Mailbox,
    maintenance: HostMaintenance,
    *,
    backends: BackendControl,
    engines: Sequence[EngineProxy],
    reloader: Reloader,
) -> dict[str, Command]:
    """Return the function that has each command obeyed. ``mailbox`` is the main thread's, ``maintenance`` has the
    thread that reloads."""

    def in_main_thread(obey: Callable[[Request], CommandAnswer | None]) -> Command:
        def answer(request: Request) -> EmptyAnswer | CommandAnswer:
            return obey(request) or EmptyAnswer()

        return lambda request: mailbox.request(partial(answer, request))

    def reload(request: Request) -> ReloadAnswer:
        if request.get("dry_run"):
            changes, costs = reloader.preview()
            return {"changes": changes, "costs": costs}
        return {"changes": reloader.reload(), "costs": []}

    def release_kernel() -> EmptyAnswer:
        maintenance.release_kernel()
        return {}

    def resume_mirroring(request: Request) -> None:
        for engine in engines:
            engine.resume_mirroring()

    return {
        "drain": in_main_thread(backends.drain),
        "undrain": in_main_thread(backends.undrain),
        "reload": lambda request: maintenance.thread.request(partial(reload, request)),
        "release-kernel": lambda request: maintenance.thread.request(release_kernel),
        "resume-mirroring": in_main_thread(resume_mirroring),
    }
