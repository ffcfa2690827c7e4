"""Looks at flows: whether backends answer clients, and whether clients get the answers; in both gears alike."""

from collections.abc import Callable

import pytest

from natmirror.actions import Hook
from natmirror.fastpath import SYN_ANSWER_TIMEOUT, ServiceLook, Tally
from natmirror.net import seq
from natmirror.rules import parse_rules
from tests.helpers.client_connection import IRS, ISS, ClientConnection
from tests.helpers.looks import FIRST, Scene
from tests.helpers.support import RULES, SERVICE, at, packet

UNMIRRORED = RULES[: RULES.index("    mirrors:")]
SECOND = "10.10.0.21"
_WINDOW = bytes(0x8000), bytes(0x7FFF)
"""What fills the window that an end offers by its handshake."""


def shown(tally: Tally) -> tuple[int, int, bytes]:
    return tally.flows, tally.clients, tally.client


@pytest.fixture(params=[True, False], ids=["C", "Python"])
def gear(request: pytest.FixtureRequest) -> Callable[[str], Scene]:
    return lambda rules: Scene(rules, fast=request.param)


@pytest.mark.parametrize("rules", [RULES, UNMIRRORED], ids=["mirrored", "plain"])
def test_clients_wait_from_the_second_look_on_until_their_backend_answers(
    gear: Callable[[str], Scene], rules: str
) -> None:
    scene = gear(rules)
    one, other = scene.connected(), scene.connected(SECOND)
    seen = scene.look(one, other)
    assert (seen.answered, seen.reached, shown(seen.open)) == (2, 2, (2, 2, at(FIRST, 0)[0]))
    assert scene.look(one, other).answered == 0
    one.from_client("PA", b"question")
    seen = scene.look(one, other)
    assert (seen.asking, seen.waiting) == (1, Tally())
    assert shown(scene.look(one, other).waiting) == (1, 1, one.client[0])
    other.from_client("PA", b"another")
    scene.look(one, other)
    assert scene.look(one, other).waiting.clients == 2
    one.from_backend("A")
    seen = scene.look(one, other)
    assert (seen.answered, seen.reached, shown(seen.waiting)) == (1, 0, (1, 1, other.client[0]))
    for _ in range(12):
        seen = scene.look(one, other)
    assert (seen.waiting, seen.open.flows) == (Tally(), 1), "a client that has given up does not wait"
    one.from_client("FA")
    one.from_backend("A")
    assert scene.look(one, other).open == Tally(), "a client that has closed can ask nothing"


def test_a_backend_that_repeats_itself_does_not_answer(gear: Callable[[str], Scene]) -> None:
    scene = gear(UNMIRRORED)
    one = scene.connected()
    one.from_backend("PA", b"answer")
    scene.look(one)
    assert one.backend is not None
    repeated = packet(one.backend, one.client, "PA", seq.add(IRS, 1), seq.add(ISS, 1), b"answer")
    one.from_client("PA", b"another question")
    scene.look(one)
    one.passed(repeated, Hook.FORWARD)
    scene.look(one)
    one.passed(repeated, Hook.FORWARD)
    seen = scene.look(one)
    assert (seen.answered, seen.waiting.flows) == (0, 1)
    refused = packet(one.backend, one.client, "R", seq.add(IRS, 1 + one.answered))
    one.passed(refused, Hook.FORWARD)
    seen = scene.look(one)
    assert (seen.answered, seen.waiting.flows) == (1, 0)


def test_the_first_packets_of_a_connection_that_was_picked_up_show_nothing(gear: Callable[[str], Scene]) -> None:
    """Both ends may only repeat what another host has passed."""
    scene = gear(UNMIRRORED)
    one = scene.client()
    sent = one.from_client("PA", b"question")
    one.backend = (sent.dst, sent.dport)
    question = packet(one.client, SERVICE, "PA", seq.add(ISS, 1), seq.add(IRS, 1), b"question")
    answer = packet(one.backend, one.client, "PA", seq.add(IRS, 1), seq.add(ISS, 9), b"answer")
    one.passed(answer, Hook.FORWARD)
    one.passed(question, Hook.PREROUTING)
    seen = scene.look(one)
    assert (seen.answered, seen.reached) == (0, 0)
    one.passed(answer, Hook.FORWARD)
    one.passed(question, Hook.PREROUTING)
    seen = scene.look(one)
    assert (seen.answered, seen.reached) == (0, 0)
    one.passed(packet(one.client, SERVICE, "A", seq.add(ISS, 9), seq.add(IRS, 7)), Hook.PREROUTING)
    one.passed(packet(one.backend, one.client, "PA", seq.add(IRS, 7), seq.add(ISS, 9), b"more"), Hook.FORWARD)
    seen = scene.look(one)
    assert (seen.answered, seen.reached) == (1, 1)


def test_clients_whose_backend_takes_nothing_but_answers_their_probes_do_not_wait(gear: Callable[[str], Scene]) -> None:
    """RFC 9293 3.8.6.1: a window probe has a new byte, and the backend repeats its last acknowledgement."""
    scene = gear(UNMIRRORED)
    one = scene.connected()
    for half in _WINDOW:
        one.from_client("PA", half)
    _close_window(one, from_backend=True)
    scene.look(one)
    for _ in range(3):
        one.from_client("A", b"p", at=one.sent)
        _close_window(one, from_backend=True)
        seen = scene.look(one)
        assert (seen.answered, seen.waiting, seen.asking, seen.open.flows) == (1, Tally(), 0, 1)
        for _ in range(4):  # the time between two probes grows
            seen = scene.look(one)
            assert (seen.answered, seen.waiting, seen.asking, seen.open.flows) == (0, Tally(), 0, 1)
    one.from_client("A", b"p", at=one.sent)
    assert scene.look(one).asking == 1
    assert scene.look(one).waiting.flows == 1, "no probe is answered any more"
    _close_window(one, from_backend=True)
    seen = scene.look(one)
    assert (seen.answered, seen.waiting) == (1, Tally())


def test_clients_that_take_nothing_but_answer_their_backends_probes_are_reachable(
    gear: Callable[[str], Scene],
) -> None:
    scene = gear(UNMIRRORED)
    one = scene.connected()
    for half in _WINDOW:
        one.from_backend("PA", half)
    _close_window(one, from_backend=False)
    scene.look(one)
    assert one.backend is not None
    probe = packet(one.backend, one.client, "A", seq.add(IRS, 1 + one.answered), seq.add(ISS, 1), b"p")
    for _ in range(4):
        one.passed(probe, Hook.FORWARD)
        _close_window(one, from_backend=False)
        assert scene.look(one).unreached == Tally()
    one.passed(packet(one.client, SERVICE, "A", seq.add(ISS, 1), seq.add(IRS, 1 + one.answered)), Hook.PREROUTING)
    for _ in range(2):
        one.passed(probe, Hook.FORWARD)
        scene.look(one)
    one.from_client("PA", b"question")
    assert scene.look(one).unreached.flows == 1, "its window is open again"


def _close_window(one: ClientConnection, *, from_backend: bool) -> None:
    """Have an end acknowledge all but window probes, and offer no window."""
    client_next, backend_next = seq.add(one.iss, 1 + one.sent), seq.add(IRS, 1 + one.answered)
    assert one.backend is not None
    if from_backend:
        one.passed(packet(one.backend, one.client, "A", backend_next, client_next, window=0), Hook.FORWARD)
    else:
        one.passed(packet(one.client, SERVICE, "A", client_next, backend_next, window=0), Hook.PREROUTING)


def test_connections_shorter_than_the_time_between_two_looks_count(gear: Callable[[str], Scene]) -> None:
    scene = gear(UNMIRRORED)
    one = scene.connected()
    one.from_client("FA")
    one.from_backend("FA")
    one.from_client("A")
    seen = scene.look(one)
    assert one.states == ["time-wait"]
    assert (seen.answered, seen.reached, seen.open) == (1, 1, Tally())
    assert one.backend is not None
    fin = packet(one.backend, one.client, "FA", seq.add(IRS, 1), seq.add(ISS, 2))
    one.passed(fin, Hook.FORWARD)
    assert scene.look(one).answered == 0, "the client's last acknowledgement has not reached it"


def test_handshakes_and_closes_are_no_data(gear: Callable[[str], Scene]) -> None:
    scene = gear(UNMIRRORED)
    one = scene.connected()
    seen = scene.look(one)
    assert (seen.answered, seen.answered_data, seen.reached, seen.reached_data) == (1, 0, 1, 0)
    one.from_client("FA")
    one.from_backend("FA")
    one.from_client("A")
    seen = scene.look(one)
    assert (seen.answered, seen.answered_data, seen.reached, seen.reached_data) == (1, 0, 1, 0)
    short = scene.connected()
    short.from_client("FA")
    short.from_backend("FA")
    short.from_client("A")
    seen = scene.look(short)
    assert (seen.answered, seen.answered_data, seen.reached, seen.reached_data) == (1, 0, 1, 0)
    refused = scene.client()
    refused.syn()
    assert refused.backend is not None
    refused.passed(packet(refused.backend, refused.client, "RA", 0, seq.add(ISS, 1)), Hook.FORWARD)
    seen = scene.look(refused)
    assert (seen.answered, seen.answered_data, seen.connected) == (1, 0, 1)


def test_data_counts_once_it_is_acknowledged_in_connections_of_any_length(gear: Callable[[str], Scene]) -> None:
    scene = gear(UNMIRRORED)
    short = scene.connected()
    short.from_client("PA", b"question")
    short.from_backend("PA", b"answer")
    short.from_client("FA")
    short.from_backend("FA")
    short.from_client("A")
    seen = scene.look(short)
    assert (seen.answered_data, seen.reached_data) == (1, 1)
    long = scene.connected()
    scene.look(long)
    long.from_client("PA", b"question")
    assert scene.look(long).answered_data == 0
    long.from_backend("A")
    seen = scene.look(long)
    assert (seen.answered_data, seen.reached_data) == (1, 0), "an acknowledgement, and nothing more"
    long.from_backend("PA", b"answer")
    seen = scene.look(long)
    assert (seen.answered_data, seen.reached_data) == (1, 0)
    long.from_client("A")
    seen = scene.look(long)
    assert (seen.answered_data, seen.reached_data) == (0, 1)


def test_new_connections_are_unconnected_after_a_second_until_their_handshake_ends(
    gear: Callable[[str], Scene],
) -> None:
    scene = gear(UNMIRRORED)
    one, other = scene.client(), scene.client(SECOND)
    one.syn()
    other.syn()
    other.syn_ack()
    seen = scene.look(one, other)
    assert (seen.unconnected, seen.connecting) == (Tally(), 2), "the answers may be under way"
    seen = scene.look(one, other)
    assert (seen.unconnected.flows, seen.unconnected.clients, seen.connected) == (2, 2, 0)
    one.syn_ack()
    one.from_client("A")
    seen = scene.look(one, other)
    assert (shown(seen.unconnected), seen.connected) == ((1, 1, other.client[0]), 1)
    for _ in range(10):
        seen = scene.look(one, other)
    assert (seen.unconnected, seen.connected) == (Tally(), 0), "it has given up"


def test_clients_are_stuck_or_pass_by_what_most_of_their_flows_do(gear: Callable[[str], Scene]) -> None:
    scene = gear(UNMIRRORED)
    well = [scene.connected(FIRST) for _ in range(3)]
    bad = [scene.connected(f"10.10.0.{n}") for n in range(30, 34) for _ in range(6)]
    seen = scene.look(*well, *bad)
    assert (seen.stuck_groups, seen.passing_groups) == (0, 0), "idle"
    for one in (*well, *bad):
        one.from_client("PA", b"question")
    for one in (*well, *bad[::6]):  # one flow in six of each client
        one.from_backend("A")
    seen = scene.look(*well, *bad)
    assert (seen.stuck, seen.stuck_groups) == (Tally(), 0), "they have just asked"
    seen = scene.look(*well, *bad)
    assert (seen.stuck.flows, seen.stuck.clients, seen.passing_groups) == (20, 2, 1)
    assert 2 <= seen.stuck_groups <= 4, "clients with the same hash count as one"
    for one in bad[1::6]:
        one.from_backend("A")
    assert scene.look(*well, *bad).stuck_groups >= 2, "an answer that comes late may be luck"
    for one in bad[1::6]:
        one.from_client("PA", b"question")
        one.from_backend("A")
    assert scene.look(*well, *bad).stuck_groups == 0
    for _ in range(11):
        seen = scene.look(*well, *bad)
    assert (seen.stuck_groups, seen.passing_groups) == (0, 0), "long ago"


def test_a_client_that_gives_up_before_it_has_its_answer_does_not_pass(gear: Callable[[str], Scene]) -> None:
    scene = gear(UNMIRRORED)
    one, other = scene.connected(), scene.connected(SECOND)
    for client in (one, other):
        client.from_client("PA", b"question")
        client.from_backend("PA", b"answer")
    other.from_client("A")
    for client in (one, other):
        client.from_client("R")
    seen = scene.look(one, other)
    assert (one.states, seen.stuck_groups, seen.passing_groups) == (["reset"] * 2, 0, 1)


def test_syns_without_an_answer_are_calls(gear: Callable[[str], Scene]) -> None:
    scene = gear(UNMIRRORED)
    one = scene.client()
    one.syn()
    seen = scene.look(one)
    assert (shown(seen.calling), seen.tries, seen.answered) == ((1, 1, one.client[0]), 1, 0)
    seen = scene.look(one)
    assert (seen.calling.flows, seen.tries) == (1, 0)
    one.now += SYN_ANSWER_TIMEOUT
    one.syn()
    assert scene.look(one).tries == 1
    one.syn_ack()
    seen = scene.look(one)
    assert (seen.calling, seen.answered, seen.reached) == (Tally(), 1, 0)


def test_data_of_an_unknown_connection_is_a_call_and_nothing_certain(gear: Callable[[str], Scene]) -> None:
    scene = gear(UNMIRRORED)
    one = scene.client()
    one.from_client("PA", b"of an old connection")
    for tries in (1, 0):
        seen = scene.look(one)
        assert (seen.calling.flows, seen.tries, seen.open, seen.waiting) == (1, tries, Tally(), Tally())


def test_clients_that_repeat_themselves_do_not_get_their_answers(gear: Callable[[str], Scene]) -> None:
    scene = gear(UNMIRRORED)
    one = scene.connected()
    scene.look(one)
    one.from_client("PA", b"question")
    one.from_backend("PA", b"answer")
    seen = scene.look(one)
    assert (seen.unreached, seen.telling) == (Tally(), 1), "the answer may be under way"
    seen = scene.look(one)
    assert (seen.unreached, seen.telling) == (Tally(), 0), "a client that has died says nothing"
    one.passed(_repeated(one), Hook.PREROUTING)
    for _ in range(8):
        seen = scene.look(one)
        assert (shown(seen.unreached), seen.reached) == ((1, 1, one.client[0]), 0)
    for _ in range(3):
        seen = scene.look(one)
    assert seen.unreached == Tally(), "it may have died since"
    one.from_client("A")
    seen = scene.look(one)
    assert (seen.unreached, seen.reached) == (Tally(), 1)


def _repeated(one: ClientConnection) -> bytes:
    """Return the client's data once more: it has got none of what the backend has sent."""
    return packet(one.client, SERVICE, "PA", seq.add(one.iss, 1), seq.add(IRS, 1), b"question")


def test_a_handshake_that_no_client_completes(gear: Callable[[str], Scene]) -> None:
    scene = gear(UNMIRRORED)
    one = scene.client()
    one.syn()
    one.syn_ack()
    assert scene.look(one).greeted == Tally()
    seen = scene.look(one)
    assert (shown(seen.greeted), seen.reached) == ((1, 1, one.client[0]), 0)
    one.from_client("A")
    seen = scene.look(one)
    assert (seen.greeted, seen.reached) == (Tally(), 1)


def test_flows_that_natmirror_does_not_translate_show_nothing(gear: Callable[[str], Scene]) -> None:
    watched = UNMIRRORED[: UNMIRRORED.index("    pool:")] + "    mirrors:\n      - {name: m, address: 10.20.0.13}\n"
    scene = gear(watched)
    one = scene.client()
    one.syn()
    assert scene.look(one) == ServiceLook()


def test_services_that_a_reload_removes_are_left_out(gear: Callable[[str], Scene]) -> None:
    scene = gear(UNMIRRORED)
    one = scene.engine.begin_look(1)
    renamed = UNMIRRORED.replace("name: openflow", "name: web").replace("port: 6653", "port: 80")
    scene.engine.reload(parse_rules(renamed))
    assert scene.engine.end_look(one).keys() <= {"web"}


def test_tallies_of_threads_add_up_to_several_clients() -> None:
    one, other = Tally(3, 1, b"a", 1, b"x"), Tally(1, 1, b"b", 1, b"x")
    assert one + other == Tally(4, 2, b"a", 1, b"x")
    assert one + Tally(1, 1, b"b", 1, b"y") == Tally(4, 2, b"a", 2, b"x")
    assert one + Tally(1, 1, b"b", 2, b"x") == Tally(4, 2, b"a", 2, b"x")
    assert Tally() + other == other + Tally() == other
    assert (ServiceLook(answered=1, open=one) + ServiceLook(answered=2, open=other)).open.clients == 2
