"""A run: hostile peers around one host, from its first packet until nothing is left."""

from dataclasses import replace
from random import Random

from natmirror.fastpath import CLAIM_ALL, NEVER
from tests.helpers.hostile.commands import Commands
from tests.helpers.hostile.host import Host
from tests.helpers.hostile.invariants import check, check_declared, check_end, check_step
from tests.helpers.hostile.moves import OVERTAKING, PACKETS, Move, behave, drain
from tests.helpers.hostile.peers import Peers
from tests.helpers.hostile.setting import ALONE, JUDGED_ALONE, JUDGED_OF_PAIR, OF_PAIR
from tests.helpers.support import TIMEOUTS

_STEPS = 120
_CHECK_INTERVAL = 20  # steps
_MAX_TIMERS = 10_000


def play(seed: int, steps: int = _STEPS, *, overtakes: bool = False, judges: bool = False) -> Peers:
    """Play a run; if it fails, the error says how to repeat it. ``overtakes``: packets overtake FINs in it. ``judges``:
    masters are compared with production's controllers."""
    step, name, packets = 0, "", OVERTAKING if overtakes else PACKETS
    try:
        random = Random(seed)
        variants = random.choice((JUDGED_ALONE, JUDGED_OF_PAIR) if judges else (ALONE, OF_PAIR))
        memory = random.choice((1 << 24, 1 << 24, 1 << 22) if judges else (1 << 20, 1 << 20, 200_000))
        rules = replace(random.choice((variants[0], *variants)), max_flows=random.choice((4, 1000)))
        limits_turns = random.random() < 0.2
        most = random.choice((2, 6))
        peers = Peers(random, rules, memory=memory, max_clients=most, limits_turns=limits_turns, has_bodies=judges)
        commands = Commands(variants)
        peers.host.both(commands.log_bindings)
        kinds = [behave, *packets, *commands.moves, drain]
        weights = [*_weights(random, packets, commands), 10 * limits_turns]
        for step in range(steps):
            move: Move = random.choices(kinds, weights)[0]
            name = move.__name__
            move(peers)
            peers.host.flush()
            check_step(peers.host)
            if step % _CHECK_INTERVAL == 0:
                check(peers.host)
        name = "the end"
        _end(peers)
    except Exception as error:
        how = f"play({seed}, overtakes={overtakes}, judges={judges}) of tests/helpers/hostile"
        error.add_note(f"to repeat it: {how}; it failed at step {step}, {name}")
        raise
    return peers


def _weights(random: Random, packets: dict[Move, int], commands: Commands) -> list[float]:
    """Return the weights of all kinds of moves: some runs are nearly good ones, others wild."""
    good, wild, commanded = random.choice((20, 50, 100)), random.choice((0.2, 1.0)), random.choice((0.0, 0.1, 0.5))
    return [
        good,
        *(wild * weight for weight in packets.values()),
        *(commanded * weight for weight in commands.moves.values()),
    ]


def _end(peers: Peers) -> None:
    """Let all connections end: claim those of other hosts, and wait until no timer is left."""
    host = peers.host
    check(host)
    check_declared(host)
    if peers.random.random() < 0.3:
        host.send(lambda engine: engine.close())
        check(host)
    host.both(lambda engine: engine.replicated_legs.take_over(host.now))
    host.both(lambda engine: engine.bindings.sweep(0, 1 << 20, CLAIM_ALL, host.now))
    host.both(lambda engine: engine.bindings.take_changes())
    _wait(host, host.now + 2 * max(TIMEOUTS.values()))
    host.send(lambda engine: engine.expel([], engine.flow_ids(), host.now))  # silent connections that have copies
    _wait(host, NEVER)
    check_end(host)


def _wait(host: Host, until: float) -> None:
    """Let the time pass, with all timers that are due in it."""
    for _ in range(_MAX_TIMERS):
        due = host.next_timer()
        if due is None or due > until:
            break
        host.pass_time(max(due - host.now, 0.0))
        check_step(host)
