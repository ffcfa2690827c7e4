"""The ledger adds up when a client turns out to have sent less, and when a standby connection's copy ends."""

from natmirror.actions import Hook
from natmirror.net import seq
from natmirror.rules import Release, parse_rules
from tests.helpers.client_connection import IRS, ISS, ClientConnection, engine
from tests.helpers.leg_records import NOW, RECORD, TWO, adopted_connection, answer, due, end_reasons, mirror_of, sealed
from tests.helpers.support import C2, CLIENT, RULES, assert_adds_up, packet

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


def lost_by_spare(connection: ClientConnection) -> dict[str, int]:
    """Add a second mirror to the rules if it is not there yet; return the bytes that it did not get."""
    connection.engine.reload(parse_rules(TWO))
    connection.engine.follow_mirrors(connection.engine.flow_ids(), connection.now)
    snapshot = connection.engine.snapshot(connection.now)
    assert_adds_up(snapshot)
    return {str(reason): count for reason, count in snapshot["mirrors"][1]["lost_bytes"].items()}


def test_a_mirror_that_is_added_while_a_connection_stands_by(fast: bool) -> None:
    connection = adopted_connection(fast=fast, is_standby=True)
    connection.from_client("A", at=1000)  # the client has sent as far as that on the other host
    assert lost_by_spare(connection) == {"released": 990}
    connection.engine.replicated_legs.adopt(sealed(RECORD), connection.now)
    assert lost_by_spare(connection) == {}
    connection.engine.replicated_legs.take_over(connection.now)
    assert lost_by_spare(connection) == {"mirror-added": 6}


def test_a_record_whose_mirrors_have_more_than_its_backend(fast: bool) -> None:
    leg = RECORD["legs"][0]  # type: ignore[index]
    far = {**leg, "mirror": "spare", "address": "10.20.0.14:6653", "snd_una": seq.add(ISS, 9)}
    one = engine(TWO, fast=fast, release=Release.ACKNOWLEDGED)
    one.replicated_legs.adopt(sealed({**RECORD, "client_una": seq.add(ISS, 3), "legs": [leg, far]}), NOW)
    snapshot = one.snapshot(NOW)
    assert_adds_up(snapshot)
    assert [mirror["client_bytes"] for mirror in snapshot["mirrors"]] == [4, 4]


def test_a_mirror_that_is_added_before_a_record_proves_wrong(fast: bool) -> None:
    connection = adopted_connection(fast=fast)
    due(connection)
    answer(connection, 1_000_000)
    assert lost_by_spare(connection) == {"mirror-added": 1}, "the last byte of the record may be the FIN"
    connection.from_client("PA", b"abc")
    connection.from_backend("A")
    connection.from_client("PA", b"abc")
    assert end_reasons(connection) == ["no-record"]
    assert lost_by_spare(connection) == {}
    connection.from_client("PA", b"abc")
    assert lost_by_spare(connection) == {"mirror-added": 6}
