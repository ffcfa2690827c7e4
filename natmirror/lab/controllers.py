"""Controllers for the lab: os-ken with a small learning switch, and ovs-testcontroller."""

import importlib.util
import shutil
import sys

from natmirror.errors import HostError
from natmirror.lab.process import Program, wait_listen
from natmirror.lab.topology import Lab

PORT = 6653


def start_osken(lab: Lab, host: str) -> Program:
    """os-ken with the learning switch; it prints a line for each switch it knows and each PACKET_IN."""
    if importlib.util.find_spec("os_ken") is None:
        raise HostError("os-ken is missing: install natmirror[demo]")
    program = lab.start(host, [sys.executable, "-m", "natmirror.lab.learning_switch", str(PORT)], name="osken")
    wait_listen(lab.ns(host), PORT)
    return program


def start_testcontroller(lab: Lab, host: str) -> Program:
    """Open vSwitch's own test controller."""
    if shutil.which("ovs-testcontroller") is None:
        raise HostError("ovs-testcontroller is missing: install the package openvswitch-testcontroller")
    control = lab.directory / f"{host}-testcontroller.ctl"
    program = lab.start(
        host,
        ["ovs-testcontroller", "-O", "OpenFlow13", f"ptcp:{PORT}", f"--unixctl={control}", "-vsyslog:off"],
    )
    wait_listen(lab.ns(host), PORT)
    return program
