"""The common part of the lab's os-ken applications: the versions, and the lines about switches (report_lines.py)."""

# ruff: noqa: E402 - os-ken has to patch first, and only in this order do its circular imports work
from typing import Any

from os_ken.lib import hub

hub.patch(thread=True)

from os_ken import cfg
from os_ken.base import app_manager
from os_ken.controller import controller as _options  # noqa: F401 - declares the options that serve() sets
from os_ken.controller import ofp_event
from os_ken.controller.handler import CONFIG_DISPATCHER, DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.ofproto import ofproto_v1_0, ofproto_v1_3

from natmirror.lab.controllers import report_lines

VERSIONS = {"1.0": ofproto_v1_0.OFP_VERSION, "1.3": ofproto_v1_3.OFP_VERSION}


class Printer(app_manager.OSKenApp):  # type: ignore[misc]
    """An application that prints the events of its switches; subclasses override begin(), complete() and packet()."""

    @set_ev_cls(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)  # type: ignore[untyped-decorator]
    def on_features(self, event: Any) -> None:
        """Report a switch that has sent its features."""
        report_lines.print_line("switch", event.msg.datapath_id)
        self.begin(event.msg.datapath)

    @set_ev_cls(ofp_event.EventOFPStateChange, [MAIN_DISPATCHER, DEAD_DISPATCHER])  # type: ignore[untyped-decorator]
    def on_state(self, event: Any) -> None:
        """Report a session that is complete or has ended."""
        datapath = event.datapath
        if event.state == MAIN_DISPATCHER:
            report_lines.print_ports(datapath.id, datapath.ports)
            self.complete(datapath)
        elif datapath.id is not None:
            report_lines.print_line("gone", datapath.id)

    @set_ev_cls(ofp_event.EventOFPPacketIn, [CONFIG_DISPATCHER, MAIN_DISPATCHER])  # type: ignore[untyped-decorator]
    def on_packet_in(self, event: Any) -> None:
        """Report a PACKET_IN."""
        message = event.msg
        datapath, in_port = message.datapath, in_port_of(message)
        report_lines.print_packet_in(datapath.id, in_port, message.data)
        self.packet(datapath, in_port, message.data)

    @set_ev_cls(ofp_event.EventOFPPortStatus, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def on_port_status(self, event: Any) -> None:
        """Report a PORT_STATUS."""
        message = event.msg
        report_lines.print_line("port-status", message.datapath.id, message.desc.port_no, message.reason)

    def begin(self, datapath: Any) -> None:
        """Handle a switch's features."""

    def complete(self, datapath: Any) -> None:
        """Handle a complete session."""

    def packet(self, datapath: Any, in_port: int, frame: bytes) -> None:
        """Handle a frame that the switch has sent in a PACKET_IN."""


def in_port_of(message: Any) -> int:
    """Return the ingress port of a PACKET_IN's frame."""
    if message.datapath.ofproto.OFP_VERSION == ofproto_v1_0.OFP_VERSION:
        return int(message.in_port)
    return int(message.match["in_port"])


def serve(application: str, port: int, **options: object) -> None:
    """Run an application, given by its module, until the process is killed. The module may not be __main__, because
    os-ken loads it by name."""
    cfg.CONF(["--ofp-tcp-listen-port", str(port)], project="os_ken", version="natmirror")
    for name, value in options.items():
        cfg.CONF.set_override(name, value)  # the command line does not have all of them
    app_manager.AppManager.run_apps([application, "os_ken.controller.ofp_handler"])
