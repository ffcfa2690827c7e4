"""Many clients, backends and mirrors that send anything: nothing raises, both gears do the same, the ledgers add up,
and nothing is left at the end."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from natmirror.actions import Accept, Hook, Send, Verdict
from natmirror.engine.counters import EngineCounter
from natmirror.engine.shown import Snapshot
from natmirror.fastpath.flow_states import State
from natmirror.mirror.shown import FlowEntry
from natmirror.net import seq
from natmirror.net.build import build_reset, finish
from natmirror.net.checksum import Checksum
from natmirror.net.endpoint import Endpoint
from natmirror.net.packet import (
    ACK,
    OPT_MPTCP,
    OPT_MSS,
    OPT_NOP,
    OPT_SACK_PERMITTED,
    OPT_TIMESTAMPS,
    OPT_WINDOW_SCALE,
    SYN,
    Segment,
)
from tests.helpers.client_connection import engine
from tests.helpers.declared import assert_declared
from tests.helpers.support import TIMEOUTS, assert_adds_up, at, packet, segment

RULES = """
switches: [10.10.0.0/24]
mirror-memory: 1MiB
services:
  - name: a
    address: 10.10.0.100
    port: 6653
    pool:
      balance: round-robin
      backends:
        - {name: c1, address: 10.20.0.11}
        - {name: c2, address: 10.20.0.12}
        - {name: m, address: 10.20.0.13}
    mirrors:
      - {name: master, address: 10.20.0.13, when-behind: throttle, buffer: 64KiB, idle-timeout: 20s}
      - {name: two, address: 10.20.0.14, sample: 50%}
      - {name: three, address: 10.20.0.15, source: 10.20.0.1, buffer: 64KiB}
      - {name: four, address: 10.20.0.16, only: [10.10.0.12/32]}
  - name: b
    address: 10.10.0.101
    port: 6653
    mirrors:
      - {name: master, address: 10.20.0.13}
  - name: c
    address: 10.10.0.102
    port: 6640
    pool: {backends: [{name: c1, address: 10.20.0.11}, {name: c2, address: 10.20.0.12}]}
"""
SERVICES = [at("10.10.0.100", 6653), at("10.10.0.101", 6653), at("10.10.0.102", 6640)]
CLIENTS = [at(f"10.10.0.{last}", port) for last in (11, 12) for port in (40001, 40002)]
MIRRORS = {bytes((10, 20, 0, last)) for last in (13, 14, 15, 16)}
MAX_FLOWS = 8
STEPS = 250
SCALED = bytes((OPT_NOP, OPT_WINDOW_SCALE, 3, 7))
TIMESTAMPS = bytes((OPT_NOP, OPT_NOP, OPT_TIMESTAMPS, 10)) + b"\0\0\0\7\0\0\0\5"
MP_CAPABLE, MP_JOIN = bytes((OPT_MPTCP, 4, 0x01, 0x01)), bytes((OPT_MPTCP, 12, 0x10, 1)) + bytes(8)
MIRROR_OPTIONS = bytes((OPT_MSS, 4, 5, 180, OPT_NOP, OPT_NOP, OPT_SACK_PERMITTED, 2))


class Connection:
    """The connection of one client port, as its two ends see it."""

    def __init__(self, source: random.Random) -> None:
        self.source = source
        self.iss = self.irs = self.sent = self.answered = 0
        self.finished = False
        self.server: Endpoint | None = None
        self.begin(source.getrandbits(32))

    def begin(self, iss: int) -> None:
        """Begin a new connection of the same port."""
        self.iss, self.irs = iss, self.source.getrandbits(32)
        self.sent = self.answered = 0
        self.finished = False


class Chaos:
    """Two engines, one of them with its C gear off, and the peers that send to both."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.engines = [engine(RULES, fast=fast, max_flows=MAX_FLOWS) for fast in (True, False)]
        self.now = 100.0
        self.connections = {(client, service): Connection(self.random) for client in CLIENTS for service in SERVICES}
        self.unanswered: list[Segment] = []
        self.reasons: Counter[str] = Counter()

    def receive(self, raw: bytes, hook: Hook) -> Verdict:
        """Give both engines a packet, and assert that they do the same; return the verdict."""
        one, other = (engine.receive(raw, hook, self.now, Checksum.VALID) for engine in self.engines)
        assert one == other
        self._keep(one.sends)
        return one.verdict

    def handle_timer(self) -> None:
        """Call handle_timer() of both engines, and assert that they do the same."""
        one, other = (engine.handle_timer(self.now) for engine in self.engines)
        assert one == other
        self._keep(one)

    def _keep(self, sends: list[Send]) -> None:
        for send in sends:
            if send.packet[16:20] in MIRRORS:
                self.unanswered += [segment(one) for one in finish(send.packet, send.segment_len)]

    def step(self) -> None:
        """Do one random thing."""
        pause = self.random.choice([0.0] * 38 + [70.0, 8000.0])
        self.now += self.random.choice([0.0, 0.0, 0.001, 0.05, 0.3, 2.0, pause])
        client, service = self.random.choice(list(self.connections))
        connection = self.connections[client, service]
        act = self.random.choices(
            [self.syn, self.syn_ack, self.from_client, self.from_server, self.from_mirror, self.timers],
            [12, 10, 38, 18, 17, 5],
        )[0]
        act(client, service, connection)

    def near(self) -> int:
        """Return a packet's distance from the expected number: mostly 0."""
        return self.random.choice([0] * 10 + [1, -1, 1000, -1000, 70_000, self.random.getrandbits(32)])

    def data(self) -> bytes:
        """Return a random payload, often none."""
        return self.random.randbytes(self.random.choice([0, 0, 1, 100, 1460, 30_000]))

    def options(self) -> bytes:
        """Return the options of a segment: timestamps or none, rarely one of MPTCP."""
        return self.random.choice([b"", TIMESTAMPS] * 40 + [MP_CAPABLE, MP_JOIN])

    def syn(self, client: Endpoint, service: Endpoint, connection: Connection) -> None:
        if self.random.random() < 0.6:
            connection.begin(seq.add(connection.iss, self.random.choice([100_000, -100_000, 0])))
        early = self.random.choice([b"", b"", b"early"])
        raw = packet(client, service, "S", connection.iss, 0, early, options=SCALED + self.options())
        verdict = self.receive(raw, Hook.PREROUTING)
        if isinstance(verdict, Accept):
            to = segment(verdict.packet or raw)
            connection.server = (to.dst, to.dport)

    def syn_ack(self, client: Endpoint, service: Endpoint, connection: Connection) -> None:
        if connection.server is not None:
            taken = self.random.choice([0, 0, 5])
            ack = connection.iss + 1 + taken
            options = SCALED + self.options()
            self.receive(packet(connection.server, client, "SA", connection.irs, ack, options=options), Hook.FORWARD)
            connection.answered = 0
            connection.sent = max(connection.sent, taken)

    def from_client(self, client: Endpoint, service: Endpoint, connection: Connection) -> None:
        letters = self.random.choices(["A", "PA", "FA", "RA", "P"], [20, 70, 5, 3, 2])[0]
        data = b"" if connection.finished else self.data()
        near = self.near()
        number = seq.add(connection.iss, 1 + connection.sent + near)
        ack = connection.irs + 1 + connection.answered
        self.receive(packet(client, service, letters, number, ack, data, options=self.options()), Hook.PREROUTING)
        if near == 0 and letters in ("A", "PA", "FA"):
            connection.sent += len(data) + letters.count("F")
            connection.finished = connection.finished or "F" in letters

    def from_server(self, client: Endpoint, service: Endpoint, connection: Connection) -> None:
        if connection.server is None:
            return
        letters = self.random.choices(["A", "PA", "FA", "RA"], [50, 40, 6, 4])[0]
        data = self.data()[:3000]
        number = seq.add(connection.irs, 1 + connection.answered + (self.near() if self.random.random() < 0.2 else 0))
        window = self.random.choice([0, 100, 20_000, 65_535])
        ack = connection.iss + 1 + connection.sent
        raw = packet(connection.server, client, letters, number, ack, data, window=window, options=self.options())
        self.receive(raw, Hook.FORWARD)
        connection.answered += len(data) + letters.count("F")

    def from_mirror(self, client: Endpoint, service: Endpoint, connection: Connection) -> None:
        if not self.unanswered:
            return
        to = self.unanswered.pop(self.random.randrange(len(self.unanswered)))
        irs = (to.sport * 7 + to.dst[3]) << 12
        ends = ((to.dst, to.dport), (to.src, to.sport))
        if to.flags & SYN:
            if self.random.random() < 0.2:
                self.receive(build_reset(to), Hook.PREROUTING)
            else:
                self.receive(packet(*ends, "SA", irs, to.seq + 1, options=MIRROR_OPTIONS), Hook.PREROUTING)
            return
        letters = self.random.choices(["A", "PA", "FA", "RA"], [80, 12, 5, 3])[0]
        number = irs + 1 + (self.near() if self.random.random() < 0.1 else 0)
        window = self.random.choice([0, 500, 65_535, 65_535])
        ack = seq.add(to.seq, to.seq_len if to.flags & ACK else 0)
        self.receive(packet(*ends, letters, number, ack, window=window), Hook.PREROUTING)

    def timers(self, client: Endpoint, service: Endpoint, connection: Connection) -> None:
        self.handle_timer()

    def wait(self, duration: float) -> None:
        """Let time pass, with all timers that are due in it."""
        until = self.now + duration
        while (due := self.engines[0].next_timer()) is not None and due <= until:
            self.now = max(self.now, due)
            self.handle_timer()
        self.now = until

    def check(self) -> None:
        """Assert what holds at any moment."""
        one, other = (engine.snapshot(self.now) for engine in self.engines)
        for snapshot in (one, other):
            assert_adds_up(snapshot)
            assert_declared(Snapshot, snapshot)
            del snapshot["counters"][EngineCounter.PACKETS_DECIDED_IN_C]
            snapshot["packets_decided_in_python"].clear()
        assert one == other
        shown = self.engines[0].flows(self.now)
        assert_declared(list[FlowEntry], shown)
        assert shown == self.engines[1].flows(self.now)
        for mirror in one["mirrors"]:
            flows = [
                flow for flow in shown + self.engines[0].lingering(self.now) if flow["service"] == mirror["service"]
            ]
            legs = [leg for flow in flows for leg in flow["legs"] if leg["mirror"] == mirror["name"]]
            living = [leg for leg in legs if leg["state"] != "ended"]
            assert mirror["legs"] == len(living)
            assert mirror["pending_bytes"] == sum(leg["lag_bytes"] for leg in living)
            assert mirror["in_flight_bytes"] == sum(leg["in_flight_bytes"] for leg in living)
            assert mirror["lag_seconds"] == max((leg["lag_seconds"] for leg in living), default=0.0)

    def end(self) -> None:
        """Let time pass until only silent connections with copies are left, reset these, and assert that nothing
        remains."""
        self.wait(2 * TIMEOUTS[State.ESTABLISHED])
        self.check()
        assert all(any(leg["state"] != "ended" for leg in flow["legs"]) for flow in self.engines[0].flows(self.now))
        one, other = (engine.expel([], engine.flow_ids(), self.now) for engine in self.engines)
        assert one == other
        self.wait(TIMEOUTS[State.ESTABLISHED])
        self.check()
        snapshot = self.engines[0].snapshot(self.now)
        assert snapshot["mirror_memory"]["used_bytes"] == snapshot["flows"] == 0
        assert not self.engines[0].flow_ids()
        for mirror in snapshot["mirrors"]:
            assert mirror["legs"] == mirror["pending_bytes"] == 0
            self.reasons.update(mirror["lost_bytes"])


def play(seed: int) -> Chaos:
    """Run one random case from its beginning to its end."""
    chaos = Chaos(seed)
    for number in range(STEPS):
        chaos.step()
        if number % 25 == 0:
            chaos.check()
    chaos.end()
    return chaos


@given(st.integers(0, 1 << 32))
def test_whatever_the_ends_do_the_ledger_adds_up_and_nothing_is_left(seed: int) -> None:
    play(seed)


def test_each_reason_for_a_loss_occurs() -> None:
    missing = {
        "not-sampled",
        "not-selected",
        "mirror-is-backend",
        "picked-up",
        "flow-table-full",
        "hole",
        "mptcp",
    }
    for seed in range(200):
        missing -= {str(reason) for reason in play(seed).reasons}
        if not missing:
            break
    assert not missing
