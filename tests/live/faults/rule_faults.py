"""Faults that other programs' rules are: iptables of both kinds, and nftables."""

from tests.live.faults.fault import Fault, Loss

_NFT = "nft 'table inet fw { chain c { type filter hook %s priority %d; policy %s; %s; }; }'"
_NO_NFT = "nft delete table inet fw"
_BY_INTERFACE = 'iifname "pl0" accept; iifname "sw0" oifname "pl0" accept'
_REJECT = "FORWARD -p tcp -d 10.20.0.8/29 --dport 6653 -j REJECT"
_INVALID = "FORWARD -m conntrack --ctstate INVALID -j DROP"
_LOOSE = "/proc/sys/net/netfilter/nf_conntrack_tcp_loose"
_LARGE = "FORWARD -p tcp -m length --length 100:65535 -j DROP"
_DATA = "FORWARD -i pl0 -p tcp --tcp-flags PSH PSH -j DROP"
_SYNS = "FORWARD -i pl0 -p tcp --tcp-flags SYN,ACK SYN,ACK -j DROP"
_RPFILTER = "PREROUTING -m rpfilter --invert -j DROP"
_MARKED = "FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT"
_QUEUE = "FORWARD -j NFQUEUE --queue-num 200"
_BY_PORT = "PREROUTING -p tcp --dport 6653 -j DROP"
_OUR_MARK = "PREROUTING -i sw0 -j MARK --set-mark 0x6e6d0000"
_REDIRECT = "PREROUTING -p tcp --dport 6653 -j REDIRECT --to-ports 9"
_MASQUERADE = "POSTROUTING -o pl0 -j MASQUERADE"
_INGRESS = (
    "nft 'table netdev fw { set bad { type ipv4_addr; flags interval; elements = { 10.10.0.0/24 }; };"
    ' chain c { type filter hook ingress device "sw0" priority 0; ip saddr @bad tcp dport 6653 drop; }; }\''
)
_TO_BACKENDS = "-s 10.10.0.0/24 -d 10.20.0.11,10.20.0.12 -p tcp --dport 6653"
_TO_MIRROR = "ip daddr 10.20.0.13 tcp dport 6653"
_BOTH = ("production-dropped", "copies-dropped")

RULE_FAULTS = (
    Fault(
        "nftables drops what is not known",
        _BOTH,
        _NFT % ("forward", 0, "drop", "ct state established,related accept"),
        _NO_NFT,
        "nft insert rule inet fw c ip saddr 10.10.0.0/24 ip daddr { 10.20.0.11, 10.20.0.12 } tcp dport 6653 accept",
        stops_production=True,
    ),
    Fault(
        "nftables accepts by interface, and not the TUN device",
        ("copies-dropped",),
        _NFT % ("forward", 0, "drop", _BY_INTERFACE),
        _NO_NFT,
        f'nft insert rule inet fw c iifname "natmirror*" ip saddr 10.10.0.0/24 {_TO_MIRROR} accept',
    ),
    Fault(
        "nftables checks the reverse path",
        ("copies-dropped",),
        _NFT % ("prerouting", -290, "accept", "fib saddr . iif oif missing drop"),
        _NO_NFT,
        f'nft insert rule inet fw c iifname "natmirror*" ip saddr 10.10.0.0/24 {_TO_MIRROR} accept',
    ),
    Fault(
        "iptables checks the reverse path",
        ("copies-dropped",),
        f"iptables-legacy -w -t raw -A {_RPFILTER}",
        f"iptables-legacy -w -t raw -D {_RPFILTER}",
        "-t raw -I PREROUTING -i natmirror+ -s 10.10.0.0/24 -d 10.20.0.13 -p tcp --dport 6653 -j ACCEPT",
    ),
    Fault(
        "policy DROP, but for marked packets",
        _BOTH,
        f"iptables -P FORWARD DROP; iptables -A {_MARKED}",
        f"iptables -P FORWARD ACCEPT; iptables -D {_MARKED}",
        f"-I FORWARD {_TO_BACKENDS} -j ACCEPT && ",
        stops_production=True,
    ),
    Fault(
        "a queue that no program reads",
        _BOTH,
        f"iptables -I {_QUEUE}",
        f"iptables -D {_QUEUE}",
        f"-I FORWARD {_TO_BACKENDS} -j ACCEPT",
        stops_production=True,
    ),
    Fault(
        "a named set dropped at the interface",
        ("production-dropped",),
        _INGRESS,
        "nft delete table netdev fw",
        "nft insert rule netdev fw c ip saddr 10.10.0.0/24 ip daddr 10.10.0.100 tcp dport 6653 accept",
        stops_production=True,
    ),
    Fault(
        "the service's port dropped by the other iptables",
        _BOTH,
        f"iptables-legacy -w -t raw -A {_BY_PORT}",
        f"iptables-legacy -w -t raw -D {_BY_PORT}",
        "iptables-legacy -t raw -I PREROUTING -s 10.10.0.0/24 -d 10.10.0.100",
        stops_production=True,
    ),
    Fault(
        "marks of another program that are natmirror's",
        ("mark-collides",),
        f"iptables -t mangle -A {_OUR_MARK}",
        f"iptables -t mangle -D {_OUR_MARK}",
        f"iptables-nft -t mangle -I PREROUTING {_TO_BACKENDS} -j ACCEPT",
        stops_production=True,
    ),
    Fault(
        "new connections redirected",
        ("production-redirected",),
        f"iptables -t nat -A {_REDIRECT}",
        f"iptables -t nat -D {_REDIRECT}",
        f"-t nat -I PREROUTING {_TO_BACKENDS} -j ACCEPT",
        stops_production=True,
    ),
    Fault(
        "clients' addresses hidden",
        ("clients-hidden",),
        f"iptables -t nat -A {_MASQUERADE}",
        f"iptables -t nat -D {_MASQUERADE}",
        f"if they have to, run: iptables-nft -t nat -I POSTROUTING {_TO_BACKENDS} -j ACCEPT",
        loses=Loss.CONNECTIONS,
    ),
    # Rules that natmirror cannot judge: traffic shows them.
    Fault(
        "large packets dropped",
        ("service-silent",),
        f"iptables -I {_LARGE}",
        f"iptables -D {_LARGE}",
        "if only small packets go out, look for a rule with a length",
        stops_production=True,
    ),
    Fault(
        "the backends' data dropped",
        ("clients-unreachable",),
        f"iptables -I {_DATA}",
        f"iptables -D {_DATA}",
        "look at the network between this host and the clients",
        stops_production=True,
    ),
    Fault(
        "new connections dropped",
        ("no-new-connections",),
        f"iptables -I {_SYNS}",
        f"iptables -D {_SYNS}",
        "look for rules that match SYNs",
        loses=Loss.TIME,
        settles=2.0,  # a SYN is repeated after a second
    ),
    Fault(
        "REJECT towards the backends",
        _BOTH,
        f"iptables -I {_REJECT}",
        f"iptables -D {_REJECT}",
        f"-I FORWARD {_TO_BACKENDS} -j ACCEPT",
        stops_production=True,
    ),
    Fault(
        "one backend rejected",
        ("partly-dropped",),
        "iptables -I FORWARD -d 10.20.0.12 -p tcp -j REJECT --reject-with tcp-reset",
        "iptables -D FORWARD -d 10.20.0.12 -p tcp -j REJECT --reject-with tcp-reset",
        "-I FORWARD -s 10.10.0.0/24 -d 10.20.0.12 -p tcp --dport 6653 -j ACCEPT",
        loses=Loss.CONNECTIONS,
    ),
    Fault(
        "INVALID is dropped, and conntrack is strict",
        ("invalid-dropped",),
        f"iptables -A {_INVALID}; echo 0 >{_LOOSE}",
        f"iptables -D {_INVALID}; echo 1 >{_LOOSE}",
        "sysctl -w net.netfilter.nf_conntrack_tcp_loose=1",
        loses=Loss.TIME,
    ),
)
