"""A natmirror that exists only in a test, as natmirror top sees it: its status and its legs."""

from copy import deepcopy
from typing import Any

from natmirror.errors import NatmirrorError
from natmirror.top.asking import Answer
from natmirror.top.known import Known
from tests.helpers.status import status_document

_STATUS = status_document()


def status_at(second: int, **changes: Any) -> dict[str, Any]:
    """Return the status after so many seconds, in which 1,000 packets of 1,250 bytes have passed each second, and the
    packet thread has used a quarter of its processor."""
    status = deepcopy(_STATUS)
    status["at"] = f"2026-01-02T03:{4 + second // 60:02}:{second % 60:02}.000+00:00"
    [service] = status["services"]
    service |= {"client_packets": 900 * second, "backend_packets": 100 * second, "client_bytes": 1_250_000 * second}
    service |= {"backend_bytes": 0, "connections": 5 * second}
    status["machine"]["thread_cpu_seconds"] = {"packets-0": 0.25 * second, "api": 0.01 * second}
    return status | changes


def leg(number: int, **changes: Any) -> dict[str, Any]:
    """Return a row of the list of legs."""
    return {
        "service": "openflow",
        "client": f"10.10.0.11:{number}",
        "backend": "c1",
        "flow_state": "established",
        "mirror": "master",
        "state": "established",
        "reason": None,
        "client_bytes": 1000,
        "sent_bytes": 900,
        "acked_bytes": 500,
        "in_flight_bytes": 400,
        "lag_bytes": 500,
        "lag_seconds": 10.0 - number / 100,
        "retransmits": 3,
        "rtt_seconds": 0.0012,
        **changes,
    }


def known(seconds: int, legs: list[dict[str, Any]], question: dict[str, Any], **changes: Any) -> Known:
    """Return what is known after so many answers, one each second from 0 on."""
    found = Known()
    for second in range(seconds + 1):
        found.take_status(Answer({}, status_at(second, **changes), float(second)), 1.0)
    found.take_legs(Answer(question, {"items": legs, "next": None}, float(seconds)))
    return found


class Natmirror:
    """Answers at once, and counts seconds by the questions for its status; ``error`` is raised in place of an
    answer."""

    def __init__(self, legs: int = 3, **changes: Any) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.error: NatmirrorError | None = None
        self.changes = changes
        self._seconds = 0
        self._legs = legs

    def __call__(self, resource: str, parameters: dict[str, Any]) -> Any:
        self.asked.append((resource, parameters))
        if self.error is not None:
            raise self.error
        if resource == "status":
            self._seconds += 1
            return status_at(self._seconds, **self.changes)
        rows = [leg(number) for number in range(1, self._legs + 1)][: parameters["limit"]]
        return {"at": "2026-01-02T03:04:00.500+00:00", "items": rows, "next": None}

    def latest(self, resource: str) -> dict[str, Any]:
        """Return the parameters of the latest question for a resource."""
        return next(parameters for name, parameters in reversed(self.asked) if name == resource)
