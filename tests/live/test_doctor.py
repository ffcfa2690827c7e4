"""``natmirror doctor --send`` beside a run: what it sees when all is well, faults that no look finds, and that it
leaves nothing behind. tests/live/faults has what doctor finds by looking."""

import json
import signal
import sys
from typing import Any

import pytest

from natmirror.lab.process import wait_for
from natmirror.linux.interfaces import DOCTORS_PORT
from tests.live.apps.wire import LENGTH
from tests.live.scene import Scene

pytestmark = [pytest.mark.live, pytest.mark.beside]

CLIENT = "10.10.0.77"
BODY_LEN = 1300
RULES = """
switches: [10.10.0.0/24]
services:
  - name: copied
    address: 10.10.0.100
    port: 6653
    pool: {backends: [{name: c1, address: 10.20.0.11}]}
    mirrors: [{name: master, address: 10.20.0.13}]
  - name: narrow
    address: 10.10.0.100
    port: 6654
    pool: {backends: [{name: c2, address: 10.20.0.12, port: 6653}]}
  - name: blocked
    address: 10.10.0.100
    port: 6655
    pool: {backends: [{name: c3, address: 10.20.0.14, port: 6653}]}
"""
# Drops TCP packets to port 6655: load the destination port behind 14 bytes of Ethernet and 20 of IP; if it is that one,
# return TC_ACT_SHOT (linux/pkt_cls.h), else TC_ACT_UNSPEC
FILTER = "4,40 0 0 36,21 0 1 6655,6 0 0 2,6 0 0 4294967295"
FAULTS = (
    ("lb", f"tc qdisc add dev sw0 clsact; tc filter add dev sw0 ingress bpf da bytecode '{FILTER}'"),
    ("c2", "iptables -t raw -A PREROUTING -p tcp -m length --length 600: -j DROP"),
    ("m", "iptables -A INPUT -p tcp --dport 6653 -j DROP"),
)
DATA = "".join(f"\\x{byte:02x}" for byte in LENGTH.pack(BODY_LEN)) + "x" * BODY_LEN


def test_a_connection_of_doctors_own_finds_what_no_look_finds(alone: Scene) -> None:
    lab = alone.lab
    lab.add_controller("c3", 14)
    alone.record("c1", "c2", "c3", "m")
    api = alone.balance(alone.rules(RULES)).api
    command = [sys.executable, "-m", "natmirror", "doctor", "--api", str(api), "--json"]
    sending = [*command, "--send", "--client", CLIENT, "--data", DATA]

    def shown(words: list[str]) -> dict[str, dict[str, Any]]:
        answer = json.loads(lab.run("lb", words, check=False))
        return {one["name"]: one for one in answer["checks"] if one["state"] not in ("skipped",)}

    # All is well
    sent = {name: one for name, one in shown(sending).items() if name.startswith("send")}
    assert {one["state"] for one in sent.values()} == {"ok"}, sent
    assert sent["send-copied"]["said"].startswith(f"c1 answers {CLIENT} after ")
    assert sent["send-copied-master"]["said"] == "1304 of 1304 bytes acknowledged"
    assert lab.run("s1", ["ping", "-c1", "-W1", CLIENT], check=False).find(" 0 received") > 0

    # A filter of tc, a host that drops large packets, a mirror's host that drops SYNs
    for host, plant in FAULTS:
        lab.run(host, ["sh", "-c", plant])
    assert {one["state"] for one in shown(command).values()} == {"ok"}
    sent = {name: one for name, one in shown(sending).items() if name.startswith("send")}
    codes = {name: [finding["code"] for finding in one["findings"]] for name, one in sent.items()}
    assert codes == {
        "send-copied": [],
        "send-copied-master": ["copy-unanswered"],
        "send-narrow": ["sent-lost"],
        "send-blocked": ["sent-not-seen"],
    }
    assert "tc filter show dev sw0 ingress" in sent["send-blocked"]["findings"][0]["mend"]

    # An address that a host has, and a doctor that is killed
    [refused] = [one for name, one in shown([*sending[:-3], "10.10.0.11"]).items() if name == "send"]
    assert "10.10.0.11 cannot be doctor's client: a host answers there" in refused["why"]
    balancer = alone.balancers[0]
    program = alone.start("lb", *sending, name="doctor")

    def states() -> list[str]:
        return [one["state"] for one in balancer.status()["flows"] if one["client"].startswith(f"{CLIENT}:")]

    wait_for(lambda: "established" in states(), "doctor's connection")
    program.end(signal.SIGKILL)
    wait_for(lambda: not {*states()} & {"established", "half-closed", "closing"}, "the end of doctor's connection")
    wait_for(lambda: DOCTORS_PORT not in lab.run("lb", ["ip", "link"]), "the end of doctor's interface")
    assert CLIENT not in lab.run("lb", ["ip", "route"])
