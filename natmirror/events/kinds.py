"""The kinds of events, and how bad an event is."""

from enum import StrEnum


class EventSeverity(StrEnum):
    """How bad an event is."""

    INFO = "info"
    """Nothing is wrong, or no longer."""
    WARNING = "warning"
    """Something is missing or wrong, or may be."""
    ERROR = "error"
    """Production or copies do not pass, or natmirror itself has failed."""

    @property
    def rank(self) -> int:
        """A number that grows with the severity."""
        return list(EventSeverity).index(self)


class EventKind(StrEnum):
    """What has happened."""

    STARTED = "started"
    """natmirror has started, and passes packets."""
    STOPPED = "stopped"
    """natmirror has stopped, because the operator or the service manager stopped it."""
    CRASHED = "crashed"
    """A start has found no stop of the natmirror before: it crashed, was killed, or its host failed."""
    RULES_RELOADED = "rules-reloaded"
    """natmirror has read its rules again and applied them; the text has each change, and whether a signal or a command
    asked for it."""
    RELOAD_REFUSED = "reload-refused"
    """natmirror has refused new rules, and keeps those that it has."""
    ROLE_CHANGED = "role-changed"
    """This host of a pair has another role."""
    BACKEND_DOWN = "backend-down"
    """A backend's health checks fail; ``text`` has the reason."""
    BACKEND_UP = "backend-up"
    """A backend's health checks pass again."""
    BACKEND_DRAINED = "backend-drained"
    """The operator has drained a backend."""
    BACKEND_UNDRAINED = "backend-undrained"
    """The operator has given a drained backend new connections again."""
    WEIGHT_CHANGED = "weight-changed"
    """The operator has given a backend another weight, or that of the rules again."""
    BACKEND_ADDED = "backend-added"
    """A command has added a backend to a pool, or taken a removal back."""
    BACKEND_REMOVED = "backend-removed"
    """A command has removed a backend from a pool."""
    OVERRIDE_ADOPTED = "override-adopted"
    """This host follows a command that was given to the other host of the pair."""
    OVERRIDE_DROPPED = "override-dropped"
    """What a command had set holds no more, because the rules no longer have its backend or mirror."""
    CONNECTIONS_RESET = "connections-reset"
    """natmirror has reset the connections of a backend, because it is down or was drained past its deadline."""
    MIRROR_DOWN = "mirror-down"
    """A mirror refuses legs, does not answer them, or has ended or stalled all of them: ``code`` has the end reason,
    ``count`` the number of legs."""
    MIRROR_UP = "mirror-up"
    """A mirror that was down has accepted a leg, or acknowledged bytes; ``count`` has the number of legs that failed
    meanwhile."""
    MIRROR_PAUSED = "mirror-paused"
    """The operator has paused a mirror."""
    MIRROR_RESUMED = "mirror-resumed"
    """The operator has ended a mirror's pause."""
    COPIES_LOST = "copies-lost"
    """A mirror has lost copies or parts of them: ``code`` has the reason, ``count`` the legs that ended for it
    (0: legs that ended earlier lose more), the text the number of bytes. While it lasts, the events cover longer and
    longer times, up to an hour."""
    VERDICT_CHANGED = "verdict-changed"
    """The verdict on a master, about the last hour, is another one: ``code`` has it, the text the main reason."""
    DIFFERENCE_BEGAN = "difference-began"
    """A master whose verdict was ``differs`` already, and whose differences were all resolved, differs again."""
    DIFFERENCE_ENDED = "difference-ended"
    """The tables of a master are equal to production's again, and no answer has differed since; or the verdict has
    begun from nothing, so that what differed is forgotten."""
    KERNEL_REPAIRED = "kernel-repaired"
    """Something of natmirror's in the kernel was changed, and natmirror has repaired it; the text names the program."""
    FINDING_BEGAN = "finding-began"
    """A finding has begun: ``code`` is the finding's code, the text has what mends it."""
    FINDING_ENDED = "finding-ended"
    """A finding is over."""
    THREAD_ENDED = "thread-ended"
    """A packet thread has failed for good: no packet of its clients passes until natmirror is restarted."""
    MIRRORING_OFF = "mirroring-off"
    """natmirror has switched off a kind of mirroring work after internal errors; ``code`` names the work."""
    MIRRORING_ON = "mirroring-on"
    """natmirror has switched a kind of mirroring work on again."""
    LIMIT_REACHED = "limit-reached"
    """A limit was reached: ``code`` is ``over-limit`` for a client that had no turn left, ``client-max-connections`` or
    ``client-new-connections`` for clients that met a limit of ``per-client``, ``max-connections`` for a full backend,
    ``max-flows`` for a full flow table; ``count`` has the packets or connections. While it lasts, the events cover
    longer and longer times, up to an hour."""
