"""The parts of bench.api that need no network."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.api import ALONE, ASKED, Asked, Asking, Scene, all_gauges
from bench.api_clients import Asker
from bench.compare import Comparison
from bench.sides import ComparisonError

GOT = {
    "packets": {"round_trips": 1000, "seconds": 0.5},
    "connections": {"connections": 300, "seconds": 1.5},
    "latency": {"p50_us": 100.0, "p99_us": 200.0, "unanswered": 0},
}


class GivenScene(Scene):
    """Gives the same figures each time, and notes while which clients ask."""

    def __init__(self) -> None:
        self.network: Any = self
        self.asking_now: Asking | None = None
        self.taken: list[tuple[str, int, Asking | None]] = []
        self.got = GOT

    @contextmanager
    def asking(self, asking: Asking) -> Iterator[None]:
        self.asking_now = asking
        yield
        self.asking_now = None

    def measure(self, name: str, _to: str, *, port: int, **_: object) -> dict[str, Any]:
        self.taken.append((name, port, self.asking_now))
        return self.got[name]

    def delays(self, seconds: float) -> list[float]:
        return [seconds] * 100


def test_each_pair_measures_with_and_without_clients_that_ask() -> None:
    scene = GivenScene()
    gauges = all_gauges(1.0, lambda: scene)
    comparison = Comparison([ALONE, ASKED], gauges, ["flooded.copied"], lambda line: None)
    comparison.run(2)
    wanted = [("packets", 6654), ("connections", 6654), ("latency", 6654)]
    flooded = [(*one, Asking.FLOODED) for one in wanted]
    alone = [(*one, None) for one in wanted]
    first = [one for pair in zip(alone, flooded, strict=True) for one in pair]
    second = [one for pair in zip(flooded, alone, strict=True) for one in pair]
    assert scene.taken == first + second
    assert {name: row.new for name, row in comparison.rows.items()} == {
        "flooded.copied.packets": [2000.0, 2000.0],
        "flooded.copied.connections": [200.0, 200.0],
        "flooded.copied.latency.p50": [100.0, 100.0],
        "flooded.copied.latency.p99": [200.0, 200.0],
        "flooded.copied.delay.p50": [1e6, 1e6],
        "flooded.copied.delay.p99": [1e6, 1e6],
    }


def test_fewer_round_trips_and_later_replies_are_costs() -> None:
    measures = {one.name: one for gauge in all_gauges(1.0, GivenScene) for one in gauge.measures}
    assert measures["scraped.plain.packets"].cost_ratio(200.0, 100.0) == 2.0
    assert measures["scraped.plain.latency.p99"].cost_ratio(100.0, 200.0) == 2.0
    assert len(measures) == 3 * (4 + 4 + 2) + 2 * 2


def test_requests_without_an_answer_make_no_figure() -> None:
    scene = GivenScene()
    scene.got = GOT | {"latency": {"p50_us": 100.0, "p99_us": 200.0, "unanswered": 3}}
    gauge = next(one for one in all_gauges(1.0, lambda: scene) if one.name == "scraped.plain.latency")
    with pytest.raises(ComparisonError, match="3 requests have no answer"):
        gauge.take(ALONE, [])


def test_beside_another_program_latency_alone_is_measured() -> None:
    others = [gauge for gauge in all_gauges(1.0, GivenScene) if not gauge.is_ours]
    assert [gauge.name for gauge in others] == ["other.plain.latency", "other.copied.latency"]


def test_the_other_program_answers_at_once(tmp_path: Path) -> None:
    path = tmp_path / "other.sock"
    command = [sys.executable, "-m", "bench.api_clients", "serve", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "serving\n"
        asker = Asker(str(path))
        for _ in range(3):
            asker.get("/v1/flows")
        program.terminate()
    assert asker.answers == {"200": 3}
    assert asker.bytes > 300_000


def test_the_clients_answers_add_up() -> None:
    asked = Asked()
    assert str(asked) == "not measured"
    for _ in range(2):
        asked.add(
            json.dumps({"answers": {"200": 10, "503": 5}, "bytes": 1_000_000, "seconds": 2.0, "cpu_seconds": 0.5})
        )
    assert str(asked) == ("answers a second: 5.0 with 200, 2.5 with 503; 0.5 MB/s; the clients took 25.0% of a core")


def test_an_asker_counts_answers_by_their_code(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    answers = [b"HTTP/1.1 200 OK\r\n\r\n" + bytes(100_000), b"HTTP/1.1 503 Busy\r\n\r\n", b""]

    def serve(listening: socket.socket) -> None:
        for answer in answers:
            with listening.accept()[0] as connection:
                assert connection.recv(1000).startswith(b"GET /v1/flows HTTP/1.1\r\n")
                connection.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        asker = Asker(str(path))
        for _ in answers:
            asker.get("/v1/flows")
        thread.join()
    asker.get("/v1/flows")  # no program listens any more
    assert asker.answers == {"200": 1, "503": 1, "none": 2}
    assert asker.bytes == sum(map(len, answers))
