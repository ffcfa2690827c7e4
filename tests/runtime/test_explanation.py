"""What natmirror explain answers, of a running natmirror and of a rules file alone, and its text."""

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from natmirror.actions import Drop, Hook
from natmirror.api.text import age
from natmirror.backends.admission import Admission, Share
from natmirror.cli.explained import text
from natmirror.engine.engine import Engine
from natmirror.errors import RulesError
from natmirror.linux.iptables_rules import contents
from natmirror.mirror.shown import CopyEntry
from natmirror.reasons import DropReason
from natmirror.replication.synchroniser import SyncState
from natmirror.rules import Rules, load_rules, parse_rules
from natmirror.rules.shards import Shard
from natmirror.runtime.engine_proxy import EngineProxy
from natmirror.runtime.explained import ConnectionFate, CopyFate, ExplainAnswer
from natmirror.runtime.explanation import Explainer, explain_rules
from natmirror.runtime.interruptions import Situation
from natmirror.runtime.shown import CostEntry, RunSums
from tests.helpers.client_connection import ISS, ClientConnection
from tests.helpers.declared import assert_declared
from tests.helpers.overrides import drain
from tests.helpers.relative import RelativeEngine
from tests.helpers.support import CLIENT, RULES, at, packet

AUDIT = RULES + "      - {name: audit, address: 10.20.0.14, reconnect: next-segment}\n"
SLOW = AUDIT.replace("    pool:\n", "    pool:\n      slow-start: 100s\n      health: {check: tcp}\n")
SIDE = "  - {name: side, address: 10.10.0.101, port: 80, mirrors: [{name: m, address: 10.20.0.13}]}\n"


@dataclass
class Thread:
    """A packet thread that is this one."""

    def ask(self, question: Callable[[], Any], timeout: float | None) -> Any:
        return question()

    def post(self, do: Callable[[], None]) -> None:
        do()

    def send(self, sends: object) -> None:
        pass


@dataclass
class Run:
    """A run with one packet thread, and a clock that a test moves."""

    rules: Rules
    monkeypatch: pytest.MonkeyPatch
    on_disk: Rules | None = None
    keeps_rules: bool = True
    is_in_pair: bool = False
    is_active: bool = True
    shares_state: bool = False
    connection: ClientConnection = field(init=False)

    def __post_init__(self) -> None:
        self.engine = RelativeEngine(self.rules, key=bytes(16))
        self.connection = ClientConnection(self.engine)
        self.admission = Admission(self.rules, 1000.0)
        clock = SimpleNamespace(monotonic=lambda: self.connection.now)
        self.monkeypatch.setattr("natmirror.runtime.engine_proxy.time", clock)

    def read(self) -> Rules:
        if self.on_disk is None:
            raise RulesError("rules.yaml:3: expected another word")
        return self.on_disk

    @property
    def situation(self) -> Situation:
        state = SyncState.COMPLETE if self.shares_state else SyncState.OFF
        return Situation(self.keeps_rules, self.is_in_pair, self.is_active, state)

    def explainer(self) -> Explainer:
        return Explainer(
            [EngineProxy(self.engine, cast(Any, None), Thread(), self.rules)],
            cast(
                Any, SimpleNamespace(rules=self.rules, loaded=self.rules, foresee=lambda rules: rules, read=self.read)
            ),
            cast(Any, SimpleNamespace(thread=Thread())),
            cast(Any, SimpleNamespace(states=lambda: self.admission.show(self.connection.now))),
            lambda: self.situation,
        )

    def answer(self, client: str = "10.10.0.11", service: str | None = None) -> ExplainAnswer:
        found = self.explainer().explain(client, service)
        assert_declared(ExplainAnswer, found)
        return found

    def text(self, *words: str) -> str:
        return text(self.answer(*words))

    def set_up(self, backend: str, *, is_up: bool) -> None:
        """Have a check of a backend pass or fail now."""
        changes = self.admission.set_health("openflow", backend, is_up=is_up, reason="refused", now=self.connection.now)
        for change in changes:
            if isinstance(change, Share):
                self.engine.set_share(change.service, change.backend, change.share)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    rules = parse_rules(SLOW)
    return Run(rules, monkeypatch, rules)


def own(run: Run) -> str:
    [service] = run.answer()["services"]
    assert service["first_choice"] is not None
    return service["first_choice"]


def test_the_text_follows_a_backend_down_and_up_again(run: Run) -> None:
    first = own(run)
    assert f"a new connection goes to {first} (" in run.text() and f"  {first}: up for 0.0 s" in run.text()
    run.set_up(first, is_up=False)
    run.connection.now += 200
    assert f"  {first}: down for 3 min: refused; 0 connections" in run.text()
    run.connection.connect()
    run.set_up(first, is_up=True)
    slow = run.text()
    assert f"  {first}: in its slow start, with 5 % of its clients, and not yet this one" in slow
    assert f"pinned: the rules alone would give it {first}. natmirror moves no open connection" in slow
    assert "  copied to master\n  copied to audit\n  restart: it goes on if its backend sends data" in slow
    drain(run.admission, first, run.connection.now)
    run.engine.set_share("openflow", first, 0.0)
    assert f"  {first}: drained: natmirror undrain gives it new connections again" in run.text()


def test_the_text_tells_why_a_copy_waits(run: Run) -> None:
    run.connection.connect()
    refusal = packet(at("10.20.0.14", 6653), CLIENT, "RA", 0, ISS + 1)
    assert run.connection.take(refusal, Hook.PREROUTING) == Drop(DropReason.FOR_LEG)
    told = run.text()
    assert (
        "not copied to audit after refused (the mirror answered the SYN with a RST" in told
        and "): it begins again in 1.0 s at the earliest" in told
    )
    run.connection.now += 2
    assert "it begins again with the client's next data after a pause" in run.text()
    run.connection.from_client("PA", b"one")
    run.connection.from_backend("A")
    run.connection.from_client("PA", b"two")
    assert "  copied to audit, from the middle of the connection on\n" in run.text()


def test_no_backend_is_told_with_what_follows(run: Run) -> None:
    for name in ("c1", "c2"):
        run.set_up(name, is_up=False)
    assert "a new connection is dropped: no backend is open, so the SYN is dropped" in run.text()


def test_a_large_pool_is_told_in_a_few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    backends = "".join(f"        - {{name: b{number}, address: 10.20.1.{number}}}\n" for number in range(1, 31))
    rules = parse_rules(SLOW.replace("      backends:\n", f"      backends:\n{backends}"))
    run = Run(rules, monkeypatch, rules)
    for number in range(1, 31):
        run.set_up(f"b{number}", is_up=False)
    told = run.text()
    assert told.count(": down for ") in (7, 8) and "more backends with an obstacle: see --json" in told


def test_a_reload_that_would_be_refused_says_why(run: Run) -> None:
    run.connection.connect()
    assert "reload of the file on disk: it loses nothing" in run.text()
    run.on_disk = parse_rules(SLOW.replace("10.20.0.13}", "10.20.0.15}"))
    assert "reload of the file on disk: it loses its copy to master" in run.text()
    run.on_disk = None
    assert "  reload: it would be refused: rules.yaml:3: expected another word" in run.text()


def test_the_file_is_read_again_only_after_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    run = Run(load_rules(path), monkeypatch)
    run.connection.connect()
    reads = []

    def read() -> Rules:
        reads.append(path.read_text())
        return load_rules(path)

    monkeypatch.setattr(run, "read", read)
    explainer = run.explainer()
    for _ in range(3):
        assert explainer.explain("10.10.0.11", None)["reload_refused"] is None
    path.write_text("nonsense: 1\n")
    for _ in range(3):
        assert "nonsense" in str(explainer.explain("10.10.0.11", None)["reload_refused"])
    assert reads == [RULES, "nonsense: 1\n"]


def test_one_port_and_one_service_are_asked_for(run: Run) -> None:
    run.connection.connect()
    other = ClientConnection(run.engine, client=(CLIENT[0], 40_002))
    other.connect()
    assert run.answer()["connection_count"] == 2
    assert [one["client"] for one in run.answer("10.10.0.11:40002")["connections"]] == ["10.10.0.11:40002"]
    assert run.answer("10.10.0.11:40003")["connections"] == []
    assert "no connection now" in run.text("10.10.0.12")
    with pytest.raises(ValueError, match="there is no service web; the rules have openflow"):
        run.answer("10.10.0.11", "web")
    for wrong in ("10.10.0", "10.10.0.11:0", "10.10.0.0/24", "::1", "a:1"):
        with pytest.raises(ValueError, match="expected an IPv4 address, or one with a port"):
            run.answer(wrong)


def test_connections_that_fare_alike_are_told_once(run: Run) -> None:
    for port in range(41_000, 41_012):
        ClientConnection(run.engine, client=(CLIENT[0], port)).connect()
    [line] = [line for line in run.text().splitlines() if "established" in line]
    assert line.startswith("12 connections to openflow, with c")
    ports = ", ".join(map(str, range(41_000, 41_008)))
    assert line.endswith(f": established, last packet 0.0 s ago; from ports {ports} and 4 more")
    assert run.text().count("restart: ") == 1
    ClientConnection(run.engine, client=(CLIENT[0], 42_000)).syn()
    assert "10.10.0.11:42000 to openflow" in run.text()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.10.0.100", "10.10.0.100 is also the address of the service openflow"),
        ("10.20.0.11", "10.20.0.11 is also the address of the backend openflow/c1"),
        ("10.20.0.13", "10.20.0.13 is also the address of the mirror openflow/master"),
        ("127.0.0.1", "127.0.0.1 is also an address of this host"),
        ("10.99.0.1", "10.99.0.1 is no client: it is in none of the networks in switches"),
    ],
)
def test_an_address_that_is_no_plain_client_gets_a_plain_answer(address: str, expected: str) -> None:
    shown = text(explain_rules(parse_rules(RULES), 1, address, None))
    assert expected in shown
    assert ("a new connection" in shown) == address.startswith("10.10.0.")


# A rules file alone


def test_rules_alone_tell_what_a_start_would_do() -> None:
    rules = parse_rules(RULES + SIDE)
    answer = explain_rules(rules, 4, "10.10.0.11", None)
    assert_declared(ExplainAnswer, answer)
    assert not answer["running"] and answer["connections"] == []
    engine = Engine(rules, key=bytes(16))
    connection = ClientConnection(engine)
    connection.syn()
    [flow] = engine.flows(1000.0)
    assert answer["services"][0]["backend"] == flow["backend"]
    shown = text(answer)
    assert "By the rules alone, as after a start, while all backends are up:" in shown
    assert "side 10.10.0.101:80: a new connection passes unchanged: the service has no pool" in shown


@pytest.mark.parametrize("threads", [1, 2, 4, 16])
def test_the_thread_and_its_queues_are_those_of_the_iptables_rules(threads: int) -> None:
    rules = parse_rules(RULES + SIDE)
    lines = [line for lines in contents(rules, threads).values() for line in lines]
    for last in range(1, 60, 7):
        answer = explain_rules(rules, threads, f"10.10.0.{last}", None)
        clients = Shard(answer["thread"], threads).clients_in(IPv4Network("10.10.0.0/24"))
        assert clients is not None
        address, _, mask = clients.partition("/")
        if threads > 1:
            assert last & int(mask.rpartition(".")[2]) == int(address.rpartition(".")[2])
        for queue in answer["queues"]:
            assert any(f"-s {clients} " in line and f"--queue-num {queue}" in line for line in lines)


# Interruptions


def fates(run: Run) -> dict[str, tuple[ConnectionFate, dict[str, CopyFate]] | None]:
    [connection] = run.answer()["connections"]
    outcomes = {"restart": connection["restart"], "stop": connection["stop"], "move": connection["move"]}
    return {what: one and (one["connection"], one["copies"]) for what, one in outcomes.items()}


ENDS = {"master": CopyFate.ENDS, "audit": CopyFate.BEGINS_AGAIN}
ALL_END = {"master": CopyFate.ENDS, "audit": CopyFate.ENDS}
ALL_GO_ON = {"master": CopyFate.GOES_ON, "audit": CopyFate.GOES_ON}


def pin(run: Run) -> None:
    first = own(run)
    run.engine.set_share("openflow", first, 0.0)
    run.connection.connect()
    run.engine.set_share("openflow", first, 1.0)


def test_a_restart_and_a_stop_of_a_host_alone(run: Run) -> None:
    run.connection.connect()
    assert fates(run) == {
        "restart": (ConnectionFate.GOES_ON, ENDS),
        "stop": (ConnectionFate.WAITS, ALL_END),
        "move": None,
    }
    run.keeps_rules = False
    assert fates(run) == {
        "restart": (ConnectionFate.RESET, ENDS),
        "stop": (ConnectionFate.RESET, ALL_END),
        "move": None,
    }


def test_a_pinned_connection_goes_on_where_its_binding_is_shared(run: Run) -> None:
    pin(run)
    speaks = ConnectionFate.GOES_ON_IF_BACKEND_SPEAKS
    assert fates(run)["restart"] == (speaks, ENDS)
    run.is_in_pair = True
    assert fates(run) == dict.fromkeys(("restart", "stop", "move"), (speaks, ENDS))
    run.shares_state = True
    assert fates(run) == dict.fromkeys(("restart", "stop", "move"), (ConnectionFate.GOES_ON, ALL_GO_ON))
    assert "The pair's shared state is complete: this host has read all records, and the store" in run.text()
    run.shares_state, run.is_active = False, False
    assert fates(run) == dict.fromkeys(("restart", "stop", "move"), (ConnectionFate.GOES_ON, ALL_GO_ON))
    assert "This host is the standby of its pair" in run.text()


def test_a_connection_that_is_opening_begins_anew_and_one_that_is_over_has_no_fate(run: Run) -> None:
    run.connection.syn()
    restart = fates(run)["restart"]
    assert restart is not None and restart[0] is ConnectionFate.BEGINS_ANEW
    run.connection.syn_ack()
    run.connection.from_client("R")
    assert fates(run) == {"restart": None, "stop": None, "move": None}
    assert "restart" not in run.text()


def test_a_connection_of_a_service_without_a_pool_is_not_touched() -> None:
    situation = Situation(keeps_rules=False, is_in_pair=False, is_active=True, shared_state=SyncState.OFF)
    copies: list[CopyEntry] = []
    watched = cast(Any, {"direct": False, "backend": None, "is_open": True, "pinned": False, "copies": copies})
    for outcome in (situation.restart(watched, None), situation.stop(watched, None), situation.move(watched, None)):
        assert outcome == {"connection": ConnectionFate.NOT_TOUCHED, "copies": {}}
    direct = watched | {"direct": True, "backend": "c1"}
    assert situation.restart(direct, None)["connection"] is ConnectionFate.LOST
    assert situation.stop(direct, None)["connection"] is ConnectionFate.GOES_ON


def test_the_costs_are_those_of_all_connections_together(run: Run) -> None:
    pin(run)
    ClientConnection(run.engine, client=at("10.10.0.12", 40_001)).connect()

    def numbers(cost: CostEntry) -> tuple[int, int, int]:
        return cost["connections"], cost["copies_ended"], cost["copies_begun_again"]

    def costs() -> dict[str, tuple[int, int, int] | None]:
        found = run.situation.costs(cast(RunSums, run.engine.snapshot(run.connection.now)), run.rules)
        move = found["move"]
        return {"restart": numbers(found["restart"]), "move": None if move is None else numbers(move)}

    assert costs() == {"restart": (1, 2, 2), "move": None}
    run.keeps_rules = False
    assert costs() == {"restart": (2, 2, 2), "move": None}
    run.is_in_pair = True
    assert costs() == dict.fromkeys(("restart", "move"), (1, 2, 2))
    run.shares_state = True
    assert costs() == dict.fromkeys(("restart", "move"), (0, 0, 0))
    run.shares_state, run.is_active = False, False
    assert costs() == dict.fromkeys(("restart", "move"), (0, 0, 0))


def test_durations_as_text() -> None:
    assert [age(one) for one in (0.04, 9.9, 12, 61, 7200, 100_000)] == [
        *("0.0 s", "9.9 s", "12 s", "1 min", "2 h", "1 d"),
    ]
