"""The JSON of verdicts, field by field. The reference shows these sentences."""

from enum import StrEnum
from typing import TypedDict

from natmirror.histograms import HistogramEntry
from natmirror.openflow.comparison.results import AnswerResult, DifferenceKind, NotComparable


class Verdict(StrEnum):
    """Whether a master would have done what production's controller did."""

    AGREES = "agrees"
    """It would: enough answers were compared, and nothing differs that counts."""
    DIFFERS = "differs"
    """It would not: ``reasons`` names what differs."""
    TOO_LITTLE = "too-little"
    """Nothing differs that counts, but too little was compared to say more; ``reasons`` names what is missing."""


class TableState(StrEnum):
    """How the flow tables of both sides compare."""

    EQUAL = "equal"
    """Both would be the same."""
    DIFFERENT = "different"
    """They would differ, for longer than both sides take to change them."""


class AnswersEntry(TypedDict):
    """The answers to PACKET_INs. ``packet_ins`` = the sum of ``results``."""

    packet_ins: int
    """PACKET_INs of the switches whose connections are compared."""
    comparable: int
    """Those for which both sides' answers were compared: all but ``not-comparable``."""
    results: dict[AnswerResult, int]
    """The PACKET_INs by the result."""
    not_comparable: dict[NotComparable, int]
    """Those that were not compared, by the reason."""


class TablesEntry(TypedDict):
    """The flow tables of both sides, as their orders make them."""

    seconds: float
    """How long the tables of both sides were known, in seconds, added up over the switches."""
    differing_seconds: float
    """For how many of these seconds they differed."""
    differing_rules: int
    """Rules that differ now, of all switches."""
    differing: list[str]
    """Some of these rules, each with its switch and its side, as ovs-ofctl writes it."""
    doubtful_rules: int
    """Rules in the models that the switches may have removed without a report."""
    followed_switches: int
    """Connections whose tables are compared now."""
    not_followed: dict[str, int]
    """Connections whose tables are not compared any more, by the reason."""


class FramesEntry(TypedDict):
    """The latest distinct frames of each switch, led through the tables of both sides again and again."""

    walked: int
    """How many walks there were."""
    alike: int
    """In how many of them the frame would leave the switch alike."""


class LagEntry(TypedDict):
    """By how much a master's first order came later than production's, counted from when each had the PACKET_IN."""

    answers: int
    """Answers that were measured: both sides gave one."""
    median_seconds: float | None
    """The median in seconds, negative where the master was faster; null without an answer."""
    p95_seconds: float | None
    """95 of 100 answers came at most so much later, in seconds."""


class SessionEndEntry(TypedDict):
    """A session that the master has ended while the switch's connection lived."""

    at: str
    """When, in UTC (RFC 3339)."""
    switch: str
    """The switch's address and port."""
    reason: str
    """Why the session ended."""


class SessionsEntry(TypedDict):
    """A master's sessions."""

    open: int
    """Connections of switches that have a session with the master now."""
    connections: int
    """Connections of switches for which it should have one: those that speak OpenFlow."""
    ended: int
    """Sessions that the master ended while the switch's connection lived."""
    latest_ended: list[SessionEndEntry]
    """The latest of them, the latest last."""


class MessageEntry(TypedDict):
    """A message of an example."""

    sender: str
    """``switch``, ``production`` or ``mirror``."""
    at: str
    """When it passed, in UTC (RFC 3339, with microseconds)."""
    hex: str
    """Its bytes in hexadecimal; cut off if it is long."""


class ExampleEntry(TypedDict):
    """The messages that show a difference."""

    switch: str
    """The switch's address and port."""
    datapath_id: int | None
    """Its datapath id; null if it was not known."""
    at: str
    """When it happened, in UTC (RFC 3339)."""
    packet_in: str
    """The PACKET_IN as a line; empty for an order that answers none."""
    production: list[str]
    """Production's orders, each as a line."""
    mirror: list[str]
    """The master's orders, each as a line."""
    messages: list[MessageEntry] | None
    """The messages; null unless the request asks for them, and if their memory was needed."""


class DifferenceEntry(TypedDict):
    """What differs, alike in all its causes."""

    kind: DifferenceKind
    """Its kind."""
    text: str
    """The difference in words, the master's value first. Values that differ from cause to cause are left out."""
    field: str
    """The field that differs; empty if it is none."""
    answers_packet_in: bool
    """Whether it was found in answers to PACKET_INs: false for orders that answer none, and for ends of sessions."""
    count: int
    """The number of answers in which it was found, or how often it happened."""
    counts: bool
    """Whether it counts in the verdict: without a twin always, with one if the twin has it less often than chance
    explains."""
    twin_count: int | None
    """How often the twin differs from production in the same field and value; null without a twin."""
    chance: float | None
    """The probability of so many more than the twin has, if both had the same rate; null without a twin."""
    where: str
    """What all causes have in common, and none of those with equal answers; empty if that is nothing."""
    first_at: str
    """When it happened first, in UTC (RFC 3339)."""
    last_at: str
    """When it happened last, in UTC (RFC 3339)."""
    resolved_at: str | None
    """Since when the tables of all switches concerned have been equal again, without a differing answer; null if they
    have not."""
    example: ExampleEntry | None
    """One example; null if its memory was needed."""


class VerdictEntry(TypedDict):
    """The verdict on a master, from what was compared since ``since``."""

    service: str
    """The service's name in the rules."""
    mirror: str
    """The mirror's name in the rules."""
    twin: str | None
    """The mirror that runs production's own version; null if the rules name none."""
    is_twin: bool
    """Whether it is another mirror's twin: what differs here is noise then."""
    verdict: Verdict
    """The verdict."""
    reasons: list[str]
    """Why, in words: what differs or what is missing, what counts most first. Empty if it agrees."""
    notes: list[str]
    """What the verdict does not rest on, and the operator should know."""
    since: str | None
    """The sums count from this time on, in UTC (RFC 3339); null as long as no connection has been compared."""
    answers: AnswersEntry
    """The answers to PACKET_INs."""
    twin_answers: AnswersEntry | None
    """Those of the twin; null without a twin."""
    lag: LagEntry
    """How late the answers came."""
    twin_lag: LagEntry | None
    """How late those of the twin came; null without a twin."""
    tables: TablesEntry
    """The flow tables."""
    twin_tables: TablesEntry | None
    """Those of the twin; null without a twin."""
    frames: FramesEntry
    """What the tables do with frames."""
    sessions: SessionsEntry
    """The master's sessions."""
    differences: list[DifferenceEntry]
    """What differs, what counts first, and then the most frequent first."""
    other_differences: int
    """Differences beyond those that are kept apart."""
    earlier_differences: int
    """Differences before ``since``."""
    held_bytes: int
    """Bytes of memory that the sums and examples need."""


class ComparisonEntry(TypedDict):
    """The sums of a master's comparison with production since natmirror started."""

    answers: dict[AnswerResult, int]
    """PACKET_INs by the result."""
    differences: dict[DifferenceKind, int]
    """Differences, by kind."""
    table_seconds: dict[TableState, float]
    """Seconds in which the tables of both sides were known, by their state, added up over the switches."""
    differing_rules: int
    """Rules that differ now."""
    lag: HistogramEntry
    """By how much the master's answers came later than production's; faster ones count as 0."""
    held_bytes: int
    """Bytes of memory that the sums and examples need."""
