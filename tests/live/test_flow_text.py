"""Flows, groups and meters in ovs-ofctl's words, beside what a real Open vSwitch and the real ovs-ofctl write.

ovs-ofctl adds rules through a relay. The text of each FLOW_MOD's value has to be what ovs-ofctl dumps, and so has the
text of the value that the switch's statistics have.
"""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from natmirror.lab.openvswitch import OpenVSwitch
from natmirror.lab.topology import Lab
from natmirror.openflow.bodies.decoder import decode
from natmirror.openflow.bodies.group_text import group_text, meter_text
from natmirror.openflow.bodies.group_values import GroupMod, MeterMod
from natmirror.openflow.bodies.text import flow_text
from natmirror.openflow.bodies.v10_matches import encode_v10_match
from natmirror.openflow.bodies.values import FlowMod, FlowStats, FlowStatsReply
from natmirror.openflow.messages import V10, VERSIONS, Message, Type
from tests.helpers.openflow import ALL
from tests.helpers.openflow_bodies import LATER
from tests.live.relay import Relay

pytestmark = [pytest.mark.live, pytest.mark.beside]
everywhere = pytest.mark.parametrize("version", ALL)
later = pytest.mark.parametrize("version", LATER)
BodyType = TypeVar("BodyType", FlowMod, FlowStatsReply, GroupMod, MeterMod)

MATCHES = """\
in_port=1
in_port=LOCAL,dl_src=02:00:00:00:00:01,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00
dl_vlan=5
dl_vlan=5,dl_vlan_pcp=3
dl_vlan_pcp=3,vlan_tci=0x1000/0x1000
vlan_tci=0x1000/0x1000
dl_vlan=0xffff
arp,arp_op=1,arp_spa=10.0.0.0/24,arp_tpa=10.0.0.1
arp,arp_sha=02:00:00:00:00:01,arp_tha=02:00:00:00:00:02
rarp
icmp,icmp_type=8,icmp_code=0,nw_src=10.0.0.0/255.0.255.0
ip,nw_proto=99,nw_dst=10.0.0.1,nw_tos=184
ip,nw_ecn=2
tcp,tp_src=80
tcp,tp_dst=0x100/0xff00
tcp,tcp_flags=+syn-ack
udp,tp_dst=53
sctp,tp_src=5
ipv6,ipv6_src=fe80::/64,ipv6_dst=::1,ipv6_label=0x12345
ipv6,ipv6_src=::ffff:1.2.3.4,ipv6_dst=1:0:0:2:3:0:0:4
tcp6,tp_dst=80
icmp6,icmp_type=135,icmp_code=0,nd_target=fe80::1,nd_sll=02:00:00:00:00:01
mpls,mpls_label=5,mpls_tc=3,mpls_bos=1
metadata=0x5/0xff
metadata=0
tun_id=0x9,reg0=5,reg1=0x10/0xff
xreg2=5
dl_type=0x1234
dl_type=0x5ff
ip,nw_frag=later
ip,nw_frag=not_later
ip,nw_ttl=5
pkt_mark=0x4/0xf
ct_state=+trk-new,ct_zone=5,ct_mark=0x1
conj_id=7
""".splitlines()
ACTIONS = """\
drop
output:2,LOCAL,IN_PORT,FLOOD,ALL,NORMAL,CONTROLLER:128
set_field:02:00:00:00:00:01->eth_src,output:2
mod_dl_src:02:00:00:00:00:01,mod_dl_dst:02:00:00:00:00:02,output:1
strip_vlan,output:1
push_vlan:0x8100,set_field:4101->vlan_vid,set_field:3->vlan_pcp,output:1
set_queue:5,output:1
enqueue:1:2
load:0x5->NXM_NX_REG0[],load:0x3->NXM_NX_REG1[0..15],move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]
resubmit(,3),resubmit(2,5),resubmit:1
set_tunnel:5,note:01.02
conjunction(5,2/3)
write_metadata:0x5/0xf,goto_table:3
clear_actions,write_actions(output:1,set_field:5->tun_id,pop_vlan),goto_table:2
exit
""".splitlines()
EXTRAS = """\
table=1,priority=5,idle_timeout=300,hard_timeout=700,send_flow_rem,cookie=0x12,actions=output:2
table=2,priority=0,actions=CONTROLLER:65535
table=2,actions=drop
table=3,reset_counts,actions=drop
table=4,priority=65535,check_overlap,cookie=0xffffffffffffffff,actions=drop
ip,table=5,actions=mod_nw_src:10.0.0.1,mod_nw_dst:10.0.0.2,mod_nw_tos:20,dec_ttl,output:1
tcp,table=5,actions=mod_tp_src:5,mod_tp_dst:6,output:1
ipv6,table=5,actions=set_field:::5->ipv6_src,set_field:5->ipv6_label,output:1
icmp6,icmp_type=135,icmp_code=0,table=5,actions=set_field:::1->nd_target,output:1
udp6,table=5,actions=set_field:7->udp_src,output:1
mpls,table=5,actions=pop_mpls:0x800,set_field:7->mpls_label,output:1
ip,table=6,actions=push_mpls:0x8847,set_mpls_ttl:5,dec_mpls_ttl,output:1
table=7,actions=set_field:0x5/0xff->metadata
table=8,actions=set_field:0->reg0,set_field:0x5->xreg1
tcp,table=9,actions=set_field:80/0xff->tcp_dst
""".splitlines()
GROUPS = """\
group_id=1,type=all,bucket=output:1,bucket=set_field:02:00:00:00:00:01->eth_dst,output:2
group_id=2,type=select,bucket=weight:5,output:1,bucket=weight:0,watch_port:1,output:2,bucket=output:1
group_id=3,type=ff,bucket=watch_port:1,output:1,bucket=watch_group:1,output:2
group_id=4,type=indirect,bucket=actions=drop
group_id=5,type=all
""".splitlines()
METERS = """\
meter=1,pktps,burst,stats,bands=type=drop,rate=5,burst_size=7
meter=2,kbps,bands=type=drop,rate=5
""".splitlines()
MIN_SHARE = 0.8
"""Of the rules, as much at least can each version express."""


@pytest.fixture(scope="module")
def switch() -> Iterator[OpenVSwitch]:
    with Lab() as lab:
        protocols = ",".join(f"OpenFlow{version.replace('.', '')}" for version in VERSIONS.values())
        yield OpenVSwitch(lab, 1, protocols=protocols)


class Ofctl:
    """ovs-ofctl in one version, through a relay."""

    def __init__(self, switch: OpenVSwitch, version: int) -> None:
        self.version = version
        self._directory = switch.directory
        self.got: list[Message] = []
        """What the switch got from the latest command."""
        self.sent: list[Message] = []
        """What it sent."""

    def run(self, command: str, *words: str) -> str | None:
        """Return what a command prints; None where ovs-ofctl or the switch refuses it."""
        relay = Relay(self._directory / "relay", self._directory / "br0.mgmt")
        argv = ["ovs-ofctl", "-O", f"OpenFlow{VERSIONS[self.version].replace('.', '')}", command, f"unix:{relay.path}"]
        found = subprocess.run([*argv, *words], capture_output=True, text=True, timeout=60)
        self.got, self.sent = relay.close()
        return found.stdout if found.returncode == 0 and "OFPT_ERROR" not in found.stderr else None

    def bodies(self, messages: list[Message], kind: type[BodyType]) -> list[BodyType]:
        """Return the values of one kind among messages."""
        some = (Type.FLOW_MOD, Type.EXPERIMENTER, Type.GROUP_MOD, Type.METER_MOD, Type.MULTIPART_REPLY)
        return [body for one in messages if one.kind in some and isinstance(body := decode(one), kind)]

    def lines(self, command: str) -> list[str]:
        """Return the lines that a dump has, without its heading."""
        found = self.run(command, "--no-names", "--no-stats") if command == "dump-flows" else self.run(command)
        assert found is not None
        return sorted(line.strip() for line in found.splitlines() if "reply" not in line)


def rule_of(flow: FlowMod | FlowStats) -> tuple[Any, ...]:
    """Return what a FLOW_MOD and the statistics both have."""
    times = flow.idle_timeout, flow.hard_timeout, flow.importance
    return flow.table, flow.priority, flow.match, flow.instructions, flow.cookie, *times, flow.flags


def is_of_1_0(flow: FlowMod) -> bool:
    """Return whether 1.0's statistics have the whole match; else Open vSwitch leaves fields out."""
    try:
        encode_v10_match(flow.match)
    except ValueError:
        return False
    return True


@everywhere
def test_rules_of_ovs_ofctl(switch: OpenVSwitch, version: int) -> None:
    rules = [f"priority={number},{match},actions=output:2" for number, match in enumerate(MATCHES, 100)]
    rules += [f"priority={number},dl_vlan=9,actions={actions}" for number, actions in enumerate(ACTIONS, 200)]
    rules += EXTRAS
    ofctl = Ofctl(switch, version)
    assert ofctl.run("del-flows") is not None
    mods: list[FlowMod] = []
    for rule in rules:
        if ofctl.run("add-flow", rule) is not None:
            mods += ofctl.bodies(ofctl.got, FlowMod)
    assert len(mods) >= MIN_SHARE * len(rules)
    if version == V10:
        mods = [replace(mod, flags=0) for mod in mods]  # 1.0's statistics have none
    dumped = ofctl.lines("dump-flows")
    assert sorted(map(flow_text, mods)) == dumped
    if version == V10:
        assert ofctl.run("dump-flows", "--flow-format=openflow10") is not None  # by default it asks for NXM
    found = [flow for reply in ofctl.bodies(ofctl.sent, FlowStatsReply) for flow in reply.flows]
    assert len(found) == len(mods)
    if version == V10:
        mods = [mod for mod in mods if is_of_1_0(mod)]
        keys = {(mod.table, mod.priority) for mod in mods}
        found = [flow for flow in found if (flow.table, flow.priority) in keys]
    assert {rule_of(flow) for flow in found} == {rule_of(mod) for mod in mods}
    assert set(map(flow_text, found)) <= set(dumped)


@later
def test_groups_of_ovs_ofctl(switch: OpenVSwitch, version: int) -> None:
    ofctl = Ofctl(switch, version)
    assert ofctl.run("del-groups") is not None
    mods: list[GroupMod] = []
    for group in GROUPS:
        assert ofctl.run("add-group", group) is not None, group
        mods += ofctl.bodies(ofctl.got, GroupMod)
    assert sorted(map(group_text, mods)) == ofctl.lines("dump-groups")


@later
def test_meters_of_ovs_ofctl(switch: OpenVSwitch, version: int) -> None:
    ofctl = Ofctl(switch, version)
    assert ofctl.run("del-meters") is not None
    mods: list[MeterMod] = []
    for meter in METERS:
        assert ofctl.run("add-meter", meter) is not None, meter
        mods += ofctl.bodies(ofctl.got, MeterMod)
    found = ofctl.run("dump-meters")
    assert found is not None
    dumped = " ".join(found.split("):\n")[1].split())
    assert dumped == " ".join(meter_text(mod).replace("bands=", "bands= ") for mod in mods)
