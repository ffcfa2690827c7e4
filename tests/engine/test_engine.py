"""The engine as a whole: no input makes it raise, and its reports are plain values."""

from hypothesis import given
from hypothesis import strategies as st

from natmirror.actions import Accept, Drop, Hook, Send
from natmirror.net import seq
from natmirror.net.checksum import Checksum
from tests.helpers.client_connection import IRS, ISS, ClientConnection, engine
from tests.helpers.support import (
    CLIENT,
    MASTER,
    SERVICE,
    packet,
    segment,
)

FIRST = seq.add(ISS, 1)


@given(st.binary(max_size=120), st.sampled_from(Hook), st.sampled_from(Checksum), st.booleans())
def test_no_bytes_make_the_engine_raise(raw: bytes, hook: Hook, checksum: Checksum, fast: bool) -> None:
    decision = engine(fast=fast).receive(raw, hook, 1.0, checksum)
    assert isinstance(decision.verdict, Accept | Drop)
    assert decision.sends == []


@given(st.data())
def test_damaged_packets_of_an_established_connection_make_nothing_raise(data: st.DataObject) -> None:
    connection = ClientConnection(engine(fast=data.draw(st.booleans())))
    connection.establish()
    source, destination, hook = data.draw(
        st.sampled_from(
            [
                (CLIENT, SERVICE, Hook.PREROUTING),
                (connection.backend, CLIENT, Hook.FORWARD),
                (MASTER, CLIENT, Hook.PREROUTING),
            ]
        )
    )
    assert source
    raw = bytearray(packet(source, destination, "PA", FIRST, seq.add(IRS, 1), b"data" * 5))
    for at_byte, value in data.draw(st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), max_size=6)):
        raw[at_byte] = value
    cut = data.draw(st.integers(0, len(raw)))
    decision = connection.engine.receive(bytes(raw[:cut]), hook, connection.now, data.draw(st.sampled_from(Checksum)))
    assert isinstance(decision.verdict, Accept | Drop)
    assert all(isinstance(send, Send) for send in decision.sends)


def test_a_snapshot_is_plain_values(connection: ClientConnection) -> None:
    import json

    connection.establish()
    connection.from_client("PA", b"data")
    snapshot = connection.engine.snapshot(connection.now)
    assert json.loads(json.dumps(snapshot)) == snapshot
    flows = connection.engine.flows(connection.now)
    assert json.loads(json.dumps(flows)) == flows
    [flow] = flows
    assert flow["client"] == "10.10.0.11:40001"
    assert flow["legs"][0]["lag_bytes"] == 4


def test_the_helper_builds_the_segment_that_it_is_asked_for() -> None:
    assert segment(packet(CLIENT, SERVICE, "FA", 1, 2, b"x")).seq_len == 2
