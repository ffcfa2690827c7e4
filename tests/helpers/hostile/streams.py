"""What clients have sent, and the copies of it: a leg carries only bytes that its client has sent at these numbers, and
of a connection that waits for acknowledgements only those that its backend has acknowledged."""

from collections import defaultdict

from natmirror.engine.engine import Engine
from natmirror.fastpath.flow_flags import holds
from natmirror.mirror.copies import StreamCopy
from natmirror.mirror.copy_states import StreamState
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint, endpoint_of
from natmirror.net.packet import SYN, Segment, segment_of


class Streams:
    """The data of all clients' segments, whether their backends take it or not."""

    def __init__(self) -> None:
        self._sent: defaultdict[tuple[Endpoint, Endpoint], list[tuple[int, bytes]]] = defaultdict(list)

    def note(self, raw: bytes) -> None:
        """Note the data of a packet that comes to this host."""
        one = segment_of(raw)
        if one is not None and one.payload:
            first = seq.add(one.seq, bool(one.flags & SYN))
            self._sent[(one.src, one.sport), (one.dst, one.dport)].append((first, one.payload))

    def check(self, engine: Engine, one: Segment) -> None:
        """Check a packet that an engine has sent, if it carries data of a copy whose beginning has passed here."""
        owner = engine._legs.owner_between((one.dst, one.dport), (one.src, one.sport))
        if not one.payload or not isinstance(owner, StreamCopy) or owner.leg is None or owner.leg.resumption:
            return
        stream, first = owner.stream, seq.add(one.seq, -owner.leg.row.seq_offset)
        assert self._has_sent(owner.client, endpoint_of(stream.flow.service), first, one.payload), "no client's bytes"
        if stream.state is StreamState.FORGOTTEN or not holds(stream.flow.row):
            return
        end = seq.add(first, one.payload_len)
        assert seq.le(end, stream.flow.row.reply.ack), "a mirror gets bytes that no backend has acknowledged"

    def _has_sent(self, client: Endpoint, service: Endpoint, first: int, data: bytes) -> bool:
        """Return whether each byte was sent with its number, perhaps as one of several versions."""
        is_known = bytearray(len(data))
        for at, sent in reversed(self._sent[client, service]):
            start = seq.diff(at, first)
            begin, end = max(start, 0), min(start + len(sent), len(data))
            if begin >= end:
                continue
            if data[begin:end] == sent[begin - start : end - start]:
                is_known[begin:end] = b"\1" * (end - begin)
            else:
                for number in range(begin, end):
                    is_known[number] |= data[number] == sent[number - start]
            if all(is_known):
                return True
        return False
