"""The events of a run as a whole: findings, and this host's role in a pair."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from natmirror.events import EventKind, EventRing, EventSeverity
from natmirror.findings import Findings, HostCode, OwnCode
from natmirror.ha.role import CurrentRole, HostRole
from natmirror.runtime.role_changes import RoleChanges
from natmirror.runtime.run_events import add_finding


@pytest.fixture
def ring() -> EventRing:
    return EventRing(lambda: 1000.0)


def test_a_finding_is_an_event_when_it_begins_and_when_it_ends(ring: EventRing) -> None:
    findings = Findings(on_change=partial(add_finding, ring))
    found = HostCode.NO_FORWARDING.found(interfaces="sw0", settings="net.ipv4.ip_forward=1")
    repaired = OwnCode.RULES_REPAIRED.found(name="raw", difference="gone", program="nft")
    for _ in range(3):
        findings.replace("host", [found, repaired])
    findings.replace("host", [])
    began, ended = ring.all()
    assert (began.kind, began.severity, began.code) == (
        *(EventKind.FINDING_BEGAN, EventSeverity.ERROR, "no-forwarding"),
    )
    assert found.remedy in began.text
    assert (ended.kind, ended.severity, ended.code) == (EventKind.FINDING_ENDED, EventSeverity.INFO, "no-forwarding")


def test_each_change_of_the_role_is_an_event(ring: EventRing) -> None:
    role = CurrentRole(lambda: "now")
    member: Any = SimpleNamespace(on_role=role.on_role, show=role.show)
    parts: Any = SimpleNamespace(set_active=lambda is_active: None)
    RoleChanges(member, parts, parts, [], parts, ring, is_active=False).follow()
    assert ring.all() == [], "each host is a backup at first"
    role.set_by_addresses(HostRole.MASTER)
    role.set_by_keepalived(HostRole.FAULT, 1)
    assert [(one.kind, one.code, one.text) for one in ring.all()] == [
        (EventKind.ROLE_CHANGED, "master", "this host is master now, as its addresses show"),
        (EventKind.ROLE_CHANGED, "fault", "this host is fault now, as keepalived reports"),
    ]
