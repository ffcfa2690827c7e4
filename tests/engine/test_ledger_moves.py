"""The ledger adds up when a client turns out to have sent less, and when a standby connection's copy ends."""

from natmirror.actions import Hook
from natmirror.net import seq
from natmirror.rules import Release, parse_rules
from tests.helpers.client_connection import IRS, ISS, ClientConnection, engine
from tests.helpers.leg_records import adopted_connection, mirror_of
from tests.helpers.support import C2, CLIENT, RULES, packet

AGAIN = RULES.replace("10.20.0.13}", "10.20.0.13, reconnect: next-segment}")
OTHER = RULES.replace("10.20.0.13", "10.20.0.14")


def test_a_loose_flows_bytes_do_not_count(fast: bool) -> None:
    connection = ClientConnection(engine(RULES, fast=fast, release=Release.ACKNOWLEDGED))
    connection.from_client("PA", b"0123456789")
    connection.take(packet(C2, CLIENT, "A", seq.add(IRS, 1 << 30), seq.add(ISS, 111)), Hook.FORWARD)
    connection.engine.reload(parse_rules(OTHER))
    connection.engine.follow_mirrors(connection.engine.flow_ids(), connection.now)
    connection.from_client("PA", b"!", at=200_000)
    assert mirror_of(connection)["client_bytes"] == 0


def test_a_fin_that_was_taken_for_a_byte(fast: bool) -> None:
    connection = ClientConnection(engine(AGAIN, fast=fast, release=Release.ACKNOWLEDGED))
    connection.establish()
    connection.now += 10
    connection.from_client("PA", b"one")
    connection.from_backend("A")
    connection.from_mirror("A", 1, 4)
    connection.from_client("A", at=4)  # it overtakes the FIN, and so does the next one
    connection.sent += 1
    connection.from_backend("A")
    assert mirror_of(connection)["lost_bytes"] == {"reconnecting": 1}
    connection.from_client("FA", at=3)
    mirror = mirror_of(connection)
    assert (mirror["client_bytes"], mirror["acked_bytes"], mirror["lost_bytes"]) == (3, 3, {})


def test_a_copy_of_a_standby_connection_that_its_mirror_resets(fast: bool) -> None:
    connection = adopted_connection(fast=fast, rules=AGAIN, is_standby=True)
    connection.from_mirror("RA", 4, 11)
    lost = mirror_of(connection)["lost_bytes"]
    assert lost == {"mirror-reset": 5, "reconnecting": 1}, "the last byte of the record may be the FIN"
    connection.from_client("FA", at=9)
    assert mirror_of(connection)["lost_bytes"] == {"mirror-reset": 5}
