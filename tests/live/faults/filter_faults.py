"""Faults in front of the kernel's hooks, where natmirror sees no packet: XDP, and what tc attaches to an interface."""

import sys

from tests.live.faults.fault import Fault
from tests.live.scene import ROOT

_CLSACT = "tc qdisc %s dev sw0 clsact"
_DROP = "bpf da bytecode '1,6 0 0 2,'"  # TC_ACT_SHOT
_DROP_TO_MASTER = "bpf da bytecode '4,32 0 0 30,21 0 1 169082893,6 0 0 2,6 0 0 4294967295,'"  # 10.20.0.13; else pass
_ALL = "protocol all u32 match u32 0 0"
_SLOW = "rate 8bit burst 40 limit 3000"  # a packet with data exceeds the burst

FILTER_FAULTS = (
    Fault(
        "a tc filter drops what the clients send",
        ("production-stopped",),
        f"{_CLSACT % 'add'}; tc filter add dev sw0 ingress {_DROP}",
        _CLSACT % "del",
        "run: tc filter del dev sw0 ingress pref 49152\nor have it let",
        stops_production=True,
    ),
    Fault(
        "a tc filter redirects what goes to the clients",
        ("production-stopped",),
        f"ip link add br8 type bridge; ip link set br8 up; {_CLSACT % 'add'};"
        f" tc filter add dev sw0 egress {_ALL} action mirred egress redirect dev br8",
        f"{_CLSACT % 'del'}; ip link del br8",
        "run: tc filter del dev sw0 egress pref 49152\nor have it let",
        stops_production=True,
    ),
    Fault(
        "a tc filter drops the copies alone",
        ("mirror-silent", "filter-in-front"),
        f"{_CLSACT % 'add'}; tc filter add dev sw0 egress {_DROP_TO_MASTER}".replace("sw0", "pl0"),
        "tc qdisc del dev pl0 clsact",
        "to try without it, run: tc filter del dev pl0 egress pref 49152",
        silences_mirror=True,
    ),
    Fault(
        "a qdisc that lets no data out",
        ("production-stopped",),
        f"tc qdisc add dev pl0 root tbf {_SLOW}",
        "tc qdisc del dev pl0 root",
        "run: tc qdisc del dev pl0 root\nor have it let",
        stops_production=True,
    ),
    Fault(
        "an XDP program drops what the clients send",
        ("production-stopped",),
        f"PYTHONPATH={ROOT} {sys.executable} -m tests.live.apps.xdp sw0",
        "ip link set sw0 xdpgeneric off",
        "run: ip link set sw0 xdpgeneric off\nor have it let",
        stops_production=True,
    ),
)
