"""All packet threads of a run together: their progress, and what follows when one ends."""

import logging

from natmirror.events import EventRing
from natmirror.runtime.run_events import add_end_of_thread
from natmirror.runtime.worker import Worker

log = logging.getLogger("natmirror")


class Workers(list[Worker]):
    """The workers, in the order of their shards."""

    def rounds(self) -> list[int]:
        """Return the number of rounds that each has completed; from any thread."""
        return [worker.rounds for worker in self]

    def queue_problem(self) -> str | None:
        """Return what is wrong with a queue, or None; from any thread."""
        return next((problem for worker in self if (problem := worker.queue_problem())), None)

    def note_ended(self, ended: dict[int, str], ring: EventRing) -> None:
        """Note in ``ended``, by number, why workers have failed for good. The others continue; the failure of the last
        one is raised."""
        for number, worker in enumerate(self):
            if worker.failure is not None and number not in ended:
                ended[number] = f"{type(worker.failure).__name__}: {worker.failure}"
                text = "packet thread %d has ended: no packet of its clients passes until natmirror is restarted: %s"
                log.critical(text, number, ended[number], exc_info=worker.failure)
                add_end_of_thread(ring, text % (number, ended[number]))
        if len(ended) == len(self):
            self.raise_first_failure()

    def raise_first_failure(self) -> None:
        """Raise the failure of the first worker that has failed, if one has."""
        for worker in self:
            if worker.failure is not None:
                raise worker.failure

    def stop(self) -> None:
        """End all of them; return when they have ended."""
        for worker in self:
            worker.stop()
