"""Judges one observed connection of a switch: would each mirror's master have done what production's controller did?

A Judge gets messages, each with its time, and keeps them until settle() works on them in small steps. So its caller
decides when that work is done, and may stop after each step. What it finds out goes to each mirror's Collector, during
settle() only.

It has a model of the switch's tables (ProductionModel), and for each mirror a model of the tables that the mirror's
orders would have made (MirrorModel). All that it keeps is bounded; beyond the bounds a result is "not known".
"""

from collections.abc import Iterator

from natmirror.openflow.comparison.results import Collector
from natmirror.openflow.messages import Message
from natmirror.openflow.tables.mirror_model import MirrorModel
from natmirror.openflow.tables.state import Account


class Judge:
    """The judge of one observed connection, made once its version is known.

    ``account`` is for the models' rules; ``held`` is the rest. ``is_picked_up``: the connection's beginning was not
    seen, so its controller has given orders before.
    """

    def __init__(self, version: int, account: Account, now: float, *, is_picked_up: bool = False) -> None:
        raise NotImplementedError

    # The mirrors, by their names

    def joined(self, mirror: str, collector: Collector, now: float, *, warm_up: float) -> None:
        """Notice that a session with a mirror's master begins: when its leg is established.

        A mirror that had a session before continues with its tables. ``warm_up``: seconds from now on in which no
        answer of the master counts.
        """
        raise NotImplementedError

    def ended(self, mirror: str, reason: str, now: float, *, is_fault: bool) -> None:
        """Notice that a session has ended. ``is_fault``: the master or the network has ended it while the switch's
        connection lived, and neither the rules nor natmirror."""
        raise NotImplementedError

    def removed(self, mirror: str, now: float) -> None:
        """Forget a mirror that has left the rules, or that is not judged any more."""
        raise NotImplementedError

    def model_of(self, mirror: str) -> MirrorModel | None:
        """Return the tables that a mirror's orders would have made; None for a mirror that never joined."""
        raise NotImplementedError

    # Messages. All of a side have to come, in their order: those that do not matter are left out here.

    def from_switch(self, message: Message, now: float) -> None:
        """Take a message of the switch, before any master is told of it."""
        raise NotImplementedError

    def from_controller(self, message: Message, now: float) -> None:
        """Take a message of production's controller."""
        raise NotImplementedError

    def missed(self, now: float) -> None:
        """Notice that bytes of the switch or of its controller are missing: production's tables are not known."""
        raise NotImplementedError

    def told(self, mirror: str, message: Message, now: float) -> None:
        """Notice that a mirror's session has passed a message of the switch to the master: the same object that
        from_switch() got."""
        raise NotImplementedError

    def withheld(self, mirror: str, message: Message, now: float) -> None:
        """Notice that a mirror's master will not get a message of the switch."""
        raise NotImplementedError

    def from_master(self, mirror: str, message: Message, now: float) -> None:
        """Take a message of a mirror's master, except those that its session has refused."""
        raise NotImplementedError

    # Time

    def settle(self, now: float) -> Iterator[None]:
        """Work on what has come and on what is due, in steps of about 1 ms at most; yield after each.

        To be called after messages, and at next_deadline(). An unfinished call may be dropped or continued later: the
        next one continues the same work.
        """
        raise NotImplementedError

    def next_deadline(self) -> float | None:
        """Return when settle() has something to do; None where it has not."""
        raise NotImplementedError

    # Memory

    @property
    def held(self) -> int:
        """Bytes that are kept, besides the models' rules."""
        raise NotImplementedError

    def give_up(self, now: float) -> None:
        """Forget all that ``held`` counts, because the memory is needed: what is open is reported as not known."""
        raise NotImplementedError

    def close(self, now: float) -> None:
        """End the judgement, because the switch's connection has ended: report what is certain, and give all memory
        back."""
        raise NotImplementedError
