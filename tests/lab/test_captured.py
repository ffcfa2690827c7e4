"""The demo's witness: which bytes of a connection were delivered, by the packets on a link alone."""

from pathlib import Path

import dpkt

from natmirror.lab.captured import delivered, digest

CLIENT, SERVER = bytes((10, 10, 0, 11)), bytes((10, 10, 0, 100))
FIRST = 0xFFFF_FFFE  # the numbers wrap
SYN, ACK, FIN = dpkt.tcp.TH_SYN, dpkt.tcp.TH_ACK, dpkt.tcp.TH_FIN


def from_client(place: int, data: bytes = b"", flags: int = ACK, port: int = 5000) -> bytes:
    tcp = dpkt.tcp.TCP(sport=port, dport=6653, seq=(FIRST + place) % (1 << 32), flags=flags, data=data)
    return frame(CLIENT, SERVER, tcp)


def from_server(place: int, flags: int = ACK, port: int = 5000) -> bytes:
    return frame(SERVER, CLIENT, dpkt.tcp.TCP(sport=6653, dport=port, ack=(FIRST + place) % (1 << 32), flags=flags))


def frame(src: bytes, dst: bytes, tcp: dpkt.tcp.TCP) -> bytes:
    ip = dpkt.ip.IP(src=src, dst=dst, p=dpkt.ip.IP_PROTO_TCP, data=tcp, len=20 + len(tcp))
    return bytes(dpkt.ethernet.Ethernet(data=ip, type=dpkt.ethernet.ETH_TYPE_IP))


def capture(path: Path, *frames: bytes) -> Path:
    """Write a capture whose packets come at the times 0, 1, 2 and so on."""
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file)
        for at, one in enumerate(frames):
            writer.writepkt(one, ts=float(at))
    return path


def test_only_acknowledged_bytes_count_and_each_once(tmp_path: Path) -> None:
    frames = (
        from_client(0, flags=SYN),
        from_server(1, flags=SYN | ACK),
        from_client(4, b"def"),  # before the first ones
        from_client(1, b"abc"),
        from_client(1, b"abcd"),  # again, and one more
        from_server(7),
        from_client(7, b"never acknowledged"),
        from_client(2000, b"x", port=6000),  # a connection whose beginning is missing
    )
    path = capture(tmp_path / "one.pcap", *frames)
    assert delivered([path], 6653, "10.10.0.", 99.0) == {"10.10.0.11:5000": b"abcdef"}
    assert delivered([path], 6653, "10.10.0.", 4.0) == {}
    assert delivered([path], 6653, "10.20.0.", 99.0) == {}


def test_a_fin_is_no_byte_and_the_digest_tells_streams_apart(tmp_path: Path) -> None:
    frames = (from_client(0, flags=SYN), from_client(1, b"ab", flags=FIN | ACK), from_server(4))
    got = delivered([capture(tmp_path / "one.pcap", *frames)], 6653, "10.", 99.0)
    assert got == {"10.10.0.11:5000": b"ab"}
    assert digest(got) == digest(dict(got))
    assert digest(got) != digest({"10.10.0.12:5000": b"ab"})
