"""What a variant of the learning switch is: an equal controller, or one with a planted bug.

A bug is a function from a PACKET_IN and the honest orders to other orders; the controller's programme for a new switch
has None for the PACKET_IN. Each bug stands with what a verdict has to say about it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from tests.live.verdict.learning import Learning
from tests.live.verdict.orders import Cause, Order

Bug = Callable[[Cause | None, list[Order]], list[Order]]


class Honest(Protocol):
    """A controller without a bug."""

    def programme(self) -> list[Order]: ...

    def answer(self, datapath: int, in_port: int, frame: bytes) -> tuple[Cause, list[Order]]: ...


class Form(StrEnum):
    """How orders are written that have the same effects."""

    PLAIN = "plain"
    COOKIES = "cookies"
    """Each FLOW_MOD has another cookie."""
    SHUFFLED = "shuffled"
    """PACKET_OUT first, fields of matches in reverse order, max_len 0."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A controller that may run as a master, and what has to be said about it."""

    name: str
    named: str | None = None
    """A regular expression that one of its differences has to meet, as ``kind: text``, or one of the reasons of the
    verdict; None for an equal controller."""
    bug: Callable[[], Bug] | None = None
    """Makes a bug, with a state of its own."""
    form: Form = Form.PLAIN
    honest: Callable[[str], Honest] = Learning
    """Makes the controller without the bug, for a version of OpenFlow."""
    versions: tuple[str, ...] = ("1.0", "1.3")

    @property
    def is_equal(self) -> bool:
        return self.named is None

    def is_named_by(self, words: str) -> bool:
        """Return whether the words about a difference, or a reason, name the bug."""
        return self.named is not None and re.search(self.named, words) is not None
