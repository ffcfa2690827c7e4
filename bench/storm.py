"""``python -m bench.storm``: the latency of one switch while another one sends the costliest messages (root).

In the lab, both switches are clients of the same packet thread. One sends PORT_STATUS and tiny messages as fast as its
backend takes them. The other sends an ECHO_REQUEST every few milliseconds and measures the time of the reply. Prints
the slowest reply, with and without the storm.
"""

import socket
import sys
import threading
import time
from pathlib import Path
from struct import pack

from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.topology import SERVICE, Lab
from natmirror.openflow.messages import HEADER, HEADER_LEN, V13, Type, build, hello

_PORT = 6653
_SECONDS = 8.0
_INTERVAL = 0.005
_PORTS = 30_000
_RULES = f"""
switches: [10.10.0.0/24]
services:
  - name: openflow
    address: {SERVICE}
    port: {_PORT}
    pool: {{backends: [{{name: c1, address: 10.20.0.11}}]}}
    mirrors: [{{name: master, address: 10.20.0.13, protocol: openflow}}]
"""


def _read(sock: socket.socket) -> tuple[int, int, bytes]:
    """Read the next message; return its type on the wire, its transaction id and its body."""
    head = sock.recv(HEADER_LEN, socket.MSG_WAITALL)
    if len(head) < HEADER_LEN:
        raise EOFError
    _, kind, length, xid = HEADER.unpack(head)
    return kind, xid, sock.recv(length - HEADER_LEN, socket.MSG_WAITALL) if length > HEADER_LEN else b""


def controller() -> None:
    """Run a controller or master, which asks for features and ports and answers ECHOs."""
    with socket.create_server(("", _PORT)) as server:
        print("ready", flush=True)
        while True:
            threading.Thread(target=_serve, args=(server.accept()[0],), daemon=True).start()


def _serve(sock: socket.socket) -> None:
    questions = build(V13, Type.FEATURES_REQUEST, 2) + build(V13, Type.MULTIPART_REQUEST, 3, pack("!HH4x", 13, 0))
    try:
        sock.sendall(hello(V13, 1) + questions)
        while True:
            kind, xid, body = _read(sock)
            if kind == Type.ECHO_REQUEST and xid:
                sock.sendall(build(V13, Type.ECHO_REPLY, xid, body))
    except (EOFError, OSError):
        sock.close()


def _connected(number: int, ports: int) -> socket.socket:
    """Return the connection of a switch that has sent its features and ports."""
    sock = socket.create_connection((SERVICE, _PORT))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(hello(V13, 1))
    for _ in range(3):
        kind, xid, _ = _read(sock)
        if kind == Type.FEATURES_REQUEST:
            sock.sendall(build(V13, Type.FEATURES_REPLY, xid, pack("!QIBB2xII", number, 0, 254, 0, 0, 0)))
        elif kind == 18:  # OFPT_MULTIPART_REQUEST
            for first in range(0, ports, 1000):
                some = b"".join(pack("!I", port) + bytes(60) for port in range(first, min(first + 1000, ports)))
                head = pack("!HH4x", 13, first + 1000 < ports)
                sock.sendall(build(V13, Type.MULTIPART_REPLY, xid, head + some))
    return sock


def storm() -> None:
    """Run the switch that sends too much."""
    sock = _connected(1, _PORTS)
    status = build(V13, Type.PORT_STATUS, 0, pack("!B7x", 2) + pack("!I", 5) + bytes(60)) * 18
    tiny = build(V13, Type.ECHO_REQUEST, 0) * 8000
    print("ready", flush=True)
    while True:
        sock.sendall(status + tiny)


def echo() -> None:
    """Run the other switch, and print its slowest reply and the number of replies."""
    sock = _connected(2, 10)
    slowest, count, end = 0.0, 0, time.monotonic() + _SECONDS
    sock.settimeout(60.0)
    while time.monotonic() < end:
        began = time.monotonic()
        sock.sendall(build(V13, Type.ECHO_REQUEST, 7, b"x"))
        _read(sock)
        slowest = max(slowest, time.monotonic() - began)
        count += 1
        time.sleep(_INTERVAL)
    print(f"slowest {1000 * slowest:.1f} ms of {count} echoes", flush=True)


def main() -> None:
    """Run both switches in the lab, and print the figures."""
    script = [sys.executable, str(Path(__file__).resolve())]
    with Lab() as lab:
        rules = lab.directory / "rules.yaml"
        rules.write_text(_RULES)
        for host in ("c1", "m"):
            lab.start(host, [*script, "controller"], name="controller").wait_for_text("ready")
        balancer = LoadBalancer(lab, rules)
        print("alone:    ", lab.run("s1", [*script, "echo"]).strip(), flush=True)
        lab.start("s1", [*script, "storm"], name="storm").wait_for_text("ready")
        print("in storm: ", lab.run("s1", [*script, "echo"]).strip(), flush=True)
        print("ended legs:", balancer.status()["mirrors"][0]["legs_ended"])
        balancer.stop()


if __name__ == "__main__":
    {"controller": controller, "storm": storm, "echo": echo}.get(" ".join(sys.argv[1:]), main)()
