"""Services without a pool: packets that have passed the watch queue unseen end the copies of the connections there."""

import pytest

from natmirror._ffi import lib
from natmirror.actions import Drop, Hook
from natmirror.engine.engine import Engine
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint
from natmirror.reasons import DropReason, EndReason
from natmirror.rules import Release
from tests.helpers.client_connection import IRS, ISS, MIRROR_ISS, ClientConnection, engine
from tests.helpers.support import CLIENT, MASTER, RULES, SERVICE, assert_adds_up, at, packet

WATCHED = RULES[: RULES.index("    pool:")] + RULES[RULES.index("    mirrors:") :]
BOTH = (
    RULES
    + """
  - {name: watched, address: 10.10.0.200, port: 6653, mirrors: [{name: m, address: 10.20.0.13, port: 7653}]}
"""
)
NEIGHBOUR = (CLIENT[0], CLIENT[1] + 1)


class Watched(ClientConnection):
    """A connection of a service without a pool, whose bytes wait for their acknowledgement."""

    def __init__(
        self,
        one: Engine | None = None,
        *,
        client: Endpoint = CLIENT,
        service: Endpoint = SERVICE,
        mirror: Endpoint = MASTER,
    ) -> None:
        super().__init__(one or engine(WATCHED, release=Release.ACKNOWLEDGED), client=client, service=service)
        self.backend = service
        self.connect()
        self.take(packet(mirror, client, "SA", MIRROR_ISS, seq.add(ISS, 1)), Hook.PREROUTING)
        self.mirrored()

    @property
    def ended(self) -> list[EndReason]:
        return [event.reason for event in self.engine.take_events()]


def test_what_is_held_is_not_released_after_packets_have_passed_unseen() -> None:
    one = Watched()
    one.from_client("PA", b"LIE!!")
    one.engine.gear.unseen += 1  # TRUTH
    one.from_backend("A")
    assert [data for _, _, _, data in one.mirrored() if data] == []
    assert one.ended == [EndReason.UNSEEN]
    assert_adds_up(one.engine.snapshot(one.now))


@pytest.mark.parametrize("letters", ["A", "FA"])
def test_a_connection_without_held_bytes_loses_its_copy_too(letters: str) -> None:
    one = Watched()
    one.engine.gear.unseen += 1
    one.from_backend(letters)
    one.from_client("PA", b"more")
    assert one.ended == [EndReason.UNSEEN]


def test_a_connection_that_begins_afterwards_is_copied() -> None:
    one = Watched()
    one.engine.gear.unseen += 1
    one.from_client("PA", b"lost")
    assert one.ended == [EndReason.UNSEEN]
    later = Watched(one.engine, client=NEIGHBOUR)
    later.from_client("PA", b"copied")
    later.from_backend("A")
    assert b"copied" in [data for _, _, _, data in later.mirrored()]


def test_connections_of_services_with_a_pool_keep_their_copies() -> None:
    both = engine(BOTH, release=Release.ACKNOWLEDGED)
    watched = Watched(both, service=at("10.10.0.200", 6653), mirror=at("10.20.0.13", 7653))
    one = ClientConnection(both, client=NEIGHBOUR)
    one.connect()
    one.take(packet(MASTER, one.client, "SA", MIRROR_ISS, seq.add(ISS, 1)), Hook.PREROUTING)
    one.mirrored()
    one.from_client("PA", b"hello")
    one.engine.gear.unseen += 1
    one.from_backend("A")
    watched.from_client("PA", b"lost")
    assert b"hello" in [data for _, _, _, data in one.mirrored()]
    assert watched.ended == [EndReason.UNSEEN]


def test_a_fin_over_the_limit_passes_the_watch_queue_all_the_same() -> None:
    one = Watched()
    busy = Watched(one.engine, client=NEIGHBOUR)
    one.from_client("PA", b"LIE!!")
    for number in range(int(lib.NM_TURNS_BURST)):
        busy.from_client("PA", b"x", at=10 + 2 * number)
    raw = packet(CLIENT, SERVICE, "FPA", seq.add(ISS, 1), seq.add(IRS, 1), b"TRUE")  # with the FIN as long as the lie
    assert one.take(raw, Hook.PREROUTING) == Drop(DropReason.OVER_LIMIT)
    one.now += 2
    one.from_backend("A")
    assert [data for _, _, _, data in one.mirrored() if data] == []
    assert EndReason.OVER_LIMIT in one.ended
