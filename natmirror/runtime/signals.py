"""The signals of a run: SIGINT and SIGTERM stop it, SIGHUP reloads the rules. A handler only notes the signal."""

import signal
from contextlib import ExitStack
from types import FrameType

from natmirror.runtime.mailbox import Waker

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """The signals that the process has received."""

    def __init__(self) -> None:
        self.stops = 0
        """How many signals to stop have come; the second one ends the wait for the other host of a pair."""
        self._is_reload_wanted = False

    def catch(self, held: ExitStack, waker: Waker) -> None:
        """Note signals from now on. Until ``held`` is closed, each one wakes the main thread through ``waker``."""
        signal.set_wakeup_fd(waker.signal_fd)
        held.callback(signal.set_wakeup_fd, -1)
        for number in (*_STOP_SIGNALS, signal.SIGHUP):
            signal.signal(number, self._note)

    def take_reload(self) -> bool:
        """Return whether SIGHUP has come since the last call."""
        wanted, self._is_reload_wanted = self._is_reload_wanted, False
        return wanted

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._is_reload_wanted = True
        else:
            self.stops += 1
