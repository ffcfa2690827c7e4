"""A client that lies to the kernel's TCP: a mirror gets exactly what the backend took, or the ledger says why not. And
attackers off the path who guess: they end no copy."""

import asyncio
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from natmirror.lab.loadbalancer import LoadBalancer
from natmirror.lab.topology import SERVICE, Lab, leftovers
from natmirror.net.build import build
from natmirror.net.endpoint import Endpoint, show
from natmirror.net.packet import ACK, FIN, PSH, RST, SYN
from natmirror.reasons import EndReason
from tests.helpers.support import at
from tests.live.in_process import Sink, Wire, inside, own_no_kernel
from tests.live.lies import BACKEND, KINDS, LIE, THERE, Kind, lies
from tests.live.own_tcp import MAX_LEN, WINDOW, OwnTcp, stamps_option
from tests.live.scene import CLIENTS, PORT, Scene

pytestmark = pytest.mark.live

RULES = """
switches: [10.10.0.0/24]
services:
  - name: test
    address: 10.10.0.100
    port: 6653
    release: {release}
    pool: {{backends: [{{name: c1, address: 10.20.0.11}}]}}
    mirrors: [{{name: master, address: 10.20.0.13}}]
"""
LIARS = tuple(f"10.10.0.{last}" for last in (60, 61, 62, 63))
"""The clients with a TCP of their own: one for each of up to four threads."""
EACH = 6
"""Connections with each kind of lie. The API shows the latest 200 legs that ended: there must not be more in all."""
ROUNDS = 3
AT_ONCE = 24
ROOM = 8192  # bytes: small, so that the window's edge is near
ANSWER = bytes(range(1, 200))
GUESSES = 1000
EXACT, LIED, NO_LEG = "exact", "lie", "no leg"
SETTLED = 30.0
"""Seconds within which all connections and legs end."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """The lab with another host on the clients' side, and a router before the backend: a packet that comes with a TTL
    of 1 goes no further."""
    with Lab(switches=2) as lab:
        for address in CLIENTS[1:]:
            lab.address("s1", "eth0", address)
        for address in LIARS:
            own_no_kernel(lab, "s1", address)
        ends_here = ["-p", "tcp", "-m", "ttl", "--ttl-lt", "2", "-j", "DROP"]
        lab.run("c1", ["iptables", "-t", "raw", "-A", "PREROUTING", *ends_here])
        yield lab
    assert leftovers() == []


# The client with a TCP of its own


@dataclass(slots=True)
class Case:
    """A connection with one kind of lie."""

    name: str
    seed: int
    here: Endpoint
    stream: bytes

    async def run(self, own: Wire, other: Wire) -> None:
        """Lie in each round, before the true bytes or after them, and perhaps wait for the answer between."""
        kind, draw = KINDS[self.name], random.Random(f"{self.name} {self.seed}")
        uses_stamps = kind.needs_stamps or draw.random() < 0.5
        client = OwnTcp(own, self.here, THERE, self.stream, draw, uses_stamps=uses_stamps)
        if kind.is_syn:
            before, after = (lies(kind, client, draw.choice((0, 1, 3))) for _ in range(2))
            await client.open(before, after)
        else:
            await client.open()
            await self._lie(kind, client, own, other)
        await client.tell(len(self.stream))
        await client.close()

    async def _lie(self, kind: Kind, client: OwnTcp, own: Wire, other: Wire) -> None:
        draw = client.draw
        await client.tell(draw.choice((1, 100, 3000)))
        for _ in range(ROUNDS):
            false = lies(kind, client, draw.choice((1, 1, 3)))
            size, shuffled = draw.choice((200, 1500, 4000)), draw.random() < 0.3
            comes_first, is_heard = draw.random() < 0.8, draw.random() < 0.5
            if not comes_first:
                await client.tell(size, shuffled=shuffled)
            for one in false:
                (other if kind.is_elsewhere else own).send(one)
            if is_heard:
                await client.hear()
            if comes_first:
                await client.tell(size, shuffled=shuffled)


def cases() -> list[Case]:
    """Return all cases, each with a client's endpoint of its own."""
    names = [(name, seed) for seed in range(EACH) for name in KINDS]
    made = []
    for number, (name, seed) in enumerate(names):
        draw = random.Random(number)
        stream = bytes(draw.choices(range(1, 200), k=draw.choice((4000, 15_000))))
        made.append(Case(name, seed, at(LIARS[number % len(LIARS)], 20_000 + number), stream))
    return made


async def until(holds: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + SETTLED
    while not holds():
        assert time.monotonic() < deadline, f"waited {SETTLED:g} s for {what}"
        await asyncio.sleep(0.02)


async def settle(balancer: LoadBalancer, backend: Sink, mirror: Sink, count: int) -> dict[str, str]:
    """Wait until so many connections and their legs have ended; return why each client's leg has."""
    reasons: dict[str, str] = {}

    def have_ended() -> bool:
        [shown] = balancer.status()["mirrors"]
        reasons.update({end["client"]: end["reason"] for end in balancer.ended()})
        return bool(len(reasons) == len(mirror.received) == shown["legs_opened"])

    await until(lambda: len(backend.ended) == count, "the backend's connections to end")
    await until(have_ended, "the legs to end")
    await until(lambda: len(mirror.ended) == len(mirror.received), "the mirror's connections to end")
    return reasons


async def play(scene: Scene, balancer: LoadBalancer, all_cases: list[Case]) -> dict[str, Counter[str]]:
    """Run all cases, several at once. Return for each kind how many copies were exact, have the backend's first bytes
    for which reason, or have a lie."""
    lab, places = scene.lab, asyncio.Semaphore(AT_ONCE)

    async def run(case: Case, own: Wire, other: Wire) -> None:
        async with places:
            await case.run(own, other)

    backend, mirror = Sink(lab, "c1", PORT, answer=ANSWER, room=ROOM), Sink(lab, "m", PORT)
    async with backend, mirror:
        with Wire(lab, "s1", "sw0") as own, Wire(lab, "s2", "sw0") as other:
            await asyncio.gather(*(run(case, own, other) for case in all_cases))
            reasons = await settle(balancer, backend, mirror, len(all_cases))
    [shown] = balancer.status()["mirrors"]
    assert len(reasons) == len(all_cases) or EndReason.AMBIGUOUS in shown["lost_bytes"]
    found: dict[str, Counter[str]] = {name: Counter() for name in KINDS}
    for case in all_cases:
        taken, got = bytes(backend.received[case.here]), bytes(mirror.received.get(case.here, b""))
        found[case.name][judge(taken, got, reasons.get(show(case.here), NO_LEG))] += 1
        assert taken == case.stream or not KINDS[case.name].is_refused, f"the backend took a lie: {case.name}"
    print(*(f"{name}: {dict(counts)}" for name, counts in found.items()), sep="\n")
    return found


def judge(taken: bytes, got: bytes, reason: str) -> str:
    """Return ``exact`` if a mirror has just the backend's bytes, the reason if it has the first of them, else LIED."""
    if got == taken:
        return EXACT
    return reason if taken.startswith(got) and reason != EndReason.CLOSED else LIED


def test_no_lie_reaches_the_mirror(scene: Scene) -> None:
    balancer = scene.balance(scene.rules(RULES.format(release="acknowledged")))
    found = asyncio.run(play(scene, balancer, cases()))
    assert {name for name, counts in found.items() if LIED in counts} == set()
    assert {name for name, counts in found.items() if KINDS[name].is_refused and set(counts) != {EXACT}} == set()


def test_with_release_seen_lies_reach_the_mirror(scene: Scene) -> None:
    """So the other test can fail; but what natmirror knows to be refused has no effect."""
    balancer = scene.balance(scene.rules(RULES.format(release="seen")))
    found = asyncio.run(play(scene, balancer, cases()))
    assert {"expires behind this host", "signature"} <= {name for name, counts in found.items() if LIED in counts}
    assert {name for name, counts in found.items() if KINDS[name].is_refused and set(counts) != {EXACT}} == set()


# Attackers off the path


def guess(draw: random.Random, source: Endpoint, destination: Endpoint) -> bytes:
    """Return a packet with any numbers."""
    flags = draw.choice((ACK | PSH, ACK | PSH, ACK, RST, RST | ACK, FIN | ACK, SYN, SYN | ACK))
    return build(
        *(source, destination),
        seq=draw.getrandbits(32),
        ack=draw.getrandbits(32),
        flags=flags,
        window=WINDOW,
        options=draw.choice((b"", stamps_option(draw.getrandbits(32), draw.getrandbits(32)))),
        payload=LIE * draw.choice((1, 100, MAX_LEN)) if flags & PSH else b"",
    )


async def connect(scene: Scene, address: str) -> tuple[Endpoint, asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect with the kernel's TCP."""
    with inside(scene.lab, "s1"):
        end = socket.socket()
    end.setblocking(False)
    end.bind((address, 0))
    await asyncio.get_running_loop().sock_connect(end, (SERVICE, PORT))
    return at(*end.getsockname()), *await asyncio.open_connection(sock=end)


async def inject(scene: Scene, balancer: LoadBalancer) -> None:
    """Guess a thousand times between the messages of living connections, in a client's name or the backend's."""
    lab, draw = scene.lab, random.Random(19)
    arrived: Counter[bool] = Counter()
    backend, mirror = Sink(lab, "c1", PORT, answer=ANSWER), Sink(lab, "m", PORT)
    async with backend, mirror:
        clients = [await connect(scene, address) for address in CLIENTS]
        sent: dict[Endpoint, bytes] = {here: b"" for here, _, _ in clients}
        with Wire(lab, "s2", "sw0") as near, Wire(lab, "c2", "pl0") as far, Wire(lab, "c1", "pl0") as seen:
            seen.on_segment(BACKEND, lambda one: arrived.update([one.window == WINDOW]))
            for number in range(GUESSES // AT_ONCE + 1):
                here, reader, writer = clients[number % len(clients)]
                for _ in range(AT_ONCE):
                    if draw.random() < 0.7:
                        near.send(guess(draw, here, THERE))
                    else:
                        far.send(guess(draw, BACKEND, here))
                message = draw.randbytes(draw.choice((1, 200, 5000)))
                sent[here] += message
                writer.write(message)
                await reader.readexactly(len(ANSWER))
            assert arrived[True] > GUESSES / 2
        for _, _, writer in clients:
            writer.close()
        reasons = await settle(balancer, backend, mirror, len(clients))
    assert backend.received == mirror.received == sent
    assert set(reasons.values()) == {EndReason.CLOSED}


@pytest.mark.parametrize("release", ["acknowledged", "seen"])
def test_a_thousand_injections_end_no_copy(scene: Scene, release: str) -> None:
    asyncio.run(inject(scene, scene.balance(scene.rules(RULES.format(release=release)))))
