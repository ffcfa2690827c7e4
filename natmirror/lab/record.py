"""Makes the captures in pcaps/: real sessions on the lab's load-balancer host, with their rules and replays.

    python -m natmirror.lab.record DIRECTORY             record all captures, and replay each
    python -m natmirror.lab.record DIRECTORY --expected  only replay the captures in DIRECTORY

The files of each NAME: NAME.pcap, a capture of all links of the host; NAME.yaml, the rules; NAME.out.pcap, the output
of a replay; NAME.txt, its report, with the SHA-256 of each leg's stream.
"""

import argparse
import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from natmirror.lab.controllers import programs
from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.openvswitch import OpenVSwitch
from natmirror.lab.process import wait_listen
from natmirror.lab.sniffer import start_sniffer
from natmirror.lab.topology import CONTROLLERS, SERVICE, Lab
from natmirror.replay.capture import Writer
from natmirror.replay.replay import Replay, leaving
from natmirror.replay.streams import StreamsInMemory
from natmirror.rules import load_rules

_RULES = Path("rules")
_REDIS_PORT = 6379
_COMMANDS = (["set", "key", "value"], ["incr", "counter"], ["lpush", "list", "x" * 3000], ["get", "key"])
_LONG_VALUE = " ".join(str(number) for number in range(5000))  # no two segments alike


def _openflow(kind: type[programs.Controller]) -> Callable[[Lab, LoadBalancer], None]:
    """Return a function that runs a switch's session with this kind of controller."""

    def session(lab: Lab, balancer: LoadBalancer) -> None:
        switch = OpenVSwitch(lab, 1)
        for host in CONTROLLERS:
            kind(lab, host)
        switch.connect(f"tcp:{SERVICE}:{programs.PORT}")
        balancer.wait_for_status(
            lambda status: any(flow["backend_bytes"] > 100 for flow in status["flows"]), "the switch's session"
        )
        for _ in range(3):
            switch.ping()
            switch.forget_flows()
        balancer.wait_until_acknowledged()

    return session


def _redis(commands: Sequence[Sequence[str]]) -> Callable[[Lab, LoadBalancer], None]:
    """Return a function that runs Redis commands, each on a connection of its own."""

    def session(lab: Lab, balancer: LoadBalancer) -> None:
        for host in ("c1", "m"):
            lab.start(host, ["redis-server", "--port", str(_REDIS_PORT), "--protected-mode", "no", "--save", ""])
            wait_listen(lab.ns(host), _REDIS_PORT)
        for command in commands:
            lab.run("s1", ["redis-cli", "-h", SERVICE, *command])
        balancer.wait_for_status(
            lambda status: status["mirrors"][0]["legs_ended"] == {"closed": len(commands)}, "the legs to end"
        )

    return session


def _lossy(session: Callable[[Lab, LoadBalancer], None]) -> Callable[[Lab, LoadBalancer], None]:
    """Return a function that runs a session over a lossy path: every fifth full segment is lost before it reaches the
    load balancer, so that later ones overtake it."""

    def over_a_bad_path(lab: Lab, balancer: LoadBalancer) -> None:
        lab.run("s1", ["ip", "link", "set", "eth0", "gso_max_segs", "1"])  # a segment is a packet
        full = ["-p", "tcp", "--dport", str(_REDIS_PORT), "-m", "length", "--length", "1400:1500"]
        fifth = ["-m", "statistic", "--mode", "nth", "--every", "5", "--packet", "1"]
        # Not DROP: the sender's TCP would notice that at once. A queue without a reader loses packets silently.
        lab.run("s1", ["iptables", "-A", "OUTPUT", *full, *fifth, "-j", "NFQUEUE", "--queue-num", "0"])
        session(lab, balancer)

    return over_a_bad_path


SESSIONS: dict[str, tuple[str, Callable[[Lab, LoadBalancer], None]]] = {
    "openflow-osken": ("lb.yaml", _openflow(programs.OsKen)),
    "openflow-testcontroller": ("lb.yaml", _openflow(programs.OvsTestController)),
    "redis": ("redis.yaml", _redis(_COMMANDS)),
    "redis-loss": ("redis.yaml", _lossy(_redis([["lpush", "list", _LONG_VALUE]]))),
}


def record(directory: Path) -> None:
    """Record all captures."""
    for name, (rules_name, session) in SESSIONS.items():
        shutil.copy(_RULES / rules_name, directory / f"{name}.yaml")
        with Lab() as lab:
            capture = lab.directory / "capture.pcap"
            sniffer = start_sniffer(lab, "lb", "any", capture)
            balancer = LoadBalancer(lab, _RULES / rules_name)
            session(lab, balancer)
            sniffer.end()
            shutil.copy(capture, directory / f"{name}.pcap")


def expect(directory: Path) -> None:
    """Replay each capture, and write its output and report."""
    for capture in sorted(directory.glob("*.pcap")):
        if not capture.name.endswith(".out.pcap"):
            capture.with_suffix(".txt").write_text(replayed(capture, capture.with_suffix(".out.pcap")))


def replayed(capture: Path, output: Path, *, fast: bool = True) -> str:
    """Replay a capture with its rules, and return the report with length and digest of each leg's stream."""
    streams_of_legs = StreamsInMemory()
    run = Replay(load_rules(capture.with_suffix(".yaml")), capture, fast=fast, streams=streams_of_legs)
    with Writer(output) as writer:
        for step in run.steps():
            for packet in leaving(step):
                writer.write(step.at, packet)
    streams = [
        f"stream {name}: {len(stream)} bytes, sha256 {hashlib.sha256(stream).hexdigest()}"
        for name, stream in streams_of_legs.items()
    ]
    return "\n".join([str(run.report), *streams, ""])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="make the captures in pcaps/")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--expected", action="store_true", help="only replay the captures that are there")
    arguments = parser.parse_args()
    if not arguments.expected:
        record(arguments.directory)
    expect(arguments.directory)


if __name__ == "__main__":
    main()
