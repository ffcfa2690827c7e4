"""Recordings of masters' orders."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import dpkt
import pytest

from natmirror.actions import Order
from natmirror.errors import CaptureError
from natmirror.net.packet import Segment
from natmirror.net.packet import parse as parse_packet
from natmirror.openflow.messages import Type
from natmirror.replay.capture import Capture
from natmirror.rules import Rules, parse_rules
from natmirror.runtime.order_recorder import MAX_WAITING_LEN, OrderRecorder
from tests.helpers.client_connection import engine
from tests.helpers.openflow_sessions import introduced, recorded, request
from tests.helpers.support import CLIENT, MASTER, RULES


def rules(path: Path) -> Rules:
    return parse_rules(recorded(path))


def recorder(rules: Rules) -> OrderRecorder:
    one = OrderRecorder()
    one.reload(rules)
    return one


def test_orders_are_recorded_as_a_stream_of_packets(tmp_path: Path) -> None:
    path = tmp_path / "orders.pcap"
    one = engine(recorded(path))
    _, master = introduced(one)
    sent = [request(Type.FLOW_MOD, 1, bytes(48)), request(Type.PACKET_OUT, 2, bytes(range(200)))]
    master.say(request(Type.BARRIER_REQUEST, 3), *sent)
    orders = one.take_orders()
    assert one.take_orders() == []
    assert [order.message for order in orders] == sent
    huge = replace(orders[0], offset=orders[1].offset + len(sent[1]), message=bytes(0xFFFF))
    with closing(recorder(rules(path))) as written:
        written.add([*orders, huge])
        written.write()
    segments = [parse_packet(one.packet) for one in Capture(path) if one.packet is not None]
    stream = b""
    for segment in segments:
        assert isinstance(segment, Segment)
        assert ((segment.src, segment.sport), (segment.dst, segment.dport)) == (MASTER, CLIENT)
        assert segment.seq == 1 + len(stream)
        stream += segment.payload
    assert stream == b"".join(sent) + bytes(0xFFFF)


def test_orders_that_wait_for_the_disk_are_bounded(tmp_path: Path) -> None:
    one = recorder(rules(tmp_path / "orders.pcap"))
    order = Order("openflow", "master", CLIENT, 0, bytes(60_000))
    with closing(one):
        for _ in range(10):
            one.add([order] * 200)
        assert one._waiting_len <= MAX_WAITING_LEN
        assert len(one._waiting) > 500
        one.write()
        assert one._waiting_len == 0


def test_a_file_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"nothing/orders\.pcap"):
        recorder(rules(tmp_path / "nothing" / "orders.pcap"))


def test_after_a_write_error_no_more_orders_of_that_master_are_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "orders.pcap"
    one = engine(recorded(path))
    _, master = introduced(one)
    master.say(request(Type.FLOW_MOD, 1, bytes(48)))
    orders = one.take_orders()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with closing(recorder(rules(path))) as written:
        monkeypatch.setattr(dpkt.pcap.Writer, "writepkt", full)
        written.add(orders)
        with pytest.raises(CaptureError, match="No space left"):
            written.write()
        written.add(orders)
        written.write()


def test_files_are_opened_and_closed_with_the_rules(tmp_path: Path) -> None:
    first, second = tmp_path / "first.pcap", tmp_path / "second.pcap"
    one = engine(recorded(first))
    _, master = introduced(one)
    master.say(request(Type.FLOW_MOD, 1, bytes(48)))
    orders = one.take_orders()
    with closing(recorder(rules(first))) as written:
        written.add(orders)
        written.write()
        written.reload(rules(first))
        written.add(orders)
        written.write()
        written.reload(rules(second))
        assert len(list(Capture(first))) == 2, "the file went on over a reload, and is complete"
        with pytest.raises(CaptureError, match="nothing"):
            written.reload(rules(tmp_path / "nothing" / "third.pcap"))
        written.add(orders)
        written.write()
        written.reload(parse_rules(RULES))
        written.add(orders)
        written.write()
        assert (len(list(Capture(first))), len(list(Capture(second)))) == (2, 1)
