"""Two hosts behind keepalived that share their state: what a move does to the legs of mirrors."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from natmirror.errors import HostError
from natmirror.lab.controllers import report_lines
from natmirror.lab.process import wait_for
from natmirror.lab.topology import SERVICE
from natmirror.net import seq
from tests.live.pair import CONNECTIONS, EVENTS, PORT, RULES, SWITCHES, Pair, running
from tests.live.scene import CLIENTS, STATE, Records, assert_all_well, tcp_packets
from tests.live.scene import MASTER as MASTERS_ADDRESS

pytestmark = pytest.mark.live

LATE = 10  # connections
DELAY = 0.05  # seconds
MASTER = "{name: master, address: 10.20.0.13}"


@pytest.fixture
def pair() -> Iterator[Pair]:
    rules = RULES.replace(MASTER, MASTER.replace("}", ", protocol: openflow, reconnect: next-message}"), 1)
    with running(f"{rules}  state: redis://{STATE}\n") as pair:
        yield pair


def mirror(pair: Pair, host: str, service: str) -> dict[str, Any]:
    [shown] = [mirror for mirror in pair.members[host].balancer.status()["mirrors"] if mirror["service"] == service]
    return dict(shown)


def sessions(pair: Pair) -> list[int]:
    """Return the number of complete sessions that the master has had with each switch."""
    text = pair.traffic.master.program.text
    return [len(list(report_lines.reported(text, "switch", switch.datapath_id))) for switch in pair.traffic.switches]


def wait_until_the_other_host_knows(pair: Pair, host: str) -> None:
    """The traffic of all legs and all switches."""

    def knows() -> bool:
        shared = pair.members[host].balancer.status()["shared_state"]
        return bool(shared["state"] == "complete" and shared["records"] >= CONNECTIONS + SWITCHES)

    wait_for(knows, f"{host} to know of all legs")


def legs_numbers(file: Path) -> dict[int, list[int]]:
    """Return the sequence numbers that a capture shows on the legs to the master, by the client's port."""
    found: dict[int, list[int]] = {}
    for ip in tcp_packets(file):
        if ip.dst == MASTERS_ADDRESS and ip.data.dport == PORT:
            found.setdefault(ip.data.sport, []).append(ip.data.seq)
    return found


def wait_until_all_legs_go_on(pair: Pair, host: str) -> None:
    """Wait until a host that has taken over has the positions of all mirrors; fail with the ledger if legs end."""
    try:
        wait_for(lambda: mirror(pair, host, "lines")["legs_resumed"] == CONNECTIONS, "all legs to go on")
    except HostError as error:
        raise HostError(f"{error}; {host}'s ledger is {mirror(pair, host, 'lines')}") from None


def delay_acknowledgements(pair: Pair) -> None:
    """Have the backends' packets arrive late: then many acknowledgements are under way at any time."""
    for host in ("c1", "c2"):
        pair.scene.app(host, "delay", 0, DELAY).wait_for_text("ready")
        queue = ["-p", "tcp", "--sport", str(PORT), "-j", "NFQUEUE", "--queue-num", "0"]
        pair.scene.lab.run(host, ["iptables", "-A", "OUTPUT", *queue])


def test_a_move_shows_the_master_one_stream_and_the_store_none_of_its_numbers(pair: Pair) -> None:
    """Bytes that passed the first host, while their acknowledgement passes the other one, are part of the stream."""
    lab = pair.scene.lab
    wait_until_the_other_host_knows(pair, "lb2")
    delay_acknowledgements(pair)
    sniffer, capture = pair.scene.sniff("m", "eth0")
    pair.move("stopped", pair.members["lb1"].stop, to="lb2")
    [key] = lab.run("state", ["redis-cli", "-h", STATE, "--raw", "KEYS", "*:records"]).split()
    shared = lab.run("state", ["redis-cli", "-h", STATE, "--raw", "HVALS", key])
    wait_until_all_legs_go_on(pair, "lb2")
    sniffer.end()
    numbers = legs_numbers(capture)
    assert len(numbers) == CONNECTIONS
    assert all(abs(seq.diff(one, some[0])) < 1 << 20 for some in numbers.values() for one in some), "one leg"
    assert shared.count('"format": 4') >= CONNECTIONS
    told = set(map(int, re.findall(r"\b[0-9]+\b", shared)))
    assert not told & {one for some in numbers.values() for one in some}, "no number on the wire"
    pair.end()
    at_master = pair.traffic.recorders["m"]
    wait_for(lambda: len(at_master.by_port()) == CONNECTIONS, "the master to have all streams", 30.0)
    sent = {line["port"]: (line["bytes"], line["sha256"]) for line in pair.traffic.records.lines()}
    assert at_master.by_port() == sent


def test_legs_younger_than_the_last_record_end_with_a_reason_and_the_others_go_on(pair: Pair) -> None:
    scene, lb1, lb2 = pair.scene, pair.members["lb1"], pair.members["lb2"]
    wait_until_the_other_host_knows(pair, "lb2")
    redis = next(program for program in scene.programs if "redis" in program.log.name)
    redis.send_signal(signal.SIGSTOP)
    until, records = scene.file("until"), Records(scene.file("late.jsonl"))
    words = (SERVICE, PORT, records.file, "--connections", LATE, "--size", 200, "--until", until)
    late = scene.app("s1", "client", *words, "--sources", ",".join(CLIENTS))
    wait_for(lambda: mirror(pair, "lb1", "lines")["legs_opened"] == CONNECTIONS + LATE, "the late legs to open")
    pair.move("killed, cables down", lb1.crash, to="lb2")
    redis.send_signal(signal.SIGCONT)
    wait_until_all_legs_go_on(pair, "lb2")
    wait_for(lambda: set(mirror(pair, "lb2", "lines")["lost_bytes"]) == {"no-record"}, "what is lost to be named")
    assert lb2.balancer.status()["counters"]["flows_picked_up"] >= LATE
    for client, ends_at, written, count in (
        (late, until, records, LATE),
        (pair.traffic.client, pair.traffic.until, pair.traffic.records, CONNECTIONS),
    ):
        ends_at.touch()
        scene.finish(client)
        assert_all_well(written, count)


@pytest.mark.soak
@pytest.mark.parametrize("event", ["killed, cables down", "stopped", "pool's cable pulled", "natmirror alone killed"])
def test_legs_go_on_and_sessions_begin_again(pair: Pair, event: str) -> None:
    go, come_back = EVENTS[event]
    wait_for(lambda: sessions(pair) == [1] * SWITCHES, "the master to know all switches")
    wait_until_the_other_host_knows(pair, "lb2")
    pair.move(event, lambda: go(pair.members["lb1"]), to="lb2")
    wait_for(lambda: sessions(pair) == [2] * SWITCHES, "the master to know all switches again")
    come_back(pair.members["lb1"])
    pair.members["lb1"].wait_for_role("backup")
    wait_until_the_other_host_knows(pair, "lb1")
    pair.move(f"{event}, back again", lambda: go(pair.members["lb2"]), to="lb1")
    wait_for(lambda: sessions(pair) == [3] * SWITCHES, "the master to know all switches again")
    last, fresh = mirror(pair, "lb1", "lines"), mirror(pair, "lb1", "openflow")
    pair.end()
    at_master = pair.traffic.recorders["m"]
    wait_for(lambda: len(at_master.by_port()) == CONNECTIONS, "the master to have all streams", 30.0)
    sent = {line["port"]: (line["bytes"], line["sha256"]) for line in pair.traffic.records.lines()}
    whole = sum(at_master.by_port().get(port) == stream for port, stream in sent.items())
    print(
        f"{event}, there and back again: {last['legs_resumed']} of {CONNECTIONS} raw legs went on,"
        f" {CONNECTIONS - last['legs_resumed']} ended; {fresh['legs_opened']} sessions began again;"
        f" {whole} streams are whole"
    )
    assert (last["legs_adopted"], last["legs_resumed"], whole) == (CONNECTIONS, CONNECTIONS, CONNECTIONS)
