"""An OpenFlow controller on os-ken for the lab: a learning switch that reports its events in lines (report_lines.py).

python -m natmirror.lab.controllers.learning_switch VERSION PORT
"""

# ruff: noqa: I001 - osken comes first, as it patches for os-ken
import sys
from typing import Any

from natmirror.lab.controllers import osken
from os_ken.lib.packet import ethernet, packet

_LLDP = 0x88CC
_OPENFLOW_1_0 = osken.VERSIONS["1.0"]


class LearningSwitch(osken.Printer):
    """A learning switch: it floods frames to unknown addresses, and adds a flow once it has learned the port."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._ports: dict[tuple[int, str], int] = {}

    def begin(self, datapath: Any) -> None:
        """Add the table-miss flow, which sends unmatched frames here; OpenFlow 1.0 does so without it."""
        ofp, parser = datapath.ofproto, datapath.ofproto_parser
        if ofp.OFP_VERSION != _OPENFLOW_1_0:
            self._add_flow(datapath, 0, {}, parser.OFPActionOutput(ofp.OFPP_CONTROLLER, ofp.OFPCML_NO_BUFFER))

    def packet(self, datapath: Any, in_port: int, frame: bytes) -> None:
        """Learn the sender's port, and send the frame out."""
        header = packet.Packet(frame).get_protocol(ethernet.ethernet)
        if header.ethertype == _LLDP:
            return
        ofp, parser = datapath.ofproto, datapath.ofproto_parser
        self._ports[datapath.id, header.src] = in_port
        port = self._ports.get((datapath.id, header.dst), ofp.OFPP_FLOOD)
        output = parser.OFPActionOutput(port)
        if port != ofp.OFPP_FLOOD:
            to = "dl_dst" if ofp.OFP_VERSION == _OPENFLOW_1_0 else "eth_dst"
            self._add_flow(datapath, 1, {"in_port": in_port, to: header.dst}, output)
        datapath.send_msg(
            parser.OFPPacketOut(datapath=datapath, buffer_id=0xFFFFFFFF, in_port=in_port, actions=[output], data=frame)
        )

    def _add_flow(self, datapath: Any, priority: int, fields: dict[str, Any], action: Any) -> None:
        ofp, parser = datapath.ofproto, datapath.ofproto_parser
        flow: dict[str, Any] = {"datapath": datapath, "priority": priority, "match": parser.OFPMatch(**fields)}
        if ofp.OFP_VERSION == _OPENFLOW_1_0:
            flow["actions"] = [action]
        else:
            flow["instructions"] = [parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, [action])]
        datapath.send_msg(parser.OFPFlowMod(**flow))


def main() -> None:
    """Serve until the process is killed."""
    version, port = sys.argv[1:3]
    LearningSwitch.OFP_VERSIONS = (osken.VERSIONS[version],)
    osken.serve(__name__, int(port))


if __name__ == "__main__":
    from natmirror.lab.controllers import learning_switch

    learning_switch.main()
