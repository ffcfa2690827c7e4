"""The monitor's thread with the test's own sockets: what it reports, and when."""

import itertools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from natmirror.backends.host_view import Bind, Target
from natmirror.backends.monitor import HealthChange, Monitor
from natmirror.backends.probes import MAX_LATE
from natmirror.backends.shown import HealthEntry
from natmirror.lab.process import wait_for
from natmirror.net.endpoint import Endpoint
from natmirror.openflow.messages import V10, V13
from natmirror.rules import Rules, parse_rules
from tests.helpers.controllers import HOST, Controller, Talk, speaks

ELSEWHERE = "10.20.0.11"


def rules(health: str, **ports: int) -> Rules:
    backends = ", ".join(f"{{name: {name}, address: {ELSEWHERE}, port: {port}}}" for name, port in ports.items())
    return at_home(
        f"switches: [10.10.0.0/24]\nservices:\n  - {{name: of, address: 10.10.0.100, port: 6653, pool: {{health:"
        f" {health}, backends: [{backends}]}}}}\n  - {{name: other, address: 10.10.0.100, port: 1, pool: {{backends:"
        f" [{{name: c1, address: {ELSEWHERE}}}]}}}}\n"
    )


def at_home(text: str) -> Rules:
    """Return rules whose backends are at this host. A rules file cannot say so."""
    parsed = parse_rules(text)
    services = []
    for service in parsed.services:
        assert service.pool is not None
        backends = tuple(replace(one, address=IPv4Address(HOST)) for one in service.pool.backends)
        services.append(replace(service, pool=replace(service.pool, backends=backends)))
    return replace(parsed, services=tuple(services))


FAST = "interval: 100ms, timeout: 100ms"


class Host:
    """A host that is cut off from its backends, or drops its own packets to them, if these say why; with these second
    targets."""

    def __init__(self, *targets: Target, cut_off: str | None = None, dropped: str | None = None) -> None:
        self.cut_off = cut_off
        self.dropped = dropped
        self.asked: list[Endpoint] = []
        self.mirrors: list[Endpoint] = []
        self._targets = list(targets)

    def bind(self, sock: socket.socket) -> None:
        """This host has no VRFs."""

    def why_cut_off(self, to: Endpoint) -> str | None:
        self.asked.append(to)
        return self.cut_off

    def why_dropped(self, source: Endpoint, to: Endpoint) -> str | None:
        self.asked.append(to)
        assert source[0] == IPv4Address(HOST).packed
        return self.dropped

    def second_targets(self, backend: IPv4Address, mirrors: Iterable[Endpoint]) -> list[Target]:
        assert (backend, list(mirrors)) == (IPv4Address(HOST), self.mirrors)
        return self._targets


class Watch:
    """A running monitor, and its reports."""

    def __init__(self, rules: Rules, host: Host | None = None) -> None:
        self.reports: list[tuple[str, str, bool, str]] = []
        self.isolated: list[bool] = []
        self.threads: set[str] = set()
        self.told = 0
        self.monitor = Monitor(rules, self._changed, self._tell, host or Host())

    def __enter__(self) -> "Watch":
        self.monitor.start()
        return self

    def __exit__(self, *_: object) -> None:
        began_at = time.monotonic()
        self.monitor.stop()
        assert time.monotonic() - began_at < 1
        assert "health" not in {thread.name for thread in threading.enumerate()}

    def wait_for(self, count: int) -> None:
        wait_for(lambda: len(self.reports) >= count, f"{count} changes", 5.0)

    def wait_for_checks(self) -> None:
        """Wait until each backend has passed a check that begins from now on."""
        before = [one["checks"] for one in self.monitor.status()]
        wait_for(
            lambda: all(one["checks"] > count + 1 for one, count in zip(self.monitor.status(), before, strict=True)),
            "checks that have passed since",
            5.0,
        )

    def entry(self, name: str) -> HealthEntry:
        return next(entry for entry in self.monitor.status() if entry["backend"] == name)

    def states(self) -> dict[str, str]:
        return {entry["backend"]: entry["state"] for entry in self.monitor.status()}

    def _tell(self) -> None:
        self.told += 1

    def _changed(self, change: HealthChange) -> None:
        self.reports.append((change.service, change.backend.name, change.is_up, change.reason))
        self.isolated.append(change.is_isolated)
        self.threads.add(threading.current_thread().name)
        raise RuntimeError("the receiver of a report may fail")


def test_a_monitor_reports_backends_that_go_down_and_come_up(controllers: Callable[[Talk | None], Controller]) -> None:
    well, closed = controllers(speaks(V13)), controllers(None)
    closed.close()
    with Watch(rules(f"{{check: openflow, {FAST}}}", c1=well.port, c2=closed.port)) as watch:
        assert watch.states() == {"c1": "up", "c2": "up"}
        watch.wait_for(1)
        assert watch.reports == [("of", "c2", False, "connection refused")]
        assert watch.states() == {"c1": "up", "c2": "down"}
        listener = socket.create_server((HOST, closed.port))
        thread = threading.Thread(target=lambda: [speaks(V10)(listener.accept()[0]) for _ in range(2)], daemon=True)
        thread.start()
        watch.wait_for(2)
        assert watch.reports[1] == ("of", "c2", True, "it answers an ECHO_REQUEST")
        c1, c2 = watch.monitor.status()
        assert (c1["service"], c1["backend"], c1["check"], c1["state"]) == ("of", "c1", "openflow", "up")
        assert (c1["failed_checks"], c1["failed_syns"], c1["inconclusive_checks"]) == (0, 0, 0)
        assert c1["checks"] >= 4
        assert 0 < (c1["last_check_seconds"] or 0) < 0.1
        assert c2["failed_checks"] >= 3
        assert 0 <= c2["state_seconds"] < c1["state_seconds"]
        assert c2["reason"] == "it answers an ECHO_REQUEST"
        thread.join(5)
        listener.close()
    assert watch.threads == {"health"}
    reports = list(watch.reports)
    watch.monitor.syn_failed("of", "c1")
    assert watch.reports == reports


def test_failed_syns_cause_a_check_at_once() -> None:
    with Watch(rules("{check: tcp, interval: 1h, timeout: 1s}", c1=1, c2=2)) as watch:
        for _ in range(10):
            watch.monitor.syn_failed("other", "c1")  # it has no checks
            watch.monitor.syn_failed("unknown", "c1")
        for _ in range(2):
            watch.monitor.syn_failed("of", "c2")
        watch.wait_for(1)
        assert watch.reports == [("of", "c2", False, "connection refused")]
        c1, c2 = watch.monitor.status()
        assert (c1["failed_syns"], c1["checks"], c2["failed_syns"]) == (0, 0, 2)
        assert c2["checks"] in (1, 2), "two if the first SYN caused a check before the second came"


def test_failed_syns_do_not_take_a_backend_down_that_passes_its_checks(
    controllers: Callable[[Talk | None], Controller],
) -> None:
    well = controllers(speaks(V13))
    with Watch(rules("{check: tcp, interval: 1h, timeout: 1s}", c1=well.port)) as watch:
        for _ in range(5):
            watch.monitor.syn_failed("of", "c1")
        wait_for(lambda: watch.monitor.status()[0]["checks"] > 0, "the check", 5.0)
        assert (watch.states(), watch.reports) == ({"c1": "up"}, [])


def test_failed_syns_may_be_reported_from_many_threads() -> None:
    with Watch(rules("{check: tcp, interval: 1h, timeout: 1s, fall: 100}", c1=1)) as watch:

        def report() -> None:
            for _ in range(100):
                watch.monitor.syn_failed("of", "c1")

        threads = [threading.Thread(target=report) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_for(lambda: watch.monitor.status()[0]["failed_syns"] == 400, "all of them")
        watch.wait_for(1)
        assert [is_up for _, _, is_up, _ in watch.reports] == [False]


def test_a_stop_kills_a_command_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("natmirror.backends.monitor.random.random", lambda: 0.0)  # the first check begins at once
    file = tmp_path / "pid"
    command = (
        f'[{sys.executable}, -c, \'import os, time; open("{file}", "w").write(str(os.getpid())); time.sleep(60)\']'
    )
    with Watch(rules(f"{{check: exec, interval: 5s, timeout: 5s, command: {command}}}", c1=1)):
        wait_for(lambda: file.exists() and bool(file.read_text()), "the command", 10.0)
        os.kill(int(file.read_text()), 0)
    with pytest.raises(ProcessLookupError):
        os.kill(int(file.read_text()), signal.SIGTERM)


def test_a_missing_command_takes_no_backend_down() -> None:
    with Watch(rules(f"{{check: exec, command: [/nowhere/check], {FAST}}}", c1=1)) as watch:
        wait_for(lambda: watch.monitor.status()[0]["inconclusive_checks"] >= 4, "checks", 5.0)
        assert (watch.states(), watch.reports, watch.told) == ({"c1": "up"}, [], 1)
        reason = "cannot run /nowhere/check: no such file or directory"
        assert watch.monitor.status()[0]["inconclusive_reason"] == reason


def test_a_check_that_fails_because_of_this_host_takes_no_backend_down() -> None:
    host = Host(dropped="a rule drops it")
    with Watch(rules(f"{{check: tcp, {FAST}}}", c1=1), host) as watch:
        wait_for(lambda: watch.monitor.status()[0]["inconclusive_checks"] >= 4, "checks", 5.0)
        (c1,) = watch.monitor.status()
        assert (c1["state"], c1["inconclusive_reason"], c1["checks"]) == ("up", "a rule drops it", 0)
        assert (watch.reports, watch.told, host.asked[0]) == ([], 1, (IPv4Address(HOST).packed, 1))
        host.dropped = None
        watch.wait_for(1)
        assert (watch.reports, watch.told) == ([("of", "c1", False, "connection refused")], 2)
        assert watch.monitor.status()[0]["inconclusive_reason"] == ""


def test_a_check_that_this_host_cannot_even_begin_takes_no_backend_down() -> None:
    text = f"{{check: tcp, {FAST}}}"
    unreachable = rules(text, c1=1)
    (service, other), broadcast = unreachable.services, IPv4Address("255.255.255.255")
    assert service.pool is not None
    backends = tuple(replace(backend, address=broadcast) for backend in service.pool.backends)
    services = (replace(service, pool=replace(service.pool, backends=backends)), other)
    with Watch(replace(unreachable, services=services)) as watch:
        wait_for(lambda: watch.monitor.status()[0]["inconclusive_checks"] >= 4, "checks", 5.0)
        assert (watch.states(), watch.reports) == ({"c1": "up"}, [])
        assert watch.monitor.status()[0]["inconclusive_reason"].startswith("this host cannot send to it: ")


@pytest.mark.parametrize("count", [1, 2])
def test_a_backend_goes_down_isolated_if_no_second_target_answers_that_has_answered_before(
    controllers: Callable[[Talk | None], Controller], monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    gateway, mirror = IPv4Address("10.20.0.1"), (IPv4Address("10.20.0.13").packed, 6653)
    answers: set[Target] = {gateway}

    async def answering(targets: Sequence[Target], _: float, bind: Bind) -> list[Target]:
        return [target for target in targets if target in answers]

    async def first_answering(targets: Sequence[Target], timeout: float, bind: Bind) -> Target | None:
        asked.append(list(targets))
        return next(iter(await answering(targets, timeout, bind)), None)

    asked: list[list[Target]] = []
    monkeypatch.setattr("natmirror.backends.monitor.answering", answering)
    monkeypatch.setattr("natmirror.backends.monitor.first_answering", first_answering)
    well = [controllers(None) for _ in range(count)]
    pool = {f"c{number}": one.port for number, one in enumerate(well)}
    with Watch(rules(f"{{check: tcp, {FAST}}}", **pool), Host(gateway, mirror)) as watch:
        wait_for(lambda: min(one["checks"] for one in watch.monitor.status()) >= 4, "checks", 5.0)
        answers.clear()
        for one in well:
            one.close()
        watch.wait_for(count)
        assert watch.isolated == [count > 1] * count
        assert asked == ([[gateway]] * count if count > 1 else [])


def test_a_backend_goes_down_isolated_if_failed_syns_counted_during_its_check(
    controllers: Callable[[Talk | None], Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the check began, it was not the last one before the backend goes down."""
    gateway, host = IPv4Address("10.20.0.1"), Host(IPv4Address("10.20.0.1"))

    async def first_answering(targets: Sequence[Target], timeout: float, bind: Bind) -> Target | None:
        assert targets == [gateway]
        return None

    async def answering(targets: Sequence[Target], _: float, bind: Bind) -> list[Target]:
        return list(targets)

    def syns_fail(to: Endpoint) -> None:
        name = next(name for name, port in pool.items() if port == to[1])
        watch.monitor.syn_failed("of", name)
        wait_for(lambda: watch.entry(name)["failed_syns"] >= 1, "the failed SYN to be counted", 5.0)

    monkeypatch.setattr("natmirror.backends.monitor.answering", answering)
    monkeypatch.setattr("natmirror.backends.monitor.first_answering", first_answering)
    host.why_cut_off = syns_fail  # type: ignore[method-assign]
    well = [controllers(None), controllers(None)]
    pool = {f"c{number}": one.port for number, one in enumerate(well)}
    with Watch(rules(f"{{check: tcp, {FAST}, fall: 2}}", **pool), host) as watch:
        wait_for(lambda: min(one["checks"] for one in watch.monitor.status()) >= 4, "checks", 5.0)
        for one in well:
            one.close()
        watch.wait_for(2)
        assert [watch.entry(name)["failed_checks"] for name in pool] == [1, 1]
        assert watch.isolated == [True, True]


def test_a_second_target_that_did_not_answer_is_asked_again_soon(
    controllers: Callable[[Talk | None], Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = IPv4Address("10.20.0.1")
    answers: list[Target] = []
    asked: list[list[Target]] = []

    async def answering(targets: Sequence[Target], _: float, bind: Bind) -> list[Target]:
        asked.append(list(answers))
        return asked[-1]

    async def first_answering(targets: Sequence[Target], timeout: float, bind: Bind) -> Target | None:
        return None

    monkeypatch.setattr("natmirror.backends.monitor.answering", answering)
    monkeypatch.setattr("natmirror.backends.monitor.first_answering", first_answering)
    well = [controllers(None), controllers(None)]
    pool = {f"c{number}": one.port for number, one in enumerate(well)}
    with Watch(rules(f"{{check: tcp, {FAST}}}", **pool), Host(gateway)) as watch:
        wait_for(lambda: len(asked) == 2, "a question of each backend's", 5.0)
        answers.append(gateway)
        wait_for(lambda: asked.count([gateway]) == 2, "the same again", 5.0)
        watch.wait_for_checks()
        for one in well:
            one.close()
        watch.wait_for(2)
        assert watch.isolated == [True, True]


Answering = Callable[[Sequence[Target], float, Bind], Awaitable[list[Target]]]


def ask_always(monkeypatch: pytest.MonkeyPatch, answering: Answering) -> None:
    """Have second targets asked after every other check, with this answer, and answer nothing when a backend falls."""

    async def first_answering(targets: Sequence[Target], timeout: float, bind: Bind) -> Target | None:
        return None

    monkeypatch.setattr("natmirror.backends.monitor.RARELY", 0.0)
    monkeypatch.setattr("natmirror.backends.second_target.RARELY", 0.0)
    monkeypatch.setattr("natmirror.backends.monitor.answering", answering)
    monkeypatch.setattr("natmirror.backends.monitor.first_answering", first_answering)


def test_a_network_that_fails_again_at_once_is_not_taken_for_backends(
    controllers: Callable[[Talk | None], Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an outage a second target's answer may wait for ARP longer than a check takes."""
    gateway = IPv4Address("10.20.0.1")
    asked: list[list[Target]] = []

    async def answering(targets: Sequence[Target], _: float, bind: Bind) -> list[Target]:
        asked.append([] if asked.count([gateway]) >= 2 else list(targets))
        return asked[-1]

    ask_always(monkeypatch, answering)
    well = [controllers(None), controllers(None)]
    pool = {f"c{number}": one.port for number, one in enumerate(well)}
    with Watch(rules(f"{{check: tcp, {FAST}}}", **pool), Host(gateway)) as watch:
        wait_for(lambda: asked.count([]) >= 2, "questions in vain", 5.0)
        watch.wait_for_checks()
        for one in well:
            one.close()
        watch.wait_for(2)
        assert watch.isolated == [True, True]


def test_a_second_target_that_this_host_was_too_busy_to_hear_still_counts(
    controllers: Callable[[Talk | None], Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, is_busy = IPv4Address("10.20.0.1"), False
    asked: list[Target] = []

    async def answering(targets: Sequence[Target], timeout: float, bind: Bind) -> list[Target]:
        if not is_busy:
            return list(targets)
        asked.extend(targets)
        time.sleep(timeout + 2 * MAX_LATE)  # blocks the whole thread
        return []

    ask_always(monkeypatch, answering)
    well = [controllers(None), controllers(None)]
    pool = {f"c{number}": one.port for number, one in enumerate(well)}
    with Watch(rules(f"{{check: tcp, {FAST}}}", **pool), Host(gateway)) as watch:
        wait_for(lambda: min(one["checks"] for one in watch.monitor.status()) >= 6, "answers", 5.0)
        is_busy = True
        wait_for(lambda: len(asked) >= 6, "questions whose answers were not heard", 10.0)
        for one in well:
            one.close()
        watch.wait_for(2)
        assert watch.isolated == [True, True]


def test_a_backend_is_not_isolated_without_a_second_target_or_with_one_that_answers(
    controllers: Callable[[Talk | None], Controller],
) -> None:
    there = controllers(None)
    for targets in ((), ((IPv4Address(HOST).packed, there.port),)):
        well = [controllers(None), controllers(None)]
        with Watch(rules(f"{{check: tcp, {FAST}}}", c1=well[0].port, c2=well[1].port), Host(*targets)) as watch:
            wait_for(lambda: min(one["checks"] for one in watch.monitor.status()) >= 4, "checks", 5.0)
            for one in well:
                one.close()
            watch.wait_for(2)
            assert watch.isolated == [False, False]


NO_CARRIER = "the interface eth1 has no carrier"


def test_a_backend_that_is_cut_off_while_another_answers_goes_down(
    controllers: Callable[[Talk | None], Controller],
) -> None:
    closed, well = controllers(None), controllers(None)
    closed.close()
    checked = rules(f"{{check: tcp, {FAST}}}", c1=closed.port, c2=well.port)
    with Watch(checked, Host(cut_off=NO_CARRIER, dropped="a rule drops it")) as watch:
        watch.wait_for(1)
        assert watch.reports == [("of", "c1", False, f"{NO_CARRIER}, while c2 answers")]
        assert (watch.monitor.status()[0]["inconclusive_checks"], watch.isolated) == (0, [False])
        assert watch.states() == {"c1": "down", "c2": "up"}
    with Watch(checked, Host(dropped="a rule drops it")) as watch:
        wait_for(lambda: watch.monitor.status()[0]["inconclusive_checks"] >= 4, "checks", 5.0)
        assert (watch.reports, watch.states()) == ([], {"c1": "up", "c2": "up"})


def test_a_carrier_that_comes_back_while_another_is_asked_takes_no_backend_down(
    controllers: Callable[[Talk | None], Controller],
) -> None:
    closed, well = controllers(None), controllers(None)
    closed.close()
    host, carriers = Host(), itertools.cycle([NO_CARRIER, None])
    host.why_cut_off = lambda to: next(carriers)  # type: ignore[method-assign]
    with Watch(rules(f"{{check: tcp, {FAST}}}", c1=closed.port, c2=well.port), host) as watch:
        wait_for(lambda: watch.monitor.status()[0]["inconclusive_checks"] >= 4, "checks", 5.0)
        assert (watch.reports, watch.states()) == ([], {"c1": "up", "c2": "up"})


def test_a_backend_that_is_silent_just_after_this_host_was_cut_off_goes_down_later_only(
    controllers: Callable[[Talk | None], Controller], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's next ARP request may be a second away, and the first one that is answered another backend's."""
    host, well = Host(cut_off=NO_CARRIER), controllers(None)
    monkeypatch.setattr("natmirror.backends.monitor._CUT_OFF_LINGERS", float("inf"))
    with socket.create_server((HOST, 0), backlog=0) as full, socket.create_connection(full.getsockname()):
        checked = rules(f"{{check: tcp, {FAST}}}", c1=full.getsockname()[1], c2=well.port)
        with Watch(checked, host) as watch:
            watch.wait_for(1)  # cut off, while c2 answers: its host may have died
            assert watch.reports.pop()[1:3] == ("c1", False)
        answering: list[Target] = []

        async def first_answering(targets: Sequence[Target], _: float, bind: Bind) -> Target | None:
            return next((target for target in targets if target in answering), None)

        monkeypatch.setattr("natmirror.backends.monitor.first_answering", first_answering)
        with Watch(checked, host) as watch:
            wait_for(lambda: watch.monitor.status()[0]["inconclusive_checks"] >= 2, "checks", 5.0)
            host.cut_off = None
            before = watch.monitor.status()[0]["inconclusive_checks"]
            wait_for(lambda: watch.monitor.status()[0]["inconclusive_checks"] >= before + 4, "checks", 5.0)
            assert "has only just got its route or carrier back" in watch.monitor.status()[0]["inconclusive_reason"]
            assert (watch.reports, watch.states()) == ([], {"c1": "up", "c2": "up"})
            monkeypatch.setattr("natmirror.backends.monitor._CUT_OFF_LINGERS", 0.0)
            watch.wait_for(1)
            assert watch.reports == [("of", "c1", False, "no answer within 100 ms")]


def test_backends_that_are_cut_off_while_nothing_answers_stay_up_and_fall_when_one_answers_again(
    controllers: Callable[[Talk | None], Controller],
) -> None:
    pair = [controllers(None), controllers(None)]
    for one in pair:
        one.close()
    ports = {f"c{number}": one.port for number, one in enumerate(pair, 1)}
    silent, monitored = (IPv4Address("255.255.255.255").packed, 1), rules(f"{{check: tcp, {FAST}}}", **ports)
    answers: list[Target] = []

    async def first_answering(targets: Sequence[Target], _: float, bind: Bind) -> Target | None:
        asked.append(set(targets))
        return next((target for target in targets if target in answers), None)

    asked: list[set[Target]] = []
    with pytest.MonkeyPatch.context() as patch, Watch(monitored, Host(silent, cut_off=NO_CARRIER)) as watch:
        patch.setattr("natmirror.backends.monitor.first_answering", first_answering)
        wait_for(lambda: min(one["inconclusive_checks"] for one in watch.monitor.status()) >= 4, "checks", 5.0)
        assert (watch.states(), watch.reports) == ({"c1": "up", "c2": "up"}, [])
        assert watch.monitor.status()[0]["inconclusive_reason"] == NO_CARRIER
        assert asked[-1] == set(), "those that are cut off too tell nothing"
        with socket.create_server((HOST, pair[1].port)):
            answers.append((IPv4Address(HOST).packed, pair[1].port))
            watch.wait_for(1)
            assert [one[:3] for one in watch.reports] == [("of", "c1", False)]


@pytest.mark.parametrize("target", ["mirror", "gateway", "none"])
def test_the_only_backend_goes_down_cut_off_if_a_mirror_or_its_gateway_answers(
    controllers: Callable[[Talk | None], Controller], monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    gateway, mirror = IPv4Address("10.20.0.1"), (IPv4Address("10.20.0.13").packed, 6653)
    lately: list[Target] = [gateway, mirror]

    async def answering(targets: Sequence[Target], _: float, bind: Bind) -> list[Target]:
        found.append(True)
        return [one for one in targets if one in lately]

    async def first_answering(targets: Sequence[Target], _: float, bind: Bind) -> Target | None:
        return next((one for one in targets if one in lately), None)

    found: list[bool] = []
    monkeypatch.setattr("natmirror.backends.monitor.answering", answering)
    monkeypatch.setattr("natmirror.backends.monitor.first_answering", first_answering)
    text = "switches: [10.10.0.0/24]\nservices:\n  - name: of\n    address: 10.10.0.100\n    port: 6653\n"
    well, host = controllers(None), Host(gateway, cut_off=NO_CARRIER)
    host.mirrors = [mirror]
    text += f"    pool: {{health: {{check: tcp, {FAST}}}, backends: [{{name: c1, address: {ELSEWHERE}, port:"
    text += f" {well.port}}}]}}\n    mirrors: [{{name: m, address: 10.20.0.13}}]\n"
    with Watch(at_home(text), host) as watch:
        wait_for(lambda: bool(found), "an answer", 5.0)
        checks = watch.monitor.status()[0]["checks"]
        wait_for(lambda: watch.monitor.status()[0]["checks"] >= checks + 2, "checks", 5.0)
        lately.remove(mirror if target == "gateway" else gateway)
        if target == "none":
            lately.clear()
        well.close()
        if target == "none":
            wait_for(lambda: watch.monitor.status()[0]["inconclusive_checks"] >= 4, "checks", 5.0)
            assert (watch.states(), watch.reports) == ({"c1": "up"}, [])
        else:
            watch.wait_for(1)
            words = {"mirror": "10.20.0.13:6653", "gateway": "10.20.0.1"}[target]
            assert watch.reports == [("of", "c1", False, f"{NO_CARRIER}, while {words} answers")]
            assert watch.isolated == [False]


def test_without_health_there_is_no_thread() -> None:
    text = "switches: [10.10.0.0/24]\nservices:\n  - {name: a, address: 10.10.0.100, port: 1, pool: {backends:"
    with Watch(parse_rules(text + " [{name: c1, address: 10.20.0.1}]}}")) as watch:
        assert "health" not in {thread.name for thread in threading.enumerate()}
        assert watch.monitor.status() == []
        watch.monitor.syn_failed("a", "c1")


def test_an_internal_error_takes_no_backend_down(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: object) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr("natmirror.backends.probes.TcpProbe._ask", broken)
    with Watch(rules(f"{{check: tcp, {FAST}}}", c1=1)) as watch:
        wait_for(lambda: watch.monitor.status()[0]["inconclusive_checks"] >= 4, "checks")
        assert watch.states() == {"c1": "up"}
    assert "internal error in a check" in caplog.text


def test_after_a_reload_the_named_backends_are_checked_and_keep_their_health(
    controllers: Callable[[Talk | None], Controller],
) -> None:
    closed, well = controllers(None), controllers(speaks(V13))
    closed.close()
    with Watch(rules(f"{{check: tcp, {FAST}}}", c1=closed.port)) as watch:
        watch.wait_for(1)
        watch.monitor.reload(rules("{check: tcp, interval: 100ms, timeout: 50ms}", c1=closed.port, c2=well.port))
        assert watch.states() == {"c1": "down", "c2": "up"}
        wait_for(lambda: watch.monitor.status()[1]["checks"] > 2, "checks of the new backend", 5.0)
        watch.monitor.reload(rules(f"{{check: tcp, {FAST}}}", c2=well.port))
        assert watch.states() == {"c2": "up"}
        assert [one[:3] for one in watch.reports] == [("of", "c1", False)]


def test_reloads_that_do_not_concern_a_check_do_not_delay_its_result(
    controllers: Callable[[Talk | None], Controller],
) -> None:
    closed = controllers(None)
    closed.close()
    first = rules("{check: tcp, interval: 100ms, timeout: 100ms, fall: 4}", c1=closed.port)
    with Watch(first) as watch:
        for weight in range(2, 6):
            wait_for(lambda: bool(watch.reports) or watch.monitor.status()[0]["checks"] >= weight - 1, "a check", 5.0)  # noqa: B023
            watch.monitor.reload(with_weight(first, weight))
        watch.wait_for(1)
        assert watch.monitor.status()[0]["checks"] == 4


def with_weight(rules: Rules, weight: int) -> Rules:
    service, *others = rules.services
    assert service.pool is not None
    backends = tuple(replace(backend, weight=weight) for backend in service.pool.backends)
    return replace(rules, services=(replace(service, pool=replace(service.pool, backends=backends)), *others))


def test_checks_begin_with_the_first_rules_that_have_some(controllers: Callable[[Talk | None], Controller]) -> None:
    pool = f"{{backends: [{{name: c1, address: {ELSEWHERE}}}]}}"
    text = f"switches: [10.10.0.0/24]\nservices:\n  - {{name: of, address: 10.10.0.100, port: 1, pool: {pool}}}"
    with Watch(parse_rules(text)) as watch:
        assert watch.monitor.status() == []
        watch.monitor.reload(rules(f"{{check: openflow, {FAST}}}", c1=controllers(speaks(V13)).port))
        watch.monitor.start()
        wait_for(lambda: watch.monitor.status()[0]["checks"] > 0, "a check", 5.0)
