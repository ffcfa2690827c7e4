"""Faults of the host, planted one at a time while clients connect: each is a finding within five seconds, with its
remedy, and ends with the fault."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest

from natmirror.errors import HostError
from natmirror.ha.exit_codes import HOST_FAILS
from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.process import wait_for
from tests.live.scene import ROOT, RULES, Scene

pytestmark = pytest.mark.live

SEEN_WITHIN, GONE_WITHIN = 5.0, 10.0
NFT = "nft 'table inet fw { chain c { type filter hook %s priority %d; policy %s; %s; }; }'"
NO_NFT = "nft delete table inet fw"
BY_INTERFACE = 'iifname "pl0" accept; iifname "sw0" oifname "pl0" accept'
REJECT = "FORWARD -p tcp -d 10.20.0.8/29 --dport 6653 -j REJECT"
INVALID = "FORWARD -m conntrack --ctstate INVALID -j DROP"
MARKED = "FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT"
BY_PORT = "PREROUTING -p tcp --dport 6653 -j DROP"
OUR_MARK = "PREROUTING -i sw0 -j MARK --set-mark 0x6e6d0000"
REDIRECT = "PREROUTING -p tcp --dport 6653 -j REDIRECT --to-ports 9"
INGRESS = (
    "nft 'table netdev fw { set bad { type ipv4_addr; flags interval; elements = { 10.10.0.0/24 }; };"
    ' chain c { type filter hook ingress device "sw0" priority 0; ip saddr @bad tcp dport 6653 drop; }; }\''
)
LOOSE = "/proc/sys/net/netfilter/nf_conntrack_tcp_loose"
RP_FILTER = "sysctl -qw net.ipv4.conf.pl0.rp_filter"
HALVES = "ip route {0} unreachable 10.10.0.0/25; ip route {0} unreachable 10.10.0.128/25"
BLACKHOLES = "ip route {0} blackhole 10.10.0.8/29; ip route {0} blackhole 10.10.0.16/28"
IPSEC = "src 10.10.0.0/24 dst 10.20.0.0/24 dir fwd"
NEIGHBOUR = "ip neigh replace 10.20.0.11 dev pl0"
LOCAL_ROUTE = "table local local 10.10.0.100 dev sw0 proto kernel scope host"
BRIDGE = "ip link add br9 type bridge && ip link set br9 up && ip link set pl0 master br9"
PROGRAM = "python3 -c 'import socket, time; s = socket.socket(); {}' >/dev/null 2>&1 & echo $! >program"
KILL = "kill $(cat program)"
WRONG = "for one in %s; do ip neigh replace $one lladdr 02:00:00:00:de:ad nud permanent dev %s; done"
NO_WRONG = "for one in %s; do ip neigh del $one dev %s; done"
CALLER = """
import socket, time
while True:
    try:
        with socket.create_connection(("10.10.0.100", 6653), 1.5, source_address=("{source}", 0)) as one:
            one.sendall(b"x" * 100)
            time.sleep(0.1)
    except OSError:
        pass
    time.sleep(0.1)
"""


@dataclass(frozen=True)
class Fault:
    """Shell commands on a host that plant a fault and remove it, the findings to expect, and a part of the remedy."""

    codes: tuple[str, ...]
    plant: str
    undo: str
    remedy: str
    host: str = "lb"
    stops_production: bool = False


BOTH = ("production-dropped", "copies-dropped")
BY_TRAFFIC = {"service-silent", "clients-unreachable"}
"""What traffic shows of any fault that stops production."""
FAULTS = (
    # A backend that does not answer is avoided for a while, so that this finding outlasts others.
    Fault(
        *(("backend-silent",), "ip route del default", "ip route add default via 10.20.0.1"),
        *("on c1, run: ip route get CLIENT", "c1"),
    ),
    # What natmirror cannot judge by itself, traffic shows.
    Fault(
        ("service-silent",),
        *(WRONG % ("10.20.0.11 10.20.0.12", "pl0"), NO_WRONG % ("10.20.0.11 10.20.0.12", "pl0")),
        "ip neigh show 10.20.0.11",
        stops_production=True,
    ),
    Fault(
        *(("no-forwarding",), "sysctl -qw net.ipv4.ip_forward=0"),
        "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0",
        "sysctl -w net.ipv4.ip_forward=1",
        stops_production=True,
    ),
    Fault(
        *(BOTH, NFT % ("forward", 0, "drop", "ct state established,related accept"), NO_NFT),
        "nft insert rule inet fw c ip saddr 10.10.0.0/24 accept",
        stops_production=True,
    ),
    Fault(
        *(
            ("copies-dropped",),
            NFT % ("forward", 0, "drop", BY_INTERFACE),
            NO_NFT,
        ),
        'nft insert rule inet fw c iifname "natmirror*" accept',
    ),
    Fault(
        *(("copies-dropped",), NFT % ("prerouting", -290, "accept", "fib saddr . iif oif missing drop"), NO_NFT),
        'nft insert rule inet fw c iifname "natmirror*" accept',
    ),
    Fault(
        *(("copies-dropped",), "iptables-legacy -t raw -A PREROUTING -m rpfilter --invert -j DROP"),
        "iptables-legacy -t raw -D PREROUTING -m rpfilter --invert -j DROP",
        "iptables-legacy -t raw -I PREROUTING -i natmirror+ -j ACCEPT",
    ),
    Fault(
        *(BOTH, f"iptables -P FORWARD DROP; iptables -A {MARKED}", f"iptables -P FORWARD ACCEPT; iptables -D {MARKED}"),
        "-I FORWARD -s 10.10.0.0/24 -j ACCEPT && ",
        stops_production=True,
    ),
    Fault(
        *(BOTH, f"iptables -I {REJECT}", f"iptables -D {REJECT}"),
        "-I FORWARD -s 10.10.0.0/24 -j ACCEPT",
        stops_production=True,
    ),
    Fault(
        *(BOTH, "iptables -I FORWARD -j NFQUEUE --queue-num 200", "iptables -D FORWARD -j NFQUEUE --queue-num 200"),
        "-I FORWARD -s 10.10.0.0/24 -j ACCEPT",
        stops_production=True,
    ),
    Fault(
        *(("production-dropped",), INGRESS, "nft delete table netdev fw"),
        "nft insert rule netdev fw c ip saddr 10.10.0.0/24 accept",
        stops_production=True,
    ),
    Fault(
        *(BOTH, f"iptables-legacy -t raw -A {BY_PORT}", f"iptables-legacy -t raw -D {BY_PORT}"),
        "iptables-legacy -t raw -I PREROUTING -s 10.10.0.0/24 -j ACCEPT",
        stops_production=True,
    ),
    Fault(
        *(("mark-collides",), f"iptables -t mangle -A {OUR_MARK}", f"iptables -t mangle -D {OUR_MARK}"),
        "iptables-nft -t mangle -I PREROUTING -s 10.10.0.0/24 -j ACCEPT",
        stops_production=True,
    ),
    Fault(
        *(("production-redirected",), f"iptables -t nat -A {REDIRECT}", f"iptables -t nat -D {REDIRECT}"),
        "-t nat -I PREROUTING -s 10.10.0.0/24 -j ACCEPT",
        stops_production=True,
    ),
    Fault(
        *(("clients-hidden",), "iptables -t nat -A POSTROUTING -o pl0 -j MASQUERADE", "iptables -t nat -F POSTROUTING"),
        "if they have to, run: iptables-nft -t nat -I POSTROUTING -s 10.10.0.0/24 -j ACCEPT",
    ),
    Fault(
        ("invalid-dropped",),
        f"iptables -A {INVALID}; echo 0 >{LOOSE}",
        f"iptables -D {INVALID}; echo 1 >{LOOSE}",
        "sysctl -w net.netfilter.nf_conntrack_tcp_loose=1",
    ),
    Fault(
        *(
            ("strict-reverse-path",),
            "sysctl -qw net.ipv4.conf.pl0.rp_filter=1",
            "sysctl -qw net.ipv4.conf.pl0.rp_filter=0",
        ),
        "sysctl -w net.ipv4.conf.pl0.rp_filter=2",
    ),
    Fault(
        *(("no-route-to-mirror",), "ip route add unreachable 10.20.0.13", "ip route del unreachable 10.20.0.13"),
        "ip route add 10.20.0.13/32 via GATEWAY",
    ),
    Fault(
        *(("no-route-to-backend",), "ip route add unreachable 10.20.0.11", "ip route del unreachable 10.20.0.11"),
        "ip route add 10.20.0.11/32 via GATEWAY",
    ),
    Fault(
        *(("service-address-missing",), "ip addr del 10.10.0.100/24 dev sw0", "ip addr add 10.10.0.100/24 dev sw0"),
        "ip address add 10.10.0.100/24 dev sw0",
    ),
    Fault(
        *(("target-is-this-host",), "ip addr add 10.20.0.12/32 dev lo", "ip addr del 10.20.0.12/32 dev lo"),
        "ip address del 10.20.0.12/32",
    ),
    Fault(
        *(("listener-bypassed",), PROGRAM.format('s.bind(("", 6653)); s.listen(); time.sleep(60)'), KILL),
        "ss -ltnp 'sport = :6653'",
    ),
    Fault(
        *(("local-client",), PROGRAM.format('s.connect(("10.10.0.100", 6653))'), KILL),
        "have that program connect to a backend's own address",
    ),
    Fault(
        *(("mtu-narrows",), "ip link set pl0 mtu 1400", "ip link set pl0 mtu 1500"),
        "ip link set pl0 mtu 1500",
    ),
    Fault(
        *(("production-cut", "link-down"), "ip link set sw0 down", "ip link set sw0 up"),
        "ip link set sw0 up",
        stops_production=True,
    ),
    Fault(
        *(("production-cut",), "ip rule add from 10.10.0.0/24 iif sw0 blackhole pref 100", "ip rule del pref 100"),
        "ip rule del priority 100 from 10.10.0.0/24 iif sw0 blackhole",
        stops_production=True,
    ),
    Fault(
        *(("production-cut",), HALVES.format("add"), HALVES.format("del")),
        "ip route del unreachable 10.10.0.0/25",
        stops_production=True,
    ),
    Fault(
        *(("service-address-not-local",), f"ip route del {LOCAL_ROUTE}", f"ip route add {LOCAL_ROUTE} src 10.10.0.1"),
        "ip route add local 10.10.0.100 dev sw0 table local",
        stops_production=True,
    ),
    Fault(
        *(
            ("clients-elsewhere",),
            "ip link add br-x type bridge; ip addr add 10.10.0.1/29 dev br-x; ip link set br-x up",
        ),
        *("ip link del br-x", "remove that route or the address of br-x"),
    ),
    Fault(
        *(("production-cut",), BLACKHOLES.format("add"), BLACKHOLES.format("del")),
        "ip route del blackhole 10.10.0.8/29",
        stops_production=True,
    ),
    Fault(
        *(("production-cut",), f"ip xfrm policy add {IPSEC} action block", f"ip xfrm policy del {IPSEC}"),
        "run: ip xfrm policy delete index",
        stops_production=True,
    ),
    Fault(
        *(
            ("static-neighbour",),
            f"{NEIGHBOUR} lladdr 02:00:00:00:de:ad nud permanent",
            "ip neigh del 10.20.0.11 dev pl0",
        ),
        "ip neigh del 10.20.0.11 dev pl0",
    ),
    Fault(
        *(("link-enslaved", "no-backend-reachable"), BRIDGE, "ip link set pl0 nomaster; ip link del br9"),
        "ip link set pl0 nomaster",
        stops_production=True,
    ),
    Fault(
        *(("copies-cut",), "ip rule add iif natmirror0 blackhole pref 100", "ip rule del pref 100"),
        "ip rule del priority 100 from all iif natmirror0 blackhole",
    ),
    Fault(
        *(("mirror-silent",), "ip route del default", "ip route add default via 10.20.0.1"),
        *("on master, run: ip route get CLIENT", "m"),
    ),
)


@pytest.fixture
def traffic(scene: Scene) -> Iterator[LoadBalancer]:
    scene.record("c1", "c2", "m")
    balancer = scene.balance(scene.rules(RULES.read_text().replace("balance: maglev", "balance: round-robin")))
    for source in ("10.10.0.11", "10.10.0.21"):
        scene.start("s1", sys.executable, "-c", CALLER.format(source=source), name="caller")
    yield balancer


def shell(scene: Scene, host: str, text: str) -> None:
    scene.lab.run(host, ["sh", "-c", text], cwd=scene.lab.directory)


def found(balancer: LoadBalancer) -> dict[str, str]:
    return {one["code"]: f"{one['problem']}; {one['mend']}" for one in balancer.status()["findings"]}


def health(scene: Scene, balancer: LoadBalancer) -> int:
    argv = ["ip", "netns", "exec", scene.lab.ns("lb"), sys.executable, "-m", "natmirror", "health"]
    return subprocess.run([*argv, "--api", str(balancer.api)], capture_output=True, check=False, cwd=ROOT).returncode


def appear(balancer: LoadBalancer, codes: set[str]) -> bool:
    """Wait until all these findings are there; return whether they come in time."""
    return waited(lambda: found(balancer).keys() >= codes, SEEN_WITHIN)


def disappear(balancer: LoadBalancer, codes: set[str]) -> bool:
    """Wait until none of these findings is there; return whether they end in time."""
    return waited(lambda: not found(balancer).keys() & codes, GONE_WITHIN)


def waited(condition: Callable[[], bool], timeout: float) -> bool:
    with suppress(HostError):
        wait_for(condition, "findings", timeout)
        return True
    return False


def test_each_fault_of_the_host_is_seen_within_five_seconds_and_gone_with_it(
    scene: Scene, traffic: LoadBalancer
) -> None:
    balancer = traffic
    wait_for(lambda: balancer.status()["mirrors"][0]["acked_bytes"] > 1000, "copies")
    assert found(balancer) == {}
    wrong, lasting = [], set[str]()
    for fault in FAULTS:
        assert disappear(balancer, {*fault.codes, *lasting}), fault.codes
        lasting = {*fault.codes, *BY_TRAFFIC} if fault.stops_production else set()
        shell(scene, fault.host, fault.plant)
        is_seen, shown = appear(balancer, set(fault.codes)), found(balancer)
        is_unfit = health(scene, balancer) == HOST_FAILS
        shell(scene, fault.host, fault.undo)
        if (
            not is_seen
            or not any(fault.remedy in text for text in shown.values())
            or is_unfit != fault.stops_production
        ):
            wrong.append((fault, is_unfit, shown))
    assert not wrong
    assert disappear(balancer, {*BY_TRAFFIC, *(code for fault in FAULTS[1:] for code in fault.codes)})
    log = balancer.program.text
    assert log.count("ERROR production-dropped: ") == log.count("INFO production-dropped: no longer so: ") == 6
