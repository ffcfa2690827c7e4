"""The leg of the packet scripts."""

from collections.abc import Iterator

import pytest

from tests.helpers.leg_wire import Wire


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    if wire.leg.ended is not None:
        assert wire.leg.next_timer() is None
        assert wire.leg.lag_bytes == 0
        assert wire.write(b"late") == []
        assert wire.memory.used == 0
