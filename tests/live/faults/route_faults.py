"""Faults of the routes and interfaces by which the kernel forwards: production, and the copies."""

from tests.live.faults.fault import Fault, Loss

_HALVES = "ip route {0} unreachable 10.10.0.0/25; ip route {0} unreachable 10.10.0.128/25"
_BLACKHOLES = "ip route {0} blackhole 10.10.0.8/29; ip route {0} blackhole 10.10.0.16/28"
_IPSEC = "src 10.10.0.0/24 dst 10.20.0.0/24 dir fwd"
_LOCAL_ROUTE = "table local local 10.10.0.100 dev sw0 proto kernel scope host"

_NO_ARP = "table arp fw { chain c { type filter hook output priority 0; policy drop; }; }"
_WRONG_NEIGHBOUR = "10.20.0.12 lladdr 02:00:00:00:de:ad dev pl0"

_ARP_SETTLES = 2.5
"""Seconds: the kernel repeats an ARP request after a second, and a client a SYN that was dropped meanwhile."""

ROUTE_FAULTS = (
    Fault(
        "the clients' interface down",
        ("production-cut",),
        "ip link set sw0 down",
        "ip link set sw0 up",
        "ip link set sw0 up",
        stops_production=True,
    ),
    Fault(
        "a policy rule discards clients' packets",
        ("production-cut",),
        "ip rule add from 10.10.0.0/24 iif sw0 blackhole pref 100",
        "ip rule del pref 100",
        "ip rule del priority 100 from 10.10.0.0/24 iif sw0 blackhole",
        stops_production=True,
    ),
    Fault(
        "no route back to the clients",
        ("production-cut",),
        _HALVES.format("add"),
        _HALVES.format("del"),
        "ip route del unreachable 10.10.0.0/25",
        stops_production=True,
    ),
    Fault(
        "the service's address not local",
        ("service-address-not-local",),
        f"ip route del {_LOCAL_ROUTE}",
        f"ip route add {_LOCAL_ROUTE} src 10.10.0.1",
        "ip route add local 10.10.0.100 dev sw0 table local",
        stops_production=True,
    ),
    Fault(
        "a part of the clients' network on another interface",
        ("clients-elsewhere",),
        "ip link add br-x type bridge; ip addr add 10.10.0.1/29 dev br-x; ip link set br-x up",
        "ip link del br-x",
        "remove that route or the address of br-x",
    ),
    Fault(
        "the interface to the backends in a bridge",
        ("no-backend-reachable",),
        "ip link add br9 type bridge && ip link set br9 up && ip link set pl0 master br9",
        "ip link set pl0 nomaster; ip link del br9",
        "ip link set pl0 nomaster",
        stops_production=True,
    ),
    Fault(
        "a policy rule discards the copies",
        ("copies-cut",),
        "ip rule add iif natmirror0 blackhole pref 100",
        "ip rule del pref 100",
        "ip rule del priority 100 from all iif natmirror0 blackhole",
    ),
    Fault(
        "routes that discard the clients' packets",
        ("production-cut",),
        _BLACKHOLES.format("add"),
        _BLACKHOLES.format("del"),
        "ip route del blackhole 10.10.0.8/29",
        stops_production=True,
    ),
    Fault(
        "an IPsec policy blocks the clients' packets",
        ("production-cut",),
        f"ip xfrm policy add {_IPSEC} action block",
        f"ip xfrm policy del {_IPSEC}",
        "run: ip xfrm policy delete index",
        stops_production=True,
    ),
    Fault(
        "ARP off on the interface to the backends",
        ("no-backend-reachable",),
        "ip link set pl0 arp off",
        "ip link set pl0 arp on",
        "run: ip link set pl0 arp on",
        stops_production=True,
        settles=_ARP_SETTLES,
    ),
    Fault(
        "nftables drops ARP, and the backends are forgotten",
        ("no-backend-reachable", "arp-unanswered"),
        f"nft '{_NO_ARP}'; ip neigh flush dev pl0",
        "nft delete table arp fw",
        "nft insert rule arp fw c arp operation request arp daddr ip 10.20.0.0/24 accept",
        stops_production=True,
        settles=_ARP_SETTLES,
        becomes="arp-in-vain",
    ),
    Fault(
        "no answers to the clients' ARP requests",
        ("arp-unanswered",),
        "sysctl -qw net.ipv4.conf.sw0.arp_ignore=8",
        "sysctl -qw net.ipv4.conf.sw0.arp_ignore=0",
        "run: sysctl -w net.ipv4.conf.sw0.arp_ignore=0",
    ),
    Fault(
        "a wrong permanent neighbour entry",
        ("static-neighbour",),
        f"ip neigh replace {_WRONG_NEIGHBOUR} nud permanent",
        f"ip neigh del {_WRONG_NEIGHBOUR}",
        "run: ip neigh del 10.20.0.12 dev pl0",
        loses=Loss.CONNECTIONS,
        blames=("c2",),
    ),
)
