"""Recordings of masters' orders."""

import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path

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
        assert len(one.files[tmp_path / "orders.pcap"].waiting) > 500
        one.write()
        assert one._waiting_len == 0


def test_a_file_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"nothing/orders\.pcap"):
        recorder(rules(tmp_path / "nothing" / "orders.pcap"))


def test_orders_wait_for_a_disk_that_is_full_and_are_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "orders.pcap", tmp_path / "other.pcap"
    two = parse_rules(
        recorded(path) + f"      - {{name: m2, address: 10.20.0.14, protocol: openflow, record: {other}}}\n"
    )
    order = Order("openflow", "master", CLIENT, 0, bytes(1000))
    elsewhere = replace(order, mirror="m2")
    one, real = recorder(two), os.write
    blocked = os.stat(path)

    def full(fd: int, data: memoryview) -> int:
        if os.path.samestat(os.fstat(fd), blocked):
            if len(data) < 1000:
                raise OSError(28, "No space left on device")
            data = data[:700]  # as a disk that takes only a part
        return real(fd, data)

    with closing(one):
        one.write()
        one.add([order])
        one.write()
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            one.add([order, elsewhere])
            with pytest.raises(CaptureError, match=r"orders\.pcap: No space left"):
                one.write()
            assert len(list(Capture(path))) == 1, "the file ends with a whole packet"
            assert len(list(Capture(other))) == 1, "other disks get their orders"
            assert (one.files[path].error, one.files[path].lost) == ("No space left on device", 0)
            one.add([order] * 40_000)
        one.write()
    lost = one.files[path].lost
    assert lost > 0
    assert len(list(Capture(path))) == 40_002 - lost
    assert (one.files[path].error, one._waiting_len) == (None, 0)


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
