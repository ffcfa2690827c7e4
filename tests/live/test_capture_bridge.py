"""natmirror capture on a host whose sides are ports of one bridge."""

import pytest

from natmirror.lab.process import wait_for
from tests.helpers import tshark
from tests.live.capturing import CLIENT, finish, start, streams
from tests.live.scene import Scene

pytestmark = [pytest.mark.live, pytest.mark.beside]

BRIDGE = """ip link add br0 type bridge; ip link set br0 up; ip address flush dev sw0; ip address flush dev pl0
sh -c 'echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables || true'; ip link set sw0 master br0
ip link set pl0 master br0; ip address add 10.10.0.1/24 dev br0; ip address add 10.10.0.100/24 dev br0
ip address add 10.20.0.1/24 dev br0"""


def test_one_interface_for_all_sides_whose_ports_show_each_packet_again(alone: Scene) -> None:
    alone.lab.run("lb", ["sh", "-c", BRIDGE])
    alone.lab.sysctl("lb", conf__br0__rp_filter=0, conf__all__send_redirects=0, conf__br0__send_redirects=0)
    alone.record("c1", "c2", "m")
    balancer = alone.balance()
    file = alone.file("bridge.pcapng")
    program = start(alone, balancer, CLIENT, file, "--for", "60")
    records = alone.run_client(connections=1, requests=3, sources=CLIENT)
    wait_for(lambda: bool(balancer.ended()), "the leg to end")
    finish(program)
    [(sent, _)] = records.by_port().values()
    found = {interface: len(data) for (interface, is_from_client), data in streams(file).items() if is_from_client}
    assert found == dict.fromkeys(("client side (br0)", "backend side (br0)", "copy to master (br0)"), sent)
    assert {name for (name,) in tshark.fields(file, "frame.interface_name")} == {*found, "answers of master (br0)"}
    assert not tshark.malformed(file)
    # A segment that a host has sent again, as it may on a busy machine, has another number or time than the first one.
    names = ("ip.src", "ip.dst", "ip.id", "tcp.seq_raw", "tcp.options.timestamp.tsval")
    segments = tshark.fields(file, *names, only="tcp.len > 0")
    assert len(segments) == len(set(segments))
