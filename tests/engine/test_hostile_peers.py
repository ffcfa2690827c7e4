"""Hostile switches, backends, mirrors, routers and records, and an operator between them: nothing raises, the memory
stays within its account, both gears do the same, tables and ledgers stay right, and nothing is left at the end."""

from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from tests.helpers.hostile.play import play

_MIN_RUNS = 200


@settings(max_examples=max(settings().max_examples, _MIN_RUNS), phases=(Phase.explicit, Phase.reuse, Phase.generate))
@example(79703)  # an MPTCP option comes at a break while the mirror's gate is shut
@example(50339685)  # the client goes on after its RST, while a leg still connects
@example(8004700)  # a standby stream's bytes are given up before it is activated
@example(55002029)  # a mirror is added while a flow is loose, and the client's numbers jump
@example(78000758)  # a mirror resets the leg of a standby connection, whose copy then waits to begin again
@example(1568596)  # a backend resets a connection whose throttled client is to get a window update
@given(st.integers(0, (1 << 32) - 1))
def test_whatever_the_peers_do_production_and_the_books_stay_right(seed: int) -> None:
    play(seed)
