"""OpenFlow messages for tests: os-ken builds a controller's messages, and parses those for a controller."""

from collections.abc import Iterable
from itertools import pairwise
from struct import Struct, pack
from typing import Any

from os_ken.ofproto import ofproto_parser
from os_ken.ofproto.ofproto_protocol import ProtocolDesc

from natmirror.fastpath import ClientMemory, Gear, Memory
from natmirror.openflow.datapath import SwitchId
from natmirror.openflow.directory import Directory
from natmirror.openflow.messages import V10, V13, V14, V15, Type, build, hello
from natmirror.openflow.observer import Observer
from natmirror.openflow.session import SessionPolicy, SwitchSession

ALL = (V10, V13, V14, V15)
DPID = 0x00AB_CDEF_0123_4567
ANY_PORT = 0xFFFF_FFFF
CONNECTION = "openflow/10.10.0.11:40001"
HEADER = Struct("!BBHI")


class Kit:
    """os-ken's classes for one version."""

    def __init__(self, version: int) -> None:
        self.desc = ProtocolDesc(version)
        self.parser, self.ofproto = self.desc.ofproto_parser, self.desc.ofproto

    def make(self, name: str, xid: int, **fields: Any) -> bytes:
        """Return a message as bytes, by the name of its class."""
        message = getattr(self.parser, name)(self.desc, **fields)
        message.set_xid(xid)
        message.serialize()
        return bytes(message.buf)


KITS = {version: Kit(version) for version in ALL}


def understood(raw: bytes) -> Any:
    """Return a message as os-ken parses it."""
    version, kind, length, xid = HEADER.unpack_from(raw)
    assert length == len(raw)
    return ofproto_parser.msg(KITS[version].desc, version, kind, length, xid, raw)


def split(stream: bytes) -> list[bytes]:
    """Return the messages of a stream, all of which are complete."""
    found = []
    while stream:
        length = HEADER.unpack_from(stream)[2]
        assert 8 <= length <= len(stream)
        found.append(stream[:length])
        stream = stream[length:]
    return found


def names(stream: bytes) -> list[tuple[str, int]]:
    """Return type, as os-ken names it, and xid of each message in a stream."""
    return [(type(one).__name__, one.xid) for one in map(understood, split(stream))]


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    """Return a stream in pieces, cut at ``places``."""
    edges = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[one:other] for one, other in pairwise(edges)]


def switch_id(datapath_id: int = DPID, auxiliary_id: int = 0) -> SwitchId:
    """Return the identity of a switch of CONNECTION's client."""
    return SwitchId(CONNECTION.rpartition(":")[0], datapath_id, auxiliary_id)


# A switch's messages


def port(version: int, number: int, name: str = "") -> bytes:
    """Return a port's description."""
    mac, label = bytes((2, 0, 0, 0, 0, number & 0xFF)), (name or f"eth{number}").encode()
    if version == V10:
        return pack("!H6s16s6I", number, mac, label, 0, 0, 0, 0, 0, 0)
    if version == V13:
        return pack("!I4x6s2x16s8I", number, mac, label, 0, 0, 0, 0, 0, 0, 0, 0)
    ethernet = pack("!HH4x6I", 0, 32, 0, 0, 0, 0, 0, 0)
    return pack("!IH2x6s2x16sII", number, 40 + len(ethernet), mac, label, 0, 0) + ethernet


def features(version: int, xid: int, *, datapath_id: int = DPID, auxiliary_id: int = 0, ports: bytes = b"") -> bytes:
    """Return a FEATURES_REPLY; only in OpenFlow 1.0 it has ports."""
    head = pack("!QIBB2xII", datapath_id, 256, 254, auxiliary_id, 0xC7, 0)
    return build(version, Type.FEATURES_REPLY, xid, head + ports)


def multipart(version: int, xid: int, kind: int, body: bytes, *, more: bool = False) -> bytes:
    """Return a MULTIPART_REPLY."""
    return build(version, Type.MULTIPART_REPLY, xid, pack("!HH", kind, more) + bytes(0 if version == V10 else 4) + body)


def packet_in(version: int, xid: int = 0, frame: bytes = b"frame", *, reason: int = 0) -> bytes:
    """Return a PACKET_IN from port 1."""
    if version == V10:
        return build(version, Type.PACKET_IN, xid, pack("!IHHBx", 0xFFFFFFFF, len(frame), 1, reason) + frame)
    match = pack("!HHII4x", 1, 12, 0x8000_0004, 1)
    head = pack("!IHBBQ", 0xFFFFFFFF, len(frame), reason, 0, 0) + match
    return build(version, Type.PACKET_IN, xid, head + bytes(2) + frame)


def port_status(version: int, reason: int, described: bytes) -> bytes:
    """Return a PORT_STATUS."""
    return build(version, Type.PORT_STATUS, 0, pack("!B7x", reason) + described)


def flow_removed(version: int, *, reason: int = 0) -> bytes:
    """Return the FLOW_REMOVED of a flow without a match."""
    match = pack("!HH4x", 1, 4)
    if version == V10:
        body = bytes(40) + pack("!QHBxIIH2xQQ", 0, 1, reason, 0, 0, 0, 0, 0)
    elif version == V15:
        body = pack("!BBHHHQ", 0, reason, 1, 0, 0, 0) + match + pack("!HH4x", 0, 4)
    else:
        body = pack("!QHBBIIHHQQ", 0, 1, reason, 0, 0, 0, 0, 0, 0, 0) + match
    return build(version, Type.FLOW_REMOVED, 0, body)


# Both ends of a connection, and a master


def client_memory(limit: int) -> ClientMemory:
    """Return the memory of an engine's clients, within a budget."""
    return Gear(1, Memory(limit), bytes(16)).memory


def begun(version: int, *, limit: int = 1 << 26) -> tuple[Observer, Directory]:
    """Return a switch's connection after both HELLOs."""
    directory = Directory(client_memory(limit))
    production = Observer(directory, CONNECTION)
    list(production.from_switch(hello(version, 1), 0.0))
    list(production.from_controller(hello(version, 2)))
    assert production.version == version
    return production, directory


def exchange(production: Observer, question: bytes, *answers: bytes, now: float = 0.0) -> None:
    """Send the controller's question and the switch's answers."""
    list(production.from_controller(question))
    for answer in answers:
        list(production.from_switch(answer, now))


def introduced(version: int, *, ports: bytes = b"") -> tuple[Observer, Directory]:
    """Return a connection whose switch sent its features long ago."""
    production, directory = begun(version)
    answer = features(version, 3, ports=ports)
    exchange(production, KITS[version].make("OFPFeaturesRequest", 3), answer, now=-100.0)
    list(production.from_switch(b"", 0.0))
    assert production.datapath is not None
    return production, directory


def session(production: Observer, *, greeted: bool = True, policy: SessionPolicy | None = None) -> SwitchSession:
    """Return a session with a master; ``greeted``: after both HELLOs and the features reply."""
    made = SwitchSession(production, policy or SessionPolicy())
    if greeted:
        version = made.version
        list(made.from_master(hello(version, 1) + build(version, Type.FEATURES_REQUEST, 2), 0.0))
        assert names(made.take()) == [("OFPHello", 1), ("OFPSwitchFeatures", 2)]
    return made


def hear(made: SwitchSession, production: Observer, piece: bytes, now: float = 0.0) -> bytes:
    """Return the messages to a master after the switch has sent ``piece``."""
    for said, message in production.from_switch(piece, now):
        made.from_switch(said, message, has_room=True)
    made.settle(now)
    return made.take()


def ask(made: SwitchSession, *questions: bytes, now: float = 0.0) -> bytes:
    """Return the answers to a master's questions."""
    for question in questions:
        list(made.from_master(question, now))
    return made.take()


def begin(version: int) -> tuple[SwitchSession, Observer]:
    """Return a session whose master has the switch's features, and its observer."""
    production, _ = introduced(version)
    return session(production), production


def refusals(stream: bytes) -> list[tuple[int, int, int]]:
    """Return transaction id, type and code of a stream's messages, all of which are errors."""
    found = [understood(raw) for raw in split(stream)]
    assert all(raw[1] == 1 for raw in split(stream)), names(stream)
    return [(one.xid, one.type, one.code) for one in found]


def request(version: int, xid: int, kind: int, body: bytes = b"", *, flags: int = 0) -> bytes:
    """Return a MULTIPART_REQUEST."""
    head = pack("!HH", kind, flags) + bytes(0 if version == V10 else 4)
    return build(version, Type.MULTIPART_REQUEST, xid, head + body)
