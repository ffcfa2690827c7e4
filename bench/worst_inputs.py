"""The worst inputs that were found: each plays a switch, backend, mirror or master against an engine."""

from collections.abc import Callable
from struct import pack

from bench.worst_peers import MIB, MIRROR, Connection, Loop
from natmirror.openflow.messages import V13, V14, Type, build, hello

_RULES = """
switches: [10.10.0.0/24]
services:
  - name: openflow
    address: 10.10.0.100
    port: 6653
    pool: {backends: [{name: c1, address: 10.20.0.11}]}
    mirrors: [{name: master, address: 10.20.0.13%s}]
"""
_RAW, _MESSAGES = _RULES % "", _RULES % ", protocol: openflow, reconnect: next-message"


def _begun(loop: Loop, version: int = V13) -> Connection:
    one = Connection(loop, answers=False)
    one.greet(version)
    one.from_mirror(hello(version, 1) + build(version, Type.FEATURES_REQUEST, 9))
    one.una = one.sent_to
    one.from_mirror()
    loop.longest = 0.0
    return one


def _packed(message: bytes) -> bytes:
    return message * (64_000 // len(message))


def _port(version: int, number: int) -> bytes:
    return pack("!I", number) + bytes(60) if version == V13 else pack("!IH", number, 40) + bytes(34)


def port_status(loop: Loop, version: int, ports: int) -> None:
    """A switch of many ports, a small packet of PORT_STATUS, and a master that asks for the ports."""
    one = _begun(loop, version)
    described = [_port(version, number) for number in range(ports)]
    one.tell(13, [b"".join(described[at : at + 1000]) for at in range(0, ports, 1000)], version)
    loop.longest = 0.0
    status = build(version, Type.PORT_STATUS, 0, pack("!B7x", 2) + _port(version, 5))
    one.from_client(status * (1440 // len(status)))
    for number in range(10):
        one.from_mirror(build(version, Type.MULTIPART_REQUEST, number, pack("!HH4x", 13, 0)))


def tiny(loop: Loop, who: str, message: bytes) -> None:
    """A packet full of the smallest messages."""
    one = _begun(loop)
    says: dict[str, Callable[[bytes], None]]
    says = {"switch": one.from_client, "controller": one.from_backend, "master": one.from_mirror}
    says[who](_packed(message))


def middle(loop: Loop) -> None:
    """The same on a connection that is met in its middle."""
    one = _begun(loop)
    one.client = (one.client[0], 40002)
    one.from_client(_packed(build(V13, Type.ECHO_REQUEST, 1)), letters="PA")


def one_byte(loop: Loop) -> None:
    """A message of 64 KiB in packets of one byte."""
    one = _begun(loop)
    for byte in build(V13, Type.EXPERIMENTER, 1, bytes(20_000)):
        one.from_client(bytes((byte,)))


def elements(loop: Loop, message: bytes, version: int) -> None:
    """One message of a master's of thousands of elements."""
    one = _begun(loop, version)
    one.from_mirror(message)


def waiting(loop: Loop) -> None:
    """Questions of a master's that wait until the switch has told who it is."""
    one = Connection(loop, answers=False)
    one.from_client(hello(V13, 1))
    one.from_backend(hello(V13, 1))
    one.answer()
    loop.longest = 0.0
    one.from_mirror(hello(V13, 1) + build(V13, Type.FEATURES_REQUEST, 1) + build(V13, Type.GET_ASYNC_REQUEST, 2) * 900)
    one.greet()


def long_answers(loop: Loop) -> None:
    """A master asks 256 times for the longest answer that was ever seen."""
    one = _begun(loop)
    one.tell(12, [bytes(60_000)] * 20)
    loop.longest = 0.0
    one.from_mirror(build(V13, Type.MULTIPART_REQUEST, 3, pack("!HH4x", 12, 0)) * 256)


def many_answers(loop: Loop) -> None:
    """A long answer takes the place of thousands."""
    one = _begun(loop)
    for number in range(12_000):
        question = build(V13, Type.MULTIPART_REQUEST, 3, pack("!HH4xI", 1, 0, number))
        one.from_backend(question)
        one.from_client(build(V13, Type.MULTIPART_REPLY, 3, pack("!HH4x", 1, 0)))
    one.tell(12, [bytes(60_000)] * 34)


def many_parts(loop: Loop) -> None:
    """An answer in tens of thousands of parts."""
    one = _begun(loop)
    one.from_backend(build(V13, Type.MULTIPART_REQUEST, 3, pack("!HH4x", 1, 0)))
    part = build(V13, Type.MULTIPART_REPLY, 3, pack("!HH4x", 1, 1))
    for _ in range(10):
        one.from_client(_packed(part))
    one.from_client(part[:10] + pack("!H4x", 0))
    one.from_mirror(build(V13, Type.MULTIPART_REQUEST, 4, pack("!HH4x", 1, 0)))


def mend(loop: Loop, mss: int) -> None:
    """A mirror with small segments and a wide window tells that half of what is under way is lost."""
    one = Connection(loop, mss=mss)
    one.widen(4 * MIB)
    one.write(12 * MIB)
    loop.longest = 0.0
    half = one.una + (one.sent_to - one.una) // 2
    one.from_mirror(options=one.sack(half, one.sent_to))
    for _ in range(50):
        loop.now += 0.001
        one.from_mirror()


def opens(loop: Loop, mss: int) -> None:
    """A mirror's window opens over 15 MB."""
    one = Connection(loop, mss=mss)
    one.widen(12 * MIB)
    one.from_mirror(window=0)
    one.write(15 * MIB)
    loop.longest = 0.0
    one.from_mirror(window=0xFFFF)


def acknowledges(loop: Loop) -> None:
    """A mirror acknowledges 12 MB at once; another that has 15 MB under way is reset."""
    one = Connection(loop)
    one.widen(12 * MIB)
    one.write(12 * MIB)
    loop.longest = 0.0
    one.una = one.sent_to
    one.from_mirror()
    one.write(15 * MIB)
    one.say(MIRROR, one.client, "RA", one.mirror_seq, one.una)


def blocks(loop: Loop) -> None:
    """A mirror tells of each second segment alone, four in a packet, then again and again."""
    one = Connection(loop, mss=48)
    one.widen(MIB)
    one.write(2 * MIB)
    loop.longest = 0.0
    at = one.una + 48
    for _ in range(1500):
        edges = [edge for number in range(4) for edge in (at + 96 * number, at + 96 * number + 48)]
        one.from_mirror(options=one.sack(*edges))
        at += 384 if at < one.sent_to - 800 else -384


def bytes_apart(loop: Loop) -> None:
    """A client's bytes out of order, one in each packet, then packets over all of them."""
    one = Connection(loop)
    loop.longest = 0.0
    first = one.client_seq
    for number in range(8000):
        one.from_client(b"x", at=first + 2 + 2 * number)
    for at in (2000, 1, 0):
        one.from_client(b"y" * 60_000, at=first + at)


def gap(loop: Loop) -> None:
    """What a gap held back, 15 MB, comes out when it is filled."""
    one = Connection(loop)
    first = one.client_seq
    for at in range(1, 15 * MIB, 60_000):
        one.from_client(bytes(60_000), at=first + at)
    loop.longest = 0.0
    one.from_client(b"x", at=first)


def mirrors_bytes(loop: Loop) -> None:
    """A mirror's own bytes out of order."""
    one = Connection(loop)
    loop.longest = 0.0
    for number in range(3000):
        one.from_mirror(b"x", at=one.mirror_seq + 2 + 2 * number)


def many_timers(loop: Loop, seconds: float) -> None:
    """Thousands of legs time out, and their flows expire, at one moment."""
    for number in range(2000):
        Connection(loop, 20_000 + number).from_client(b"x" * 1000)
    loop.longest = 0.0
    loop.now += seconds
    loop.do_what_is_due()


def silent_masters(loop: Loop) -> None:
    """Questions of many masters have waited long enough at one moment."""
    for number in range(500):
        one = Connection(loop, 20_000 + number, answers=False)
        one.greet()
        one.from_mirror(hello(V13, 1) + build(V13, Type.FEATURES_REQUEST, 9))
        one.from_mirror(build(V13, Type.MULTIPART_REQUEST, 1, pack("!HH4x", 1, 0)))
    loop.longest = 0.0
    loop.now += 2.5
    loop.do_what_is_due()


def many_switches(loop: Loop) -> None:
    """One connection says that it is another switch, again and again."""
    one = _begun(loop)
    for number in range(11_000):
        one.from_backend(build(V13, Type.FEATURES_REQUEST, 2))
        one.from_client(build(V13, Type.FEATURES_REPLY, 2, pack("!QIBB2xII", number, 0, 254, 0, 0, 0)))


_ECHO, _UNKNOWN = build(V13, Type.ECHO_REQUEST, 1), bytes((4, 99, 0, 8)) + bytes(4)
_HELLO = build(V13, Type.HELLO, 1, pack("!HH4x", 9, 8) * 8000)
_ASYNC = build(V14, Type.SET_ASYNC, 1, pack("!HHI", 1, 8, 7) * 8000)
INPUTS: dict[str, tuple[str, Callable[[Loop], None]]] = {
    "PORT_STATUS, 4,000 ports, 1.3": (_MESSAGES, lambda loop: port_status(loop, V13, 4000)),
    "PORT_STATUS, 30,000 ports, 1.3": (_MESSAGES, lambda loop: port_status(loop, V13, 30_000)),
    "PORT_STATUS, 50,000 ports, 1.4": (_MESSAGES, lambda loop: port_status(loop, V14, 50_000)),
    "tiny messages: a switch's ECHOs": (_MESSAGES, lambda loop: tiny(loop, "switch", _ECHO)),
    "tiny messages: unknown ones": (_MESSAGES, lambda loop: tiny(loop, "switch", _UNKNOWN)),
    "tiny messages: PACKET_INs": (_MESSAGES, lambda loop: tiny(loop, "switch", build(V13, Type.PACKET_IN, 1))),
    "tiny messages: a controller's": (_MESSAGES, lambda loop: tiny(loop, "controller", build(V13, Type.FLOW_MOD, 1))),
    "tiny messages: a master's ECHOs": (_MESSAGES, lambda loop: tiny(loop, "master", _ECHO)),
    "tiny messages: a master's BARRIERs": (
        _MESSAGES,
        lambda loop: tiny(loop, "master", build(V13, Type.BARRIER_REQUEST, 1)),
    ),
    "tiny messages: picked up": (_MESSAGES, middle),
    "a message byte by byte": (_MESSAGES, one_byte),
    "a HELLO of 8,000 elements": (_MESSAGES, lambda loop: elements(loop, _HELLO, V13)),
    "a SET_ASYNC of 8,000 properties": (_MESSAGES, lambda loop: elements(loop, _ASYNC, V14)),
    "questions before the switch is known": (_MESSAGES, waiting),
    "a master's questions, 1.2 MB each": (_MESSAGES, long_answers),
    "answers: thousands give way": (_MESSAGES, many_answers),
    "answers: in thousands of parts": (_MESSAGES, many_parts),
    "one connection, thousands of switches": (_MESSAGES, many_switches),
    "500 masters' questions time out": (_MESSAGES, silent_masters),
    "SACK: half is lost, MSS 48": (_RAW, lambda loop: mend(loop, 48)),
    "SACK: half is lost, MSS 1460": (_RAW, lambda loop: mend(loop, 1460)),
    "SACK: each second segment": (_RAW, blocks),
    "a window opens over 15 MB, MSS 48": (_RAW, lambda loop: opens(loop, 48)),
    "a window opens over 15 MB, MSS 1460": (_RAW, lambda loop: opens(loop, 1460)),
    "12 MB acknowledged; 15 MB given up": (_RAW, acknowledges),
    "bytes out of order, a client's": (_RAW, bytes_apart),
    "bytes out of order, a mirror's": (_RAW, mirrors_bytes),
    "15 MB behind a gap": (_RAW, gap),
    "2,000 legs time out": (_RAW, lambda loop: many_timers(loop, 1.5)),
    "2,000 flows expire": (_RAW, lambda loop: many_timers(loop, 100_000.0)),
}
