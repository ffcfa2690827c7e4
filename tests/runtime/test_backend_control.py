"""What the health checks say becomes shares, resets and findings."""

import pytest

from natmirror.backends.admission import AdmissionChange, Kill, Share
from natmirror.backends.monitor import HealthChange
from natmirror.backends.probes import Outcome
from natmirror.events import EventKind, EventRing
from natmirror.fastpath import ConnectionCounts
from natmirror.findings import FindingCode, Findings, PathCode
from natmirror.linux.reachability import Reachability
from natmirror.linux.vrf import ProductionVrf
from natmirror.rules import Overrides, Rules, parse_rules
from natmirror.runtime.backend_control import BackendControl
from natmirror.runtime.mailbox import Mailbox
from natmirror.runtime.override_control import OverrideControl
from natmirror.runtime.override_file import OverrideFile
from tests.helpers.support import RULES

HOST = Reachability(ProductionVrf())

RULES_CHECKED = parse_rules(RULES.replace("    pool:\n", "    pool:\n      health: {check: tcp}\n"))
SORRY = parse_rules(
    RULES.replace(
        "    pool:\n", "    pool:\n      health: {check: tcp}\n      sorry: {name: sorry, address: 10.20.0.19}\n"
    )
)


class Engine:
    """Records the changes that an engine gets."""

    def __init__(self) -> None:
        self.changes: list[AdmissionChange] = []
        self.kill = self.set_share = self.changes.append


class Control:
    """A BackendControl with one engine; the test enters the outcomes of the checks."""

    def __init__(self, rules: Rules = RULES_CHECKED) -> None:
        self.mailbox, self.findings, self.engine = Mailbox(lambda: None), Findings(), Engine()
        self.ring = EventRing(lambda: 0.0)
        counts = ConnectionCounts()
        self.one = BackendControl(rules, self.mailbox, self.findings, self.ring, counts, HOST, is_active=True)
        self.one.attach([self.engine])  # type: ignore[list-item]
        self.overrides = OverrideControl(rules, self.one, [], self.mailbox, self.ring, OverrideFile(None), Overrides())

    def check(self, backend: str, ok: bool | None, reason: str, *, is_silence: bool = False) -> None:
        monitor = self.one._monitor
        monitor._enter_outcome(monitor._watched["openflow", backend], Outcome(ok, reason, is_silence))
        self.mailbox.read()

    def change(self, name: str, *, is_up: bool, is_isolated: bool = True) -> None:
        pool = RULES_CHECKED.services[0].pool
        assert pool is not None
        [backend] = [one for one in pool.backends if one.name == name]
        self.one._on_health(
            HealthChange("openflow", backend, is_up, "no answer", is_isolated=is_isolated and not is_up)
        )
        self.mailbox.read()

    def found(self) -> list[tuple[FindingCode, str]]:
        return [(one.code, one.subject) for one in self.findings.all()]


def test_a_check_that_says_nothing_is_a_finding_until_one_says_something() -> None:
    control = Control()
    control.check("c1", None, "this host has no route to it")
    assert control.found() == [(PathCode.CHECK_SAYS_NOTHING, "openflow/c1")]
    [finding] = control.findings.all()
    assert "stays up: this host has no route to it" in finding.problem
    control.check("c1", None, "the interface pl0 has no carrier")
    assert "no carrier" in control.findings.all()[0].problem
    control.check("c1", True, "it accepts connections")
    assert control.found() == []
    assert control.engine.changes == []


def test_a_backend_is_silent_while_the_checks_that_took_it_down_get_no_packet() -> None:
    control = Control()
    control.check("c1", False, "no answer within 300 ms", is_silence=True)
    assert control.one.silent() == set(), "it is up"
    for _ in range(5):
        control.check("c1", False, "no answer within 300 ms", is_silence=True)
    assert control.one.silent() == {"openflow/c1"}
    control.check("c1", None, "this host has no route to it")
    assert control.one.silent() == {"openflow/c1"}
    control.check("c1", False, "connection refused")
    assert control.one.silent() == set()


@pytest.mark.parametrize(
    ("rules", "where", "last"),
    [
        (RULES_CHECKED, "all its backends", Share("openflow", "c1", 1.0)),
        (SORRY, "its sorry server", Share("openflow", "c2", 0.0)),
    ],
)
def test_a_panic_is_a_finding_and_resets_nothing(rules: Rules, where: str, last: Share) -> None:
    control = Control(rules)
    control.change("c1", is_up=False)
    assert control.found() == []
    control.change("c2", is_up=False)
    assert control.found() == [(PathCode.POOL_IN_PANIC, "openflow")]
    assert control.findings.all()[0].problem.endswith(f"new ones go to {where}")
    assert control.engine.changes[-1] == last
    control.change("c2", is_up=True)
    assert control.found() == []
    assert not [change for change in control.engine.changes if isinstance(change, Kill)]


def test_a_drain_says_what_is_left_and_that_no_backend_is(caplog: pytest.LogCaptureFixture) -> None:
    control = Control()
    place, c1 = control.one._admission.endpoints("openflow", "c1")
    count = control.one._counts.of(place, c1)
    count[0] = 310
    words = {"service": "openflow", "backend": "c1", "deadline": 60}
    assert control.overrides.drain(words) == (
        "openflow/c1 gets no new connections; connections left: 310 (reset in 60 s unless they end before); new ones go"
        " to c2"
    )
    assert caplog.text == ""
    gone = "it was the last open backend of openflow: new ones are dropped until natmirror undrain"
    assert control.overrides.drain({"service": "openflow", "backend": "c2"}) == (
        f"openflow/c2 gets no new connections; no connections left; {gone}"
    )
    [drained] = control.findings.all()
    assert str(drained) == (
        "all-drained: the operator has drained all backends of service openflow: new connections are dropped;"
        " run: natmirror undrain openflow/c1"
    )
    assert str(drained) in caplog.text
    assert control.findings.why_unfit() == ""
    assert control.overrides.undrain({"service": "openflow", "backend": "c2"}) == "openflow/c2 gets new connections"
    assert control.found() == []


@pytest.mark.parametrize(
    ("rules", "code", "fate"),
    [
        (RULES_CHECKED, PathCode.NO_BACKEND_UP, "are dropped"),
        (SORRY, PathCode.SORRY_ALONE, "go to the sorry server sorry"),
    ],
)
def test_a_pool_whose_backends_are_all_down_or_drained_is_a_finding(rules: Rules, code: FindingCode, fate: str) -> None:
    control = Control(rules)
    control.overrides.drain({"service": "openflow", "backend": "c1"})
    assert control.found() == []
    control.change("c2", is_up=False, is_isolated=False)
    assert control.found() == [(code, "openflow")]
    [finding] = control.findings.all()
    assert finding.problem.endswith(f"is up: new connections {fate} (c2: no answer; c1: drained)")
    assert "ip route get 10.20.0.12" in finding.mend
    control.overrides.undrain({"service": "openflow", "backend": "c1"})
    assert control.found() == []
    control.change("c1", is_up=False, is_isolated=False)
    assert control.found() == [(code, "openflow")]
    control.change("c2", is_up=True)
    assert control.found() == []


def test_what_happens_to_a_backend_is_an_event_each(caplog: pytest.LogCaptureFixture) -> None:
    control = Control()
    words = {"service": "openflow", "backend": "c1"}
    control.overrides.drain({**words, "deadline": 60})
    control.overrides.undrain(words)
    control.change("c1", is_up=False, is_isolated=False)
    control.change("c1", is_up=True)
    events = control.ring.all()
    assert {(one.service, one.backend) for one in events} == {("openflow", "c1")}
    assert [one.kind for one in events if one.kind is not EventKind.CONNECTIONS_RESET] == [
        *(EventKind.BACKEND_DRAINED, EventKind.BACKEND_UNDRAINED, EventKind.BACKEND_DOWN, EventKind.BACKEND_UP),
    ]
    assert "openflow/c1 is down: no answer" in caplog.messages
