"""What doctor concludes from a connection of its own, and which addresses it refuses to send from."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from natmirror.doctor import free_address, sending
from natmirror.doctor.free_address import why_not_free
from natmirror.doctor.outcome import DoctorCheck, Outcome
from natmirror.doctor.sending import send
from natmirror.doctor.subject import Subject
from natmirror.errors import HostError
from natmirror.linux.routes import Answer
from natmirror.rules import MirrorProtocol, Rules, load_rules
from tests.helpers.declared import assert_declared

PATH = Path(__file__).parents[2] / "rules" / "lb.yaml"
RULES = load_rules(PATH)
CLIENT = IPv4Address("10.10.0.77")
OPEN = {"state": "open", "how": "", "port": 5000, "seconds": 0.001, "sent": 10, "size": 10, "received": 0}
OPEN |= {"unacked": False, "silent": ""}
LEG = {"mirror": "master", "state": "established", "reason": None, "client_bytes": 10, "acked_bytes": 10}
LEG |= {"session": None, "consumed_bytes": 0}
SESSION: dict[str, Any] = {"session": {"version": "1.3"}}
FLOW = {"client": f"{CLIENT}:5000", "state": "established", "backend": "c1", "legs": [LEG]}


def _with(port: int, **mirror: Any) -> Rules:
    [service] = RULES.services
    return replace(
        RULES,
        services=(replace(service, port=port, mirrors=tuple(replace(one, **mirror) for one in service.mirrors)),),
    )


class Port:
    """A client whose connections end as ``answer`` says."""

    answer: dict[str, Any] = OPEN

    def __init__(self, *_: object) -> None:
        self.link = "sw0"

    def __enter__(self) -> "Port":
        return self

    def __exit__(self, *_: object) -> None: ...

    def call(self, *_: object, **__: object) -> dict[str, Any]:
        return self.answer

    def hang_up(self) -> None: ...


Sent = Callable[..., list[Outcome]]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    times = iter(range(1000))
    monkeypatch.setattr("time.monotonic", lambda: float(next(times)))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(sending, "ClientPort", Port)
    monkeypatch.setattr(sending, "route_to", lambda client: Answer(link="sw0"))
    monkeypatch.setattr(sending, "own_addresses", set)
    monkeypatch.setattr(free_address, "answers", lambda address: False)
    monkeypatch.setattr(Subject, "need_rights", lambda subject: None)
    monkeypatch.setattr(Subject, "owner", "pid 7")
    monkeypatch.setattr(Subject, "run", lambda subject: {"pair": None})

    def run(flow: dict[str, Any] | None = FLOW, **answer: Any) -> list[Outcome]:
        asked: Iterator[list[Any]] = iter([[]])
        monkeypatch.setattr(Port, "answer", OPEN | answer)
        monkeypatch.setattr(sending, "ask_list", lambda *_, **__: next(asked, [] if flow is None else [flow]))
        outcomes = send(Subject(PATH, Path("/nowhere")), CLIENT, b"x")
        for one in outcomes:
            assert_declared(DoctorCheck, one.show())
        return outcomes

    return run


def codes(outcomes: list[Outcome]) -> list[list[str]]:
    return [[str(finding.code) for finding in one.findings] for one in outcomes]


def test_a_connection_that_passes_names_its_backend_and_its_copy(sent: Sent) -> None:
    service, mirror = sent()
    assert (service.state, service.said) == ("ok", "c1 answers 10.10.0.77 after 1.0 ms, and acknowledges 10 bytes")
    assert (mirror.state, mirror.said) == ("ok", "10 of 10 bytes acknowledged")


@pytest.mark.parametrize(
    ("answer", "code", "flow"),
    [
        ({"state": "unanswered"}, "sent-not-seen", None),
        ({"state": "unanswered"}, "sent-unanswered", FLOW),
        ({"state": "refused"}, "sent-refused", FLOW),
        ({"state": "ended", "how": "a reset"}, "sent-ended", FLOW),
        ({"unacked": True}, "sent-lost", FLOW),
        ({"silent": "a HELLO", "unacked": True}, "sent-lost", FLOW),
    ],
)
def test_a_connection_that_does_not_pass_is_a_failure_and_says_nothing_about_its_copies(
    sent: Sent, answer: dict[str, Any], code: str, flow: dict[str, Any] | None
) -> None:
    outcomes = sent(flow, **answer)
    assert codes(outcomes) == [[code], []]
    assert [one.state for one in outcomes] == ["failure", "unknown"]


def test_a_connection_that_passes_late_is_a_warning(sent: Sent) -> None:
    outcomes = sent(seconds=1.0)
    assert codes(outcomes) == [["sent-late"], []]
    assert [one.state for one in outcomes] == ["warning", "ok"]


def test_a_backend_that_accepts_and_never_answers_is_a_failure(sent: Sent) -> None:
    outcomes = sent(silent="a HELLO")
    assert codes(outcomes) == [["sent-no-reply"], []]
    assert [one.state for one in outcomes] == ["failure", "ok"]
    waiting = LEG | {"state": "none", "reason": "waits-for-hellos"}
    service, mirror = sent(FLOW | {"legs": [waiting]}, silent="a HELLO")
    assert (service.state, mirror.state) == ("failure", "unknown")
    assert mirror.why == "no session has begun: The switch or the backend has not sent its HELLO yet."


def test_without_data_no_more_is_said_than_was_seen(sent: Sent) -> None:
    service, mirror = sent(FLOW | {"legs": [LEG | {"client_bytes": 0, "acked_bytes": 0}]}, sent=0, size=0)
    assert service.said == (
        "c1 accepts a connection of 10.10.0.77 after 1.0 ms; no data was sent: name some with --data"
    )
    assert mirror.said == "the leg to it is open; no data was sent: name some with --data"


def test_a_session_is_proven_by_the_masters_hello(sent: Sent) -> None:
    _, mirror = sent(FLOW | {"legs": [LEG | SESSION | {"consumed_bytes": 16}]})
    assert mirror.said == "the master has sent its HELLO, 10 of 10 bytes acknowledged"
    outcomes = sent(FLOW | {"legs": [LEG | SESSION]})
    assert codes(outcomes) == [[], ["master-silent"]]


@pytest.mark.parametrize(
    ("rules", "data", "expected"),
    [
        (RULES, b"", True),  # by its port
        (RULES, b"x", False),
        (_with(port=80), b"", False),
        (_with(port=80, protocol=MirrorProtocol.OPENFLOW), b"x", True),
    ],
)
def test_to_whom_doctor_speaks_openflow(rules: Rules, data: bytes, expected: bool) -> None:
    assert sending._is_likely_openflow(rules.services[0], data) is expected


def test_without_a_natmirror_nothing_is_proven(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Subject, "owner", None)
    [outcome] = sent()
    assert (outcome.state, outcome.why.partition(":")[0]) == ("unknown", "natmirror does not run")


@pytest.mark.parametrize(
    ("leg", "code", "text"),
    [
        ({"state": "syn-sent"}, "copy-unanswered", "the mirror does not answer the SYN"),
        ({"state": "ended", "reason": "refused"}, "copy-unanswered", "Start the mirror's program"),
        ({"state": "ended", "reason": "stalled"}, "copy-unanswered", "program reads too slowly or hangs"),
        ({"acked_bytes": 4}, "copy-not-taken", "has not acknowledged 6 of its 10 bytes"),
        (None, "copy-unanswered", "natmirror has opened no leg for it"),
    ],
)
def test_a_copy_that_does_not_arrive_is_a_failure(sent: Sent, leg: dict[str, Any] | None, code: str, text: str) -> None:
    outcomes = sent(FLOW | {"legs": [] if leg is None else [LEG | leg]})
    assert codes(outcomes) == [[], [code]]
    assert text in str(outcomes[1].findings[0])


def test_a_mirror_that_gets_no_copy_by_the_rules_is_not_at_fault(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    [service] = RULES.services
    mirror = replace(service.mirrors[0], only=(IPv4Network("10.10.0.0/30"),))
    rules = replace(RULES, services=(replace(service, mirrors=(mirror,)),))
    monkeypatch.setattr(Subject, "rules", lambda subject: rules)
    assert [one.state for one in sent(FLOW | {"legs": []})] == ["ok", "skipped"]


def test_a_host_that_refuses_the_client_is_not_checked(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise HostError("cannot make a client: it refuses")

    monkeypatch.setattr(Port, "__enter__", refuse)
    [outcome] = sent()
    assert (outcome.state, outcome.why) == ("unknown", "cannot make a client: it refuses")


def test_what_was_seen_before_an_end_is_kept(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise HostError("no natmirror answers")

    monkeypatch.setattr(Port, "hang_up", refuse)
    service, mirror, outcome = sent()
    assert (service.state, mirror.state) == ("ok", "ok")
    assert (outcome.state, outcome.why) == ("unknown", "no natmirror answers")


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("10.11.0.1", "it lies in no network of switches"),
        ("10.10.0.0", "it is no host's address"),
        ("10.10.0.1", "this host has it"),
        ("10.10.0.100", "the rules name it"),
        ("10.10.0.5", "a client with that address has connections"),
        ("10.10.0.9", "a host answers there"),
        ("10.10.0.77", ""),
    ],
)
def test_doctor_sends_only_from_an_address_that_no_host_has(
    monkeypatch: pytest.MonkeyPatch, address: str, why: str
) -> None:
    monkeypatch.setattr(free_address, "answers", lambda one: one == IPv4Address("10.10.0.9"))
    assert why_not_free(IPv4Address(address), RULES, {IPv4Address("10.10.0.1")}, {"10.10.0.5"}) == why
