"""Real controllers as masters with OpenFlow sessions of their own, beside a real backend and a real switch."""

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from natmirror.lab.controllers.programs import (
    KINDS,
    PORT,
    Controller,
    Faucet,
    Inquirer,
    OsKen,
    OvsTestController,
    StrictHub,
)
from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.openvswitch import PORTS, OpenVSwitch
from natmirror.lab.process import wait_for
from natmirror.lab.topology import SERVICE, Lab
from tests.helpers.declared import assert_answers_are_declared
from tests.live.scene import Scene, tcp_packets

pytestmark = pytest.mark.live

DATAPATH = 1
LOCAL = {"1.0": 0xFFFE, "1.3": 0xFFFFFFFE}
QUESTIONS = {"1.0": 12, "1.3": 17}
RULES = """
switches: [10.10.0.0/24]
known-switches: {known}
services:
  - name: openflow
    address: 10.10.0.100
    port: 6653
    pool:
      backends: [{{name: c1, address: 10.20.0.11}}]
    mirrors:
      - {{name: master, address: 10.20.0.13, protocol: openflow{settings}}}
"""


@pytest.fixture
def fresh(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A lab for one switch, with natmirror between it and its controllers."""
    with Lab() as lab:
        scene = Scene(lab)
        yield scene
        scene.close()


def rules(scene: Scene, settings: str = "") -> Path:
    return scene.rules(RULES.format(known=scene.lab.directory / "known.json", settings=settings))


def connected(scene: Scene, version: str) -> OpenVSwitch:
    switch = OpenVSwitch(scene.lab, DATAPATH, protocols=f"OpenFlow{version.replace('.', '')}")
    switch.connect(f"tcp:{SERVICE}:{PORT}")
    return switch


def talk(switch: OpenVSwitch, times: int = 5) -> None:
    """Make a switch send packets to its controllers."""
    for _ in range(times):
        assert switch.ping()
        switch.forget_flows()


def compare(backend: Controller, master: Controller) -> None:
    """Assert that the master saw all PACKET_INs that the backend saw: by number, and by content where both log it."""
    count = backend.packet_in_count(DATAPATH)
    assert count > 0
    master.wait_for_packet_ins(DATAPATH, count)
    assert master.packet_in_count(DATAPATH) == count
    here, there = backend.packet_ins(DATAPATH), master.packet_ins(DATAPATH)
    assert None in (here, there) or here == there


def expected_ports(kind: type[Controller], version: str) -> tuple[int, ...] | None:
    if kind is OvsTestController and version == "1.3":
        return None  # it asks for none
    return PORTS if kind is Faucet else (*PORTS, LOCAL[version])


MASTERS = [(kind, version) for kind in KINDS for version in kind.VERSIONS if (kind, version) != (Inquirer, "1.0")]
"""os-ken with OpenFlow 1.0 hangs up at any error, and the inquirer asks questions that no backend has asked before."""


@pytest.mark.parametrize(("kind", "version"), MASTERS)
def test_a_master_has_a_complete_session(fresh: Scene, kind: type[Controller], version: str) -> None:
    backend, master = OsKen(fresh.lab, "c1", version), kind(fresh.lab, "m", version)
    balancer = fresh.balance(rules(fresh))
    switch = connected(fresh, version)
    backend.wait_until_known(DATAPATH)
    master.wait_until_known(DATAPATH)
    assert master.ports(DATAPATH) == expected_ports(kind, version)
    if isinstance(master, Inquirer):
        master.wait_until_inquired(DATAPATH)
    talk(switch)
    switch.flap(PORTS[0])
    if kind is not Faucet:
        compare(backend, master)
    balancer.wait_until_acknowledged()

    def leg() -> dict[str, Any]:
        [found] = balancer.status()["flows"][0]["legs"]
        return dict(found)

    def counted() -> tuple[int, int]:
        """Return the PACKET_INs that were passed, and those that the master did not want."""
        session = leg()["session"]
        return session["messages_passed"].get("packet_in", 0), session["messages_withheld"].get(
            "packet_in:not-wanted", 0
        )

    wait_for(lambda: sum(counted()) == backend.packet_in_count(DATAPATH) > 0, "the session to have all PACKET_INs")
    # FAUCET accepts only packets that its own flows send, and none at all while it starts.
    assert bool(counted()[1]) == (kind is Faucet)
    if kind is not Faucet:
        wait_for(lambda: leg()["session"]["messages_passed"].get("port_status", 0) >= 2, "down and up")
    session = leg()["session"]
    assert (leg()["state"], session["datapath_id"], session["features_sent"]) == ("established", DATAPATH, True)
    assert not balancer.status()["faults"]["internal_errors"]
    assert_answers_are_declared(balancer.api)
    assert master.ended_sessions(DATAPATH) in (None, 0)


def test_a_question_that_no_backend_asked_is_refused_and_delays_no_other(fresh: Scene) -> None:
    OsKen(fresh.lab, "c1")
    master = Inquirer(fresh.lab, "m")
    fresh.balance(rules(fresh))
    connected(fresh, "1.3")
    answers = inquired(master)
    assert {kind.partition(":")[0] for kind, _ in answers.items()} >= {"ECHO", "BARRIER", "DESC", "TABLE_FEATURES"}
    assert answers.keys() >= {"ROLE", "GET_ASYNC", "FEATURES", "GET_CONFIG", "PORT_DESC", "FLOW:error/1/2"}


@pytest.mark.parametrize("version", ["1.0", "1.3"])
def test_the_master_gets_the_answers_to_the_backends_earlier_questions(fresh: Scene, version: str) -> None:
    """It gets all of them, with its own transaction ids."""
    backend = Inquirer(fresh.lab, "c1", version)
    fresh.balance(rules(fresh, ", reconnect: next-message"))
    switch = connected(fresh, version)
    inquired(backend)
    master = Inquirer(fresh.lab, "m", version)
    wait_for(lambda: switch.ping() and master.knows(DATAPATH), "a session")
    assert not [kind for kind in inquired(master) if "error" in kind]


def test_production_is_exactly_translated_and_in_order_beside_a_session(fresh: Scene) -> None:
    """Captures on both sides of the load balancer are compared."""
    backend, master = OsKen(fresh.lab, "c1"), OsKen(fresh.lab, "m")
    balancer = fresh.balance(rules(fresh))
    sniffers = {link: fresh.sniff("lb", link) for link in ("sw0", "pl0")}
    switch = connected(fresh, "1.3")
    master.wait_until_known(DATAPATH)
    talk(switch, 10)
    compare(backend, master)
    balancer.wait_until_acknowledged()
    for sniffer, _ in sniffers.values():
        sniffer.end()
    outside = summary(sniffers["sw0"][1], SERVICE)
    inside = summary(sniffers["pl0"][1], "10.20.0.11")
    for there, here in zip(outside, inside, strict=True):
        seen = min(len(there), len(here))  # the captures do not end at the same moment
        assert seen >= 40
        assert there[:seen] == here[:seen]


def summary(capture: Path, address: str) -> tuple[list[Any], list[Any]]:
    """Return the packets to an address and those from it."""
    end = socket.inet_aton(address)
    found: tuple[list[Any], list[Any]] = ([], [])
    for ip in tcp_packets(capture):
        if end in (ip.src, ip.dst):
            tcp = ip.data
            what = (tcp.sport, tcp.dport, tcp.seq, tcp.ack, tcp.flags, tcp.win, bytes(tcp.opts), bytes(tcp.data))
            found[ip.src == end].append(what)
    return found


def inquired(controller: Inquirer) -> dict[str, tuple[bool, float]]:
    """Return the answers to all questions of a controller in its first second."""
    controller.wait_until_known(DATAPATH)
    answered, asked = controller.wait_until_inquired(DATAPATH)
    assert answered == asked == QUESTIONS[controller.version]
    assert controller.unanswered() == []
    answers = controller.answers()
    assert all(is_own for is_own, _ in answers.values())
    return answers


@pytest.mark.parametrize("version", ["1.0", "1.3"])
def test_a_master_that_restarts_gets_a_session_again(fresh: Scene, version: str) -> None:
    backend, master = OsKen(fresh.lab, "c1", version), OsKen(fresh.lab, "m", version)
    balancer = fresh.balance(rules(fresh, ", reconnect: next-message"))
    switch = connected(fresh, version)
    master.wait_until_known(DATAPATH)
    master.end()
    wait_for(lambda: not balancer.status()["mirrors"][0]["legs"], "the leg to end")
    again = OsKen(fresh.lab, "m", version)
    started_at = time.monotonic()
    before = backend.packet_in_count(DATAPATH)
    wait_for(lambda: switch.ping() and again.knows(DATAPATH), "a session again")
    again.wait_until_known(DATAPATH)
    print(f"{version}: a session {time.monotonic() - started_at:.2f} s after the master listens again")
    assert again.ports(DATAPATH) == (*PORTS, LOCAL[version])
    seen = again.packet_in_count(DATAPATH)
    switch.forget_flows()
    talk(switch)
    backend.wait_for_packet_ins(DATAPATH, before + 5)
    again.wait_for_packet_ins(DATAPATH, seen + 5)
    assert backend.ended_sessions(DATAPATH) == 0, "production has noticed nothing"


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_after_a_restart_of_natmirror_the_master_gets_a_session_again(fresh: Scene, end: str) -> None:
    backend, master = OsKen(fresh.lab, "c1"), OsKen(fresh.lab, "m")
    file = rules(fresh, ", reconnect: next-message")
    balancer = fresh.balance(file, on_stop="keep")
    switch = connected(fresh, "1.3")
    master.wait_until_known(DATAPATH)
    known = fresh.lab.directory / "known.json"
    if end == "stop":
        assert balancer.stop() == 0
    else:
        wait_for(lambda: known.exists() and '"client"' in known.read_text(), "what is known to be kept")
        balancer.kill()
    assert '"client"' in known.read_text()
    ended_at = time.monotonic()
    again = LoadBalancer(fresh.lab, file)
    fresh.balancers.append(again)
    wait_for(lambda: master.program.text.count(f"ports {DATAPATH} ") >= 2, "a session again")
    print(f"{end}: a session {time.monotonic() - ended_at:.2f} s after natmirror had ended, its start included")
    assert master.ports(DATAPATH) == (*PORTS, LOCAL["1.3"])
    seen, before = master.packet_in_count(DATAPATH), backend.packet_in_count(DATAPATH)
    talk(switch)
    backend.wait_for_packet_ins(DATAPATH, before + 5)
    master.wait_for_packet_ins(DATAPATH, seen + 5)
    assert backend.ended_sessions(DATAPATH) == 0, "production has noticed nothing"


def test_a_strict_controller_may_be_the_backend_too(fresh: Scene) -> None:
    """Its requests have other transaction ids than the master's."""
    backend, master = StrictHub(fresh.lab, "c1"), OsKen(fresh.lab, "m")
    fresh.balance(rules(fresh))
    switch = connected(fresh, "1.3")
    backend.wait_until_known(DATAPATH)
    master.wait_until_known(DATAPATH)
    talk(switch)
    compare(backend, master)


def test_a_second_switch_with_the_same_datapath_id_waits() -> None:
    """Its address belongs to another thread if there are several."""
    with Lab(switches=2) as lab, closing(Scene(lab)) as scene:
        OsKen(lab, "c1")
        master = OsKen(lab, "m")
        balancer = scene.balance(rules(scene))
        first = connected(scene, "1.3")
        master.wait_until_known(DATAPATH)
        second = OpenVSwitch(lab, 2, datapath_id=DATAPATH)
        second.connect(f"tcp:{SERVICE}:{PORT}")
        wait_for(lambda: sorted(_reasons(balancer)) == ["None", "datapath-in-use"], "the second switch to wait")
        seen = master.packet_in_count(DATAPATH)
        talk(first)
        master.wait_for_packet_ins(DATAPATH, seen + 5)
        assert master.program.text.count(f"ports {DATAPATH} ") == 1
        assert master.ended_sessions(DATAPATH) == 0
        first.disconnect()
        wait_for(
            lambda: second.ping() and master.program.text.count(f"ports {DATAPATH} ") == 2,
            "the second switch's session",
        )


def _reasons(balancer: LoadBalancer) -> list[str]:
    return [str(leg["reason"]) for flow in balancer.status()["flows"] for leg in flow["legs"]]


SILENCE = TRAFFIC = 60.0
SIDE_BY_SIDE: dict[str, list[type[Controller]]] = {
    "1.0": [OsKen, StrictHub, OvsTestController],
    "1.3": [OsKen, Inquirer, StrictHub, OvsTestController, Faucet],
}


@pytest.mark.soak
@pytest.mark.parametrize("protocol", ["openflow", "raw"])
@pytest.mark.parametrize("version", ["1.0", "1.3"])
def test_sessions_stand_after_a_minute_of_silence_and_one_of_traffic(fresh: Scene, version: str, protocol: str) -> None:
    """Run all masters side by side and print what each got; raw copies run beside them to show what fails there."""
    lab, kinds = fresh.lab, SIDE_BY_SIDE[version]
    backend = OsKen(lab, "c1", version)
    masters: list[Controller] = []
    text = RULES.format(known=lab.directory / "known.json", settings="")
    text = text[: text.index("      - {name: master")]
    for number, kind in enumerate(kinds):
        lab.add_controller(f"m{number}", 20 + number)
        masters.append(kind(lab, f"m{number}", version))
        text += f"      - {{name: {kind.__name__}, address: 10.20.0.{20 + number}, protocol: {protocol}}}\n"
    balancer = fresh.balance(fresh.rules(text))
    switch = connected(fresh, version)
    backend.wait_until_known(DATAPATH)
    if protocol == "openflow":
        for master in masters:
            master.wait_until_known(DATAPATH)
    wait_until(time.monotonic() + SILENCE)
    until = time.monotonic() + TRAFFIC
    while time.monotonic() < until:
        assert switch.ping()
        switch.forget_flows()
    balancer.wait_until_acknowledged()
    count = backend.packet_in_count(DATAPATH)
    legs = {leg["mirror"]: leg for leg in balancer.status()["flows"][0]["legs"]}
    print()
    for master in masters:
        name = type(master).__name__
        leg, ports = legs.get(name, {"state": "ended"}), master.ports(DATAPATH)
        state = f"{leg['state']}, knows the switch: {master.knows(DATAPATH)}, its ports: {ports}"
        print(f"{version} {protocol} {name}: {state}, {master.packet_in_count(DATAPATH)} of {count} PACKET_INs")
        if protocol == "openflow":
            assert (leg["state"], master.ended_sessions(DATAPATH) or 0) == ("established", 0)
            assert ports == expected_ports(type(master), version)
            not_wanted = leg["session"]["messages_withheld"].get("packet_in:not-wanted", 0)
            assert master.packet_in_count(DATAPATH) + not_wanted == count > 0


def wait_until(when: float) -> None:
    """This test needs silence: there is no event to wait for."""
    time.sleep(max(0.0, when - time.monotonic()))
