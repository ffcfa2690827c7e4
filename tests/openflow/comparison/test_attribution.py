"""Whose answer an order is: by what it says, its burst, and what its side knew."""

from collections.abc import Iterable

import pytest

from natmirror.openflow.bodies.decoder import decode
from natmirror.openflow.bodies.elements import NO_BUFFER
from natmirror.openflow.bodies.values import FlowCommand, FlowMod, PacketIn
from natmirror.openflow.comparison.attribution import BURST, HORIZON, MAX_CAUSES, Attribution, Order
from natmirror.openflow.comparison.causes import cause_of
from natmirror.openflow.comparison.readings import Reading
from natmirror.openflow.messages import Message
from tests.helpers.comparison import ARP, IP, flow_mod_message, frame, packet_in, packet_out, to_host
from tests.helpers.flow_tables import apply, fields, flow_mod, output

THERE, BACK, OTHER = frame(1, 2), frame(2, 1), frame(5, 6)


class Line:
    """One side's attribution, with the numbers of PACKET_INs in the order in which it got them."""

    def __init__(self) -> None:
        self.attribution = Attribution()
        self.count, self.at = 0, 0.0
        self.settled: list[Order] = []

    def told(self, at: float, *frames: bytes, in_port: int = 1, buffer_id: int = NO_BUFFER) -> None:
        for data in frames:
            message = packet_in(data, in_port, buffer_id=buffer_id)
            body = decode(message)
            assert isinstance(body, PacketIn)
            self.attribution.told(cause_of(self.count, at, message, body), at)
            self.count += 1

    def order(self, at: float, *messages: Message | FlowMod) -> None:
        self.at = at
        for one in messages:
            message = flow_mod_message(one) if isinstance(one, FlowMod) else one
            self.settled += self.attribution.ordered(Order(at, message, Reading(decode(message))))

    def causes(self) -> list[int | None]:
        """Return the PACKET_IN of each order, in the order in which they were settled, after the latest burst."""
        self.settled += self.attribution.settle(self.at + 2 * BURST)
        return [None if one.cause is None else one.cause.number for one in self.settled]


def out(data: bytes, port: int = 2, in_port: int = 1, **more: int) -> Message:
    return packet_out(data, output(port), in_port, **more)


def rule(src: int, dst: int) -> FlowMod:
    return flow_mod(match=fields(eth_src=src, eth_dst=dst), instructions=apply(2))


def test_a_packet_out_answers_the_oldest_with_its_frame() -> None:
    line = Line()
    line.told(0.0, OTHER, THERE, THERE)
    line.order(0.1, out(THERE), out(THERE), out(OTHER), out(b"never seen"))
    assert line.causes() == [1, 2, 0, None]


def test_the_port_tells_equal_frames_apart() -> None:
    line = Line()
    line.told(0.0, THERE, in_port=1)
    line.told(0.0, THERE, in_port=3)
    line.order(0.1, out(THERE, in_port=3), out(THERE, in_port=1))
    assert line.causes() == [1, 0]


def test_a_buffer_names_its_packet_in() -> None:
    line = Line()
    line.told(0.0, THERE, buffer_id=7)
    line.told(0.0, THERE, buffer_id=8)
    line.order(0.1, out(b"", buffer_id=8), to_host(9, 1, buffer_id=7), to_host(9, 1, buffer_id=55))
    assert line.causes() == [1, 0, None]


def test_a_second_packet_out_belongs_to_what_was_answered_last() -> None:
    line = Line()
    line.told(0.0, THERE)
    line.order(0.1, out(THERE, 2), out(THERE, 3))
    assert line.causes() == [0, 0]


@pytest.mark.parametrize("is_before", [True, False])
def test_a_rule_belongs_to_the_packet_out_of_its_burst(is_before: bool) -> None:
    line = Line()
    line.told(0.0, OTHER, THERE)
    orders: list[Message | FlowMod] = [rule(1, 2), rule(2, 1), out(THERE)]
    line.order(0.1, *(orders if is_before else orders[::-1]))
    assert line.causes() == [1, 1, 1]


def test_rules_wait_fifty_milliseconds_for_the_packet_out() -> None:
    line = Line()
    line.told(0.0, THERE, THERE)
    line.order(0.1, out(THERE))
    line.order(0.2, rule(1, 2))
    assert line.attribution.next_deadline() == pytest.approx(0.2 + BURST)
    line.order(0.2 + BURST / 2, out(THERE))
    assert line.causes() == [0, 1, 1]
    assert line.attribution.next_deadline() is None


def test_the_way_back_of_another_that_is_open_is_its_own() -> None:
    line = Line()
    line.told(0.0, THERE, BACK)
    line.order(0.1, rule(1, 2), rule(2, 1), out(THERE), out(BACK, in_port=2))
    assert sorted(line.causes()) == [0, 0, 1, 1]  # type: ignore[type-var]


def test_an_order_about_no_frame_goes_with_its_burst_unless_it_is_about_all() -> None:
    line = Line()
    line.told(0.0, THERE)
    line.order(0.1, flow_mod(match=fields(eth_type=0x88CC)), flow_mod(), out(THERE))
    assert line.causes() == [None, 0, 0]


def test_rules_alone_belong_to_the_oldest_without_an_answer() -> None:
    line = Line()
    line.told(0.0, THERE, OTHER, THERE)
    line.order(0.1, rule(1, 2))
    line.order(0.2, rule(1, 2))
    line.order(0.3, rule(7, 8))
    assert line.causes() == [0, 2, None]


def test_a_second_rule_alone_goes_with_the_first() -> None:
    for rules in ([rule(1, 2), rule(2, 1)], [rule(2, 1), rule(1, 2)]):
        line = Line()
        line.told(0.0, OTHER, THERE)
        line.order(0.1, *rules)
        assert line.causes() == [1, 1]
        line.order(0.3, rule(2, 1))
        assert line.causes() == [1, 1, None]


def test_a_deletion_alone_is_a_programme() -> None:
    line = Line()
    line.told(0.0, THERE)
    line.order(0.1, flow_mod(FlowCommand.DELETE, fields(eth_dst=2)))
    assert line.causes() == [None]
    line.order(0.3, flow_mod(FlowCommand.DELETE, fields(eth_dst=2)), out(THERE))
    assert line.causes()[1:] == [0, 0]


def test_an_order_answers_no_packet_in_that_came_later() -> None:
    line = Line()
    line.order(0.0, rule(1, 2))
    line.told(0.01, THERE)
    line.order(0.02, out(THERE))
    assert line.causes() == [0, None]


def test_a_packet_in_is_not_answered_after_the_horizon() -> None:
    line = Line()
    line.told(0.0, THERE)
    line.order(HORIZON + 0.1, rule(1, 2), out(THERE))
    assert line.causes() == [None, None]


@pytest.mark.parametrize("kind", [ARP, IP])
def test_a_frame_of_the_controllers_own_follows_from_a_question(kind: int) -> None:
    line = Line()
    line.told(0.0, frame(5, 6, kind), frame(1, 2, kind))
    reply = bytearray(frame(2, 1, kind))
    if kind == ARP:
        reply[21] = 2  # ARP reply
    line.order(0.1, out(bytes(reply), port=1))
    assert line.causes() == [1]


def test_a_routed_packet_follows_from_the_one_that_came() -> None:
    line = Line()
    line.told(0.0, frame(5, 6), THERE)
    line.order(0.1, out(bytes(6) + b"\0\0\0\0\0\x09" + THERE[12:]))
    assert line.causes() == [1]


def test_what_waits_and_what_is_known_is_bounded() -> None:
    line = Line()
    line.told(0.0, *(frame(1, number + 2) for number in range(300)))
    assert len(line.attribution._known) == MAX_CAUSES
    line.order(0.1, *(rule(50, 60) for _ in range(200)))
    assert len(list(line.attribution.waiting)) == 2 * 64
    assert len(line.causes()) == 200


def _all(line: Line) -> Iterable[Order]:
    return line.attribution.clear()


def test_clear_gives_back_what_waited() -> None:
    line = Line()
    line.told(0.0, THERE)
    line.order(0.1, rule(1, 2))
    assert len(list(_all(line))) == 1
    assert line.attribution.next_deadline() is None
