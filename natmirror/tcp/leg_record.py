"""What another host has to know to go on with a connection's legs where this one stops: a record, as plain values.

Theory. Inside, a leg of raw bytes has the client's own sequence numbers, so nearly everything about it can be learned
again: how far the client has come from its next segment, how far the mirror has from its answer to a probe. What is
said only once stands here: both window scales, the segment size, whether selective acknowledgements are spoken, and by
how much the numbers on the wire to the mirror are shifted. The positions are as old as the record, and so they are
bounds: the host that goes on takes none of them for the present. All sequence numbers are masked (record_masks.py).
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

from natmirror.net import seq
from natmirror.net.endpoint import Endpoint, parse_endpoint, show
from natmirror.tcp.record_masks import NONCE_LEN, Masks

FORMAT = 2
"""Of the records. One of another format is not understood: hosts of different versions go on without each other's
legs."""

MAX_SCALE = 14  # RFC 7323 §2.3
_MAX_NUMBER = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class LegRecord:
    """An established leg."""

    mirror: str
    """The mirror's name in the rules."""
    address: str
    """The mirror's end, as in ``10.20.0.13:6653``."""
    local: str
    """Our end: the client's, or an address of ours."""
    scale: int
    """Shift of the mirror's windows."""
    our_scale: int
    """Shift of the windows that it is offered."""
    mss: int
    """The most data that a segment to the mirror takes, in bytes."""
    sack: bool
    """Whether both ends speak of selective acknowledgements."""
    rcv_nxt: int
    """The number that is expected of the mirror next."""
    snd_una: int
    """The first number that the mirror has not acknowledged."""
    offset: int
    """How far the numbers on the wire to the mirror lie after the client's."""

    @property
    def mirror_end(self) -> Endpoint:
        """The mirror's end."""
        return parse_endpoint(self.address)

    @property
    def local_end(self) -> Endpoint:
        """Our end."""
        return parse_endpoint(self.local)


@dataclass(frozen=True, slots=True)
class FlowRecord:
    """A client's connection whose bytes are copied."""

    service: str
    """The service's name in the rules."""
    client: str
    """The client's end, as in ``10.10.0.11:40001``."""
    backend: str | None
    """The backend's end; None for a service without a pool."""
    iss: int
    """The client's initial sequence number: another one is another connection."""
    client_nxt: int
    """One past the highest number that the client has sent."""
    client_una: int
    """The first number that the backend has not acknowledged: the client sends nothing before it again."""
    backend_scale: int
    """Shift of the windows that the client is offered."""
    legs: tuple[LegRecord, ...]

    @property
    def key(self) -> tuple[str, str]:
        """Service and client: a later record with the same key takes the place of an earlier one."""
        return self.service, self.client

    @property
    def client_end(self) -> Endpoint:
        """The client's end."""
        return parse_endpoint(self.client)

    def plain(self, masks: Masks) -> dict[str, Any]:
        """The record as values that JSON can hold; parse() reads it again, under the same pair key."""
        nonce = _nonce_of(self, masks)
        values = asdict(_masked(self, nonce, masks))
        return {"format": FORMAT, "nonce": nonce.hex(), **values, "legs": list(values["legs"])}


def parse(record: Any, masks: Masks) -> FlowRecord:
    """A record from its plain values; ValueError says what is wrong with it."""
    if not isinstance(record, dict):
        raise ValueError(f"a record is a mapping, not {record!r:.40}")
    if record.get("format") != FORMAT:
        raise ValueError(f"a record of format {record.get('format')!r:.40}, not {FORMAT}")
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
        backend_scale=_number(record, "backend_scale", MAX_SCALE),
        legs=tuple(_leg(leg) for leg in legs),
    )
    one = _masked(masked, nonce, masks)
    if _nonce_of(one, masks) != nonce:
        raise ValueError("nonce: the record is not as it was written, or the other host has another ha.key")
    if any(seq.lt(one.client_nxt, number) for number in (one.client_una, *(leg.snd_una for leg in one.legs))):
        raise ValueError("client_nxt: it lies before what has been acknowledged")
    return one


def _nonce_of(record: FlowRecord, masks: Masks) -> bytes:
    return masks.nonce(repr(record).encode())  # another order or name of a field is another FORMAT


def _masked(record: FlowRecord, nonce: bytes, masks: Masks) -> FlowRecord:
    """A record with masks on all its sequence numbers, or without them where it had them."""
    mask = masks.of(nonce)
    return replace(
        record,
        iss=record.iss ^ next(mask),
        client_nxt=record.client_nxt ^ next(mask),
        client_una=record.client_una ^ next(mask),
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
        scale=_number(record, "scale", MAX_SCALE),
        our_scale=_number(record, "our_scale", MAX_SCALE),
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
        raise ValueError(f"{name}: expected a text, found {value!r:.40}")
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
