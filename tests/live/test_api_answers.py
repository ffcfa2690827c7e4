"""A running natmirror's API: its answers and refusals are as described, and its lists can be chosen from."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from natmirror.api.client import ask, ask_list
from natmirror.api.resources import ROUTES, Kind
from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.process import wait_for
from tests.helpers.declared import assert_answers_are_declared
from tests.helpers.openapi import assert_described
from tests.live.scene import ROOT, RULES, Scene, assert_all_well

pytestmark = [pytest.mark.live, pytest.mark.beside]

COUNT = 120  # more than a slice
REFUSED = [
    ("flows", "/v1/flows?clinet=10.10.0.1", 400, "did you mean client?"),
    ("flows", "/v1/flows?state=opn", 400, "there is no state opn: "),
    ("legs", "/v1/legs?mirror=mastr", 400, "did you mean master?"),
    ("legs", "/v1/legs?cursor=abc", 400, "expected the value of next in the answer before this one"),
    ("legs", "/v1/legs?sort=lag_seconds&limit=0", 400, "expected a whole number from 1 to 10000, found 0"),
    ("ended", "/v1/ended?reason=nothing", 400, "there is no reason nothing"),
    ("decisions", "/v1/decisions?backend=c1", 400, "there is no parameter backend"),
]
Command = tuple[str, str, dict[str, Any], int, str]
COMMANDS: list[Command] = [
    ("drain", "/v1/backends/openflow/c9/drain", {"json": {}}, 400, "there is no backend c9 in openflow"),
    ("drain", "/v1/backends/openflow/c1/drain", {"json": {"deadlin": 1}}, 400, "did you mean deadline?"),
    ("drain", "/v1/backends/openflow/c1/drain", {}, 415, "curl --unix-socket SOCKET --json"),
    ("drain", "/v1/backends/openflow/c1/drain", {"json": {"deadline": None}}, 200, "gets no new connections"),
    ("undrain", "/v1/backends/openflow/c1/undrain", {"json": {}}, 200, "openflow/c1"),
    ("reload", "/v1/reload", {"json": {"dry_run": True}}, 200, "+ mirror-memory: 512MiB"),
    ("resume-mirroring", "/v1/mirroring/resume", {"json": {}}, 200, "are mirrored again"),
]
OVERRIDES: list[Command] = [
    ("weight", "/v1/backends/openflow/c1/weight", {"json": {"weight": 3}}, 200, "openflow/c1 has weight 3"),
    ("add", "/v1/backends/openflow/c3/add", {"json": {"address": "10.20.0.13"}}, 200, "openflow/c3 at 10.20.0.13:6653"),
    ("pause", "/v1/mirrors/openflow/master/pause", {"json": {}}, 200, "mirror openflow/master is paused"),
]
LAST: list[Command] = [
    ("weight", "/v1/backends/openflow/c1/weight", {"json": {"weight": None}}, 200, "has the weight of the rules: 1"),
    ("remove", "/v1/backends/openflow/c3/remove", {"json": {}}, 200, "openflow/c3"),
    ("resume", "/v1/mirrors/openflow/master/resume", {"json": {}}, 200, "mirror openflow/master gets copies again"),
    ("release-kernel", "/v1/kernel/release", {"json": {}}, 200, "installs no kernel rules again"),
]


def run(scene: Scene, *words: str, api: Path) -> tuple[int, str, str]:
    """Run one of natmirror's commands on the load-balancer host; return its exit code, output and errors."""
    argv = ["ip", "netns", "exec", scene.lab.ns("lb"), sys.executable, "-m", "natmirror", *words]
    env = {**os.environ, "NATMIRROR_API": str(api)}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30.0, check=False, cwd=ROOT, env=env)
    return done.returncode, done.stdout, done.stderr


def assert_answer(answer: httpx.Response, name: str, status: int, hint: str) -> None:
    assert (answer.status_code, hint in answer.text) == (status, True), (name, answer.text)
    assert_described(name, answer.json(), status)


def assert_commands(http: httpx.Client, rows: list[Command]) -> None:
    for name, path, more, status, hint in rows:
        assert_answer(http.post(path, **more), name, status, hint)


def connection(balancer: LoadBalancer) -> httpx.Client:
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(balancer.api)), base_url="http://natmirror")


def test_each_command_has_an_answer_of_success_here() -> None:
    found = {name for name, _, _, status, _ in (*COMMANDS, *OVERRIDES, *LAST) if status == 200}
    assert found == {route.name for route in ROUTES if route.kind is Kind.COMMAND}


def test_answers_and_refusals_are_as_described_and_rows_can_be_chosen(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    rules = scene.rules(RULES.read_text())
    balancer = scene.balance(rules)
    until, started = scene.file("until"), scene.file("started")
    client, records = scene.client(connections=COUNT, until=until, started=started, size=200)
    wait_for(started.exists, "the client")
    balancer.wait_for_status(lambda status: len(status["flows"]) == COUNT, "all connections")

    # Each resource, and refusals.
    assert_answers_are_declared(balancer.api)
    rules.write_text("mirror-memory: 512MiB\n" + RULES.read_text())
    with connection(balancer) as http:
        assert http.get("/v1/openapi.json").json()["openapi"] == "3.1.0"
        for name, path, status, hint in REFUSED:
            assert_answer(http.get(path), name, status, hint)
        assert_commands(http, COMMANDS)

        # Pages have each row once, in natmirror's own order and sorted.
        clients = sorted(flow["client"] for flow in ask_list("flows", balancer.api))
        queries: tuple[dict[str, str], ...] = ({"limit": "7"}, {"limit": "7", "sort": "-client"})
        for query in queries:
            page = http.get("/v1/legs", params=query).json()
            found = [leg["client"] for leg in page["items"]]
            while page["next"] is not None:
                page = http.get("/v1/legs", params={**query, "cursor": page["next"]}).json()
                found += [leg["client"] for leg in page["items"]]
            assert sorted(found) == clients

    # The commands: one line for each row into a pipe, and what was chosen.
    code, text, _ = run(scene, "legs", "--backend", "c1", "--sort", "client", api=balancer.api)
    head, *lines = [line.split("\t") for line in text.splitlines()]
    chosen = [flow["client"] for flow in ask_list("flows", balancer.api, backend="c1", sort="client")]
    assert (code, [line[head.index("client")] for line in lines]) == (0, chosen)
    assert 0 < len(chosen) < COUNT
    code, text, _ = run(scene, "flows", "--client", chosen[0], "--json", api=balancer.api)
    assert (code, [flow["backend"] for flow in json.loads(text)]) == (0, ["c1"])
    code, text, _ = run(scene, "rules", api=balancer.api)
    assert (code, text.splitlines()[-1]) == (0, "+ mirror-memory: 512MiB")

    # A stopped natmirror: the command says so at once, and is not carried out later.
    balancer.program.send_signal(signal.SIGSTOP)
    code, _, error = run(scene, "drain", "openflow/c1", api=balancer.api)
    assert (code, f"pid {balancer.program.pid}, is stopped" in error) == (1, True), error
    balancer.program.send_signal(signal.SIGCONT)
    assert [one["state"] for one in ask("status", balancer.api)["backends"]] == ["unchecked", "unchecked"]

    # Commands that hold until they are taken back, with what is shown meanwhile.
    with connection(balancer) as http:
        assert_commands(http, OVERRIDES)
        for name in ("status", "rules"):
            assert_described(name, ask(name, balancer.api))
        assert_commands(http, LAST)
    until.touch()
    scene.finish(client)
    assert_all_well(records, COUNT)
