"""Copies that begin again with the client's next data (``reconnect: next-segment``)."""

from typing import Any

import pytest

from natmirror.actions import Send
from natmirror.engine.engine import Engine
from natmirror.fastpath import BREAK_SILENCE
from natmirror.net import seq
from natmirror.rules import Release, parse_rules
from natmirror.tcp import reassembler
from tests.helpers.client_connection import ISS, MIRROR_ISS, ClientConnection, engine
from tests.helpers.leg_records import adopted_connection, answer, due, records
from tests.helpers.support import CLIENT, RULES, SERVICE, assert_adds_up, summary

MIRROR = "{name: master, address: 10.20.0.13}"
AGAIN = RULES.replace(MIRROR, MIRROR.replace("}", ", reconnect: next-segment}"))
MOVED = AGAIN.replace("10.20.0.13", "10.20.0.14")
THEIRS = seq.add(MIRROR_ISS, 1)


def number(count: int) -> int:
    """Return the client's sequence number after ``count`` bytes."""
    return seq.add(ISS, 1 + count)


def mirror_of(connection: ClientConnection) -> dict[str, Any]:
    snapshot: Any = connection.engine.snapshot(connection.now)
    assert_adds_up(snapshot)
    return dict(snapshot["mirrors"][0])


def say(connection: ClientConnection, data: bytes = b"data", letters: str = "PA") -> list[tuple[str, int, int, bytes]]:
    """Send a client's data and its acknowledgement; return the packets to the mirror."""
    connection.from_client(letters, data)
    connection.from_backend("A")
    return connection.mirrored()


def begins(connection: ClientConnection, data: bytes = b"data", letters: str = "PA") -> bool:
    """Return whether a leg begins exactly with this data."""
    at = connection.sent
    sent = say(connection, data, letters)
    assert sent in ([], [("S", number(at - 1), 0, b"")])
    return bool(sent)


def accept(connection: ClientConnection) -> None:
    """Have the mirror accept the leg that begins with the last data."""
    connection.from_mirror("SA", 0, connection.sent - 3)


def refuse(connection: ClientConnection) -> None:
    """Have the mirror refuse that leg."""
    connection.from_mirror("RA", 0, connection.sent - 3)


def change_rules(one: Engine, text: str, now: float) -> None:
    """Apply rules as a thread does at a reload."""
    one.reload(parse_rules(text))
    one.end_removed(one.leg_ids(), now)
    one.follow_mirrors(one.flow_ids(), now)
    one.prune()


def connected(one: Engine, port: int = CLIENT[1], now: float = 1000.0) -> ClientConnection:
    """Return a connection whose copy is open for ten seconds, after three bytes that ended with a PSH."""
    connection = ClientConnection(one, client=(CLIENT[0], port))
    connection.now = now
    connection.establish()
    connection.now += 10
    say(connection, b"one")
    connection.from_mirror("A", 1, 4)
    return connection


@pytest.fixture
def again(fast: bool) -> ClientConnection:
    """A connection whose copy has ended by its mirror's reset, which then gave way to a message."""
    connection = connected(engine(AGAIN, fast=fast))
    connection.from_mirror("RA", 1, 1)
    assert not begins(connection), "the end of the message before is not known"
    return connection


@pytest.mark.parametrize("release", Release)
def test_a_copy_begins_again_with_the_data_after_a_push(fast: bool, release: Release) -> None:
    connection = ClientConnection(engine(AGAIN, fast=fast, release=release))
    connection.establish()
    connection.now += 10
    assert say(connection, b"one") == [("PA", number(0), THEIRS, b"one")]
    connection.from_mirror("RA", 1, 1)
    assert mirror_of(connection)["connections_not_copied"] == {"reconnecting": 1}
    assert say(connection, b"two") == []
    assert say(connection, b"three") == [("S", number(5), 0, b"")]
    assert mirror_of(connection)["connections_not_copied"] == {}
    connection.from_mirror("SA", 0, 7)
    assert connection.mirrored() == [("PA", number(6), THEIRS, b"three")]
    assert say(connection, b"four") == [("PA", number(11), THEIRS, b"four")]
    connection.from_mirror("A", 1, 16)
    mirror = mirror_of(connection)
    assert (mirror["client_bytes"], mirror["acked_bytes"]) == (15, 9)
    assert mirror["lost_bytes"] == {"mirror-reset": 3, "reconnecting": 3}
    connection.from_client("RA")
    connection.outlive()
    assert mirror_of(connection)["lost_bytes"] == {"mirror-reset": 3, "reconnecting": 3}


def test_a_copy_begins_again_after_a_silence(again: ClientConnection) -> None:
    assert begins(again, letters="A")
    refuse(again)
    again.now += 0.9 * BREAK_SILENCE
    assert not begins(again, letters="A")
    again.now += 1.0
    assert begins(again, letters="A")


@pytest.mark.parametrize("release", Release)
def test_a_copy_begins_again_that_has_ended_with_a_rest_to_write(
    fast: bool, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    for most in ("_MAX_TAKEN_LEN", "_MAX_PIECE_LEN"):
        monkeypatch.setattr(reassembler, most, 1000)  # bytes that one call writes
    connection = connected(engine(AGAIN, fast=fast, release=release))
    for index, data in ((1, b"b"), (2, b"c"), (0, b"a")):
        connection.from_client("PA", 1400 * data, at=connection.sent + 1400 * index)
    connection.sent += 4200
    [stream] = connection.engine._mirroring.streams.values()
    assert stream.has_rest
    connection.from_mirror("RA", 1, 4)
    connection.engine.handle_timer(connection.now)
    connection.from_backend("A")
    connection.mirrored()
    assert [begins(connection) for _ in range(2)] == [False, True]


def test_a_copy_does_not_begin_inside_a_message(again: ClientConnection) -> None:
    again.from_client("A", b"more")
    assert again.mirrored() == [("S", number(6), 0, b"")]
    refuse(again)
    again.now += 1.0
    again.from_client("A", b"and more")  # after a silence, but not all is acknowledged
    again.from_client("PA", b"and more")
    again.from_client("A", b"later")
    assert again.mirrored() == []
    again.from_backend("A")
    assert not begins(again), "the latest data had no PSH"
    assert begins(again)


def test_what_is_sent_again_begins_no_copy(again: ClientConnection) -> None:
    refuse(again)
    at = again.sent
    again.from_client("PA", b"data")
    assert again.mirrored()
    refuse(again)
    again.now += 1.0
    again.from_client("PA", b"evil", at=at)
    assert again.mirrored() == []


def test_one_copy_at_a_time_probes_a_mirror_that_does_not_work(fast: bool) -> None:
    first = connected(engine(AGAIN, fast=fast), 1)
    others = [connected(first.engine, port) for port in range(2, 5)]
    for connection in (first, *others):
        connection.from_mirror("RA", 1, 1)
        say(connection)
    assert [begins(connection) for connection in (first, *others)] == [True, False, False, False]
    now = first.now
    for pause in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0):
        refuse(first)
        for connection in (first, *others):
            connection.now = now + pause - 0.01
            assert not begins(connection)
        now += pause
        for connection in (first, *others):
            connection.now = now
            assert begins(connection) == (connection is first)
    accept(first)
    first.mirrored()
    assert all(begins(connection) for connection in others), "the mirror works"
    assert mirror_of(first)["connections_not_copied"] == {}


def test_a_new_connections_leg_shows_that_the_mirror_works(again: ClientConnection) -> None:
    assert begins(again)
    refuse(again)
    assert not begins(again)
    connected(again.engine, 2, again.now)
    assert begins(again)


def test_a_probe_that_its_client_ends_frees_the_mirror_for_another(fast: bool) -> None:
    one = connected(engine(AGAIN, fast=fast), 1)
    other = connected(one.engine, 2)
    for connection in (one, other):
        connection.from_mirror("RA", 1, 1)
        say(connection)
    assert [begins(one), begins(other)] == [True, False]
    one.from_client("RA")
    one.now = other.now = one.now + 6.0  # past ``linger``
    one.engine.handle_timer(one.now)
    assert begins(other)


def test_a_leg_that_dies_soon_makes_its_copy_wait_for_a_minute(again: ClientConnection) -> None:
    assert begins(again)
    accept(again)
    again.mirrored()
    again.from_mirror("RA", 1, 1)
    for pause in (1.0, 58.0):
        again.now += pause
        assert not begins(again)
    again.now += 1.0
    again.engine.handle_timer(again.now)
    assert begins(again)


def test_a_copy_whose_endpoints_are_in_use_waits_on(fast: bool) -> None:
    service = """
  - {name: other, address: 10.10.0.100, port: 7000, pool: {backends: [{name: m, address: 10.20.0.13, port: 6653}]}}
"""
    connection = connected(engine(AGAIN + service, fast=fast))
    direct = ClientConnection(connection.engine, service=(SERVICE[0], 7000))
    direct.now = connection.now
    direct.syn()
    connection.mirrored()
    assert not begins(connection)
    assert not begins(connection), "the mirror's endpoint has a connection with the client's port"
    [flow] = [flow for flow in connection.engine.flows(connection.now) if flow["service"] == "openflow"]
    assert [leg["reason"] for leg in flow["legs"]] == ["reconnecting"]


def test_a_picked_up_connection_is_copied_from_a_break_on(fast: bool) -> None:
    before = ClientConnection(engine(AGAIN, fast=fast))
    before.connect()
    say(before, b"one")
    connection = ClientConnection(engine(AGAIN, fast=fast))
    connection.backend, connection.sent = before.backend, 3
    for _ in range(2):
        connection.now += 1.0
        connection.from_client("PA", b"more")
        connection.from_backend("PA", b"yes")
        connection.from_client("A")
    assert [letters for letters, *_ in connection.mirrored()] == ["S"]
    accept(connection)
    assert connection.mirrored() == [("PA", number(7), THEIRS, b"more")]
    mirror = mirror_of(connection)
    assert mirror["lost_bytes"] == {"reconnecting": 4}
    assert mirror["connections_not_copied"] == {}


def test_a_reload_may_let_copies_begin_again_or_not(fast: bool) -> None:
    connection = connected(engine(RULES, fast=fast))
    connection.from_mirror("RA", 1, 1)
    say(connection)
    assert mirror_of(connection)["connections_not_copied"] == {"mirror-reset": 1}
    change_rules(connection.engine, AGAIN, connection.now)
    assert mirror_of(connection)["connections_not_copied"] == {"reconnecting": 1}
    change_rules(connection.engine, RULES, connection.now)
    assert mirror_of(connection)["connections_not_copied"] == {"mirror-reset": 1}
    say(connection)
    assert not begins(connection)
    change_rules(connection.engine, AGAIN, connection.now)
    say(connection)
    assert begins(connection)
    assert mirror_of(connection)["lost_bytes"] == {"mirror-reset": 12, "reconnecting": 4}


def test_a_mirror_that_a_reload_moves_gets_open_connections_from_a_break_on(fast: bool) -> None:
    connection = connected(engine(AGAIN, fast=fast))
    change_rules(connection.engine, MOVED, connection.now)
    assert mirror_of(connection)["connections_not_copied"] == {"reconnecting": 1}
    connection.mirrored()
    say(connection)
    connection.from_client("PA", b"data")
    [syn] = connection.to_mirror
    assert syn.dst == bytes((10, 20, 0, 14))
    mirror = mirror_of(connection)
    assert (mirror["address"], mirror["connections_not_copied"]) == ("10.20.0.14:6653", {})
    assert mirror["lost_bytes"] == {"reconnecting": 4}


def test_a_mirror_that_a_reload_adds_counts_from_then_on(fast: bool) -> None:
    connection = connected(engine(AGAIN, fast=fast))
    two = AGAIN.replace("    mirrors:\n", "    mirrors:\n      - {name: new, address: 10.20.0.15}\n")
    change_rules(connection.engine, two, connection.now)
    snapshot: Any = connection.engine.snapshot(connection.now)
    assert_adds_up(snapshot)
    new = next(mirror for mirror in snapshot["mirrors"] if mirror["name"] == "new")
    assert (new["client_bytes"], new["connections_not_copied"]) == (0, {"mirror-added": 1})
    say(connection)
    snapshot = connection.engine.snapshot(connection.now)
    assert_adds_up(snapshot)
    new = next(mirror for mirror in snapshot["mirrors"] if mirror["name"] == "new")
    assert (new["client_bytes"], new["lost_bytes"]) == (4, {"mirror-added": 4})
    change_rules(connection.engine, AGAIN, connection.now)
    connection.from_client("RA")
    connection.outlive()
    assert_adds_up(connection.engine.snapshot(connection.now))


def test_in_its_steady_state_c_decides_alone_also_while_a_copy_waits(again: ClientConnection, fast: bool) -> None:
    assert begins(again)
    refuse(again)

    def punts() -> int:
        snapshot: Any = again.engine.snapshot(again.now)
        return sum(snapshot["packets_decided_in_python"].values())

    before = punts()
    for _ in range(10):
        say(again)
    assert not fast or punts() == before
    again.now += 1.0
    assert begins(again)
    accept(again)
    before = punts()
    for _ in range(10):
        say(again)
    assert not fast or punts() == before


def test_a_released_copy_does_not_wait(again: ClientConnection) -> None:
    again.engine.replicated_legs.release()
    assert mirror_of(again)["connections_not_copied"] == {}
    say(again)
    assert not begins(again)


def test_the_leg_that_begins_again_is_shown_with_its_own_bytes(again: ClientConnection) -> None:
    [flow] = again.engine.flows(again.now)
    assert [(leg["state"], leg["reason"]) for leg in flow["legs"]] == [("none", "reconnecting")]
    assert begins(again, b"12345678")
    [flow] = again.engine.flows(again.now)
    assert [(leg["state"], leg["client_bytes"]) for leg in flow["legs"]] == [("syn-sent", 8)]


def test_sends_of_closing_are_resets(again: ClientConnection) -> None:
    assert begins(again)
    assert [summary(send.packet)[0] for send in again.engine.close() if isinstance(send, Send)] == ["R"]


@pytest.mark.parametrize("release", Release)
def test_a_service_that_gets_its_first_mirror_has_its_connections_copied_from_a_break_on(
    fast: bool, release: Release
) -> None:
    without = RULES[: RULES.index("    mirrors:")]
    connection = ClientConnection(engine(without, fast=fast, release=release))
    connection.connect()
    say(connection, b"one")
    connection.now += 10
    rules = AGAIN if release is Release.ACKNOWLEDGED else AGAIN + "    release: seen\n"
    change_rules(connection.engine, rules, connection.now)
    assert mirror_of(connection)["connections_not_copied"] == {"reconnecting": 1}
    assert mirror_of(connection)["client_bytes"] == 0
    assert begins(connection)
    accept(connection)
    assert connection.mirrored() == [("PA", number(3), THEIRS, b"data")]
    connection.from_mirror("A", 1, 8)
    mirror = mirror_of(connection)
    assert (mirror["client_bytes"], mirror["acked_bytes"], mirror["lost_bytes"]) == (4, 4, {})
    connection.from_client("FA")
    connection.from_backend("FA")
    connection.from_client("A")
    assert [letters for letters, *_ in connection.mirrored()] == ["FA"]


def test_another_host_goes_on_with_a_copy_that_has_begun_again(again: ClientConnection, fast: bool) -> None:
    assert begins(again)
    accept(again)
    again.mirrored()
    [record] = records(again.engine)
    other = ClientConnection(engine(AGAIN, fast=fast))
    other.backend, other.sent, other.answered, other.now = again.backend, again.sent, again.answered, again.now
    other.engine.replicated_legs.release()
    other.engine.replicated_legs.adopt(record, other.now)
    other.engine.replicated_legs.take_over(other.now)
    assert due(other) != [], "the mirror is asked for its position"
    answer(other, 1 + again.sent, 1)
    due(other)
    assert [data for *_, data in say(other, b"more")] == [b"more"]
    assert mirror_of(other)["connections_not_copied"] == {}


def test_a_copy_that_no_record_continues_begins_again_on_the_host_that_takes_over(fast: bool) -> None:
    connection = adopted_connection(fast=fast, rules=AGAIN, release=Release.ACKNOWLEDGED)
    due(connection)
    due(connection, after=31.0)
    assert mirror_of(connection)["connections_not_copied"] == {"reconnecting": 1}
    connection.now += 1.0
    for _ in range(3):  # the first ones show that both ends agree
        connection.from_client("PA", b"data")
        connection.from_backend("PA", b"yes")
        connection.from_client("A")
    assert [flags for flags, *_ in connection.mirrored()] == ["S"]
    assert mirror_of(connection)["connections_not_copied"] == {}
