"""A copy that waits to begin again costs the copies beside it nothing, and Python no packet before it may begin."""

from typing import Any

from natmirror._ffi import lib
from natmirror.actions import Hook
from natmirror.engine.engine import Engine
from natmirror.fastpath.punt_reasons import PuntReason
from natmirror.net import seq
from natmirror.net.packet import SYN
from natmirror.reasons import EndReason
from natmirror.rules import Release
from tests.helpers.client_connection import MIRROR_ISS, ClientConnection, engine
from tests.helpers.support import CLIENT, RULES, assert_adds_up, at, packet

FLAPS, DOWN, GOOD = (at(f"10.20.0.{last}", 6653) for last in (13, 14, 15))
RULES_OF_THREE = RULES.replace(
    "      - {name: master, address: 10.20.0.13}",
    """      - {name: flaps, address: 10.20.0.13, reconnect: next-segment}
      - {name: down, address: 10.20.0.14, reconnect: next-segment}
      - {name: good, address: 10.20.0.15}""",
)
WATCHED = RULES_OF_THREE[: RULES.index("    pool:")] + RULES_OF_THREE[RULES_OF_THREE.index("    mirrors:") :]


class Connection(ClientConnection):
    """A connection with three mirrors: one resets its legs, one refuses them, one is good."""

    def __init__(self, one: Engine, port: int, now: float) -> None:
        super().__init__(one, client=(CLIENT[0], port))
        self.now = now
        self.connect()
        for mirror, letters in ((FLAPS, "SA"), (GOOD, "SA"), (DOWN, "RA")):
            self.answer(mirror, letters, 0, 1)
        self.to_mirror.clear()

    def answer(self, mirror: tuple[bytes, int], letters: str, number: int, ack: int) -> None:
        """Send a packet of a mirror; both numbers count from the initial ones."""
        raw = packet(mirror, self.client, letters, seq.add(MIRROR_ISS, number), seq.add(self.iss, ack))
        self.take(raw, Hook.PREROUTING)

    def say(self) -> list[str]:
        """Send a message and all acknowledgements; return to which mirrors a leg began with it, and let them end."""
        self.from_client("PA", b"data")
        self.from_backend("A")
        self.answer(GOOD, "A", 1, 1 + self.sent)
        begun = [one for one in self.to_mirror if one.flags == SYN]
        self.to_mirror.clear()
        for syn in begun:
            first = seq.diff(syn.seq, self.iss) + 1
            if syn.dst == DOWN[0]:
                self.answer(DOWN, "RA", 0, first)
            else:
                self.answer(FLAPS, "SA", 0, first)
                self.answer(FLAPS, "RA", 1, first)
        return [{FLAPS[0]: "flaps", DOWN[0]: "down"}[syn.dst] for syn in begun]

    def snapshot(self) -> dict[str, Any]:
        snapshot: Any = self.engine.snapshot(self.now)
        assert_adds_up(snapshot)
        return dict(snapshot)


def test_no_message_is_punted_while_a_copy_waits_by_itself_and_another_for_its_mirror(fast: bool) -> None:
    one = Connection(engine(RULES_OF_THREE, fast=fast, release=Release.ACKNOWLEDGED), 1, 1000.0)
    one.now += 10
    one.say()
    one.answer(FLAPS, "RA", 1, 1)
    one.now += 2
    begun = [mirror for _ in range(4) for mirror in one.say()]
    assert sorted(begun) == ["down", "flaps"]
    Connection(one.engine, 2, one.now)  # with a leg to flaps, which so works
    before = one.snapshot()["packets_decided_in_python"]
    assert [mirror for _ in range(20) for mirror in one.say()] == []
    assert not fast or one.snapshot()["packets_decided_in_python"] == before
    one.now += 60
    one.engine.handle_timer(one.now)
    assert sorted(mirror for _ in range(2) for mirror in one.say()) == ["down", "flaps"]


def test_a_message_with_which_a_copy_may_begin_is_copied_to_others_over_the_limit_too() -> None:
    one = Connection(engine(RULES_OF_THREE, release=Release.ACKNOWLEDGED), 1, 1000.0)
    busy = Connection(one.engine, 2, one.now)
    one.say()
    one.answer(FLAPS, "RA", 1, 1)
    for _ in range(int(lib.NM_TURNS_BURST)):
        busy.from_client("PA", b"x", at=10)  # behind a gap
    over = one.snapshot()["packets_over_limit"]
    assert PuntReason.COPY_BEGINS not in over
    assert one.say() == []
    snapshot = one.snapshot()
    assert snapshot["packets_over_limit"] == {**over, PuntReason.COPY_BEGINS: 1}
    good = snapshot["mirrors"][2]
    assert (good["name"], good["acked_bytes"], good["lost_bytes"]) == ("good", one.sent, {})
    one.now += 2
    assert "flaps" in one.say()


def test_packets_that_passed_unseen_end_the_other_copies_before_one_begins() -> None:
    one = Connection(engine(WATCHED, release=Release.ACKNOWLEDGED), 1, 1000.0)
    one.say()
    one.answer(FLAPS, "RA", 1, 1)
    one.engine.gear.unseen += 1  # TRUE
    one.from_client("PA", b"LIES")
    one.from_backend("A")
    assert [segment.payload for segment in one.to_mirror if segment.payload] == []
    assert one.snapshot()["mirrors"][2]["legs_ended"] == {EndReason.UNSEEN: 1}
