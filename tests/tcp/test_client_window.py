"""The window that a client sees while a mirror is behind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natmirror.actions import Hook, Send
from natmirror.mirror.faults import Work
from natmirror.net import seq
from natmirror.net.packet import OPT_NOP, OPT_TIMESTAMPS, OPT_WINDOW_SCALE
from natmirror.rules import Release
from natmirror.tcp.client_window import ClientWindow, slack_of
from tests.helpers.client_connection import IRS, ISS, MIRROR_ISS, ClientConnection, engine
from tests.helpers.support import CLIENT, MASTER, RULES, packet, segment

FIRST = 0xFFFF_FF00
BUFFER = 65536
SCALE = 7
HELD = RULES.replace("10.20.0.13}", "10.20.0.13, when-behind: throttle, buffer: 64KiB}")


@given(
    st.integers(0, 14),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 0xFFFF), st.integers(0, 8000)), max_size=60),
)
def test_the_edge_stays_near_the_hold_and_never_moves_back(scale: int, steps: list[tuple[int, int, int]]) -> None:
    throttle = ClientWindow(seq.add(FIRST, BUFFER), BUFFER)
    slack = slack_of(BUFFER)
    acked = held = shown = 0
    held = BUFFER
    for more_acked, window, room in steps:
        acked = min(acked + more_acked, shown)  # a client sends no byte past the window that it sees
        held = max(held, min(held + room, acked + BUFFER))
        throttle.hold = seq.add(FIRST, held)
        field = throttle.cut(seq.add(FIRST, acked), window, scale)
        edge = acked + (field << scale)
        assert 0 <= field <= window, "never more than the backend offers"
        assert edge <= held + slack
        if acked + (window << scale) >= shown and edge < shown:
            # Rounding up uses the slack, until that is used up.
            assert shown - edge < 1 << scale
            assert edge + (1 << scale) > held + slack
        shown = max(shown, edge)


@pytest.mark.parametrize("scale", [0, 7, 9])
def test_with_usual_scales_rounding_never_moves_the_edge_back(scale: int) -> None:
    buffer = 16 << 20
    throttle = ClientWindow(seq.add(FIRST, buffer), buffer)
    shown = 0
    for acked in range(0, buffer, 2896):
        field = throttle.cut(seq.add(FIRST, acked), 0xFFFF, scale)
        edge = acked + (field << scale)
        assert edge >= min(shown, acked + (0xFFFF << scale))
        shown = max(shown, edge)


def test_a_window_below_the_hold_passes_unchanged() -> None:
    throttle = ClientWindow(seq.add(FIRST, BUFFER), BUFFER)
    assert throttle.cut(FIRST, 100, 3) == 100
    assert throttle.cut(FIRST, 0xFFFF, 0) == 0xFFFF


def test_an_update_is_due_when_it_is_worth_a_packet() -> None:
    throttle = ClientWindow(seq.add(FIRST, BUFFER), BUFFER)
    far = seq.add(FIRST, 1 << 20)
    assert not throttle.is_update_due(FIRST, far), "the client has seen no window yet"
    throttle.cut(FIRST, 0xFFFF, 4)
    assert not throttle.is_update_due(FIRST, far)
    throttle.hold = seq.add(throttle.hold, BUFFER // 4)
    assert throttle.is_update_due(FIRST, far)
    assert not throttle.is_update_due(FIRST, throttle.shown), "the backend has offered no more"


def test_the_last_of_the_backends_window_is_worth_an_update_to_a_client_that_waits() -> None:
    throttle = ClientWindow(seq.add(FIRST, BUFFER), BUFFER)
    throttle.cut(FIRST, 0xFFFF, 4)
    throttle.hold = seq.add(throttle.hold, 2 * BUFFER)
    edge = seq.add(throttle.shown, 100)
    assert not throttle.is_update_due(FIRST, edge), "the client can still send"
    assert throttle.is_update_due(throttle.shown, edge)


def throttled_connection(
    *, timestamps: bool = False, fast: bool = True, release: Release = Release.SEEN
) -> ClientConnection:
    """Return a connection whose client has used up its window."""
    connection = ClientConnection(engine(HELD, fast=fast, release=release))
    options = bytes((OPT_NOP, OPT_WINDOW_SCALE, 3, SCALE))
    out = connection.passed(packet(CLIENT, connection.service, "S", ISS, options=options), Hook.PREROUTING)
    connection.backend = (out.dst, out.dport)
    if timestamps:
        options += bytes((OPT_NOP, OPT_NOP, OPT_TIMESTAMPS, 10)) + b"\0\0\0\7\0\0\0\5"
    connection.passed(packet(connection.backend, CLIENT, "SA", IRS, ISS + 1, options=options), Hook.FORWARD)
    connection.from_client("A")
    connection.connect_mirror()
    connection.from_client("PA", b"x" * 40_000)
    return connection


def acknowledge(connection: ClientConnection, count: int) -> None:
    """Acknowledge so many bytes for the mirror; return the window updates to the client."""
    for done in (*range(10_000, count, 10_000), count):
        connection.from_mirror("A", 1, 1 + done)


def fail(*_: object, **__: object) -> None:
    raise ZeroDivisionError


def acknowledgement(connection: ClientConnection) -> bytes:
    """Return the mirror's acknowledgement of the first 10,000 bytes."""
    return packet(MASTER, CLIENT, "A", seq.add(MIRROR_ISS, 1), seq.add(connection.iss, 1 + 10_000))


def reply(connection: ClientConnection, letters: str = "A") -> int:
    """Acknowledge everything for the backend, with its widest window; return how far the client may send."""
    out = connection.from_backend(letters)
    return seq.diff(seq.add(out.ack, out.window << SCALE), ISS + 1)


def test_the_client_sees_the_room_that_the_mirror_has() -> None:
    connection = throttled_connection()
    assert abs(reply(connection) - BUFFER) < 1 << SCALE
    acknowledge(connection, 10_000)
    assert abs(reply(connection) - BUFFER - 10_000) < 1 << SCALE
    [mirror] = connection.engine.snapshot(connection.now)["mirrors"]
    assert mirror["pending_bytes"] == 30_000


@pytest.mark.parametrize("fast", [False, True])
def test_held_bytes_and_buffered_ones_narrow_the_window(fast: bool) -> None:
    connection = throttled_connection(fast=fast, release=Release.ACKNOWLEDGED)

    def room(acked: int) -> int:
        """Acknowledge so many bytes for the backend, and return how many the client may send now."""
        assert connection.backend
        raw = packet(connection.backend, CLIENT, "A", seq.add(IRS, 1), seq.add(ISS, 1 + acked))
        return acked + (connection.passed(raw, Hook.FORWARD).window << SCALE) - connection.sent

    def counted() -> tuple[int, int]:
        [mirror] = connection.engine.snapshot(connection.now)["mirrors"]
        return mirror["held_bytes"], mirror["pending_bytes"]

    for acked in (0, 10_000, 25_000):
        assert abs(room(acked) - (BUFFER - 40_000)) <= 1 << SCALE
        assert counted() == (40_000 - acked, acked)
    connection.from_client("PA", b"x" * (BUFFER - 40_000))
    assert abs(room(25_000)) <= 1 << SCALE
    assert counted() == (BUFFER - 25_000, 25_000)
    assert abs(room(BUFFER)) <= 1 << SCALE
    assert (counted(), connection.engine.take_events()) == ((0, BUFFER), [])
    acknowledge(connection, 10_000)
    assert abs(room(BUFFER) - 10_000) <= 1 << SCALE


def test_when_room_returns_the_client_gets_a_window_update() -> None:
    connection = throttled_connection(timestamps=True)
    reply(connection)
    connection.mirrored()
    acknowledge(connection, 40_000)
    assert connection.engine.next_timer() == 0.0
    [update] = connection.engine.handle_timer(connection.now)
    assert isinstance(update, Send)
    sent = segment(update.packet)
    assert ((sent.src, sent.sport), (sent.dst, sent.dport)) == (connection.service, CLIENT)
    assert (sent.seq, sent.ack, sent.payload_len) == (seq.add(IRS, 1), seq.add(ISS, 1 + 40_000), 0)
    edge = seq.diff(seq.add(sent.ack, sent.window << SCALE), ISS + 1)
    assert abs(edge - BUFFER - 40_000) < 1 << SCALE
    assert sent.options()[OPT_TIMESTAMPS] == b"\0\0\0\7\0\0\0\5", "or a client with PAWS would drop it"
    assert connection.engine.handle_timer(connection.now) == []


def test_a_connection_that_was_reset_gets_no_window_update(fast: bool) -> None:
    connection = throttled_connection(fast=fast)
    reply(connection)
    connection.from_mirror("RA", 1, 1)
    assert connection.engine.next_timer() == 0.0
    connection.mirrored()
    connection.from_backend("RA")
    sends = [segment(one.packet) for one in connection.engine.handle_timer(connection.now) if isinstance(one, Send)]
    assert [one for one in sends if one.dst == CLIENT[0]] == []


def test_without_progress_the_leg_is_dropped_and_the_client_no_longer_throttled() -> None:
    connection = throttled_connection()
    connection.from_mirror("A", 1, 1)
    reply(connection)
    connection.from_client("PA", b"x" * 25_000)
    due = connection.now + 2.0
    while (timer := connection.engine.next_timer()) is not None and timer < due:
        connection.now = max(connection.now, timer)
        connection.engine.handle_timer(connection.now)
    connection.now = due
    sends = [segment(action.packet) for action in connection.engine.handle_timer(due) if isinstance(action, Send)]
    assert [event.reason for event in connection.engine.take_events()] == ["throttle-limit"]
    update = sends[-1]
    assert update.dst == CLIENT[0]
    assert update.window << SCALE > BUFFER, "the backend's own window"
    assert reply(connection) > BUFFER * 2
    assert connection.engine.snapshot(connection.now)["mirror_memory"]["used_bytes"] == 0


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("work", [Work.COPY, Work.THROTTLE])
def test_a_throttled_client_gets_a_window_update_when_a_fault_ends_throttling(
    work: Work, fails: bool, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would learn of its window only by its own probes, minutes apart."""
    connection = throttled_connection(fast=fast)
    connection.from_mirror("A", 1, 1)
    reply(connection)
    connection.from_client("PA", b"x" * 25_000)
    reply(connection)
    connection.mirrored()
    if fails:
        monkeypatch.setattr(
            "natmirror."
            + ("mirror.backpressure.Backpressure.update" if work is Work.THROTTLE else "tcp.leg.Leg.receive"),
            fail,
        )
        sends = connection.engine.receive(acknowledgement(connection), Hook.PREROUTING, connection.now).sends
    else:
        connection.engine.faults.now = connection.now
        connection.engine.faults.switch_off(work)
        sends = []
    sends += connection.engine.handle_timer(connection.now)
    updates = [segment(one.packet) for one in sends if isinstance(one, Send)]
    [update] = [one for one in updates if one.dst == CLIENT[0]]
    assert update.window << SCALE > BUFFER, "the backend's own window"
    assert (connection.engine.next_timer() or connection.now + 1) > connection.now


def test_a_mirror_that_does_not_answer_throttles_no_client_longer_than_the_limit() -> None:
    connection = ClientConnection(engine(HELD))
    options = bytes((OPT_NOP, OPT_WINDOW_SCALE, 3, SCALE))
    out = connection.passed(packet(CLIENT, connection.service, "S", ISS, options=options), Hook.PREROUTING)
    connection.backend = (out.dst, out.dport)
    connection.passed(packet(connection.backend, CLIENT, "SA", IRS, ISS + 1, options=options), Hook.FORWARD)
    connection.from_client("A")
    for _ in range(4):
        connection.from_client("PA", b"x" * (BUFFER // 4))
        reply(connection)
    began = connection.now
    while not (events := connection.engine.take_events()):
        due = connection.engine.next_timer()
        assert due is not None
        connection.now = max(connection.now, due)
        connection.engine.handle_timer(connection.now)
    assert (events[0].reason, connection.now - began) == ("throttle-limit", 2.0)
    assert reply(connection) > 2 * BUFFER


def test_a_client_with_room_left_is_not_throttled() -> None:
    connection = ClientConnection(engine(HELD))
    options = bytes((OPT_NOP, OPT_WINDOW_SCALE, 3, SCALE))
    out = connection.passed(packet(CLIENT, connection.service, "S", ISS, options=options), Hook.PREROUTING)
    connection.backend = (out.dst, out.dport)
    connection.passed(packet(connection.backend, CLIENT, "SA", IRS, ISS + 1, options=options), Hook.FORWARD)
    connection.from_client("A")
    connection.connect_mirror()
    connection.from_client("PA", b"x" * 33_000)
    reply(connection)
    connection.from_mirror("A", 1, 1)
    for _ in range(100):
        connection.now += 0.1
        connection.engine.handle_timer(connection.now)
    assert connection.engine.take_events() == [], "half the buffer is free"


def test_the_slower_of_two_throttling_mirrors_counts_and_a_dropping_one_does_not() -> None:
    text = HELD + "      - {name: other, address: 10.20.0.14, when-behind: throttle, buffer: 128KiB}\n"
    text += "      - {name: third, address: 10.20.0.15}\n"
    connection = ClientConnection(engine(text))
    options = bytes((OPT_NOP, OPT_WINDOW_SCALE, 3, SCALE))
    out = connection.passed(packet(CLIENT, connection.service, "S", ISS, options=options), Hook.PREROUTING)
    connection.backend = (out.dst, out.dport)
    connection.passed(packet(connection.backend, CLIENT, "SA", IRS, ISS + 1, options=options), Hook.FORWARD)
    connection.from_client("A")
    connection.from_client("PA", b"x" * 40_000)
    assert abs(reply(connection) - BUFFER) < 1 << SCALE
    connection.take(packet((bytes((10, 20, 0, 13)), 6653), CLIENT, "RA", 0, ISS + 1), Hook.PREROUTING)
    assert abs(reply(connection) - 2 * BUFFER) < 1 << SCALE, "now the other mirror limits it"


def test_a_flow_that_ends_before_its_handshake_leaves_nothing() -> None:
    connection = ClientConnection(engine(HELD))
    connection.syn()
    connection.syn_ack()
    connection.engine.handle_timer(connection.now + 1000)
    assert connection.engine.next_timer() is None
    assert connection.engine.flows(connection.now + 1000) == []
