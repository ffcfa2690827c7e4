"""Faults of this host's own network, which health checks could take for faults of the backends."""

from tests.live.faults.fault import Fault, Loss

_OUTPUT = "OUTPUT -d 10.20.0.0/24 -p tcp -j"
_LOOK = "look at ip route get 10.20.0.1"

CHECK_FAULTS = (
    Fault(
        "this host's own packets dropped",
        ("check-says-nothing",),
        f"iptables -I {_OUTPUT} DROP",
        f"iptables -D {_OUTPUT} DROP",
        _LOOK,
    ),
    Fault(
        "this host's own packets rejected",
        ("check-says-nothing",),
        f"iptables -I {_OUTPUT} REJECT",
        f"iptables -D {_OUTPUT} REJECT",
        _LOOK,
    ),
    Fault(
        "no route to any backend",
        ("no-backend-reachable",),
        "ip route del 10.20.0.0/24",
        "ip route add 10.20.0.0/24 dev pl0 src 10.20.0.1",
        "run: ip route get 10.20.0.11; ip link show",
        stops_production=True,
    ),
    Fault(
        "the interface to the backends down",
        ("no-backend-reachable",),
        "ip link set pl0 down",
        "ip link set pl0 up",
        "run: ip route get 10.20.0.11",
        stops_production=True,
    ),
    Fault(
        "no carrier",
        ("no-backend-reachable",),
        "ip link set lb-pl0 down",
        "ip link set lb-pl0 up; until grep -q up /sys/class/net/lb-pl0/operstate; do sleep 0.05; done",
        "see the cable or the other end",
        host="net",
        stops_production=True,
        settles=2.0,  # the kernel may tell of a carrier a second later only
    ),
    Fault(
        "the network behind the interface fails",
        ("pool-in-panic",),
        "ip link set pool down",
        "ip link set pool up",
        "look at the interface and the switch that lead to the backends: c1, c2",
        host="net",
        loses=Loss.TIME,
    ),
)
