"""Hostile switches, backends, mirrors, routers and records, and an operator between them: nothing raises, the memory
stays within its account, both gears do the same, tables and ledgers stay right, and nothing is left at the end."""

from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from tests.helpers.hostile.play import play

_MIN_RUNS = 200


@settings(max_examples=max(settings().max_examples, _MIN_RUNS), phases=(Phase.explicit, Phase.reuse, Phase.generate))
@example(seed=79703, overtakes=False)  # an MPTCP option comes at a break while the mirror's gate is shut
@example(seed=50339685, overtakes=False)  # the client goes on after its RST, while a leg still connects
@example(seed=8004700, overtakes=False)  # a standby stream's bytes are given up before it is activated
@example(seed=55002029, overtakes=False)  # a mirror is added while a flow is loose, and the client's numbers jump
@example(
    seed=78000758, overtakes=False
)  # a mirror resets the leg of a standby connection, whose copy then waits to begin again
@example(
    seed=1568596, overtakes=False
)  # a backend resets a connection whose throttled client is to get a window update
@example(seed=191828, overtakes=False)  # a session that has just begun to be picked up is dropped for want of memory
@example(seed=801777, overtakes=True)  # a reload adds a master to a connection whose switch has sent its FIN
@given(seed=st.integers(0, (1 << 32) - 1), overtakes=st.booleans())
def test_whatever_the_peers_do_production_and_the_books_stay_right(*, seed: int, overtakes: bool) -> None:
    play(seed, overtakes=overtakes)


@settings(phases=(Phase.explicit, Phase.reuse, Phase.generate))
@example(seed=663675119, overtakes=True)  # copies end while a rest of their stream is still to be written
@given(seed=st.integers(0, (1 << 32) - 1), overtakes=st.booleans())
def test_masters_that_are_compared_disturb_nothing_either(*, seed: int, overtakes: bool) -> None:
    play(seed, overtakes=overtakes, judges=True)
