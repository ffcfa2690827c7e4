"""What a comparison finds out, one fact at a time, and who collects it.

Times are in seconds of the engine's clock. A result is reported once it is certain: an answer when both sides had their
time, a difference of the tables when it has lasted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from natmirror.openflow.messages import Message


class AnswerResult(StrEnum):
    """How a master's answer to a PACKET_IN compares with production's."""

    EQUAL = "equal"
    """Both had the same effects, or none."""
    LATE = "late"
    """Both had the same effects, the master's after more than two seconds."""
    DIFFERS = "differs"
    """Both answered, with different effects; or only the master answered."""
    UNANSWERED = "unanswered"
    """Production answered, and the master did not."""
    NOT_COMPARABLE = "not-comparable"
    """The master would not have been asked, or was not."""


class NotComparable(StrEnum):
    """Why an answer is not compared."""

    NOT_REPORTED = "not-reported"
    """The master did not get the PACKET_IN: it was behind, had no session, or did not want it."""
    OWN_RULE = "own-rule"
    """The master's own rules would have kept the frame in the switch."""
    NO_RULE = "no-rule"
    """The master's own rules would have dropped the frame: no rule of its own sends it to the controller."""
    WARM_UP = "warm-up"
    """The session was younger than ``warm-up``."""
    NOT_KNOWN = "not-known"
    """The rules of one side are not followed, or what they do with the frame cannot be known."""


class DifferenceKind(StrEnum):
    """What differs, without values; metrics have it as a label."""

    RULE_MISSING = "rule-missing"
    """Production made a rule, and the master made none for the same."""
    RULE_MORE = "rule-more"
    """The master made a rule, and production none for the same."""
    RULE_DIFFERENT = "rule-different"
    """Both made a rule, with other fields."""
    RULE_KEPT = "rule-kept"
    """Production deleted a rule, and the master did not."""
    RULE_DELETED = "rule-deleted"
    """The master deleted a rule, and production did not."""
    FRAME_DIFFERENT = "frame-different"
    """Both sent the frame on, in other ways."""
    FRAME_MISSING = "frame-missing"
    """Production sent the frame on, and the master did not."""
    FRAME_MORE = "frame-more"
    """The master sent the frame on, and production did not."""
    ENTRY_DIFFERENT = "entry-different"
    """A group or a meter is different, or only one side has it."""
    SETTING_DIFFERENT = "setting-different"
    """An order about a port or a table is different, or only one side gave it."""
    NO_ANSWER = "no-answer"
    """The master did not answer."""
    SESSION_ENDED = "session-ended"
    """The master ended its session while the switch's connection lived."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference, in words."""

    kind: DifferenceKind
    text: str
    """``idle_timeout 50 for 1``, ``output:4 for output:2``, ``a rule is missing``: the mirror's value first."""
    field: str = ""
    """The field that differs, such as ``idle_timeout``, ``match``, ``actions``; empty where it is none."""
    value: str = ""
    """The mirror's value of the field."""
    instead_of: str = ""
    """Production's value of the field."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The messages that show a difference, and both sides' lines as ovs-ofctl writes them."""

    packet_in: str
    """The PACKET_IN as a line; empty for an order that answers none."""
    production: tuple[str, ...]
    mirror: tuple[str, ...]
    messages: tuple[tuple[str, float, Message], ...] = ()
    """Who sent it (``switch``, ``production``, ``mirror``), when, and the message; cut off where they are long."""


@dataclass(frozen=True, slots=True)
class ComparedAnswer:
    """One PACKET_IN and what both sides made of it."""

    at: float
    """When the switch sent the PACKET_IN."""
    result: AnswerResult
    why_not: NotComparable | None = None
    differences: tuple[Difference, ...] = ()
    fields: Mapping[str, int] | None = None
    """The frame's fields (bodies/frames.py), which causes may have in common; None where they are not needed."""
    lag: float | None = None
    """Seconds by which the master's first order came later than production's, counted from when each was told; negative
    where it was faster; None if one did not answer."""
    evidence: Evidence | None = None
    """Only with differences."""
    has_rules: bool = False
    """Whether production's answer changed rules of the switch, and did not only send the frame on."""


@dataclass(frozen=True, slots=True)
class ComparedOrder:
    """Orders that answer no PACKET_IN, such as a controller's rules at the start, and in which both sides differ."""

    at: float
    difference: Difference
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class ComparedTables:
    """The state of both sides' tables since the last report about a switch."""

    at: float
    seconds: float
    """How long both were known."""
    differing_seconds: float
    """For how much of it they differed, counted for what lasts."""
    differing: tuple[str, ...]
    """What differs now and has lasted, as lines: ``production: priority=…``, ``mirror: priority=…``; bounded."""
    differing_count: int
    doubtful: int
    """Rules that may be gone."""
    not_followed: str | None
    """Why one side's rules are not followed any more (NotFollowed); None if they are."""


class Collector(Protocol):
    """Who collects the results about one switch and one mirror."""

    def answered(self, compared: ComparedAnswer) -> None:
        """Take what is found out about a PACKET_IN."""

    def ordered(self, compared: ComparedOrder) -> None:
        """Take a difference in orders that answer no PACKET_IN."""

    def compared_tables(self, compared: ComparedTables) -> None:
        """Take the state of the tables."""

    def walked(self, alike: int, count: int) -> None:
        """Take how many of the latest distinct frames would leave alike by both sides' tables."""

    def session_ended(self, at: float, reason: str) -> None:
        """Notice that the master's session ended while the switch's connection lived."""

    def resolved(self, at: float) -> None:
        """Notice that the tables are equal again, and that no answer has differed since the last difference."""
