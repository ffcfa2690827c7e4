"""What is known of the running natmirror: its latest answers, and why there is none."""

from dataclasses import dataclass, field
from typing import Any

from natmirror.mirror.shown import LegPhase
from natmirror.top.asking import Answer, Trouble
from natmirror.top.history import History


@dataclass(slots=True)
class Known:
    """The latest answers, with the monotonic times at which they came."""

    status: dict[str, Any] | None = None
    status_at: float = 0.0
    legs: list[dict[str, Any]] = field(default_factory=list)
    legs_question: dict[str, Any] = field(default_factory=dict)
    """The question that ``legs`` answers."""
    legs_at: float | None = None
    has_more_legs: bool = False
    trouble: str = ""
    """Why there is no answer to the latest question for the status; empty if there is one."""
    trouble_at: float = 0.0
    legs_trouble: str = ""
    history: History = field(default_factory=History)

    def take_status(self, answer: Answer, interval: float) -> None:
        """Take an answer to the question for the status, of which one is asked each ``interval`` seconds."""
        self.status, self.status_at, self.trouble = answer.value, answer.came_at, ""
        self.history.add(answer.value, interval)

    def take_legs(self, answer: Answer) -> None:
        """Take an answer to a question for legs."""
        self.legs, self.legs_question, self.legs_at = answer.value["items"], answer.question, answer.came_at
        self.has_more_legs, self.legs_trouble = answer.value["next"] is not None, ""

    def miss_status(self, trouble: Trouble, now: float) -> None:
        """Note that there is no answer to the question for the status."""
        if not self.trouble:
            self.trouble_at = now
        self.trouble = trouble.text

    def names(self) -> dict[str, set[str]]:
        """Return the names of services, backends and mirrors that the status has, and the states of legs."""
        status = self.status or {"services": (), "backends": (), "mirrors": ()}
        return {
            "service": {one["service"] for one in status["services"]},
            "backend": {one["name"] for one in status["backends"]},
            "mirror": {one["name"] for one in status["mirrors"]},
            "state": {str(phase) for phase in LegPhase},
        }
