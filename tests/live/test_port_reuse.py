"""Reused ports: each leg connects within two round trips, whatever state the mirror has of the last connection."""

from itertools import groupby
from pathlib import Path

import dpkt
import pytest

from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.process import Program, wait_for, wait_listen
from natmirror.lab.topology import SERVICE
from tests.live.scene import CLIENTS, MASTER, PORT, Scene, tcp_packets

pytestmark = pytest.mark.live

FIRST, COUNT = 40_000, 8
STATES = {"established": "01", "time-wait": "06"}
IDLE = "00000000:00000000"
"""The entry of empty send and receive queues in /proc/net/tcp."""
LETTERS = {dpkt.tcp.TH_SYN: "S", dpkt.tcp.TH_ACK: "A", dpkt.tcp.TH_RST: "R", dpkt.tcp.TH_FIN: "F"}


def talk(scene: Scene, *options: str) -> tuple[Program, Path]:
    """Open connections from the same ports each time and exchange data; return the file that ends them."""
    until = scene.file("until")
    program = scene.app("s1", "ports", SERVICE, PORT, CLIENTS[0], FIRST, COUNT, until, *options)
    program.wait_for_text("talked", 40.0)
    return program, until


def close(program: Program, until: Path) -> None:
    until.touch()
    program.wait_for_text("closed")


def at_mirror(scene: Scene, state: str) -> int:
    """Return the number of these ports' connections that the mirror has in a state, with all data acknowledged."""
    lines = scene.lab.run("m", ["cat", "/proc/net/tcp"]).splitlines()[1:]
    ports = {f"{port:04X}" for port in range(FIRST, FIRST + COUNT)}
    found = [line.split() for line in lines]
    return sum(words[2].rpartition(":")[2] in ports and words[3:5] == [STATES[state], IDLE] for words in found)


def mirror(scene: Scene, how: str) -> None:
    if how == "recorder":
        scene.record("m")
    else:
        scene.app("m", "bad_master", PORT, how)
        wait_listen(scene.lab.ns("m"), PORT)


def openings(capture: Path) -> dict[int, list[str]]:
    """Return, for each port, sender and flags of the packets from the leg's SYN to its first bare ACK or data; one that
    is sent again, as it may be on a busy machine, counts once."""
    found: dict[int, list[str]] = {}
    is_open: set[int] = set()
    for ip in tcp_packets(capture):
        to_mirror = ip.dst == MASTER
        port = ip.data.sport if to_mirror else ip.data.dport
        if port in is_open or PORT not in (ip.data.sport, ip.data.dport) or MASTER not in (ip.src, ip.dst):
            continue
        letters = "".join(letter for flag, letter in LETTERS.items() if ip.data.flags & flag)
        packet = f"{'>' if to_mirror else '<'}{letters}"
        if (port in found and found[port][-1] != packet) or (port not in found and letters == "S"):
            found.setdefault(port, []).append(packet)
        if to_mirror and letters == "A":
            is_open.add(port)
    return found


def round_trips(packets: list[str]) -> int:
    """Return the number of times a leg waited for the mirror."""
    return sum(side == "<" for side, _ in groupby(packets, lambda packet: packet[0]))


def assert_connected_soon(scene: Scene, capture: Path) -> set[str]:
    """Assert that all legs are established within two round trips; return their handshakes."""
    opened = openings(capture)
    assert opened.keys() == set(range(FIRST, FIRST + COUNT))
    ways = {" ".join(packets) for packets in opened.values()}
    print(f"{COUNT} legs: {', '.join(sorted(ways))}")
    assert all(packets[-2:] == ["<SA", ">A"] and round_trips(packets) <= 2 for packets in opened.values()), ways
    return ways


def connected_again(scene: Scene, balancer: LoadBalancer) -> set[str]:
    """Use the same ports again; return the legs' handshakes."""
    sniffer, capture = scene.sniff("m", "eth0")
    again = talk(scene)
    balancer.wait_until_acknowledged()
    close(*again)
    sniffer.end()
    return assert_connected_soon(scene, capture)


@pytest.mark.parametrize("kind", ["recorder", "closing"])
def test_ports_are_reused_after_either_side_has_closed_first(scene: Scene, kind: str) -> None:
    scene.lab.sysctl("s1", tcp_max_tw_buckets=0)  # so that the client's own kernel lets it
    scene.lab.sysctl("m", tcp_tw_reuse=0)
    scene.record("c1", "c2")
    mirror(scene, kind)
    balancer = scene.balance()
    close(*talk(scene))
    balancer.wait_for_status(lambda status: status["mirrors"][0]["legs_ended"] == {"closed": COUNT}, "the legs to end")
    if kind == "closing":
        assert at_mirror(scene, "time-wait") == COUNT
    assert connected_again(scene, balancer) == {">S <SA >A"}, "its number is higher than all before"
    balancer.wait_for_status(
        lambda status: status["mirrors"][0]["legs_ended"] == {"closed": 2 * COUNT}, "the legs to end"
    )


def test_ports_are_reused_after_a_restart_with_another_key(scene: Scene) -> None:
    """Half of all random numbers lie below those that a TIME-WAIT remembers; a RST ends the TIME-WAIT."""
    scene.lab.sysctl("s1", tcp_max_tw_buckets=0)
    scene.record("c1", "c2")
    mirror(scene, "closing")
    balancer = scene.balance()
    close(*talk(scene))
    balancer.wait_for_status(lambda status: status["mirrors"][0]["legs_ended"] == {"closed": COUNT}, "the legs to end")
    assert balancer.stop() == 0
    scene.balancers.remove(balancer)
    assert at_mirror(scene, "time-wait") == COUNT
    assert connected_again(scene, scene.balance()) <= {">S <SA >A", ">S <A >R >S <SA >A"}


def test_a_connection_left_at_the_mirror_is_cleared(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    balancer = scene.balance(on_stop="keep")
    first = talk(scene, "--reset")
    wait_for(lambda: at_mirror(scene, "established") == COUNT, "the legs to be idle")
    balancer.kill()
    close(*first)  # the RSTs reach no host
    assert at_mirror(scene, "established") == COUNT
    assert connected_again(scene, scene.balance()) == {">S <A >R >S <SA >A"}
