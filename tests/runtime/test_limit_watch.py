"""Limits that are reached, as events that do not repeat each second; with a manual clock."""

from typing import Any

import pytest

from natmirror.engine.counters import EngineCounter
from natmirror.events import Event, EventKind, EventRing
from natmirror.reasons import ClientLimit
from natmirror.runtime.limit_watch import LimitWatch

LOOK = 1.0


class Host:
    """A host's counters, and the watch that looks at them."""

    def __init__(self) -> None:
        self.ring = EventRing(lambda: self.now)
        self.watch = LimitWatch(self.ring)
        self.now = 1000.0
        self.untracked = 0
        self.limit: dict[str, Any] = {
            **{"service": "web", "limit": ClientLimit.MAX_CONNECTIONS, "value": "100", "refused_syns": 0},
            **{"limited_clients": 0, "last_client": None, "last_seconds": None},
        }
        self.backend: dict[str, Any] = {
            **{"service": "web", "name": "c1", "address": "10.20.0.11:80", "full_syns": 0, "max_connections": 500},
        }

    def refuse(self, syns: int, clients: int = 0, client: str = "10.10.0.11") -> None:
        self.limit["refused_syns"] += syns
        self.limit["limited_clients"] += clients
        self.limit["last_client"] = client

    def look(self) -> list[Event]:
        """Look; return the new events."""
        before = len(self.ring.all())
        sums: Any = {
            "client_limits": [self.limit],
            "backends": [self.backend],
            "counters": {EngineCounter.FLOWS_UNTRACKED: self.untracked},
        }
        self.watch.look(sums, self.now)
        self.now += LOOK
        return self.ring.all()[before:]


@pytest.fixture
def host() -> Host:
    return Host()


def test_a_client_that_begins_to_be_limited_is_one_event(host: Host) -> None:
    assert host.look() == []
    host.refuse(3, clients=1)
    [event] = host.look()
    assert (event.kind, event.service) == (EventKind.LIMIT_REACHED, "web")
    assert (event.code, event.count) == ("client-max-connections", 3)
    assert event.text == (
        "service web: 10.10.0.11 has reached max-connections 100 of per-client: 3 SYNs were answered with a RST;"
        " natmirror explain 10.10.0.11 shows what it has"
    )
    assert host.look() == []


def test_a_client_that_goes_on_is_told_less_and_less_often(host: Host) -> None:
    events = []
    host.refuse(1, clients=1)
    for _ in range(3000):
        events += host.look()
        host.refuse(10)
    assert len(events) == 4
    assert sum(event.count for event in events) >= 1 + 10 * 670
    assert "10.10.0.11 still has reached" in events[-1].text


def test_three_hundred_clients_are_one_event(host: Host) -> None:
    host.limit.update(limit=ClientLimit.NEW_CONNECTIONS, value="20/s")
    host.refuse(900, clients=300, client="10.10.0.99")
    [event] = host.look()
    assert event.code == "client-new-connections"
    assert "10.10.0.99 and 299 other clients have reached new-connections 20/s of per-client: 900 SYNs" in event.text
    assert "dropped, which clients send again" in event.text


def test_two_clients_are_one_and_one_other(host: Host) -> None:
    host.refuse(9, clients=2)
    [event] = host.look()
    assert "10.10.0.11 and 1 other client have reached max-connections 100" in event.text


def test_a_limit_that_is_met_again_after_a_quiet_time_is_an_event_at_once(host: Host) -> None:
    for _ in range(3):
        host.refuse(1, clients=1)
        assert len(host.look()) == 1
        host.now += 700.0


def test_a_full_backend_is_an_event(host: Host) -> None:
    host.backend["full_syns"] = 7
    [event] = host.look()
    assert (event.backend, event.code, event.count) == ("c1", "max-connections", 7)
    assert "backend web/c1 has reached its max-connections 500: 7 new connections" in event.text
    assert host.look() == []


def test_a_full_flow_table_is_an_event(host: Host) -> None:
    host.untracked = 12
    [full] = host.look()
    assert (full.kind, full.code, full.count) == (EventKind.LIMIT_REACHED, "max-flows", 12)
    assert host.look() == []
