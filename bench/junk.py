"""``python -m bench.junk``: the latency of one client while another one sends junk (root).

In the lab, both clients belong to the same packet thread. For each kind of junk, the command measures how many packets
a second the thread decides, then the time between request and reply of a client that behaves well: without junk, with
junk at half of that rate, with junk as fast as the lab can send it, and the same with ``limit-per-client``. The client
holds connections all the time; each that ends is a lost one. Each figure is the median of some rounds.

python -m bench.junk [--rounds N] [--no-limit]
"""

import argparse
import json
import random
import socket
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.process import Program, wait_listen
from natmirror.lab.topology import SERVICE, Lab
from natmirror.net.build import build
from natmirror.net.packet import ACK, PSH, SYN

_PORT = 6653
_QUEUE = "6653"
_SECONDS = 3.0  # of one measurement
_CONNECTIONS = 20
_INTERVAL = 0.001  # seconds between two requests
_REQUEST = bytes(100)
_LIMIT = 5000
_PACKETS = 8192  # different ones, sent again and again
_SENDERS = 2  # processes
_JUNK_SOURCE = "10.10.0.11"
_KINDS = {
    "ACKs of no connection": (ACK, b""),
    "data of no connection": (PSH | ACK, b"x"),
    "SYNs with data": (SYN, b"x"),
}
_RULES = f"""
threads: 1
switches: [10.10.0.0/24]
services:
  - name: echo
    address: {SERVICE}
    port: {_PORT}
    pool: {{backends: [{{name: c1, address: 10.20.0.11}}]}}
    mirrors: [{{name: m, address: 10.20.0.13}}]
"""


# Programs in the lab


def serve() -> None:
    """Run a server that sends back what it gets."""
    with socket.create_server(("", _PORT), backlog=100) as server:
        while True:
            threading.Thread(target=_echo, args=(server.accept()[0],), daemon=True).start()


def _echo(connection: socket.socket) -> None:
    with connection, suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := connection.recv(1 << 16):
            connection.sendall(data)


def ask() -> None:
    """Run the client that behaves well: it prints "ready", and for each line of its input measures for that many
    seconds, and prints the figures."""
    connections = [socket.create_connection((SERVICE, _PORT)) for _ in range(_CONNECTIONS)]
    for connection in connections:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(30.0)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(_measured(connections, float(line))), flush=True)


def _measured(connections: list[socket.socket], seconds: float) -> dict[str, float]:
    times, lost, number, end = [], 0, 0, time.perf_counter() + seconds
    while (began := time.perf_counter()) < end and connections:
        connection = connections[number % len(connections)]
        number += 1
        try:
            connection.sendall(_REQUEST)
            if len(connection.recv(len(_REQUEST), socket.MSG_WAITALL)) < len(_REQUEST):
                raise EOFError
            times.append(time.perf_counter() - began)
        except (OSError, EOFError):
            connections.remove(connection)
            lost += 1
        time.sleep(max(0.0, began + _INTERVAL - time.perf_counter()))
    times = sorted(times) or [seconds]
    return {
        "p50_us": 1e6 * times[len(times) // 2],
        "p99_us": 1e6 * times[len(times) * 99 // 100],
        "max_us": 1e6 * times[-1],
        "replies": len(times),
        "lost": lost,
    }


def send(kind: str, rate: float) -> None:
    """Send junk at this rate, in packets a second, for ever; 0: as fast as possible. Print the rate once a second."""
    flags, data = _KINDS[kind]
    there = IPv4Address(SERVICE).packed, _PORT
    here = IPv4Address(_JUNK_SOURCE).packed
    source = random.Random(time.time())
    packets = [
        build(
            *((here, source.randrange(1024, 65536)), there),
            seq=source.getrandbits(32),
            ack=source.getrandbits(32) if flags & ACK else 0,
            flags=flags,
            window=1000,
            payload=data,
        )
        for _ in range(_PACKETS)
    ]
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    raw.connect((SERVICE, 0))
    began = said = time.perf_counter()
    sent = 0
    while True:
        now = time.perf_counter()
        if rate and sent >= (now - began) * rate:
            time.sleep(0.0005)
            continue
        for _ in range(32):
            with suppress(OSError):  # the device's queue is full
                raw.send(packets[sent % _PACKETS])
            sent += 1
        if now - said > 1.0:
            said = now
            print(f"{sent / (now - began):.0f}", flush=True)


# The measurement


class Bench:
    """natmirror between a client that behaves well and one that sends junk."""

    def __init__(self, lab: Lab, rules: str) -> None:
        self._script = [sys.executable, str(Path(__file__).resolve())]
        self._lab = lab
        file = lab.directory / f"rules-{time.monotonic_ns()}.yaml"
        file.write_text(rules)
        self.balancer = LoadBalancer(lab, file)
        self._client = lab.start("s2", [*self._script, "ask"], name="ask", stdin=-1)
        self._client.wait_for_text("ready")

    def close(self) -> None:
        """End the client and natmirror."""
        self._client.end()
        self.balancer.stop()

    def ask(self) -> dict[str, float]:
        """Return the client's figures."""
        before = self._client.text.count("\n")
        stdin = self._client.popen.stdin
        assert stdin is not None
        stdin.write(f"{_SECONDS}\n".encode())
        stdin.flush()
        while self._client.text.count("\n") == before and self._client.running():
            time.sleep(0.05)
        return dict(json.loads(self._client.text.splitlines()[before]))

    def junk(self, kind: str, rate: float) -> list[Program]:
        """Begin to send junk; return the senders, which send once they have printed a rate."""
        words = ["send", kind, str(rate / _SENDERS)]
        senders = [self._lab.start("s1", [*self._script, *words], name="send") for _ in range(_SENDERS)]
        for sender in senders:
            sender.wait_for_text("\n", 30.0)
        return senders

    def decided(self) -> int:
        """Return the number of packets that natmirror has received from its queue."""
        return int(self.balancer.status()["machine"]["queues"][_QUEUE]["packets_received"])

    def capacity(self, kind: str) -> float:
        """Return how many packets of junk the thread decides in a second."""
        senders = self.junk(kind, 0)
        began, before = time.monotonic(), self.decided()
        time.sleep(_SECONDS / 2)
        found = (self.decided() - before) / (time.monotonic() - began)
        _end(senders)
        return found

    def under(self, kind: str, rate: float) -> dict[str, float]:
        """Return the client's figures during junk, with the rate that was sent."""
        senders = self.junk(kind, rate)
        figures = self.ask()
        figures["sent"] = sum(float(sender.text.split()[-1]) for sender in senders)
        _end(senders)
        return figures


def _end(senders: Sequence[Program]) -> None:
    for sender in senders:
        sender.end()


def measure(lab: Lab, kind: str, *, with_limit: bool) -> dict[str, dict[str, float]]:
    """Return one round's figures, by situation."""
    found = {}
    bench = Bench(lab, _RULES)
    capacity = bench.capacity(kind)
    found["quiet"] = {**bench.ask(), "sent": 0.0}
    found["half of the capacity"] = bench.under(kind, capacity / 2)
    found["as fast as possible"] = bench.under(kind, 0)
    bench.close()
    if with_limit:
        bench = Bench(lab, f"limit-per-client: {_LIMIT}\n{_RULES}")
        found[f"the same, limit-per-client: {_LIMIT}"] = bench.under(kind, 0)
        bench.close()
    for figures in found.values():
        figures["capacity"] = capacity
        figures["ratio"] = figures["p99_us"] / found["quiet"]["p99_us"]
    return found


def main() -> None:
    """Print a table for each kind of junk."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-limit", action="store_true")
    arguments = parser.parse_args()
    with Lab(switches=2) as lab:
        script = [sys.executable, str(Path(__file__).resolve())]
        for host in ("c1", "m"):
            lab.start(host, [*script, "serve"], name="serve")
            wait_listen(lab.ns(host), _PORT)
        for kind in _KINDS:
            rounds = [measure(lab, kind, with_limit=not arguments.no_limit) for _ in range(arguments.rounds)]
            _print(kind, rounds)


def _print(kind: str, rounds: Sequence[dict[str, dict[str, float]]]) -> None:
    def median(situation: str, name: str) -> float:
        return statistics.median(one[situation][name] for one in rounds)

    print(f"{kind}: the thread decides {median('quiet', 'capacity'):.0f} a second")
    print(
        "| junk | sent a second | p50 | p99 | p99 / quiet | longest | connections lost |\n|---|---|---|---|---|---|---|"
    )
    for name in rounds[0]:
        cells: list[Any] = [name, f"{median(name, 'sent'):.0f}"]
        cells += [f"{median(name, one) / 1000:.2f} ms" for one in ("p50_us", "p99_us")]
        cells += [f"{median(name, 'ratio'):.1f}", f"{median(name, 'max_us') / 1000:.1f} ms"]
        cells.append(f"{sum(one[name]['lost'] for one in rounds):.0f}")
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            serve()
        case ["ask"]:
            ask()
        case ["send", kind, rate]:
            send(kind, float(rate))
        case _:
            main()
