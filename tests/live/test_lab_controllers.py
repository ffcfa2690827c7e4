"""Each controller of the lab with a directly connected switch: it learns the switch, and the switch forwards
packets."""

from collections.abc import Iterator

import pytest

from natmirror.lab.controllers import report_lines
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
from natmirror.lab.openvswitch import PORTS, OpenVSwitch
from natmirror.lab.process import wait_for
from natmirror.lab.topology import CONTROLLER_SIDE, CONTROLLERS, Lab

pytestmark = [pytest.mark.live, pytest.mark.beside]

HOST = "c1"
DATAPATH = 1
LOCAL = {"1.0": 0xFFFE, "1.3": 0xFFFFFFFE}
QUESTIONS = {"1.0": 12, "1.3": 17}
VERSIONS = ["1.0", "1.3"]


@pytest.fixture
def fresh_lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


def connected(lab: Lab, controller: Controller) -> OpenVSwitch:
    """Start a switch, and wait until the controller knows it."""
    switch = OpenVSwitch(lab, DATAPATH, protocols=f"OpenFlow{controller.version.replace('.', '')}")
    switch.connect(f"tcp:{CONTROLLER_SIDE}.{CONTROLLERS[HOST]}:{PORT}")
    controller.wait_until_known(DATAPATH)
    return switch


def ports(kind: type[Controller], version: str) -> tuple[int, ...] | None:
    """Return the ports that a controller reports: Open vSwitch's own asks for none in 1.3, FAUCET knows those it
    manages."""
    if kind is OvsTestController and version == "1.3":
        return None
    return PORTS if kind is Faucet else (*PORTS, LOCAL[version])


@pytest.mark.parametrize(("kind", "version"), [(kind, version) for kind in KINDS for version in kind.VERSIONS])
def test_a_controller_learns_its_switch_and_makes_it_pass_packets(
    fresh_lab: Lab, kind: type[Controller], version: str
) -> None:
    controller = kind(fresh_lab, HOST, version)
    assert not controller.knows(DATAPATH)
    switch = connected(fresh_lab, controller)
    assert controller.ports(DATAPATH) == ports(kind, version)
    assert not controller.knows(DATAPATH + 1)
    if isinstance(controller, Inquirer):
        controller.wait_until_inquired(DATAPATH)  # it handles packets again after it has read the TABLE_FEATURES
    assert switch.ping(count=2)
    controller.wait_for_packet_ins(DATAPATH, 2)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_switch_answers_all_that_the_inquirer_asks(fresh_lab: Lab, version: str) -> None:
    inquirer = Inquirer(fresh_lab, HOST, version)
    connected(fresh_lab, inquirer)
    assert inquirer.wait_until_inquired(DATAPATH) == (QUESTIONS[version], QUESTIONS[version])
    answers = inquirer.answers()
    assert len(answers) == QUESTIONS[version]
    assert all(matches for matches, _ in answers.values()), answers
    assert not [kind for kind in answers if "error" in kind]
    assert inquirer.unanswered() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_an_inquirer_hangs_up_on_a_switch_that_does_not_answer_its_pings(fresh_lab: Lab, version: str) -> None:
    inquirer = Inquirer(fresh_lab, HOST, version, echo=(0.5, 3))
    switch = connected(fresh_lab, inquirer)
    switch.freeze()
    wait_for(lambda: bool(inquirer.ended_sessions(DATAPATH)), "the end of the session")
    switch.thaw()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", [OsKen, StrictHub])
def test_frames_are_distinguished_by_their_digests(fresh_lab: Lab, kind: type[Controller], version: str) -> None:
    controller = kind(fresh_lab, HOST, version)
    switch = connected(fresh_lab, controller)
    assert switch.ping()

    def digests() -> dict[tuple[str, str], str]:
        """Return a frame's digest by its port and length; a request may have been repeated."""
        lines = (line.split() for line in controller.packet_ins(DATAPATH) or [])
        return {(port, length): digest for port, length, digest, *_ in lines}

    request, answer, ping = ("1", "42"), ("2", "42"), ("1", "98")
    wait_for(lambda: digests().keys() >= {request, answer, ping}, "all frames")
    assert len({digests()[kind] for kind in (request, answer, ping)}) == 3


@pytest.mark.parametrize("version", VERSIONS)
def test_a_switch_forgets_its_flows_and_flaps_its_ports(fresh_lab: Lab, version: str) -> None:
    controller = OsKen(fresh_lab, HOST, version)
    switch = connected(fresh_lab, controller)
    assert switch.ping(count=2)
    before = controller.packet_in_count(DATAPATH)
    switch.forget_flows()
    assert switch.ping()
    controller.wait_for_packet_ins(DATAPATH, before + 2)
    switch.flap(1)
    wait_for(
        lambda: len(list(report_lines.reported(controller.program.text, "port-status", DATAPATH))) >= 2, "PORT_STATUS"
    )
    assert switch.ping()
