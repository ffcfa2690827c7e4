"""Whether an address is free for ``natmirror doctor --send``: a client's, and no host has it."""

import socket
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

from natmirror.linux.routes import Answer, Question, RouteSocket
from natmirror.rules import Rules

# linux/if_ether.h, linux/if_arp.h
_ETH_P_ARP, _ETH_P_IP, _ARP_REQUEST, _ARP_REPLY, _ETHERNET = 0x0806, 0x0800, 1, 2, 1
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_HEADER_LEN = 14  # of Ethernet
_PING = bytes.fromhex("0800f7fd00010001")  # an ICMP echo request with its checksum (RFC 792)
_ECHO_REPLY = 0
_TRIES = 2
_WAIT = 0.5  # seconds


def why_not_free(client: IPv4Address, rules: Rules, own: Iterable[IPv4Address], clients: Iterable[str]) -> str:
    """Return why doctor may not use an address, or an empty text. ``own`` are this host's addresses, ``clients`` the
    addresses of the clients that natmirror knows. OSError where the network cannot be asked."""
    networks = [network for network in rules.switches if client in network]
    if not networks:
        return "it lies in no network of switches"
    if networks[0].prefixlen < 31 and client in (networks[0].network_address, networks[0].broadcast_address):
        return "it is no host's address"
    if client in own:
        return "this host has it"
    taken = {service.address for service in rules.services}
    taken |= {mirror.address for service in rules.services for mirror in service.mirrors}
    taken |= {member.address for service in rules.services if service.pool for member in service.pool.members}
    taken |= {one for host in (rules.ha.hosts if rules.ha else ()) for one in (host.switch_side, host.pool_side)}
    taken |= {one.ip for one in (rules.ha.addresses if rules.ha else ())}
    if client in taken:
        return "the rules name it"
    if str(client) in clients:
        return "a client with that address has connections"
    return "a host answers there" if answers(client) else ""


def route_to(address: IPv4Address) -> Answer:
    """Return how this host sends a packet to an address. OSError where the kernel does not say."""
    with RouteSocket() as kernel:
        return kernel.ask([Question(address)])[Question(address)]


def answers(address: IPv4Address) -> bool:
    """Return whether a host answers an ARP request for an address beside this host, or a ping."""
    route = route_to(address)
    if route.link is not None and route.gateway is None:
        with suppress(OSError):  # of an interface without ARP
            return _answers_arp(address, route.link)
    return _answers_ping(address)


def _answers_arp(address: IPv4Address, link: str) -> bool:
    """Send ARP requests without a sender's address, which change no host's table (RFC 5227 §2.1.1)."""
    hardware = bytes.fromhex((Path("/sys/class/net") / link / "address").read_text().strip().replace(":", ""))
    request = _ARP.pack(_ETHERNET, _ETH_P_IP, 6, 4, _ARP_REQUEST, hardware, bytes(4), bytes(6), address.packed)
    frame = b"\xff" * 6 + hardware + struct.pack("!H", _ETH_P_ARP) + request
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ARP)) as wire:
        wire.bind((link, _ETH_P_ARP))

        def is_answer(raw: bytes) -> bool:
            found = _ARP.unpack_from(raw.ljust(_HEADER_LEN + _ARP.size, b"\0"), _HEADER_LEN)
            return bool(found[4] == _ARP_REPLY and found[6] == address.packed)

        return _is_answered(wire, lambda: wire.send(frame), is_answer)


def _answers_ping(address: IPv4Address) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as wire:

        def is_answer(raw: bytes) -> bool:
            at = (raw[0] & 0xF) * 4
            return raw[12:16] == address.packed and raw[at] == _ECHO_REPLY

        return _is_answered(wire, lambda: wire.sendto(_PING, (str(address), 0)), is_answer)


def _is_answered(wire: socket.socket, ask: Callable[[], object], is_answer: Callable[[bytes], bool]) -> bool:
    for _ in range(_TRIES):
        ask()
        until = time.monotonic() + _WAIT
        while (left := until - time.monotonic()) > 0:
            wire.settimeout(left)
            with suppress(TimeoutError):
                if is_answer(wire.recv(1 << 16)):
                    return True
    return False
