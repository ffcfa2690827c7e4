"""Finds the IPv4 packet in a captured frame, behind the headers of the link layer.

Each function gets a frame and returns the offset of its IPv4 header, or None. A field past the frame's end reads as 0,
which is no number of IPv4 in any of these headers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

ByteOrder = Literal["little", "big"]

# LINKTYPE_* of https://www.tcpdump.org/linktypes.html; DLT_RAW is 12 or 14; 228 is IPv4
_NULL, _ETHERNET, _PPP, _PPP_HDLC, _PPP_ETHER, _LOOP = 0, 1, 9, 50, 51, 108
_CISCO_HDLC, _LINUX_SLL, _LINUX_SLL2, _NFLOG = 104, 113, 276, 239
_RAW = (12, 14, 101, 228)

_ADDRESS_FAMILY = 2  # AF_INET, on every system
_MAX_LENGTH = 1500  # a larger number in the place of an Ethernet length is a type (IEEE 802.3 §3.2.6)
_IPV4, _PPPOE = 0x0800, 0x8864
_VLANS = frozenset({0x8100, 0x88A8, 0x9100, 0x9200, 0x9300})
_MPLS = frozenset({0x8847, 0x8848})
_SNAP, _LLC_IP = bytes.fromhex("aaaa03000000"), bytes.fromhex("060603")  # RFC 1042
_PPP_ADDRESS = b"\xff\x03"
_PPP_IPV4 = 0x0021
_PPP_MPLS = frozenset({0x0281, 0x0283})  # RFC 3032 §4.3
_CISCO_ADDRESSES = (0x0F, 0x8F)
_PPPOE_LEN, _VLAN_LEN, _LABEL_LEN = 6, 4, 4
_NFLOG_HEADER_LEN, _NFLOG_PAYLOAD = 4, 9


@dataclass(slots=True)
class Frame:
    """One frame of a capture file."""

    at: float | None
    """Seconds since 1970; None where the file gives no time."""
    link: int
    """The link type of its interface (LINKTYPE_*)."""
    data: bytes
    """The captured bytes."""
    is_cut: bool
    """The capture has only the frame's first bytes."""
    byteorder: ByteOrder
    """The order of bytes in fields that the capturing host added."""


def is_known(link: int) -> bool:
    """Return whether ipv4_of() can read frames of a link type."""
    return link in _LINKS


def may_cut_silently(link: int) -> bool:
    """Return whether frames of a link type may be cut although the capture file calls them whole."""
    return link == _NFLOG  # the option --nflog-size


def ipv4_of(frame: Frame) -> bytes | None:
    """Return the frame from its IPv4 header on, with what pads it, or None."""
    find = _LINKS.get(frame.link)
    at = find(frame.data, frame.byteorder) if find else None
    if at is None or at >= len(frame.data) or frame.data[at] >> 4 != 4:
        return None
    return frame.data[at:]


def _uint16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def _behind_type(kind: int, data: bytes, at: int) -> int | None:
    """Find IPv4 behind an Ethernet type or length, through any number of tags."""
    while kind != _IPV4:
        if kind in _VLANS:
            kind, at = _uint16(data, at + 2), at + _VLAN_LEN
        elif kind <= _MAX_LENGTH and data[at : at + len(_SNAP)] == _SNAP:
            kind, at = _uint16(data, at + len(_SNAP)), at + len(_SNAP) + 2
        elif kind <= _MAX_LENGTH and data[at : at + len(_LLC_IP)] == _LLC_IP:
            return at + len(_LLC_IP)
        elif kind in _MPLS:
            return _behind_labels(data, at)
        elif kind == _PPPOE:
            return _behind_ppp(data, at + _PPPOE_LEN)
        else:
            return None
    return at


def _behind_labels(data: bytes, at: int) -> int | None:
    """Find what is behind a stack of MPLS labels (RFC 3032 §2.1). They do not say what it is."""
    while at + _LABEL_LEN <= len(data):
        is_last = data[at + 2] & 1
        at += _LABEL_LEN
        if is_last:
            return at
    return None


def _behind_ppp(data: bytes, at: int) -> int | None:
    """Find IPv4 behind PPP's header, whose fields may be compressed (RFC 1661 §6.5 and §6.6)."""
    if data[at : at + 2] == _PPP_ADDRESS:
        at += len(_PPP_ADDRESS)
    length = 1 if data[at : at + 1] and data[at] & 1 else 2
    protocol = int.from_bytes(data[at : at + length], "big")
    if protocol in _PPP_MPLS:
        return _behind_labels(data, at + length)
    return at + length if protocol == _PPP_IPV4 else None


def _typed(type_at: int, at: int, data: bytes, byteorder: ByteOrder) -> int | None:
    """Find IPv4 behind a header with an Ethernet type."""
    return _behind_type(_uint16(data, type_at), data, at)


def _raw(data: bytes, byteorder: ByteOrder) -> int:
    return 0


def _ppp(at: int, data: bytes, byteorder: ByteOrder) -> int | None:
    return _behind_ppp(data, at)


def _hdlc(data: bytes, byteorder: ByteOrder) -> int | None:
    """Find IPv4 behind PPP or Cisco's header in HDLC-like framing."""
    if data[:1] and data[0] in _CISCO_ADDRESSES:
        return _behind_type(_uint16(data, 2), data, 4)
    return _behind_ppp(data, 0)


def _family(data: bytes, byteorder: ByteOrder) -> int | None:
    """Find IPv4 behind an address family. Its bytes have the order of the host that sent the frame."""
    return 4 if _ADDRESS_FAMILY in (int.from_bytes(data[:4], "little"), int.from_bytes(data[:4], "big")) else None


def _nflog(data: bytes, byteorder: ByteOrder) -> int | None:
    """Find the packet among the attributes of a frame of NFLOG."""
    at = _NFLOG_HEADER_LEN
    while at + 4 <= len(data):
        length = int.from_bytes(data[at : at + 2], byteorder)
        if int.from_bytes(data[at + 2 : at + 4], byteorder) == _NFLOG_PAYLOAD:
            return at + 4
        at += max(length + 3 & ~3, 4)
    return None


_LINKS: dict[int, Callable[[bytes, ByteOrder], int | None]] = {
    _NULL: _family,
    _LOOP: _family,
    _ETHERNET: partial(_typed, 12, 14),
    _LINUX_SLL: partial(_typed, 14, 16),
    _LINUX_SLL2: partial(_typed, 0, 20),
    _PPP: partial(_ppp, 0),
    _PPP_HDLC: _hdlc,
    _CISCO_HDLC: _hdlc,
    _PPP_ETHER: partial(_ppp, _PPPOE_LEN),
    _NFLOG: _nflog,
    **dict.fromkeys(_RAW, _raw),
}
