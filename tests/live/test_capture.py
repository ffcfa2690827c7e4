"""natmirror capture of a mirrored connection, as tshark reads it: four sides, each with all bytes of the client."""

import os
import sys
from collections.abc import Sequence

import pytest

from natmirror.lab.process import Program, wait_for
from tests.helpers import tshark
from tests.live.capturing import CLIENT, comments, finish, start, streams
from tests.live.scene import CLIENTS, RULES, Scene

pytestmark = [pytest.mark.live, pytest.mark.beside]

SIDES = {"client side (sw0)", "backend side (pl0)", "copy to master (pl0)", "answers of master (pl0)"}


def test_a_connection_from_its_syn_to_its_end(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    balancer = scene.balance()
    file = scene.file("whole.pcapng")
    program = start(scene, balancer, CLIENT, file)
    assert "It has no connection now: waiting for its first one" in program.text
    until = scene.file("until")
    client, records = scene.client(connections=1, size=3000, sources=CLIENT, until=until)
    program.wait_for_text("copied to master")
    until.touch()
    scene.finish(client)
    wait_for(lambda: bool(balancer.ended()), "the leg to end")
    told = finish(program)
    assert "the kernel dropped no packet" in told
    assert (file.stat().st_mode & 0o777, file.stat().st_uid) == (0o600, os.getuid())
    # 1. Four interfaces with names, and nothing malformed.
    assert {name for (name,) in tshark.fields(file, "frame.interface_name")} == SIDES
    info = tshark.info(file)
    assert "Number of interfaces in file: 4" in info and "Strict time order:   True" in info
    assert not tshark.malformed(file)
    # 2. Each side has the same bytes.
    [(port, (sent, _))] = records.by_port().items()
    found = streams(file)
    assert len(found[("client side (sw0)", True)]) == sent
    to_servers = [found[(name, True)] for name in sorted(SIDES) if not name.startswith("answers")]
    assert to_servers == to_servers[:1] * 3
    assert found[("client side (sw0)", False)] == found[("backend side (pl0)", False)] != b""
    assert found[("answers of master (pl0)", False)] != b""
    # 3. Comments: the choice at the SYN, the copy at its first packet, the leg's end at one of its last.
    noted = comments(file)
    assert noted[0][0] == "client side (sw0)" and "S" in noted[0][1]
    assert f"{CLIENT}:{port} to openflow, with the backend c" in noted[0][2]
    assert "by its hash it has Maglev's slot" in noted[0][2]
    copied = [one for one in noted if f"{CLIENT}:{port}: copied to master" in one[2]]
    assert [one[0] for one in copied] == ["copy to master (pl0)"] and "S" in copied[0][1]
    ends = [one for one in noted if "the leg to master has ended, closed" in one[2]]
    assert len(ends) == 1 and ends[0][0] in ("copy to master (pl0)", "answers of master (pl0)")
    assert f"it acknowledged {sent} of {sent} bytes" in ends[0][2]
    # 4. natmirror replays the file: it takes the packets as received, and mirrors the same bytes again.
    replay = ("-m", "natmirror", "replay", "--rules", str(RULES), str(file), "-o", str(scene.file("out.pcap")))
    assert f"closed, {sent} of {sent} bytes acknowledged" in scene.lab.run("lb", (sys.executable, *replay))


def test_one_of_two_connections_in_its_middle_while_natmirror_restarts(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    balancer = scene.balance()
    until = scene.file("until")
    clients = [scene.client(connections=1, sources=CLIENT, until=until)[0] for _ in range(2)]
    balancer.wait_for_status(
        lambda status: sum(leg["state"] == "established" for flow in status["flows"] for leg in flow["legs"]) == 2,
        "two copies",
    )
    wanted = balancer.status()["flows"][0]["client"]
    file, few = scene.file("middle.pcapng"), scene.file("few.pcapng")
    program = start(scene, balancer, wanted, file)
    limited = start(scene, balancer, wanted, few, "--limit", "25")
    wait_for(lambda: not limited.running(), "25 packets")
    assert limited.popen.returncode == 0 and "the capture is full: it has 25 packets (--limit)" in limited.text
    assert len(tshark.fields(few, "frame.number")) == 25
    assert {port for pair in tshark.fields(few, "tcp.srcport", "tcp.dstport") for port in pair} - {"6653"} == {
        wanted.partition(":")[2]
    }
    balancer.stop()
    program.wait_for_text("no answer from natmirror")
    scene.balance()
    program.wait_for_text("natmirror answers again")
    until.touch()
    for client in clients:
        wait_for(lambda client=client: not client.running(), "the client to end")  # type: ignore[misc]
    finish(program)
    assert not tshark.malformed(file)
    noted = "\n".join(one[2] for one in comments(file))
    assert f"{wanted} to openflow, with the backend c" in noted and ", open since before the capture" in noted
    assert "natmirror answers again" in noted
    assert "[TCP" not in noted


def test_what_keeps_a_capture_from_its_start(scene: Scene) -> None:
    balancer = scene.balance()

    def begin(client: str, *words: str, host: str = "lb", through: Sequence[str] = ()) -> Program:
        command = [*through, sys.executable, "-m", "natmirror", "capture", client, "-w", str(file), *words]
        return scene.start(host, *command, name="refused")

    file = scene.file("kept.pcapng")
    file.write_text("an earlier capture")
    api = ("--api", str(balancer.api))
    without_rights = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    refused = {
        "10.99.0.1 is no client: it is in none of the networks in switches": begin("10.99.0.1", *api),
        "natmirror runs in another network namespace": begin(CLIENT, *api, host="c1"),
        "natmirror capture needs root or CAP_NET_RAW": begin(CLIENT, *api, through=without_rights),
        "no natmirror answers on ": begin(CLIENT, "--api", str(scene.file("none"))),
        "/dev/full: No space left on device": begin(CLIENT, "-w", "/dev/full", "--for", "0.1", *api),
    }
    for why, program in refused.items():
        wait_for(lambda program=program: not program.running(), why)  # type: ignore[misc]
        assert program.popen.returncode == 1 and why in program.text, program.text
    assert file.read_text() == "an earlier capture"


def test_legs_with_an_address_of_this_host(scene: Scene) -> None:
    scene.record("c1", "c2", "m")
    balancer = scene.balance(scene.rules(RULES.read_text().replace("10.20.0.13}", "10.20.0.13, source: 10.20.0.1}")))
    file, until = scene.file("source.pcapng"), scene.file("until")
    program = start(scene, balancer, CLIENT, file)
    scene.client(connections=1, sources=CLIENTS[1], until=until)  # another client's leg, which does not belong here
    client, records = scene.client(connections=1, sources=CLIENT, until=until)
    program.wait_for_text("copied to master")
    until.touch()
    scene.finish(client)
    wait_for(lambda: len(balancer.ended()) == 2, "both legs to end")
    finish(program)
    [(sent, _)] = records.by_port().values()
    found = streams(file)
    assert len(found["client side (sw0)", True]) == len(found["copy to master (pl0)", False]) == sent
    copied = tshark.fields(file, "ip.src", "tcp.stream", only='frame.interface_name contains "copy"')
    assert {source for source, _ in copied} == {"10.20.0.1"} and len({stream for _, stream in copied}) == 1
    assert tshark.fields(file, "tcp.flags.str", only='frame.interface_name contains "copy"')[0][0].count("S") == 1
