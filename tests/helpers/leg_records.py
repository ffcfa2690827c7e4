"""Records of legs, and a host that goes on with a connection from one."""

import json
from dataclasses import asdict
from typing import Any

from natmirror.actions import Drop, Hook, Send
from natmirror.engine.engine import Engine
from natmirror.mirror.shown import MirrorEntry
from natmirror.net import seq
from natmirror.net.build import finish
from natmirror.reasons import DropReason
from natmirror.rules import Release
from natmirror.tcp import leg_record
from natmirror.tcp.leg_record import FlowRecord, LegRecord
from natmirror.tcp.record_masks import masks
from tests.helpers.client_connection import IRS, ISS, MIRROR_ISS, ClientConnection, engine
from tests.helpers.support import CLIENT, MASTER, RULES, assert_adds_up, at, packet, segment

NOW = 1000.0
TWO = RULES.replace("10.20.0.13}", "10.20.0.13}\n      - {name: spare, address: 10.20.0.14}")
SPARE = at("10.20.0.14", 6653)
RECORD = {
    "format": 4,
    "service": "openflow",
    "client": "10.10.0.11:40001",
    "backend": "10.20.0.11:6653",
    "iss": ISS,
    "client_nxt": seq.add(ISS, 11),
    "client_una": seq.add(ISS, 11),
    "backend_nxt": seq.add(IRS, 6),
    "backend_scale": 0,
    "missing_to": None,
    "legs": [
        {
            "mirror": "master",
            "address": "10.20.0.13:6653",
            "local": "10.10.0.11:40001",
            "scale": 3,
            "our_scale": 7,
            "mss": 1460,
            "sack": True,
            "rcv_nxt": seq.add(MIRROR_ISS, 4),
            "snd_una": seq.add(ISS, 5),
            "offset": 0x9E37_79B9,
        }
    ],
}


def established(one: Engine) -> ClientConnection:
    """Return a connection with an established leg."""
    connection = ClientConnection(one)
    connection.connect()
    connection.connect_mirror()
    return connection


def records(one: Engine, **options: bool) -> list[dict[str, Any]]:
    """Return the records that an engine reports, after a pass through JSON."""
    reported: list[dict[str, Any]] = json.loads(
        json.dumps(one.replicated_legs.records(one.replicated_legs.ids(), **options))
    )
    return reported


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record with masks on, from its values without masks."""
    legs = tuple(LegRecord(**leg) for leg in record["legs"])
    values = {name: value for name, value in record.items() if name != "format"}
    return FlowRecord(**{**values, "legs": legs}).plain(masks(None))


def unsealed(record: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a record without masks, from a host with RULES."""
    values = asdict(leg_record.parse(record, masks(None)))
    return {"format": record["format"], **values, "legs": list(values["legs"])}


def adopted_connection(
    *,
    fast: bool = True,
    rules: str = RULES,
    sent: int = 10,
    acked: int = 10,
    release: Release = Release.SEEN,
    is_standby: bool = False,
    **leg: Any,
) -> ClientConnection:
    """Return the connection of RECORD at a host that has adopted it, perhaps on standby. Its client has sent ``sent``
    bytes, and its backend has acknowledged ``acked`` of them; ``leg`` replaces values of the leg's record."""
    one = engine(rules, fast=fast, release=release)
    if is_standby:
        one.replicated_legs.release()
    connection = ClientConnection(one)
    connection.backend = at("10.20.0.11", 6653)
    connection.sent, connection.answered = sent, 5
    numbers = {"client_nxt": seq.add(ISS, 1 + sent), "client_una": seq.add(ISS, 1 + acked)}
    one.replicated_legs.adopt(sealed({**RECORD, **numbers, "legs": [{**RECORD["legs"][0], **leg}]}), connection.now)  # type: ignore[index]
    return connection


def due(connection: ClientConnection, after: float = 0.0) -> list[tuple[str, int, int, bytes]]:
    """Return the packets to the mirror after so many seconds; numbers count from the initial ones."""
    connection.now += after
    for send in connection.engine.handle_timer(connection.now):
        assert isinstance(send, Send)
        connection.to_mirror += [segment(one) for one in finish(send.packet, send.segment_len)]
    return sent_to_mirror(connection)


def sent_to_mirror(connection: ClientConnection) -> list[tuple[str, int, int, bytes]]:
    """Return the packets to the mirror since the last call; numbers count from the initial ones."""
    return [
        (flags, seq.diff(at, ISS), seq.diff(ack, MIRROR_ISS), data) for flags, at, ack, data in connection.mirrored()
    ]


def answer(connection: ClientConnection, ack: int, at: int = 4, *, window: int = 0xFFFF, data: bytes = b"") -> None:
    """Send the mirror's answer: it has everything before ``ack``."""
    raw = packet(MASTER, CLIENT, "A", seq.add(MIRROR_ISS, at), seq.add(ISS, ack), data, window=window)
    assert connection.take(raw, Hook.PREROUTING) == Drop(DropReason.FOR_LEG)


def mirror_of(connection: ClientConnection) -> MirrorEntry:
    """Return the mirror's ledger, after a check that it adds up."""
    snapshot = connection.engine.snapshot(connection.now)
    assert_adds_up(snapshot)
    return snapshot["mirrors"][0]


def end_reasons(connection: ClientConnection) -> list[str]:
    """Return the end reasons of legs since the last call."""
    return [event.reason for event in connection.engine.take_events()]
