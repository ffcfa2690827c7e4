"""The API under clients that flood it, are silent, or do not read; and its process dies: production does not notice."""

import os
import signal
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Thread

import pytest

from natmirror.api.client import ask, ask_list
from natmirror.ha import exit_codes, keepalived_hooks
from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.process import pids_in, wait_for
from tests.live.core_waits import CoreWaits
from tests.live.scene import ROOT, Scene, assert_all_well, without_mirrors

pytestmark = pytest.mark.live

FLOWS = int(os.environ.get("NATMIRROR_LIVE_FLOWS", "10000"))
SECONDS = 3.0
IDLE, READERS = 300, 4
SLOWEST = 1.0  # seconds, besides what the programs wait for a core; 0.2 on a quiet machine
PAUSE = 0.02
GET = b"GET /v1/flows HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n"


def api_process(scene: Scene) -> int:
    """Return the id of the process that serves the API."""
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids_in(scene.lab.ns("lb"))}
    [pid] = [pid for pid, command in commands.items() if b"\0natmirror.api\0" in command]
    return pid


def connect(balancer: LoadBalancer, words: bytes = b"") -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30.0)
    client.connect(str(balancer.api))
    client.sendall(words)
    return client


def test_neither_a_flood_nor_the_end_of_the_api_delays_production(scene: Scene) -> None:
    recorders = scene.record("c1", "c2")
    balancer = scene.balance(scene.rules(f"max-flows: {8 * FLOWS}\n{without_mirrors()}"))
    scene.lab.run("s1", [sys.executable, "-m", "tests.live.apps.flood", str(FLOWS)], cwd=str(ROOT))
    until, started = scene.file("until"), scene.file("started")
    client, records = scene.client(connections=8, until=until, started=started, size=200, pause=PAUSE)
    wait_for(started.exists, "the client")
    waits = CoreWaits(balancer.program, client, *recorders.values())
    flows = ask("status", balancer.api)["flows"]
    assert flows > FLOWS / 2
    read, is_over = [0] * READERS, Event()

    def flood(number: int) -> None:
        while not is_over.is_set():
            with connect(balancer, GET) as one:
                try:
                    while part := one.recv(1 << 20):
                        read[number] += len(part)
                except ConnectionResetError:  # the process is killed below
                    pass

    with ExitStack() as held:
        for number in range(IDLE):
            words = (b"", b"GET /v1/status HTTP/1.1\r\nX: ", GET)[number % 3]  # silent, slow, and not reading
            held.enter_context(connect(balancer, words))
        readers = [Thread(target=flood, args=(number,)) for number in range(READERS)]
        for reader in readers:
            reader.start()
        end, answers, first = time.monotonic() + SECONDS, 0, api_process(scene)
        while time.monotonic() < end:
            assert ask("status", balancer.api)["flows"] > 0
            assert keepalived_hooks.health(str(balancer.api)) == exit_codes.FIT
            answers += 1
        os.kill(first, signal.SIGKILL)
        assert keepalived_hooks.health(str(balancer.api)) == exit_codes.FIT
        assert ask("status", balancer.api)["flows"] > 0
        assert api_process(scene) != first
        is_over.set()
        for reader in readers:
            reader.join()
    waited = waits.seconds()
    until.touch()
    scene.finish(client)
    assert_all_well(records, 8)
    assert len(ask_list("flows", balancer.api)) > FLOWS / 2
    slowest = max((wait for line in records.lines() for _, wait in line["waits"]), default=0.0)
    print(
        f"{flows} flows: slowest echo {slowest:.3f} s, {waited:.2f} s without a core, {sum(read) >> 20} MiB read,"
        f" {answers} answers meanwhile"
    )
    assert slowest < SLOWEST + PAUSE + waited
    assert "API's process: it has ended, by signal 9; starting it again" in balancer.program.text
    assert "Traceback" not in balancer.program.text
