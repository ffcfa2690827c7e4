"""The functions behind the API: for the resources that it shows, and the commands that it obeys.

api/resources.py declares them, under the same names. ApiProcess calls them. A command belongs to another thread, and
its future is settled there.
"""

from collections.abc import Callable, Sequence
from functools import partial

from natmirror.events import EventRing
from natmirror.runtime.api_process import Arguments, Command, Document, Parts
from natmirror.runtime.engine_proxy import EngineProxy
from natmirror.runtime.explanation import Explainer
from natmirror.runtime.host_maintenance import HostMaintenance
from natmirror.runtime.mailbox import Mailbox
from natmirror.runtime.override_control import OverrideControl
from natmirror.runtime.pool_commands import PoolCommands
from natmirror.runtime.reloader import Reloader
from natmirror.runtime.run_lists import RunLists
from natmirror.runtime.run_status import RunStatus
from natmirror.runtime.shown import CommandAnswer, ReloadAnswer
from natmirror.runtime.verdicts import Verdicts
from natmirror.runtime.worker_events import WorkerEvents

_RULES_TIMEOUT = 5.0  # seconds


def documents(
    status: RunStatus, maintenance: HostMaintenance, reloader: Reloader, explainer: Explainer
) -> dict[str, Document]:
    """Return the function behind each resource that is no list. ``maintenance`` has the thread that looks at the rules
    file."""
    return {
        "status": lambda _: status.status(),
        "explain": lambda arguments: explainer.explain(arguments["client"], arguments.get("service")),
        "rules": lambda _: maintenance.checks.ask(reloader.view.show, _RULES_TIMEOUT),
    }


def lists(
    status: RunStatus, events: WorkerEvents, engines: Sequence[EngineProxy], ring: EventRing, verdicts: Verdicts
) -> dict[str, Parts]:
    """Return the function behind each list."""
    made = RunLists(engines, status.names, events.ended_legs, ring, verdicts.show)
    return {
        "flows": made.flows,
        "legs": made.legs,
        "ended": made.ended,
        "decisions": made.decisions,
        "events": made.events,
        "verdict": made.verdict,
    }


def commands(
    mailbox: Mailbox,
    maintenance: HostMaintenance,
    *,
    overrides: OverrideControl,
    pools: PoolCommands,
    engines: Sequence[EngineProxy],
    reloader: Reloader,
) -> dict[str, Command]:
    """Return the function that has each command obeyed. ``mailbox`` is the main thread's, ``maintenance`` has the
    thread that reloads."""

    def in_main_thread(obey: Callable[[Arguments], CommandAnswer]) -> Command:
        return lambda arguments: mailbox.request(partial(obey, arguments))

    def reload(arguments: Arguments) -> ReloadAnswer:
        if arguments.get("dry_run"):
            changes, costs, by_commands = reloader.preview()
            return {"changes": changes, "costs": costs, "by_commands": by_commands}
        changes = reloader.reload()
        return {"changes": changes, "costs": [], "by_commands": overrides.beside(reloader.loaded)}

    def release_kernel() -> CommandAnswer:
        maintenance.release_kernel()
        return {"done": "natmirror installs no kernel rules again that are removed"}

    def resume_mirroring(arguments: Arguments) -> CommandAnswer:
        for engine in engines:
            engine.resume_mirroring()
        return {"done": "new connections are mirrored again"}

    return {
        "drain": partial(overrides.command, overrides.drain),
        "undrain": partial(overrides.command, overrides.undrain),
        "add": lambda arguments: maintenance.thread.request(partial(pools.add, arguments)),
        "remove": lambda arguments: maintenance.thread.request(partial(pools.remove, arguments)),
        "weight": partial(overrides.command, overrides.weigh),
        "pause": partial(overrides.command, overrides.pause),
        "resume": partial(overrides.command, overrides.resume),
        "reload": lambda arguments: maintenance.thread.request(partial(reload, arguments)),
        "release-kernel": lambda arguments: maintenance.thread.request(release_kernel),
        "resume-mirroring": in_main_thread(resume_mirroring),
    }
