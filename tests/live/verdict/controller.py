"""A variant of the learning switch as an OpenFlow controller on os-ken, which reports its events in lines
(natmirror/lab/controllers/report_lines.py).

    python -m tests.live.verdict.controller VERSION PORT VARIANT

It prints besides ``effect NUMBER`` when its bug has an effect for the first time: NUMBER is the number of PACKET_INs
that it has got by then.
"""

# ruff: noqa: I001 - osken comes first, as it patches for os-ken
import ipaddress
import os
import sys
from collections.abc import Iterator
from typing import Any, ClassVar

from natmirror.lab.controllers import osken, report_lines
from os_ken.lib import hub

from tests.live.verdict.catalogue import VARIANTS
from tests.live.verdict.learning import LLDP
from tests.live.verdict.orders import (
    Actions,
    Cause,
    Crash,
    Elsewhere,
    Frame,
    Group,
    Meter,
    Order,
    Output,
    Rule,
    SetField,
    Tag,
    ToGroup,
    Wait,
)
from tests.live.verdict.variants import Form, Variant

_NO_BUFFER = 0xFFFF_FFFF
_NAMES_V10 = {
    "eth_dst": "dl_dst",
    "eth_src": "dl_src",
    "eth_type": "dl_type",
    "ipv4_dst": "nw_dst",
    "ip_proto": "nw_proto",
    "arp_op": "nw_proto",
    "udp_dst": "tp_dst",
}


class Controller(osken.Printer):
    """Gives the orders of a learning switch, as its variant changes them."""

    variant: ClassVar[Variant]
    version: ClassVar[str]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._honest = self.variant.honest(self.version)
        self._bug = self.variant.bug and self.variant.bug()
        self._datapaths: dict[int, Any] = {}
        self._cookie = 0
        self._has_effect = False

    def begin(self, datapath: Any) -> None:
        """Programme a new switch."""
        self._datapaths[datapath.id] = datapath
        self._give(datapath, None, self._changed(None, self._honest.programme()), b"", 0)

    def packet(self, datapath: Any, in_port: int, frame: bytes) -> None:
        """Answer a PACKET_IN."""
        if int.from_bytes(frame[12:14], "big") != LLDP:
            cause, orders = self._honest.answer(datapath.id, in_port, frame)
            self._give(datapath, cause, self._changed(cause, orders), frame, in_port)

    def _changed(self, cause: Cause | None, orders: list[Order]) -> list[Order]:
        """Return what the variant makes of its orders, and report the bug's first effect."""
        changed = orders if self._bug is None else self._bug(cause, orders)
        if self.variant.form is Form.SHUFFLED and cause is not None:
            changed = changed[::-1]
        elif changed != orders and not self._has_effect:
            self._has_effect = True
            report_lines.print_line("effect", cause.number if cause else 0)
        return changed

    def _give(self, datapath: Any, cause: Cause | None, orders: list[Order], frame: bytes, in_port: int) -> None:
        for place, order in enumerate(orders):
            match order:
                case Wait(seconds):
                    hub.spawn_after(seconds, self._give, datapath, cause, orders[place + 1 :], frame, in_port)
                    return
                case Crash():
                    os._exit(1)
                case Elsewhere(other):
                    elsewhere = next((one for key, one in self._datapaths.items() if key != datapath.id), datapath)
                    elsewhere.send_msg(self._message(elsewhere, other, frame, in_port))
                case _:
                    datapath.send_msg(self._message(datapath, order, frame, in_port))

    def _message(self, datapath: Any, order: Order, frame: bytes, in_port: int) -> Any:
        parser = datapath.ofproto_parser
        match order:
            case Rule():
                return self._flow_mod(datapath, order)
            case Frame(actions):
                return parser.OFPPacketOut(
                    datapath=datapath,
                    buffer_id=_NO_BUFFER,
                    in_port=in_port,
                    actions=self._actions(datapath, actions),
                    data=frame,
                )
            case Group(number, port):
                bucket = parser.OFPBucket(actions=[parser.OFPActionOutput(port)])
                ofp = datapath.ofproto
                return parser.OFPGroupMod(datapath, ofp.OFPGC_ADD, ofp.OFPGT_INDIRECT, number, [bucket])
            case Meter(number, rate):
                ofp = datapath.ofproto
                bands = [parser.OFPMeterBandDrop(rate=rate)]
                return parser.OFPMeterMod(datapath, ofp.OFPMC_ADD, ofp.OFPMF_KBPS, number, bands)
        raise AssertionError(order)

    def _flow_mod(self, datapath: Any, rule: Rule) -> Any:
        ofp, parser = datapath.ofproto, datapath.ofproto_parser
        actions = self._actions(datapath, rule.actions)
        if self.variant.form is Form.COOKIES:
            self._cookie += 1
        words = {
            "command": getattr(ofp, f"OFPFC_{rule.command}"),
            "priority": rule.priority,
            "match": self._match(parser, rule),
            "idle_timeout": rule.idle_timeout,
            "hard_timeout": rule.hard_timeout,
            "flags": ofp.OFPFF_SEND_FLOW_REM if rule.reports_removal else 0,
            "cookie": self._cookie,
        }
        if self.version == "1.0":
            return parser.OFPFlowMod(datapath, **words, actions=actions)
        if rule.command == "DELETE":
            words |= {"out_port": ofp.OFPP_ANY, "out_group": ofp.OFPG_ANY}
        instructions = [] if rule.meter is None else [parser.OFPInstructionMeter(rule.meter)]
        if actions:
            instructions.append(parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, actions))
        if rule.goto is not None:
            instructions.append(parser.OFPInstructionGotoTable(rule.goto))
        return parser.OFPFlowMod(datapath, **words, table_id=rule.table, instructions=instructions)

    def _match(self, parser: Any, rule: Rule) -> Any:
        if self.version == "1.0":
            return parser.OFPMatch(**dict(_fields_v10(rule)))
        if self.variant.form is Form.SHUFFLED:
            return parser.OFPMatch(_ordered_fields=list(reversed(rule.match)))
        return parser.OFPMatch(**dict(rule.match))

    def _actions(self, datapath: Any, actions: Actions) -> list[Any]:
        ofp, parser = datapath.ofproto, datapath.ofproto_parser
        encoded = []
        for action in actions:
            match action:
                case Output(port, max_len):
                    number = getattr(ofp, f"OFPP_{port}") if isinstance(port, str) else port
                    if max_len is None and self.variant.form is Form.SHUFFLED:
                        max_len = 0
                    encoded.append(parser.OFPActionOutput(number, *([] if max_len is None else [max_len])))
                case Tag(vlan) if self.version == "1.0":
                    encoded.append(parser.OFPActionVlanVid(vlan))
                case Tag(vlan):
                    encoded.append(parser.OFPActionPushVlan())
                    encoded.append(parser.OFPActionSetField(vlan_vid=ofp.OFPVID_PRESENT | vlan))
                case ToGroup(group):
                    encoded.append(parser.OFPActionGroup(group))
                case SetField(_, value) if self.version == "1.0":
                    encoded.append(parser.OFPActionSetDlSrc(value))
                case SetField(field, value):
                    encoded.append(parser.OFPActionSetField(**{field: value}))
        return encoded


def _fields_v10(rule: Rule) -> Iterator[tuple[str, object]]:
    """Yield the fields of a match with their names in OpenFlow 1.0, where only addresses of IPv4 have a mask: a
    number of bits."""
    for name, value in rule.match:
        known = _NAMES_V10.get(name, name)
        if isinstance(value, tuple):
            value, mask = value
            yield f"{known}_mask", ipaddress.IPv4Network(f"0.0.0.0/{mask}").prefixlen
        yield known, value


def main() -> None:
    """Serve until the process is killed."""
    version, port, variant = sys.argv[1:]
    Controller.OFP_VERSIONS = (osken.VERSIONS[version],)
    Controller.version, Controller.variant = version, VARIANTS[variant]
    osken.serve(__name__, int(port))


if __name__ == "__main__":
    from tests.live.verdict import controller

    controller.main()
