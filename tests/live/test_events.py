"""What has happened is in the file of events, also after a kill: faults planted one after another beside traffic."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from natmirror.api.client import ask_list, send_command
from natmirror.events import Event, EventEntry, EventKind
from natmirror.lab.process import wait_for
from natmirror.runtime.event_file import read_events
from tests.helpers.declared import assert_declared
from tests.live.scene import CLIENTS, RULES, Scene, wait_for_ends

pytestmark = [pytest.mark.live, pytest.mark.beside]

CONNECTIONS = 300
CHECKED = "      health: {check: tcp, interval: 300ms, timeout: 200ms}\n      backends:\n"


class History:
    """The file of events, as a test reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def all(self) -> list[Event]:
        return read_events(self.path)

    def wait_for(self, kind: EventKind, is_right: Callable[[Event], bool] = lambda one: True) -> Event:
        """Wait until the file has an event of a kind; return it."""

        def found() -> list[Event]:
            return [one for one in self.all() if one.kind is kind and is_right(one)]

        wait_for(lambda: bool(found()), f"the event {kind} in {[(one.kind, one.text) for one in self.all()]}")
        return found()[-1]


def test_each_fault_is_an_event_that_outlives_a_kill(alone: Scene) -> None:
    scene, history = alone, History(alone.file("events.jsonl"))
    programs = scene.record("c1", "c2")
    text = RULES.read_text().replace("      backends:\n", CHECKED) + f"events: {history.path}\n"
    rules = scene.rules(text)
    balancer = scene.balance(rules, on_stop="keep")
    log = balancer.program
    # 1. The mirror's port is closed: one event and one warning for all connections. If they come slowly, the event does
    # not wait for the last ones, which its end counts.
    scene.run_client(connections=CONNECTIONS, requests=1, sources=CLIENTS[0])
    assert wait_for_ends(balancer, CONNECTIONS) == {"refused": CONNECTIONS}
    down = history.wait_for(EventKind.MIRROR_DOWN)
    assert (down.service, down.mirror, down.code) == ("openflow", "master", "refused")
    assert log.text.count("refused") < 4
    assert "leg ended" not in log.text
    lost = sum(one["lost_bytes"]["refused"] for one in balancer.status()["mirrors"])
    log.wait_for_text(f"in total {lost} bytes")
    scene.record("m")
    scene.run_client(connections=5, requests=1, sources=CLIENTS[0])
    up = history.wait_for(EventKind.MIRROR_UP)
    assert (up.mirror, down.count + up.count) == ("master", CONNECTIONS)
    # 2. A backend ends; another one is drained.
    programs["c2"].end()
    ended = history.wait_for(EventKind.BACKEND_DOWN, lambda one: "connection refused" in one.text)
    assert (ended.service, ended.backend) == ("openflow", "c2")
    send_command("drain", {"service": "openflow", "backend": "c1"}, balancer.api)
    assert history.wait_for(EventKind.BACKEND_DRAINED).backend == "c1"
    history.wait_for(EventKind.FINDING_BEGAN, lambda one: one.code == "no-backend-up")
    send_command("undrain", {"service": "openflow", "backend": "c1"}, balancer.api)
    history.wait_for(EventKind.FINDING_ENDED, lambda one: one.code == "no-backend-up")
    # 3. Another program removes natmirror's rules.
    scene.lab.run("lb", ["iptables", "-t", "raw", "-F", "PREROUTING"])
    assert "iptables" in history.wait_for(EventKind.KERNEL_REPAIRED).text
    # 4. Reloads: by a signal, by a command, and a refused one.
    rules.write_text(f"limit-per-client: 5000\n{text}")
    log.send_signal(signal.SIGHUP)
    reloaded = history.wait_for(EventKind.RULES_RELOADED)
    assert "asked by SIGHUP" in reloaded.text
    assert "limit-per-client" in reloaded.text
    rules.write_text("nonsense: 1\n")
    log.send_signal(signal.SIGHUP)
    assert "nonsense" in history.wait_for(EventKind.RELOAD_REFUSED).text
    rules.write_text(text)
    send_command("reload", {}, balancer.api)
    assert "asked by a command" in history.wait_for(EventKind.RULES_RELOADED, lambda one: one != reloaded).text
    # 5. The command, which goes on over a kill and the next start; and a stop.
    shown = ask_list("events", balancer.api, since=str(history.all()[0].number), kind="mirror-down")
    assert [one["kind"] for one in shown] == ["mirror-down"]
    assert_declared(list[EventEntry], shown)
    command = [sys.executable, "-m", "natmirror", "events", "--api", str(balancer.api), "--file", str(history.path)]
    following = scene.start("lb", *command, "--follow", "--since", "1h", "--severity", "warning", name="events")
    following.wait_for_text(" warning mirror-down       mirror master of openflow (10.20.0.13:6653) is down: ")
    balancer.kill()
    before = history.all()
    kept = scene.lab.run("lb", [*command, "--json", "--limit", "3"])
    assert json.loads(kept) == [one.entry() for one in before[-3:]]
    again = scene.balance(rules, env={**os.environ, "NATMIRROR_LOG_FORMAT": "json"})
    history.wait_for(EventKind.STARTED, lambda one: one.number > before[-1].number)
    following.wait_for_text(" error   crashed           the natmirror that started at ")
    assert again.stop() == 0
    messages = [json.loads(line)["message"] for line in again.program.text.splitlines() if line.startswith("{")]
    assert any(text.startswith("ready: ") for text in messages)
    assert any("did not stop" in text for text in messages)
    after = history.all()
    assert after[: len(before)] == before
    kinds = [one.kind for one in after[len(before) :]]
    assert [one for one in kinds if one in (EventKind.CRASHED, EventKind.STARTED, EventKind.STOPPED)] == [
        *(EventKind.CRASHED, EventKind.STARTED, EventKind.STOPPED),
    ]
