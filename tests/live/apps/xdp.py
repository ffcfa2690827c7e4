"""Attaches an XDP program to an interface that drops each packet, as no tool on this host can make one.

python -m tests.live.apps.xdp INTERFACE
"""

import ctypes
import os
import socket
import struct
import sys

from natmirror.linux.netlink import attribute, message, messages

# linux/bpf.h, linux/if_link.h, linux/rtnetlink.h; the system call's number is that of x86-64 or arm64
_BPF = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD, _XDP = 5, 6
_DROP = bytes.fromhex("b7000000010000009500000000000000")  # r0 = XDP_DROP; exit
_SETLINK, _ACK, _ERROR = 19, 4, 2
_IFLA_XDP, _FD, _FLAGS, _GENERIC = 43, 1, 3, 1 << 1


def load() -> int:
    """Return the descriptor of the program."""
    code, license_ = ctypes.create_string_buffer(_DROP), ctypes.create_string_buffer(b"GPL")
    head = struct.pack("=IIQQ", _XDP, len(_DROP) // 8, ctypes.addressof(code), ctypes.addressof(license_))
    request = ctypes.create_string_buffer(head + bytes(96))
    libc = ctypes.CDLL(None, use_errno=True)
    fd = int(libc.syscall(_BPF[os.uname().machine], _PROG_LOAD, request, 120))
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return fd


def main(interface: str) -> None:
    """Attach it."""
    link = struct.pack("=BBHiII", 0, 0, 0, socket.if_nametoindex(interface), 0, 0)
    inner = attribute(_FD, struct.pack("=i", load())) + attribute(_FLAGS, struct.pack("=I", _GENERIC))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.send(message(_SETLINK, _ACK, 1, link + attribute(_IFLA_XDP | 1 << 15, inner)))
        [answer] = messages(netlink.recv(1 << 16))
    if answer.kind == _ERROR and (error := -struct.unpack_from("=i", answer.body)[0]):
        raise OSError(error, os.strerror(error))


if __name__ == "__main__":
    main(sys.argv[1])
