"""What the lab's os-ken applications share: the versions, and what each prints of its switches (report_lines.py)."""

# ruff: noqa: E402 - os-ken has to patch first, and its modules import each other in a circle but in this order
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
    """Prints what it sees; the applications do the rest in what they override."""

    @set_ev_cls(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)  # type: ignore[untyped-decorator]
    def on_features(self, event: Any) -> None:
        """A switch has sent its features."""
        report_lines.print_line("switch", event.msg.datapath_id)
        self.begin(event.msg.datapath)

    @set_ev_cls(ofp_event.EventOFPStateChange, [MAIN_DISPATCHER, DEAD_DISPATCHER])  # type: ignore[untyped-decorator]
    def on_state(self, event: Any) -> None:
        """A session is complete, or has ended."""
        datapath = event.datapath
        if event.state == MAIN_DISPATCHER:
            report_lines.print_ports(datapath.id, datapath.ports)
            self.complete(datapath)
        elif datapath.id is not None:
            report_lines.print_line("gone", datapath.id)

    @set_ev_cls(ofp_event.EventOFPPacketIn, [CONFIG_DISPATCHER, MAIN_DISPATCHER])  # type: ignore[untyped-decorator]
    def on_packet_in(self, event: Any) -> None:
        """A frame that matched nothing."""
        message = event.msg
        datapath, in_port = message.datapath, in_port_of(message)
        report_lines.print_packet_in(datapath.id, in_port, message.data)
        self.packet(datapath, in_port, message.data)

    @set_ev_cls(ofp_event.EventOFPPortStatus, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def on_port_status(self, event: Any) -> None:
        """A port has come, gone or changed."""
        message = event.msg
        report_lines.print_line("port-status", message.datapath.id, message.desc.port_no, message.reason)

    def begin(self, datapath: Any) -> None:
        """The switch is known."""

    def complete(self, datapath: Any) -> None:
        """Its session is complete."""

    def packet(self, datapath: Any, in_port: int, frame: bytes) -> None:
        """It has sent a frame."""


def in_port_of(message: Any) -> int:
    """The port that a PACKET_IN's frame came in by."""
    if message.datapath.ofproto.OFP_VERSION == ofproto_v1_0.OFP_VERSION:
        return int(message.in_port)
    return int(message.match["in_port"])


def serve(application: str, port: int, **options: object) -> None:
    """Run the application in a module until killed; the module may not be __main__, as os-ken loads it by its name."""
    cfg.CONF(["--ofp-tcp-listen-port", str(port)], project="os_ken", version="natmirror")
    for name, value in options.items():
        cfg.CONF.set_override(name, value)  # not all of them are known to the command line
    app_manager.AppManager.run_apps([application, "os_ken.controller.ofp_handler"])
