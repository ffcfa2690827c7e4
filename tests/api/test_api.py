"""The API and the screens that are made of it."""

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from natmirror.api import list_tables
from natmirror.api.client import ask, ask_list
from natmirror.cli import overrides
from natmirror.cli.commands import main
from natmirror.errors import HostError
from natmirror.events import EventRing
from natmirror.reasons import EndedBy, EndReason
from natmirror.runtime import engine_proxy
from natmirror.runtime.run_lists import RunLists
from natmirror.runtime.selection import names_in
from natmirror.runtime.shown import EndedLeg
from tests.helpers.api import served as serving
from tests.helpers.client_connection import ClientConnection, engine
from tests.helpers.clock import Clock
from tests.helpers.immediate import proxy
from tests.helpers.status import status_document
from tests.helpers.support import CLIENT

ENDED: EndedLeg = {
    "ended_at": "2026-01-02T03:04:05.678+00:00",
    "client": "10.10.0.11:40000",
    "service": "openflow",
    "mirror": "master",
    "reason": EndReason.STALLED,
    "client_bytes": 500,
    "acked_bytes": 300,
    "ended_by": EndedBy.CLIENT,
}
BACKEND = {"service": "openflow", "name": "c1", "state": "up", "flows": 1, "weight": 1, "weight_in_rules": 1}


def too_busy() -> Any:
    raise TimeoutError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "api.sock"


@pytest.fixture
def served(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClientConnection]:
    """A session with one leg, served on ``path``."""
    session = ClientConnection(engine())
    session.connect()
    session.connect_mirror()
    session.from_client("PA", b"x" * 20_000)
    session.from_mirror("A", 1, 1 + 1460)
    session.now += 2.5
    head = status_document()
    resources = {"status": lambda: {**head, "mirrors": session.engine.snapshot(session.now)["mirrors"]}}
    monkeypatch.setattr(engine_proxy, "time", SimpleNamespace(monotonic=lambda: session.now))
    one = session.engine
    ring = EventRing(lambda: 0.0)
    names = names_in([one.snapshot(session.now)])
    shown = RunLists([proxy(one)], lambda: names, lambda: [(1, ENDED)], ring, lambda _: iter(()))
    with serving(path, resources, lists={"flows": shown.flows, "legs": shown.legs, "ended": shown.ended}):
        yield session
    assert not path.exists()


def run(*words: object) -> Result:
    return CliRunner(env={"COLUMNS": "120"}).invoke(main, [str(word) for word in words], catch_exceptions=False)


def get(path: Path, resource: str, method: str = "GET") -> httpx.Response:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
        return client.request(method, f"http://natmirror{resource}")


def test_the_state_is_told_as_json(served: ClientConnection, path: Path) -> None:
    [mirror] = ask("status", path)["mirrors"]
    assert mirror.pop("lag_since") is not None
    assert [mirror] == served.engine.snapshot(served.now)["mirrors"]
    [flow] = ask_list("flows", path)
    [shown] = served.engine.flows(served.now)
    assert {name: flow[name] for name in shown} == {**shown, "legs": flow["legs"]}
    assert {name: flow["legs"][0][name] for name in shown["legs"][0]} == shown["legs"][0]
    assert path.stat().st_mode & 0o777 == 0o660


@pytest.mark.parametrize(
    ("method", "resource", "code"), [("GET", "/page", 404), ("GET", "/v1/nothing", 404), ("POST", "/v1/status", 405)]
)
@pytest.mark.usefixtures("served")
def test_a_wrong_question_is_told_so(path: Path, method: str, resource: str, code: int) -> None:
    response = get(path, resource, method)
    assert response.status_code == code
    assert response.json()["error"]


def test_a_run_that_is_too_busy_is_no_hang(path: Path) -> None:
    with serving(path, {"status": too_busy}), pytest.raises(HostError, match="too busy"):
        ask("status", path)


def test_the_socket_of_a_killed_run_is_taken_over(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with serving(path, {"status": lambda: {"pid": 1}}):
        assert ask("status", path) == {"pid": 1}


@pytest.mark.usefixtures("served")
def test_a_living_runs_socket_is_left_alone(path: Path) -> None:
    with pytest.raises(HostError, match="another natmirror"), serving(path, {}):
        pass
    assert ask("status", path)["pid"] == 5


def test_a_file_in_the_sockets_place_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("mine")
    with pytest.raises(HostError, match="cannot serve"), serving(path, {}):
        pass
    assert path.read_text() == "mine"


@pytest.mark.parametrize("command", ["status", "legs"])
def test_without_a_natmirror_there_is_one_line(path: Path, command: str) -> None:
    result = run(command, "--api", path)
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert f"no natmirror answers on {path}" in result.output


def test_orders_are_obeyed_or_refused(path: Path) -> None:
    obeyed: list[dict[str, Any]] = []

    def drain(words: dict[str, Any]) -> dict[str, Any]:
        if words["backend"] != "c1":
            raise ValueError(f"there is no backend {words['backend']}")
        obeyed.append(words)
        return {"done": "openflow/c1 gets no new connections"}

    with serving(path, {}, {"drain": drain, "undrain": lambda words: too_busy()}):
        result = run("drain", "openflow/c1", "--deadline", "5", "--api", path)
        assert (result.exit_code, result.output) == (0, "openflow/c1 gets no new connections\n")
        assert obeyed == [{"service": "openflow", "backend": "c1", "deadline": 5.0}]
        result = run("drain", "openflow/c9", "--api", path)
        assert (result.exit_code, result.output) == (1, "natmirror: there is no backend c9\n")
        assert "too busy" in run("undrain", "openflow/c1", "--api", path).output
        assert "expected SERVICE/BACKEND, found c1" in run("undrain", "c1", "--api", path).output
        response = get(path, "/v1/backends/openflow/c1/drain")
        assert (response.status_code, response.headers["Allow"]) == (405, "POST")
        response = get(path, "/v1/backends/openflow/c1/drain", "POST")
        assert response.status_code == 415
        assert "deadline: a number of seconds" in response.json()["error"]


def backend_rows(*rows: dict[str, Any]) -> Callable[[], Any]:
    """Return a resource that shows these rows of backends, one after another, and the last one from then on."""
    left = list(rows)
    return lambda: {"backends": [left.pop(0) if len(left) > 1 else left[0]]}


def drained(flows: int, state: str = "draining") -> dict[str, Any]:
    return {**BACKEND, "state": state, "flows": flows}


def test_a_drain_waits_until_its_backend_is_empty(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()

    def sleep(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr(overrides, "time", SimpleNamespace(monotonic=clock, sleep=sleep))
    obey = {"drain": lambda _: {"done": "openflow/c1 gets no new connections"}}
    words = ("drain", "openflow/c1", "--api", path, "--wait")
    with serving(path, {"status": backend_rows(*map(drained, (3, 3, 1, 0)))}, obey):
        result = run(*words)
    assert (result.exit_code, result.output.splitlines()) == (
        *(0, ["openflow/c1 gets no new connections", "3 left", "1 left", "empty after 2 s"]),
    )
    with serving(path, {"status": backend_rows(drained(2))}, obey):
        result = run(*words, "10")
        assert (result.exit_code, result.output.splitlines()[-1]) == (
            *(3, "2 connections left after 10 s: the time of --wait is over, and openflow/c1 stays drained"),
        )
        result = run(*words, "1", "--json")
        assert (result.exit_code, json.loads(result.output)["connections_left"]) == (3, 2)
    with serving(path, {"status": backend_rows(drained(2), drained(2, "up"))}, obey):
        result = run(*words)
        assert (result.exit_code, "is drained no more" in result.output) == (1, True)
        result = run("drain", "--wait", "openflow/c1", "--api", path)
        assert (result.exit_code, "SERVICE/BACKEND comes before --wait" in result.output) == (2, True)


@pytest.mark.parametrize("seconds", ["inf", "nan", "-1", "2e9", "3s"])
def test_a_drain_takes_seconds_alone_as_its_deadline(path: Path, seconds: str) -> None:
    result = run("drain", "openflow/c1", "--deadline", seconds, "--api", path)
    assert (result.exit_code, f"expected a number of seconds, 0 or more, found {seconds}" in result.output) == (2, True)


def test_a_drain_whose_wait_is_interrupted_says_that_it_holds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(overrides, "time", SimpleNamespace(monotonic=Clock(), sleep=interrupt))
    obey = {"drain": lambda _: {"done": "openflow/c1 gets no new connections"}}
    with serving(path, {"status": backend_rows(drained(2))}, obey):
        result = run("drain", "openflow/c1", "--wait", "--api", path)
    assert (result.exit_code, "openflow/c1 stays drained until natmirror undrain" in result.output) == (1, True)


def test_a_weight_is_shown_and_set(path: Path) -> None:
    obeyed: list[dict[str, Any]] = []

    def weigh(words: dict[str, Any]) -> dict[str, Any]:
        obeyed.append(words)
        return {"done": "openflow/c1 has weight 3"}

    heavy = {**BACKEND, "weight": 3}
    with serving(path, {"status": backend_rows(heavy)}, {"weight": weigh}):
        shown = run("weight", "openflow/c1", "--api", path)
        assert shown.output == "openflow/c1 has weight 3, by a command; the rules give it 1\n"
        assert "there is no backend openflow/c9" in run("weight", "openflow/c9", "--api", path).output
        run("weight", "openflow/c1", "3", "--persist", "--api", path)
        run("weight", "openflow/c1", "rules", "--api", path)
        names = {"service": "openflow", "backend": "c1"}
        assert obeyed == [{**names, "weight": 3, "persist": True}, {**names, "weight": None}]
        for wrong in ("0", "1001"):
            refused = run("weight", "openflow/c1", wrong, "--api", path)
            assert (refused.exit_code, "natmirror drain openflow/c1" in refused.output) == (2, True)
            refused = run("backend", "add", "openflow/c3", "10.20.0.15", "--weight", wrong, "--api", path)
            assert (refused.exit_code, "1<=x<=1000" in refused.output) == (2, True)
        refused = run("weight", "openflow/c1", "heavy", "--api", path)
        assert (refused.exit_code, "expected a weight from 1 to 1000 or rules" in refused.output) == (2, True)


def test_the_status_is_a_screen(path: Path) -> None:
    with serving(path, {"status": status_document}):
        result = run("status", "--api", path)
        assert result.exit_code == 0
        assert result.output.startswith("NOT FIT: 1 problem  natmirror 1.2, up 0:01:00, pid 5\nFAILURE no-forwarding: ")
        assert "counters: " not in result.output
        assert "counters: " in run("status", "--counters", "--api", path).output


def test_the_legs_screen_has_a_row_for_each_leg(served: ClientConnection, path: Path) -> None:
    other = ClientConnection(served.engine, client=(CLIENT[0], 2))
    other.connect()
    head, *lines = [line.split("\t") for line in run("legs", "--api", path).output.splitlines()]
    rows = [dict(zip(head, line, strict=True)) for line in lines]
    assert [row["client"] for row in rows] == ["10.10.0.11:40001", "10.10.0.11:2"]
    assert (rows[0]["state"], rows[0]["mirror"], rows[0]["acked_bytes"]) == ("established", "master", "1460")
    assert (rows[0]["client_bytes"], rows[0]["lag_seconds"], rows[0]["reason"]) == ("20000", "2.5", "-")
    assert rows[1]["state"] == "syn-sent"


@pytest.mark.usefixtures("served")
def test_the_legs_that_ended_are_told_with_when_and_why(path: Path) -> None:
    [line] = [line for line in run("legs", "--ended", "--api", path).output.splitlines() if "10.10.0.11" in line]
    assert line.split("\t") == [str(ENDED[name]) for name in list_tables.ENDED.fields]  # type: ignore[literal-required]
    assert json.loads(run("legs", "--ended", "--json", "--api", path).output) == [ENDED]


@pytest.mark.usefixtures("served")
def test_both_speak_json(path: Path) -> None:
    assert json.loads(run("status", "--json", "--api", path).output).keys() == ask("status", path).keys()
    [leg] = json.loads(run("legs", "--json", "--api", path).output)
    [same] = ask_list("legs", path)
    assert {**leg, "lag_since": ""} == {**same, "lag_since": ""}


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ((), 2),
        (("--client", "10.10.0.0/24"), 2),
        (("--client", "10.10.0.11:2"), 1),
        (("--client", "10.10.0.12"), 0),
        (("--service", "openflow", "--mirror", "master"), 2),
        (("--backend", "c1"), 0),
        (("--backend", "c2"), 2),
        (("--state", "syn-sent"), 1),
        (("--lagging",), 1),
        (("--lagging", "3"), 0),
        (("--limit", "1"), 1),
    ],
)
def test_legs_and_flows_are_chosen(served: ClientConnection, path: Path, words: tuple[str, ...], count: int) -> None:
    ClientConnection(served.engine, client=(CLIENT[0], 2)).connect()
    assert run("legs", *words, "--api", path).output.count("\n") == 1 + count
    if "--state" not in words:
        assert run("flows", *words, "--api", path).output.count("\n") == 1 + count


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("--mirror", "mastr"), "there is no mirror mastr: did you mean master?"),
        (("--state", "open"), "there is no state open: there are syn-sent, established"),
        (("--sort", "lag"), "the parameter sort: expected one of these, with or without - before it: client, service"),
        (("--client", "10.0.0.300"), "the parameter client: expected an address, a network or an address with a port"),
        (("--ended", "--backend", "c1"), "there is no parameter backend"),
    ],
)
@pytest.mark.usefixtures("served")
def test_what_does_not_exist_is_refused_with_what_does(path: Path, words: tuple[str, ...], hint: str) -> None:
    result = run("legs", *words, "--api", path)
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert hint in result.output


@pytest.mark.usefixtures("served")
def test_the_environment_names_the_socket(path: Path) -> None:
    result = CliRunner(env={"NATMIRROR_API": str(path)}).invoke(main, ["flows", "--json"], catch_exceptions=False)
    assert [flow["client"] for flow in json.loads(result.output)] == ["10.10.0.11:40001"]
