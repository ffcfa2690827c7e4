"""Second targets with the test's own sockets."""

import asyncio
import socket
from ipaddress import IPv4Address

from natmirror.backends.host_view import Target
from natmirror.backends.second_target import answering, counted, first_answering, pause_after
from tests.helpers.controllers import HOST

OWN = IPv4Address(HOST)
ABSENT: Target = (IPv4Address("255.255.255.255").packed, 1)
"""An endpoint to which no packet leaves."""


def ask(*targets: Target) -> bool:
    return asyncio.run(first_answering(targets, 0.2)) is not None


def test_a_mirror_answers_by_accepting_or_refusing_a_connection() -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        assert ask((OWN.packed, port))
    assert ask((OWN.packed, port))
    assert ask(ABSENT, (OWN.packed, port))


def test_targets_that_are_silent_or_cannot_be_reached_do_not_answer() -> None:
    with socket.create_server((HOST, 0), backlog=0) as full, socket.create_connection(full.getsockname()):
        assert not ask(ABSENT, (OWN.packed, full.getsockname()[1]))
    assert not ask(ABSENT)
    assert not ask()


def test_those_that_answer_are_told_apart() -> None:
    with (
        socket.create_server((HOST, 0)) as listener,
        socket.create_server((HOST, 0), backlog=0) as full,
        socket.create_connection(full.getsockname()),
    ):
        here = (OWN.packed, listener.getsockname()[1])
        silent = (OWN.packed, full.getsockname()[1])
        assert asyncio.run(answering([ABSENT, silent, here], 0.2)) == [here]
        assert asyncio.run(answering([], 0.2)) == []


def test_a_target_that_answers_no_more_is_asked_again_soon_and_then_less_often() -> None:
    a, b, c = (IPv4Address(f"10.20.0.{number}") for number in (1, 2, 3))
    assert pause_after(1.0, [], [a, b], [a, b]) == 30.0
    assert pause_after(30.0, [a, b], [a], [a, b, c]) == 1.0
    pauses = [1.0]
    for _ in range(40):
        pauses.append(pause_after(pauses[-1], [a], [a], [a, b, c]))
        assert pauses[-1] <= 1.0 + sum(pauses[:-1]) / 4, "so what returns is known in a quarter of its absence"
    assert pauses[-1] == 30.0
    assert pause_after(8.0, [a], [a, b, c], [a, b, c]) == 30.0
    assert pause_after(30.0, [a, b], [a], [a]) == 1.0, "one that the rules have no more"


def test_a_target_counts_until_it_has_not_answered_twice_in_a_row() -> None:
    a, b, c = (IPv4Address(f"10.20.0.{number}") for number in (1, 2, 3))
    assert counted([a, b], [b], [a, b, c], []) == ([b, a], [a])
    assert counted([b, a], [b], [a, b, c], [a]) == ([b], [])
    assert counted([b, a], [a], [a, b, c], [a]) == ([a, b], [b])
    assert counted([a], [], [b], []) == ([], []), "one that the rules have no more"
    assert counted([], [a], [a, b], []) == ([a], []), "one that has never answered is not late"
