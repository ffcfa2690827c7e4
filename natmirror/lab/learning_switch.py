"""An OpenFlow 1.3 controller on os-ken for the lab: a learning switch that prints what it sees.

    python -m natmirror.lab.learning_switch PORT

Lines: ``switch DPID`` when a switch has told its features, ``packet-in DPID IN_PORT LENGTH`` for each PACKET_IN.
"""

# ruff: noqa: E402 - os-ken has to patch first, and its modules import each other in a circle but in this order
import sys
from typing import Any

from os_ken.lib import hub

hub.patch(thread=True)

from os_ken import cfg
from os_ken.base import app_manager
from os_ken.controller import controller as _options  # noqa: F401 - declares the options that main() sets
from os_ken.controller import ofp_event
from os_ken.controller.handler import CONFIG_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.lib.packet import ethernet, packet
from os_ken.ofproto import ofproto_v1_3

_LLDP = 0x88CC


class LearningSwitch(app_manager.OSKenApp):  # type: ignore[misc]
    """Learns which port an address is behind, floods until it knows, then puts a flow in."""

    OFP_VERSIONS = (ofproto_v1_3.OFP_VERSION,)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._ports: dict[tuple[int, str], int] = {}

    @set_ev_cls(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)  # type: ignore[untyped-decorator]
    def on_features(self, event: Any) -> None:
        """A switch has come: what matches nothing is to be sent here."""
        datapath = event.msg.datapath
        print(f"switch {event.msg.datapath_id}", flush=True)
        ofp, parser = datapath.ofproto, datapath.ofproto_parser
        to_here = parser.OFPActionOutput(ofp.OFPP_CONTROLLER, ofp.OFPCML_NO_BUFFER)
        self._put_flow(datapath, 0, parser.OFPMatch(), to_here)

    @set_ev_cls(ofp_event.EventOFPPacketIn, [CONFIG_DISPATCHER, MAIN_DISPATCHER])  # type: ignore[untyped-decorator]
    def on_packet_in(self, event: Any) -> None:
        """Learn the sender's port, and pass the packet on."""
        message = event.msg
        datapath, in_port = message.datapath, message.match["in_port"]
        print(f"packet-in {datapath.id} {in_port} {len(message.data)}", flush=True)
        frame = packet.Packet(message.data).get_protocol(ethernet.ethernet)
        if frame.ethertype == _LLDP:
            return
        ofp, parser = datapath.ofproto, datapath.ofproto_parser
        self._ports[datapath.id, frame.src] = in_port
        port = self._ports.get((datapath.id, frame.dst), ofp.OFPP_FLOOD)
        output = parser.OFPActionOutput(port)
        if port != ofp.OFPP_FLOOD:
            self._put_flow(datapath, 1, parser.OFPMatch(in_port=in_port, eth_dst=frame.dst), output)
        datapath.send_msg(
            parser.OFPPacketOut(
                datapath=datapath,
                buffer_id=ofp.OFP_NO_BUFFER,
                in_port=in_port,
                actions=[output],
                data=message.data,
            )
        )

    def _put_flow(self, datapath: Any, priority: int, match: Any, action: Any) -> None:
        ofp, parser = datapath.ofproto, datapath.ofproto_parser
        instructions = [parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, [action])]
        datapath.send_msg(
            parser.OFPFlowMod(datapath=datapath, priority=priority, match=match, instructions=instructions)
        )


def main() -> None:
    """Serve until killed."""
    cfg.CONF(["--ofp-tcp-listen-port", sys.argv[1]], project="os_ken", version="natmirror")
    app_manager.AppManager.run_apps([__name__, "os_ken.controller.ofp_handler"])


if __name__ == "__main__":
    # os-ken loads the application by its module's name, so it may not be __main__.
    from natmirror.lab import learning_switch

    learning_switch.main()
