"""The worst inputs that are known: each plays a switch, backend, mirror or master against an engine."""

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


def _begin_session(loop: Loop, version: int = V13) -> Connection:
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
    """A switch with many ports sends a small packet of PORT_STATUS, and a master asks for the ports."""
    one = _begin_session(loop, version)
    described = [_port(version, number) for number in range(ports)]
    one.ask_in_parts(13, [b"".join(described[at : at + 1000]) for at in range(0, ports, 1000)], version)
    loop.longest = 0.0
    status = build(version, Type.PORT_STATUS, 0, pack("!B7x", 2) + _port(version, 5))
    one.from_client(status * (1440 // len(status)))
    for number in range(10):
        one.from_mirror(build(version, Type.MULTIPART_REQUEST, number, pack("!HH4x", 13, 0)))


def tiny(loop: Loop, sender: str, message: bytes) -> None:
    """A sender fills a packet with the smallest messages."""
    one = _begin_session(loop)
    senders: dict[str, Callable[[bytes], None]]
    senders = {"switch": one.from_client, "controller": one.from_backend, "master": one.from_mirror}
    senders[sender](_packed(message))


def picked_up(loop: Loop) -> None:
    """A switch fills a packet with the smallest messages, on a connection that is picked up."""
    one = _begin_session(loop)
    one.client = (one.client[0], 40002)
    one.from_client(_packed(build(V13, Type.ECHO_REQUEST, 1)), letters="PA")


def one_byte(loop: Loop) -> None:
    """A switch sends a message of 20,000 bytes in packets of one byte."""
    one = _begin_session(loop)
    for byte in build(V13, Type.EXPERIMENTER, 1, bytes(20_000)):
        one.from_client(bytes((byte,)))


def elements(loop: Loop, message: bytes, version: int) -> None:
    """A master sends one message with thousands of elements."""
    one = _begin_session(loop, version)
    one.from_mirror(message)


def waiting(loop: Loop) -> None:
    """A master asks questions that wait until the switch has sent its features."""
    one = Connection(loop, answers=False)
    one.from_client(hello(V13, 1))
    one.from_backend(hello(V13, 1))
    one.answer()
    loop.longest = 0.0
    one.from_mirror(hello(V13, 1) + build(V13, Type.FEATURES_REQUEST, 1) + build(V13, Type.GET_ASYNC_REQUEST, 2) * 900)
    one.greet()


def long_answers(loop: Loop) -> None:
    """A master asks 256 times for the longest answer that is known."""
    one = _begin_session(loop)
    one.ask_in_parts(12, [bytes(60_000)] * 20)
    loop.longest = 0.0
    one.from_mirror(build(V13, Type.MULTIPART_REQUEST, 3, pack("!HH4x", 12, 0)) * 256)


def many_answers(loop: Loop) -> None:
    """A long answer replaces thousands of small ones."""
    one = _begin_session(loop)
    for number in range(12_000):
        question = build(V13, Type.MULTIPART_REQUEST, 3, pack("!HH4xI", 1, 0, number))
        one.from_backend(question)
        one.from_client(build(V13, Type.MULTIPART_REPLY, 3, pack("!HH4x", 1, 0)))
    one.ask_in_parts(12, [bytes(60_000)] * 34)


def many_parts(loop: Loop) -> None:
    """A switch sends an answer in tens of thousands of parts."""
    one = _begin_session(loop)
    one.from_backend(build(V13, Type.MULTIPART_REQUEST, 3, pack("!HH4x", 1, 0)))
    part = build(V13, Type.MULTIPART_REPLY, 3, pack("!HH4x", 1, 1))
    for _ in range(10):
        one.from_client(_packed(part))
    one.from_client(part[:10] + pack("!H4x", 0))
    one.from_mirror(build(V13, Type.MULTIPART_REQUEST, 4, pack("!HH4x", 1, 0)))


def lose_half(loop: Loop, mss: int) -> None:
    """A mirror with small segments and a wide window reports that half of the bytes in flight are lost."""
    one = Connection(loop, mss=mss)
    one.widen(4 * MIB)
    one.write(12 * MIB)
    loop.longest = 0.0
    half = one.una + (one.sent_to - one.una) // 2
    one.from_mirror(options=one.sack(half, one.sent_to))
    for _ in range(50):
        loop.now += 0.001
        one.from_mirror()


def open_window(loop: Loop, mss: int) -> None:
    """A mirror's window opens for 15 MB."""
    one = Connection(loop, mss=mss)
    one.widen(12 * MIB)
    one.from_mirror(window=0)
    one.write(15 * MIB)
    loop.longest = 0.0
    one.from_mirror(window=0xFFFF)


def acknowledge(loop: Loop) -> None:
    """A mirror acknowledges 12 MB at once; then it resets its leg, which holds 15 MB."""
    one = Connection(loop)
    one.widen(12 * MIB)
    one.write(12 * MIB)
    loop.longest = 0.0
    one.una = one.sent_to
    one.from_mirror()
    one.write(15 * MIB)
    one.say(MIRROR, one.client, "RA", one.mirror_seq, one.una)


def blocks(loop: Loop) -> None:
    """A mirror reports every second segment as received, four in each packet, again and again."""
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
    """A client sends single bytes with gaps between them, then packets that overlap all of them."""
    one = Connection(loop)
    loop.longest = 0.0
    first = one.client_seq
    for number in range(8000):
        one.from_client(b"x", at=first + 2 + 2 * number)
    for at in (2000, 1, 0):
        one.from_client(b"y" * 60_000, at=first + at)


def gap(loop: Loop) -> None:
    """A gap is filled, which releases 15 MB."""
    one = Connection(loop)
    first = one.client_seq
    for at in range(1, 15 * MIB, 60_000):
        one.from_client(bytes(60_000), at=first + at)
    loop.longest = 0.0
    one.from_client(b"x", at=first)


def mirrors_bytes(loop: Loop) -> None:
    """A mirror sends its own bytes out of order."""
    one = Connection(loop)
    loop.longest = 0.0
    for number in range(3000):
        one.from_mirror(b"x", at=one.mirror_seq + 2 + 2 * number)


def many_timers(loop: Loop, seconds: float) -> None:
    """Thousands of legs time out at the same moment, or their flows expire."""
    for number in range(2000):
        Connection(loop, 20_000 + number).from_client(b"x" * 1000)
    loop.longest = 0.0
    loop.now += seconds
    loop.do_what_is_due()


def silent_masters(loop: Loop) -> None:
    """The questions of many masters time out at the same moment."""
    for number in range(500):
        one = Connection(loop, 20_000 + number, answers=False)
        one.greet()
        one.from_mirror(hello(V13, 1) + build(V13, Type.FEATURES_REQUEST, 9))
        one.from_mirror(build(V13, Type.MULTIPART_REQUEST, 1, pack("!HH4x", 1, 0)))
    loop.longest = 0.0
    loop.now += 2.5
    loop.do_what_is_due()


def many_switches(loop: Loop) -> None:
    """One connection claims again and again to be another switch."""
    one = _begin_session(loop)
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
    "tiny messages: picked up": (_MESSAGES, picked_up),
    "a message byte by byte": (_MESSAGES, one_byte),
    "a HELLO of 8,000 elements": (_MESSAGES, lambda loop: elements(loop, _HELLO, V13)),
    "a SET_ASYNC of 8,000 properties": (_MESSAGES, lambda loop: elements(loop, _ASYNC, V14)),
    "questions before the switch is known": (_MESSAGES, waiting),
    "a master's questions, 1.2 MB each": (_MESSAGES, long_answers),
    "answers: thousands are replaced": (_MESSAGES, many_answers),
    "answers: in thousands of parts": (_MESSAGES, many_parts),
    "one connection, thousands of switches": (_MESSAGES, many_switches),
    "500 masters' questions time out": (_MESSAGES, silent_masters),
    "SACK: half is lost, MSS 48": (_RAW, lambda loop: lose_half(loop, 48)),
    "SACK: half is lost, MSS 1460": (_RAW, lambda loop: lose_half(loop, 1460)),
    "SACK: each second segment": (_RAW, blocks),
    "a window opens for 15 MB, MSS 48": (_RAW, lambda loop: open_window(loop, 48)),
    "a window opens for 15 MB, MSS 1460": (_RAW, lambda loop: open_window(loop, 1460)),
    "12 MB acknowledged; 15 MB reset": (_RAW, acknowledge),
    "bytes out of order, a client's": (_RAW, bytes_apart),
    "bytes out of order, a mirror's": (_RAW, mirrors_bytes),
    "15 MB behind a gap": (_RAW, gap),
    "2,000 legs time out": (_RAW, lambda loop: many_timers(loop, 1.5)),
    "2,000 flows expire": (_RAW, lambda loop: many_timers(loop, 100_000.0)),
}
