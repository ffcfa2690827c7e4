"""Reads what the kernel gives the packets of an interface to before its hooks, and after them: XDP programs, filters
and qdiscs of tc(8). natmirror sees none of the packets that they drop, redirect or hold on the way in.
"""

import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from natmirror.linux.interfaces import Link
from natmirror.linux.netlink import attributes
from natmirror.linux.routes import RouteSocket

# linux/rtnetlink.h, linux/pkt_sched.h, linux/gen_stats.h
_GETQDISC, _GETTFILTER = 38, 46
_HEADER = struct.Struct("=BBHiIII")  # struct tcmsg: family, padding, interface, handle, parent, info
_KIND, _STATS = 1, 7  # TCA_KIND, TCA_STATS2
_QUEUE = 3  # TCA_STATS_QUEUE
_QUEUED = struct.Struct("=5I")  # struct gnet_stats_queue: packets, bytes, drops, requeues, overlimits
_ROOT, _INGRESS_QDISC = 0xFFFFFFFF, 0xFFFF0000
_CLSACT = {0xFFFFFFF2: "ingress", 0xFFFFFFF3: "egress"}  # TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_*)
_PREF_SHIFT = _MAJOR_SHIFT = 16
_MAX_FILTERS = 256  # of one place: the kernel names those first that packets meet first


@dataclass(frozen=True, slots=True)
class Attachment:
    """An XDP program, a filter or a qdisc that another program has attached to an interface."""

    what: str
    removal: str
    """The command that removes it."""
    handle: int
    """Its number: another one of the same kind has another number, mostly."""
    may_drop: bool = True
    """Whether it is made to choose packets: a qdisc only delays them, mostly."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What gets the packets of an interface, and what became of them."""

    attached: tuple[Attachment, ...] = ()
    lost: Mapping[str, int] = field(default_factory=dict)
    """Packets that each qdisc has dropped."""
    held: Mapping[str, int] = field(default_factory=dict)
    """Packets that each qdisc holds now."""
    may_change: bool = False
    """Whether filters may change what comes in."""


@dataclass(slots=True)
class _Found:
    attached: list[Attachment] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    parents: dict[int, str] = field(default_factory=dict)


def read_traffic(
    kernel: RouteSocket, links: Mapping[int, tuple[str, Link]], names: Collection[str]
) -> dict[str, Traffic]:
    """Return what the kernel says of these interfaces, and of those below them. ``links``: all interfaces by number.
    OSError where the kernel does not answer."""
    wanted = _with_those_below(names, dict(links.values()))
    numbers = {number: name for number, (name, _) in links.items() if name in wanted}
    found = {name: _Found() for name in numbers.values()}
    for body in list(kernel.dump(_GETQDISC, _HEADER.pack(*(0,) * 7))):
        _, _, _, number, handle, parent, _ = _HEADER.unpack_from(body)
        if number in numbers:
            _take_qdisc(found[numbers[number]], numbers[number], handle, parent, attributes(body[_HEADER.size :]))
    for number, name in numbers.items():
        for mode, program in links[number][1].xdp:
            found[name].attached.append(Attachment(f"XDP program {program}", f"ip link set {name} {mode} off", program))
        for parent, place in found[name].parents.items():
            found[name].attached += _filters(number, parent, name, place)
    return {name: _traffic(one) for name, one in found.items()}


def _with_those_below(names: Collection[str], details: Mapping[str, Link]) -> set[str]:
    """Return interfaces with those that get their packets first: of a VLAN the whole link, of a bridge its ports."""
    found, more = set[str](), {name for name in names if name in details}
    while more:
        found |= more
        ports = {name for name, link in details.items() if link.master in more}
        below = (details[name].below for name in more)
        more = {name for name in below if name is not None and name in details} | ports
        more -= found
    return found


def _take_qdisc(found: _Found, link: str, handle: int, parent: int, values: Mapping[int, bytes]) -> None:
    kind = _text(values.get(_KIND, b""))
    queue = attributes(values.get(_STATS, b"")).get(_QUEUE, b"")
    if len(queue) >= _QUEUED.size:
        held, _, dropped, _, _ = _QUEUED.unpack_from(queue)
        found.lost[kind] = found.lost.get(kind, 0) + dropped
        found.held[kind] = found.held.get(kind, 0) + held
    if kind == "clsact":
        found.parents |= _CLSACT
    elif kind == "ingress":
        found.parents[_INGRESS_QDISC] = "ingress"
    elif parent == _ROOT and handle:  # the kernel's own ones have no number
        found.attached.append(Attachment(f"qdisc {kind}", f"tc qdisc del dev {link} root", handle, False))
        found.parents[handle] = f"parent {handle >> _MAJOR_SHIFT:x}:"


def _filters(number: int, parent: int, link: str, place: str) -> Iterator[Attachment]:
    with RouteSocket() as kernel:  # its end ends the answer, too
        bodies = list(islice(kernel.dump(_GETTFILTER, _HEADER.pack(0, 0, 0, number, 0, parent, 0)), _MAX_FILTERS))
    for body in bodies:
        *_, handle, _, info = _HEADER.unpack_from(body)
        kind, pref = _text(attributes(body[_HEADER.size :]).get(_KIND, b"")), info >> _PREF_SHIFT
        if handle:  # without a number: the head of a list of filters
            what = f"tc filter {kind} with preference {pref} ({place})"
            yield Attachment(what, f"tc filter del dev {link} {place} pref {pref}", handle)


def _traffic(found: _Found) -> Traffic:
    may_change = "ingress" in found.parents.values()
    return Traffic(tuple(found.attached), found.lost, found.held, may_change)


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
