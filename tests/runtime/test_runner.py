"""The main thread's work: requests, reloads, workers that fail; the test runs no worker."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from natmirror.backends.monitor import HealthChange
from natmirror.errors import HostError, RulesError
from natmirror.ha.exit_codes import STUCK
from natmirror.linux.iptables import Firewall
from natmirror.linux.rule_reader import RuleReader
from natmirror.linux.systemd import Notifier
from natmirror.rules import Rules, load_rules, parse_rules
from natmirror.rules.reload import merged
from natmirror.runtime.logs import Logs
from natmirror.runtime.runner import Runner
from natmirror.runtime.workers import note_ended
from tests.helpers.support import RULES

CHECKED = RULES.replace("    pool:\n", "    pool:\n      health: {check: tcp}\n")


class Machine(Firewall):
    """A firewall that takes all rules; with ``refuses`` it cannot be read."""

    def __init__(self) -> None:
        super().__init__("nft")
        self.refuses = False

    def extend(self, rules: Rules, queues: int) -> None:
        pass

    def reduce(self, rules: Rules, queues: int) -> None:
        pass

    def can_check_paths(self) -> bool:
        if self.refuses:
            raise HostError("the lock is taken")
        return True


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def runner(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    file = tmp_path / "rules.yaml"
    file.write_text(f"threads: 1\n{CHECKED}")
    rules = load_rules(str(file))
    one = Runner(
        rules, machine, Notifier({}), Logs(), None, overrides=None, keep_rules=True, api_path=tmp_path / "api.sock"
    )
    one._files.orders.open()
    one._files.orders.thread.start()
    monkeypatch.setattr(one._reloader, "_run_in_main_thread", one._reloader._apply)
    monkeypatch.setattr(one._backends._monitor, "start", lambda: None)
    monkeypatch.setattr(RuleReader, "read", lambda self: [])
    yield one
    one._files.orders.thread.end()


@pytest.fixture
def change(runner: Runner) -> Callable[[str, str], list[str]]:
    def rewrite(old: str, new: str) -> list[str]:
        file = Path(runner._rules_path)
        file.write_text(file.read_text().replace(old, new))
        return runner._reloader.reload()

    return rewrite


def states(runner: Runner) -> dict[str, str]:
    return {name: shown["state"] for (_, name), shown in runner._backends.states().items()}


def test_a_check_before_a_reload_does_not_affect_the_new_backend_of_that_name(
    runner: Runner, change: Callable[[str, str], list[str]]
) -> None:
    pool = runner._reloader._rules.services[0].pool
    assert pool is not None
    runner._backends._on_health(HealthChange("openflow", pool.backends[0], is_up=False, reason="connection refused"))
    change("10.20.0.11", "10.20.0.19")
    runner._mailbox.read()
    assert states(runner) == {"c1": "up", "c2": "up"}


def test_a_preflight_error_after_a_reload_does_not_undo_it(
    runner: Runner,
    machine: Machine,
    change: Callable[[str, str], list[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine.refuses = True
    assert change("10.20.0.11", "10.20.0.19")
    assert "the rules stay as they were" not in caplog.text
    runner._maintenance.checks._mailbox.read()
    runner._maintenance._host_check.run_if_due(lambda: 1.0)
    assert "this host's settings: the lock is taken" in caplog.text


def test_looking_for_problems_of_the_host_leaves_no_garbage(runner: Runner) -> None:
    def objects() -> int:
        runner._maintenance.check_host()
        return len(gc.get_objects())

    gc.collect()
    for _ in range(3):
        objects()
    before = objects()
    assert max(objects() for _ in range(10)) <= before + 100, "generation 2 is never collected in a run"


def test_a_removed_service_with_connections_cannot_come_back_without_its_pool(
    runner: Runner, change: Callable[[str, str], list[str]]
) -> None:
    mirrors = "mirrors: [{name: n, address: 10.20.0.14}]"
    watched = f"  - {{name: w, address: 10.10.0.9, port: 80, {mirrors}}}\n"
    reloader = runner._reloader
    reloader._rules = runner._kernel_rules.rules = parse_rules(f"threads: 1\n{CHECKED}{watched}", runner._rules_path)
    for worker in runner._workers:
        worker.engine.reload(reloader._rules)
    change("services:\n", f"services:\n{watched}")
    pooled = reloader._rules.services[1]
    reloader._rules = replace(reloader._rules, services=reloader._rules.services[:1])
    runner._kernel_rules.rules = merged(reloader._rules, [(pooled, None)])
    with pytest.raises(RulesError, match=r"services\[1\]\.pool: cannot change"):
        change(CHECKED[CHECKED.index("    pool:") : CHECKED.index("    mirrors:")], "")


def test_a_reload_logs_only_what_has_changed(
    change: Callable[[str, str], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    change("10.20.0.12}", "10.20.0.12, weight: 2}")
    assert "backend c2 10.20.0.12:6653 weight 2" in caplog.text
    assert "of its share" not in caplog.text
    change("      - {name: c2", "      - {name: c3, address: 10.20.0.14}\n        - {name: c2")
    assert "openflow/c3 gets 100 % of its share" in caplog.text
    assert caplog.text.count("of its share") == 1


def test_a_preview_of_a_reload_changes_nothing(runner: Runner) -> None:
    Path(runner._rules_path).write_text(f"threads: 1\n{CHECKED.replace('10.20.0.13', '10.20.0.14')}")
    before = runner._reloader._rules
    changes, costs, _ = runner._reloader.preview()
    assert ([change[:2] for change in changes], costs) == (["- ", "+ "], [])
    assert runner._reloader._rules is before
    Path(runner._rules_path).write_text(f"threads: 2\n{CHECKED}")
    with pytest.raises(RulesError, match="threads: cannot change"):
        runner._reloader.preview()


def test_many_reloads_in_a_row_do_not_postpone_the_removal_of_unused_kernel_rules(runner: Runner) -> None:
    dues = []
    for limit in (1, 2):
        text = CHECKED.replace("    pool:\n", f"    pool:\n      slow-start: {limit}s\n")
        Path(runner._rules_path).write_text(f"threads: 1\n{text}")
        assert runner._reloader.reload()
        dues.append(runner._maintenance.removal.due_at)
    assert dues[0] == dues[1]
    runner._kernel_rules.remove_unused()
    assert runner._kernel_rules.set_configured(runner._reloader._rules)


# Threads that end, and mirroring that is switched on again


@pytest.fixture
def several(tmp_path: Path) -> Runner:
    rules = parse_rules(f"threads: 2\n{RULES}")
    return Runner(
        rules, Machine(), Notifier({}), Logs(), None, overrides=None, keep_rules=True, api_path=tmp_path / "api.sock"
    )


def test_a_thread_that_ends_does_not_end_others_and_health_reports_it(several: Runner) -> None:
    several._workers[1].failure = HostError("its queue is gone")
    note_ended(several._workers, several.member.readiness.ended, several._ring)
    several.member.readiness.not_ready = None
    code, reason = several.member.readiness.check([1, 1], 100.0)
    assert (code, reason) == (STUCK, "packet thread 1 has ended: HostError: its queue is gone; restart natmirror")
    assert several.member.readiness.ended == {1: "HostError: its queue is gone"}


def test_the_end_of_the_last_thread_ends_the_run(several: Runner) -> None:
    for worker in several._workers:
        worker.failure = HostError("its queue is gone")
    with pytest.raises(HostError, match="its queue is gone"):
        note_ended(several._workers, several.member.readiness.ended, several._ring)


def test_a_command_switches_mirroring_on_in_all_threads(several: Runner) -> None:
    for worker in several._workers:
        worker._engine.faults.switch_off(None)
    resume = several._api.commands["resume-mirroring"]({})
    several._mailbox.read()
    assert resume.result(0) == {"done": "new connections are mirrored again"}
    for worker in several._workers:
        worker.do_requests()
        assert not worker._engine.faults.off
