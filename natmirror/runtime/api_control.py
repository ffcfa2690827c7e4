"""The functions behind the API: for the resources that it shows, and the commands that it obeys.

api/resources.py declares them, under the same names. ApiProcess calls them. A command belongs to another thread, and
its future is settled there.
"""

from collections.abc import Callable, Sequence
from functools import partial

from natmirror.runtime.api_process import Arguments, Command, Document, Parts
from natmirror.runtime.backend_control import BackendControl
from natmirror.runtime.engine_proxy import EngineProxy
from natmirror.runtime.host_maintenance import HostMaintenance
from natmirror.runtime.mailbox import Mailbox
from natmirror.runtime.reloader import Reloader
from natmirror.runtime.run_status import RunStatus
from natmirror.runtime.shown import CommandAnswer, EmptyAnswer, ReloadAnswer
from natmirror.runtime.worker_events import WorkerEvents


def documents(status: RunStatus) -> dict[str, Document]:
    """Return the function behind each resource that is no list."""
    return {"status": lambda _: status.status()}


def lists(status: RunStatus, events: WorkerEvents) -> dict[str, Parts]:
    """Return the function behind each list."""
    return {
        "flows": lambda _: status.flows(),
        "ended": lambda _: iter([events.ended_legs()]),
        "decisions": lambda _: status.decisions(),
    }


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

    def in_main_thread(obey: Callable[[Arguments], CommandAnswer | None]) -> Command:
        def answer(arguments: Arguments) -> EmptyAnswer | CommandAnswer:
            return obey(arguments) or EmptyAnswer()

        return lambda arguments: mailbox.request(partial(answer, arguments))

    def reload(arguments: Arguments) -> ReloadAnswer:
        if arguments.get("dry_run"):
            changes, costs = reloader.preview()
            return {"changes": changes, "costs": costs}
        return {"changes": reloader.reload(), "costs": []}

    def release_kernel() -> EmptyAnswer:
        maintenance.release_kernel()
        return {}

    def resume_mirroring(arguments: Arguments) -> None:
        for engine in engines:
            engine.resume_mirroring()

    return {
        "drain": in_main_thread(backends.drain),
        "undrain": in_main_thread(backends.undrain),
        "reload": lambda arguments: maintenance.thread.request(partial(reload, arguments)),
        "release-kernel": lambda arguments: maintenance.thread.request(release_kernel),
        "resume-mirroring": in_main_thread(resume_mirroring),
    }
