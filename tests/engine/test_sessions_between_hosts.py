"""OpenFlow sessions of connections that move from one host to the other."""

import pytest

from natmirror.openflow.messages import Type
from tests.helpers.client_connection import engine
from tests.helpers.leg_records import NOW, SPARE, adopted_connection, answer, due, sent_to_mirror
from tests.helpers.openflow_sessions import AGAIN, hello, introduced, packet_in, request
from tests.helpers.support import MASTER, summary

BOTH = """
switches: [10.10.0.0/24]
services:
  - name: openflow
    address: 10.10.0.100
    port: 6653
    pool: {backends: [{name: c1, address: 10.20.0.11}]}
    mirrors:
      - {name: master, address: 10.20.0.13}
      - {name: other, address: 10.20.0.14, protocol: openflow, reconnect: next-message}
"""


def test_a_session_beside_an_adopted_leg_is_opened_again_at_the_next_message(fast: bool) -> None:
    before = engine(AGAIN)
    introduced(before)
    [known] = [before.directory.plain(client, NOW) for client in before.directory.connections(NOW)]
    assert known is not None
    connection = adopted_connection(fast=fast, rules=BOTH)
    connection.engine.directory.restore(known, NOW)
    due(connection)
    answer(connection, 11)
    due(connection)
    connection.from_client("PA", packet_in(1))
    sent = {(one.dst, summary(one.raw)[0]) for one in connection.to_mirror}
    assert sent == {(MASTER[0], "PA"), (SPARE[0], "S")}
    assert sent_to_mirror(connection)[0][3] == packet_in(1)


@pytest.mark.parametrize("elsewhere", [0, 5000])
def test_the_session_of_a_connection_that_comes_back_is_opened_again_with_the_known_switch(
    fast: bool, elsewhere: int
) -> None:
    one = engine(AGAIN, fast=fast)
    connection, master = introduced(one)
    one.replicated_legs.release()
    assert master.ended == "", "the session ends without a packet"
    assert one.directory.seen() == []
    connection.sent, connection.answered = connection.sent + elsewhere, connection.answered + elsewhere
    one.replicated_legs.take_over(connection.now)
    connection.from_client("PA", packet_in(1))
    connection.from_backend("A")
    connection.from_client("PA", packet_in(1))
    master.take()
    master.say(hello(), request(Type.FEATURES_REQUEST, 78))
    assert [(kind, xid) for kind, xid, _ in master.messages()][:2] == [(Type.HELLO, 1), (Type.FEATURES_REPLY, 78)]
    assert len(one.directory.seen()) == 1
    connection.from_client("FA")
    connection.from_backend("FA")
    assert one.directory.connections(connection.now) == [], "the switch has left"


def test_a_switch_that_another_host_withdraws_is_forgotten(fast: bool) -> None:
    one = engine(AGAIN, fast=fast)
    introduced(one)
    one.replicated_legs.release()
    [client] = one.directory.connections(NOW)
    one.directory.withdraw(client)
    assert one.directory.connections(NOW) == []
