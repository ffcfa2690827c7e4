"""The parts of a dump that tell of the host: its kernel rules, routes, addresses, settings and load."""

import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from natmirror import __version__
from natmirror.support.collecting import Part, output_of

_COMMANDS: tuple[tuple[str, str, Sequence[Sequence[str]]], ...] = (
    ("host/iptables-nft.txt", "The rules of iptables-nft, with counters.", [["iptables-nft-save", "-c"]]),
    ("host/iptables-legacy.txt", "The rules of iptables-legacy.", [["iptables-legacy-save", "-c"]]),
    ("host/ip6tables-nft.txt", "The rules of ip6tables-nft.", [["ip6tables-nft-save", "-c"]]),
    ("host/ip6tables-legacy.txt", "The rules of ip6tables-legacy.", [["ip6tables-legacy-save", "-c"]]),
    ("host/nftables.txt", "The rules of nftables.", [["nft", "list", "ruleset"]]),
    ("host/rules.txt", "The routing policy.", [["ip", "-4", "rule"], ["ip", "-6", "rule"]]),
    (
        "host/routes.txt",
        "The routes of all tables.",
        [["ip", "-4", "route", "show", "table", "all"], ["ip", "-6", "route", "show", "table", "all"]],
    ),
    ("host/addresses.txt", "The interfaces with their addresses.", [["ip", "-d", "address"]]),
    ("host/links.txt", "The interfaces with their counters.", [["ip", "-s", "-s", "link"], ["tc", "-s", "qdisc"]]),
    ("host/neighbours.txt", "The neighbours of this host.", [["ip", "-s", "neigh"]]),
)
_SETTINGS = (
    "net/ipv4/ip_forward",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/ip_local_reserved_ports",
    "net/ipv4/tcp_congestion_control",
    "net/ipv4/tcp_timestamps",
    "net/ipv4/conf/*/forwarding",
    "net/ipv4/conf/*/rp_filter",
    "net/ipv4/conf/*/accept_local",
    "net/ipv4/conf/*/arp_*",
    "net/ipv4/conf/*/route_localnet",
    "net/ipv4/conf/*/send_redirects",
    "net/ipv4/conf/*/src_valid_mark",
    "net/ipv6/conf/all/disable_ipv6",
    "net/netfilter/nf_conntrack_*",
    "net/core/*mem_*",
    "net/core/netdev_*",
    "net/core/*_timestamping",
    "kernel/sched_*",
    "vm/overcommit_memory",
)
_COUNTERS = (
    "/proc/net/netfilter/nfnetlink_queue",
    "/proc/net/softnet_stat",
    "/proc/net/snmp",
    "/proc/net/netstat",
)
_LOAD = ("/proc/loadavg", "/proc/meminfo", "/proc/pressure/cpu", "/proc/pressure/memory", "/proc/interrupts")
_PROGRAMS = (["ip", "-V"], ["iptables", "-V"], ["nft", "-v"])
_PROCESS = ("status", "limits", "cgroup", "oom_score_adj", "sched")
_THREAD = re.compile(r"(?P<pid>\d+) \((?P<name>.*)\) (?P<rest>.*)", re.DOTALL)
_NATMIRROR = re.compile(rb"(^|/|\0)natmirror(\.api)?\0")


_part = partial(Part, is_of_kernel=True)


def parts() -> Iterator[Part]:
    """Yield the parts."""
    yield _part(
        "versions.txt", "The versions of natmirror, Python, the kernel and programs; the processors.", _versions
    )
    yield _part("processes.txt", "natmirror's processes: state, limits, threads with processor time.", _processes)
    for file, sentence, commands in _COMMANDS:
        yield _part(file, sentence, partial(_outputs, commands))
    yield _part("host/sysctls.txt", "The kernel's settings that matter.", _settings)
    yield _part("host/counters.txt", "The kernel's counters of queues, backlogs and TCP.", partial(_files, _COUNTERS))
    yield _part("host/load.txt", "Load, memory and interrupts.", partial(_files, _LOAD))
    yield _part("host/modules.txt", "The kernel's modules.", partial(_files, ["/proc/modules"]))


def _outputs(commands: Iterable[Sequence[str]]) -> str:
    return "\n".join(map(output_of, commands))


def _files(paths: Iterable[str]) -> str:
    return "\n".join(f"# {path}\n{_text(Path(path))}" for path in paths)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError as error:
        return f"cannot be read: {error.strerror}\n"


def _settings() -> str:
    root = Path("/proc/sys")
    found = sorted({path for pattern in _SETTINGS for path in root.glob(pattern) if path.is_file()})
    return "".join(f"{path.relative_to(root).as_posix().replace('/', '.')} = {_text(path).strip()}\n" for path in found)


def _versions() -> str:
    lines = [
        f"natmirror {__version__}",
        f"Python {sys.version.split()[0]} at {sys.prefix}",
        f"kernel {platform.release()} {platform.version()} {platform.machine()}",
        *re.findall(r'^PRETTY_NAME="?(.*?)"?$', _text(Path("/etc/os-release")), re.MULTILINE),
        *(" ".join(_output(command).split()) for command in _PROGRAMS),
        *(f"{name} {_version(name)}" for name in _requirements()),
        *sorted(set(re.findall(r"^model name\s*: (.*)$", _text(Path("/proc/cpuinfo")), re.MULTILINE))),
        f"processors {_text(Path('/sys/devices/system/cpu/online')).strip()}",
    ]
    return "\n".join(lines) + "\n"


def _output(command: Sequence[str]) -> str:
    try:
        return output_of(command)
    except OSError as error:
        return f"{command[0]}: {error.strerror}"


def _requirements() -> list[str]:
    with suppress(importlib.metadata.PackageNotFoundError):
        required = importlib.metadata.requires("natmirror") or []
        return sorted(re.split(r"[^\w.-]", one, maxsplit=1)[0] for one in required if "extra ==" not in one)
    return []


def _version(name: str) -> str:
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return "is not installed"


def _processes() -> str:
    """Return what the kernel tells of natmirror's processes, whether they answer or not."""
    found = []
    for directory in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        with suppress(OSError):
            if int(directory.name) != os.getpid() and _NATMIRROR.search((directory / "cmdline").read_bytes()):
                found.append(directory)
    return "\n".join(map(_process, found)) or "no process of natmirror runs\n"


def _process(directory: Path) -> str:
    command = _text(directory / "cmdline").replace("\0", " ").strip()
    lines = [f"# process {directory.name}: {command}\n"]
    lines += [f"# {name}\n{_text(directory / name)}" for name in _PROCESS]
    lines.append("# threads: id, name, state, seconds in user mode, seconds in the kernel, nice, processor, waits in")
    threads = sorted(directory.glob("task/[0-9]*"), key=lambda path: int(path.name))
    return "\n".join([*lines, *map(_thread, threads)]) + "\n"


def _thread(directory: Path) -> str:
    match = _THREAD.match(_text(directory / "stat"))
    if match is None:
        return f"{directory.name} has ended"
    fields = match["rest"].split()  # proc(5), from the third field on
    used = [f"{int(ticks) / 100:.2f}" for ticks in fields[11:13]]
    return " ".join(
        (directory.name, match["name"], fields[0], *used, fields[16], fields[36], _text(directory / "wchan"))
    )
