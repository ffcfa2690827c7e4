"""Translation in the kernel: where it works, and where it cannot."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.process import wait_listen
from natmirror.lab.topology import SERVICE
from tests.helpers.support import at
from tests.live.scene import (
    CLIENTS,
    RULES,
    TABLE,
    Records,
    Scene,
    assert_all_well,
    has_right_sums,
    ip_packets,
    tcp_packets,
    without_mirrors,
)

pytestmark = pytest.mark.live

OTHER_PORT = 7000
NO_OFFLOAD = """
import array, fcntl, socket, struct
setting = array.array("B", struct.pack("II", {command}, {value}))
request = struct.pack("16sP", b"eth0", setting.buffer_info()[0])
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8946, request)
"""
ETHTOOL_STXCSUM = 0x17  # linux/ethtool.h


@pytest.fixture
def software_checksums(scene: Scene) -> Iterator[None]:
    """Make hosts compute and check checksums, as behind real network cards."""
    set_offload(scene, 0)
    yield
    set_offload(scene, 1)


def set_offload(scene: Scene, value: int) -> None:
    for host in ("s1", "c1", "c2"):
        scene.lab.run(host, ["/usr/bin/python3", "-c", NO_OFFLOAD.format(command=ETHTOOL_STXCSUM, value=value)])


def marked(balancer: LoadBalancer) -> tuple[int, int]:
    """Return the number of queued packets that the kernel translated."""
    queues = balancer.status()["machine"]["queues"].values()
    return sum(queue["packets_translated_by_kernel"] for queue in queues), sum(
        queue["packets_received"] for queue in queues
    )


def test_checksums_and_ports_are_right_at_both_ends(scene: Scene, software_checksums: None) -> None:
    """The receiver would drop a packet with a wrong checksum again and again."""
    for host in ("c1", "c2"):
        scene.recorders[host] = Records(scene.file(f"{host}.jsonl"))
        scene.app(host, "recorder", OTHER_PORT, scene.recorders[host].file, "--answers", "100")
        wait_listen(scene.lab.ns(host), OTHER_PORT)
    scene.record("m")
    sniffers = [scene.sniff(host, "eth0") for host in ("s1", "c1", "c2")]
    text = RULES.read_text().replace(", port: 6653, weight: 1", f", port: {OTHER_PORT}")
    balancer = scene.balance(scene.rules(text.replace("10.20.0.12}", f"10.20.0.12, port: {OTHER_PORT}}}")))
    sent = assert_all_well(scene.run_client(connections=20, requests=20, size=3000, answers=100), 20)
    requests_and_replies = marked(balancer)[0]
    assert requests_and_replies >= 800, "large ones"
    sent |= assert_all_well(scene.run_client(connections=20, requests=20, size=10, answers=100, seed=2), 20)
    assert marked(balancer)[0] - requests_and_replies >= 400, "replies alone"
    scene.wait_for_master(*sent)
    assert scene.at_backends() == scene.at_master() == sent
    for sniffer, capture in sniffers:
        sniffer.end()
        packets = tcp_packets(capture)
        assert len(packets) > 200
        assert [ip for ip in packets if not has_right_sums(ip)] == []


def test_without_nft_natmirror_translates_by_itself(scene: Scene, tmp_path: Path) -> None:
    programs = tmp_path / "sbin"
    shutil.copytree("/usr/sbin", programs, symlinks=True, ignore=shutil.ignore_patterns("nft"))
    hidden = f'mount --bind {programs} /usr/sbin && exec "$@"'
    scene.record("c1", "c2", "m")
    balancer = scene.balance(RULES, iptables="nft", through=["unshare", "--mount", "sh", "-c", hidden, "sh"])
    sent = assert_all_well(scene.run_client(connections=20, requests=20, size=3000), 20)
    scene.wait_for_master(*sent)
    assert scene.at_backends() == scene.at_master() == sent
    assert marked(balancer)[0] == 0
    why = balancer.status()["machine"]["kernel_translation_off_because"]
    assert why == "nft is missing: install the package nftables"
    assert f"nftables: {why}; natmirror translates each packet itself" in balancer.program.text


def test_a_foreign_mark_stays_on_its_packet(scene: Scene) -> None:
    """Policy routing sets such marks, on packets from the pool."""
    theirs = ["-s", "10.20.0.0/24", "-p", "tcp"]
    rules = [
        ["PREROUTING", *theirs, "-j", "MARK", "--set-mark", "5"],
        ["POSTROUTING", "-o", "sw0", "-p", "tcp", "-m", "mark", "--mark", "5"],
    ]
    scene.record("c1", "c2", answers=100)
    for rule in rules:
        scene.lab.run("lb", ["iptables", "-t", "mangle", "-A", *rule])
    try:
        balancer = scene.balance(scene.rules(without_mirrors()))
        sent = assert_all_well(scene.run_client(connections=5, requests=20, answers=100), 5)
        passed = scene.lab.run("lb", ["iptables", "-t", "mangle", "-nvxL", "POSTROUTING"]).splitlines()[-1].split()[0]
    finally:
        for rule in rules:
            scene.lab.run("lb", ["iptables", "-t", "mangle", "-D", *rule])
    assert scene.at_backends() == sent
    by_kernel, all_packets = marked(balancer)
    assert int(passed) > 100
    assert all_packets - by_kernel >= int(passed), "replies, however large"
    assert by_kernel >= 100, "requests"


def test_after_the_table_is_flushed_no_client_sees_a_backend_and_connections_go_on(scene: Scene) -> None:
    """The rules are iptables-legacy's, which are not flushed with it."""
    scene.record("c1", "c2", "m")
    sniffer, capture = scene.sniff("s1", "eth0")
    balancer = scene.balance(RULES, iptables="legacy")
    until = scene.file("until")
    client, records = scene.client(connections=20, until=until)
    balancer.wait_for_status(lambda status: len(status["flows"]) == 20, "all connections")
    before = marked(balancer)[0]
    scene.lab.run("lb", ["nft", "delete", *TABLE.split()])
    balancer.program.wait_for_text("nftables table natmirror within the last minute: the table is missing")
    balancer.wait_for_status(lambda _: marked(balancer)[0] > before + 1000, "the kernel to translate again", 30.0)
    until.touch()
    scene.finish(client)
    sent = assert_all_well(records, 20)
    scene.wait_for_master(*sent)
    assert scene.at_backends() == scene.at_master() == sent
    sniffer.end()
    service, clients = at(SERVICE, 0)[0], {at(address, 0)[0] for address in CLIENTS}
    assert {ip.src for ip in ip_packets(capture) if ip.dst in clients} == {service}


def test_the_kernel_translates_for_a_backend_added_by_a_reload(scene: Scene) -> None:
    scene.record("c1", "c2")
    text = f"threads: 1\n{without_mirrors()}"  # so that natmirror reads this file again
    rules = scene.rules(text.replace("        - {name: c2, address: 10.20.0.12}\n", ""))
    balancer = scene.balance(rules)
    assert_all_well(scene.run_client(connections=5, requests=5), 5)
    rules.write_text(
        text.replace("        - {name: c1, address: 10.20.0.11, port: 6653, weight: 1}", "").replace(
            "# a port left out is the service's", ""
        )
    )
    balancer.program.send_signal(signal.SIGHUP)
    balancer.program.wait_for_text("reloaded")
    before = marked(balancer)[0]
    sent = assert_all_well(scene.run_client(connections=5, requests=20, seed=5), 5)
    assert marked(balancer)[0] - before >= 100, "each request"
    assert sent.items() <= scene.at_backends().items()
    assert "10.20.0.12" in scene.lab.run("lb", ["nft", "list", *TABLE.split()])
