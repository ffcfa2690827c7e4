"""The record of a connection and its legs, from which another host continues them: plain values.

Theory. Inside, a leg of raw bytes has the client's own sequence numbers, so another host can learn nearly everything
again: the client's position from its next segment, the mirror's from its answer to a probe. A record holds the values
that appear only once in a connection: both window scales, the segment size, the use of selective acknowledgements, and
the offset of the numbers on the wire to the mirror. Its positions are those of the moment when it was made; the host
that continues the leg uses them as bounds, and to tell the connection's segments from an attacker's, never as the
present positions. All sequence numbers are masked
(record_masks.py).
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

from natmirror.fastpath import MAX_WINDOW_SCALE
from natmirror.net import seq
from natmirror.net.endpoint import Endpoint, parse_endpoint, show
from natmirror.tcp.record_masks import NONCE_LEN, Masks

FORMAT = 4
"""The version of the records. A host refuses records of another format, so hosts of different versions do not take over
each other's legs."""

_MAX_NUMBER = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class LegRecord:
    """An established leg."""

    mirror: str
    """The mirror's name in the rules."""
    address: str
    """The mirror's endpoint, e.g. ``10.20.0.13:6653``."""
    local: str
    """Our endpoint: the client's, or one of this host."""
    scale: int
    """The shift of the windows that the mirror offers."""
    our_scale: int
    """The shift of the windows that we offer to it."""
    mss: int
    """The most data in a segment to the mirror, in bytes, whatever routers have reported."""
    sack: bool
    """Whether both ends have offered selective acknowledgements."""
    rcv_nxt: int
    """The next number expected from the mirror."""
    snd_una: int
    """The first number that the mirror has not acknowledged."""
    offset: int
    """The difference of the numbers on the wire to the mirror from the client's."""

    @property
    def mirror_end(self) -> Endpoint:
        return parse_endpoint(self.address)

    @property
    def local_end(self) -> Endpoint:
        return parse_endpoint(self.local)


@dataclass(frozen=True, slots=True)
class FlowRecord:
    """A client's mirrored connection."""

    service: str
    """The service's name in the rules."""
    client: str
    """The client's endpoint, e.g. ``10.10.0.11:40001``."""
    backend: str | None
    """The backend's endpoint; None for a service without a pool."""
    iss: int
    """The client's initial sequence number, which distinguishes this connection from others with the same endpoints."""
    client_nxt: int
    """One past the highest number that the client has sent."""
    client_una: int
    """The first number that the backend has not acknowledged: the client sends no byte before it again."""
    backend_nxt: int
    """One past the highest number that the backend has sent."""
    backend_scale: int
    """The shift of the windows that the backend offers."""
    missing_to: int | None
    """The number up to which the backend has acknowledged bytes that did not pass the host that wrote this record: the
    other host may still hold them. None if there are none."""
    legs: tuple[LegRecord, ...]

    @property
    def key(self) -> tuple[str, str]:
        """Service and client: a later record with the same key replaces an earlier one."""
        return self.service, self.client

    @property
    def client_end(self) -> Endpoint:
        return parse_endpoint(self.client)

    def plain(self, masks: Masks) -> dict[str, Any]:
        """Return the record as plain values for JSON, with masks on; parse() reads them with the same pair key."""
        nonce = _nonce_of(self, masks)
        values = asdict(_masked(self, nonce, masks))
        return {"format": FORMAT, "nonce": nonce.hex(), **values, "legs": list(values["legs"])}


def parse(record: Any, masks: Masks) -> FlowRecord:
    """Return the record in plain values, with masks off. Raise ValueError if they are wrong."""
    if not isinstance(record, dict):
        raise ValueError(f"expected a record as a mapping, found {record!r:.40}")
    if record.get("format") != FORMAT:
        raise ValueError(f"format: expected {FORMAT}, found {record.get('format')!r:.40}")
    legs = record.get("legs")
    if not isinstance(legs, list) or not legs or not all(isinstance(leg, dict) for leg in legs):
        raise ValueError(f"legs: expected a list of mappings, found {legs!r:.40}")
    backend = record.get("backend")
    nonce = _nonce(record)
    masked = FlowRecord(
        service=_text(record, "service"),
        client=_end(record, "client"),
        backend=None if backend is None else _end(record, "backend"),
        iss=_number(record, "iss"),
        client_nxt=_number(record, "client_nxt"),
        client_una=_number(record, "client_una"),
        backend_nxt=_number(record, "backend_nxt"),
        backend_scale=_number(record, "backend_scale", MAX_WINDOW_SCALE),
        missing_to=None if record.get("missing_to") is None else _number(record, "missing_to"),
        legs=tuple(_leg(leg) for leg in legs),
    )
    one = _masked(masked, nonce, masks)
    if _nonce_of(one, masks) != nonce:
        raise ValueError("nonce: the record was altered, or the hosts' ha.key differ")
    if any(seq.lt(one.client_nxt, number) for number in (one.client_una, *(leg.snd_una for leg in one.legs))):
        raise ValueError("client_nxt: expected no number below the acknowledged ones")
    return one


def _nonce_of(record: FlowRecord, masks: Masks) -> bytes:
    return masks.nonce(repr(record).encode())  # so a change of the fields' order or names needs a new FORMAT


def _masked(record: FlowRecord, nonce: bytes, masks: Masks) -> FlowRecord:
    """Return a record with the masks of a nonce put on all its sequence numbers, or taken off if they were on."""
    mask = masks.of(nonce)
    return replace(
        record,
        iss=record.iss ^ next(mask),
        client_nxt=record.client_nxt ^ next(mask),
        client_una=record.client_una ^ next(mask),
        backend_nxt=record.backend_nxt ^ next(mask),
        missing_to=None if record.missing_to is None else record.missing_to ^ next(mask),
        legs=tuple(
            replace(
                leg,
                rcv_nxt=leg.rcv_nxt ^ next(mask),
                snd_una=leg.snd_una ^ next(mask),
                offset=leg.offset ^ next(mask),
            )
            for leg in record.legs
        ),
    )


def _leg(record: dict[str, Any]) -> LegRecord:
    return LegRecord(
        mirror=_text(record, "mirror"),
        address=_end(record, "address"),
        local=_end(record, "local"),
        scale=_number(record, "scale", MAX_WINDOW_SCALE),
        our_scale=_number(record, "our_scale", MAX_WINDOW_SCALE),
        mss=_number(record, "mss", 0xFFFF),
        sack=bool(_number(record, "sack", 1)),
        rcv_nxt=_number(record, "rcv_nxt"),
        snd_una=_number(record, "snd_una"),
        offset=_number(record, "offset"),
    )


def _nonce(record: dict[str, Any]) -> bytes:
    text = _text(record, "nonce")
    if len(text) != 2 * NONCE_LEN or not set(text) <= set("0123456789abcdef"):
        raise ValueError(f"nonce: expected {2 * NONCE_LEN} hexadecimal digits, found {text!r:.40}")
    return bytes.fromhex(text)


def _text(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name}: expected text, found {value!r:.40}")
    return value


def _end(record: dict[str, Any], name: str) -> str:
    try:
        return show(parse_endpoint(_text(record, name)))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _number(record: dict[str, Any], name: str, most: int = _MAX_NUMBER) -> int:
    value = record.get(name)
    if not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"{name}: expected 0..{most}, found {value!r:.40}")
    return int(value)
