"""Second targets: a gateway and mirrors, which tell whether the network beyond this host works when backends fail.
Other backends are asked in the same way."""

import asyncio
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address

from natmirror.backends.host_view import Bind, Target, bind_to_nothing
from natmirror.backends.probes import hide_from_program
from natmirror.net.checksum import ones_sum
from natmirror.net.endpoint import Endpoint

_ECHO = struct.Struct("!BBHHH")  # RFC 792: type, code, checksum, identifier, sequence number
_ECHO_REQUEST, _ECHO_REPLY = 8, 0
_LARGEST = 1 << 16
SOON, RARELY = 1.0, 30.0  # seconds from one question to the next
_GROWTH = 1.25  # of the time to the next: it is about a quarter of the time for which a target has been silent


def pause_after(pause: float, before: Sequence[Target], answered: Sequence[Target], known: Sequence[Target]) -> float:
    """Return how long to wait before the targets are asked again, in seconds; ``pause`` was the last such time.

    A target that answers no more tells nothing until it answers again: were the network to fail meanwhile, the backends
    would be blamed. So it is asked again soon, and then less and less often.
    """
    if set(before) - set(answered):
        return SOON
    return min(_GROWTH * pause, RARELY) if set(known) - set(answered) else RARELY


def counted(
    before: Sequence[Target], answered: Sequence[Target], known: Sequence[Target], late: Sequence[Target]
) -> tuple[list[Target], list[Target]]:
    """Return the targets that count from now on, and those of them that are ``late``: they have not answered this time.

    One that is late twice in a row counts no more. Once is not enough: after an outage a packet may wait for ARP longer
    than a check takes, and a network that fails again at once must not be taken for backends that fail.
    """
    now_late = [target for target in before if target in known and target not in answered and target not in late]
    return [*answered, *now_late], now_late


async def answering(targets: Sequence[Target], timeout: float, bind: Bind = bind_to_nothing) -> list[Target]:
    """Return the targets that answer within a time in seconds: an endpoint a SYN, a gateway an echo request."""
    asked = {asyncio.create_task(_answers(target, bind)): target for target in targets}
    if not asked:
        return []
    try:
        done, _ = await asyncio.wait(asked, timeout=timeout)
        return [asked[task] for task in done if task.result()]
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def first_answering(targets: Sequence[Target], timeout: float, bind: Bind = bind_to_nothing) -> Target | None:
    """Return the target that answers first within a time in seconds, or None."""
    asked = [asyncio.create_task(_answering(target, bind)) for target in targets]
    try:
        async with asyncio.timeout(timeout):
            for one in asyncio.as_completed(asked):
                if (target := await one) is not None:
                    return target
    except TimeoutError:
        pass
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    return None


async def _answering(target: Target, bind: Bind) -> Target | None:
    return target if await _answers(target, bind) else None


async def _answers(target: Target, bind: Bind) -> bool:
    try:
        if isinstance(target, IPv4Address):
            await _await_echo(target, bind)
        else:
            await _connect(target, bind)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True


async def _connect(to: Endpoint, bind: Bind) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        bind(sock)
        hide_from_program(sock)
        await asyncio.get_running_loop().sock_connect(sock, (str(IPv4Address(to[0])), to[1]))


async def _await_echo(gateway: IPv4Address, bind: Bind) -> None:
    """Send a gateway an echo request, and wait for the reply."""
    loop, number = asyncio.get_running_loop(), int.from_bytes(os.urandom(2), "big")
    checksum = ~ones_sum(_ECHO.pack(_ECHO_REQUEST, 0, 0, number, 0)) & 0xFFFF
    with socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMP) as sock:
        bind(sock)
        sock.connect((str(gateway), 0))  # replies of others are not received
        await loop.sock_sendall(sock, _ECHO.pack(_ECHO_REQUEST, 0, checksum, number, 0))
        while True:
            packet = await loop.sock_recv(sock, _LARGEST)
            with suppress(struct.error, IndexError):
                kind, _, _, answered, _ = _ECHO.unpack_from(packet, packet[0] % 16 * 4)
                if (kind, answered) == (_ECHO_REPLY, number):
                    return
