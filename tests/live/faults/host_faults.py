"""Faults in the settings, addresses, routes and programs of the load-balancer host and of the hosts around it."""

from tests.live.faults.fault import Fault, Loss

_RP_FILTER = "sysctl -qw net.ipv4.conf.pl0.rp_filter"
_PROGRAM = "python3 -c 'import socket, time; s = socket.socket(); {}' >/dev/null 2>&1 & echo $! >program"
_KILL = "kill $(cat program)"

SILENT_BACKEND = Fault(
    "a backend's replies take another way",
    ("backend-silent",),
    "ip route del default",
    "ip route add default via 10.20.0.1",
    "on c1, run: ip route get CLIENT",
    host="c1",
    loses=Loss.TIME,
)
"""Its backend is avoided for a while afterwards, so that the finding outlasts others."""

JUDGES_KILLED = Fault(
    "the judges' process killed",
    ("verdicts-lost",),
    "for one in $(ip netns pids $(ip netns identify)); do"
    " grep -aqs 'natmirror[.]judging' /proc/$one/cmdline && kill -9 $one; done; true",
    "",
    "see natmirror's log; if it was killed for lack of memory",
    keeps_copies=True,
    ends_verdicts=True,
)

HOST_FAULTS = (
    Fault(
        "no forwarding",
        ("no-forwarding",),
        "sysctl -qw net.ipv4.ip_forward=0",
        "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0",
        "sysctl -w net.ipv4.ip_forward=1",
        stops_production=True,
        fix="sysctl -w net.ipv4.ip_forward=1",
    ),
    Fault(
        "strict reverse path filter",
        ("strict-reverse-path",),
        f"{_RP_FILTER}=1",
        f"{_RP_FILTER}=0",
        "sysctl -w net.ipv4.conf.pl0.rp_filter=2",
    ),
    Fault(
        "no route to the mirror",
        ("no-route-to-mirror",),
        "ip route add unreachable 10.20.0.13",
        "ip route del unreachable 10.20.0.13",
        "ip route add 10.20.0.13/32 via GATEWAY",
        silences_mirror=True,
    ),
    Fault(
        "no route to a backend",
        ("no-route-to-backend",),
        "ip route add unreachable 10.20.0.11",
        "ip route del unreachable 10.20.0.11",
        "ip route add 10.20.0.11/32 via GATEWAY",
        loses=Loss.CONNECTIONS,
        blames=("c1",),
    ),
    Fault(
        "service address missing",
        ("service-address-missing",),
        "ip addr del 10.10.0.100/24 dev sw0",
        "ip addr add 10.10.0.100/24 dev sw0",
        "ip address add 10.10.0.100/24 dev sw0",
        loses=Loss.TIME,
    ),
    Fault(
        "a backend's address on this host",
        ("target-is-this-host",),
        "ip addr add 10.20.0.12/32 dev lo",
        "ip addr del 10.20.0.12/32 dev lo",
        "ip address del 10.20.0.12/32",
        loses=Loss.CONNECTIONS,
        blames=("c2",),
    ),
    Fault(
        "a listener that gets nothing",
        ("listener-bypassed",),
        _PROGRAM.format('s.bind(("", 6653)); s.listen(); time.sleep(60)'),
        _KILL,
        "ss -ltnp 'sport = :6653'",
    ),
    Fault(
        "a client on this host",
        ("local-client",),
        _PROGRAM.format('s.connect(("10.10.0.100", 6653))'),
        _KILL,
        "have that program connect to a backend's own address",
    ),
    Fault(
        "a narrow link",
        ("mtu-narrows",),
        "ip link set pl0 mtu 1400",
        "ip link set pl0 mtu 1500",
        "ip link set pl0 mtu 1500",
    ),
    Fault(
        "the mirror's replies take another way",
        ("mirror-silent",),
        "ip route del default",
        "ip route add default via 10.20.0.1",
        "on master, run: ip route get CLIENT",
        host="m",
    ),
)
