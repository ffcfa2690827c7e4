"""Files on a disk that does not answer: only their own threads wait for it."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from natmirror.errors import CaptureError, HostError
from natmirror.findings import OwnCode
from natmirror.rules import Rules, parse_rules
from natmirror.runtime import switch_file
from natmirror.runtime.order_recorder import OrderRecorder
from natmirror.runtime.output_files import KnownSwitches, OrderFiles
from tests.helpers.openflow_sessions import recorded
from tests.helpers.support import RULES


@pytest.fixture
def thaw() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_a_stop_names_the_chore_that_hangs_on_a_frozen_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thaw: threading.Event
) -> None:
    saved: list[Any] = []

    def save(path: Path, switches: list[dict[str, Any]]) -> None:
        assert thaw.wait(10.0)
        saved.append(switches)

    monkeypatch.setattr(switch_file, "save", save)
    engine: Any = SimpleNamespace(known_switches=lambda: [{"client": "10.10.0.11"}])
    thread = KnownSwitches(tmp_path / "switches.json", [engine]).thread
    thread.start()
    thread.end()
    assert thread.wait(time.monotonic() + 0.2) == "known-switches"
    thaw.set()
    assert thread.wait(time.monotonic() + 5.0) is None
    assert saved == [[{"client": "10.10.0.11"}]]


def test_a_reload_fails_on_a_disk_that_does_not_answer_and_the_old_rules_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thaw: threading.Event
) -> None:
    rules = parse_rules(RULES)
    files = OrderFiles(rules)
    files.open()
    files.thread.start()
    applied: list[Rules] = []

    def reload(self: OrderRecorder, rules: Rules) -> None:
        assert thaw.wait(10.0)
        applied.append(rules)

    monkeypatch.setattr(OrderRecorder, "reload", reload)
    monkeypatch.setattr("natmirror.runtime.output_files._RELOAD_TIMEOUT", 0.1)
    others = parse_rules(recorded(tmp_path / "orders.pcap"))
    with pytest.raises(CaptureError, match="the disk with the recordings has not answered"):
        files.reload(others)
    thaw.set()
    assert files.thread.ask(lambda: applied[-1], 5.0) is rules
    files.thread.end()


def test_findings_say_what_a_full_or_frozen_disk_costs_until_it_works_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thaw: threading.Event
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    path = tmp_path / "orders.pcap"
    files = OrderFiles(parse_rules(recorded(path)))
    files.open()
    assert files.findings() == []
    [file] = files._recorder.files.values()
    file.error, file.lost = "No space left on device", 7
    assert [(one.code, one.subject) for one in files.findings()] == [
        (OwnCode.ORDERS_NOT_RECORDED, str(path)),
        (OwnCode.ORDERS_LOST, str(path)),
    ]
    files._recorder.write()
    assert [one.code for one in files.findings()] == [OwnCode.ORDERS_LOST], "the file still lacks them"
    files._recorder.close()
    errors = [HostError(f"{tmp_path}/known.json: No space left on device")]

    def save(*_: object) -> None:
        if errors:
            raise errors[0]

    monkeypatch.setattr(switch_file, "save", save)
    engine: Any = SimpleNamespace(known_switches=list)
    known = KnownSwitches(tmp_path / "known.json", [engine])
    [chore] = known.thread._chores
    chore.run(lambda: 0.0)
    [found] = known.findings()
    assert f"{tmp_path}/known.json (No space left on device)" in found.problem
    errors.clear()
    chore.run(lambda: 0.0)
    assert known.findings() == []
    known.thread._under_way = ("known-switches", 0.0)
    now[0] = 11.0
    [found] = known.findings()
    assert "the disk does not answer" in found.problem
