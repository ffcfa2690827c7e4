"""Reads the kernel's counters: processor time, memory, packets."""

import os
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from natmirror.lab.process import pids_in
from natmirror.lab.topology import Lab

CLIENT_LINK = "sw0"
"""The load-balancer host's link to the clients; packets to mirrors do not pass it."""

_TICKS = os.sysconf("SC_CLK_TCK")
_HOSTS = ("net", "s1", "lb", "c1", "m")
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD in a process's flags (linux/sched.h)
_BUSY = (0, 1, 2, 5, 6)  # user, nice, system, irq, softirq: columns of /proc/stat (proc(5))


def machine_seconds() -> float:
    """Return the processor seconds that the whole machine has been busy, interrupts included."""
    return _busy_seconds({"cpu"})


def core_seconds(cores: Collection[int]) -> float:
    """Return the processor seconds that these cores have been busy, interrupts included."""
    return _busy_seconds({f"cpu{core}" for core in cores})


def _busy_seconds(names: Collection[str]) -> float:
    rows = (line.split() for line in Path("/proc/stat").read_text().splitlines())
    return sum(int(row[1 + index]) for row in rows if row[0] in names for index in _BUSY) / _TICKS


def program_seconds(lab: Lab, host: str) -> float:
    """Return the processor seconds of the programs on a host, without the kernel's interrupts."""
    total = 0
    for pid in pids_in(lab.ns(host)):
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                total += int(task.read_text().split()[0])
            except (OSError, ValueError):
                continue  # it has just ended
    return total / 1e9


def others_ticks(lab: Lab) -> dict[int, int]:
    """Return the ticks of each program that does not belong to this benchmark, by process id."""
    hosts = [os.stat(f"/var/run/netns/{lab.ns(host)}").st_ino for host in _HOSTS]
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int(entry.name) == os.getpid() or os.stat(entry / "ns/net").st_ino in hosts:
                continue
            columns = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(columns[6]) & _KERNEL_THREAD == 0:
            found[int(entry.name)] = int(columns[11]) + int(columns[12])  # utime, stime
    return found


def resident_bytes(lab: Lab) -> int:
    """Return the resident memory of the programs on the load-balancer host, without the kernel's sockets."""
    total = 0
    for pid in pids_in(lab.ns("lb")):
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
    return total


def client_packets(lab: Lab) -> int:
    """Return the number of packets between clients and the load-balancer host, in both directions."""
    for line in lab.run("lb", ["cat", "/proc/net/dev"]).splitlines():
        name, _, columns = line.partition(":")
        if name.strip() == CLIENT_LINK:
            numbers = columns.split()
            return int(numbers[1]) + int(numbers[9])
    raise ValueError(f"no link {CLIENT_LINK}")


@dataclass(slots=True)
class Usage:
    """Processor time and packets: as counted until now, or between two moments."""

    seconds: float
    machine: float
    program: float
    mirrors: float
    others: dict[int, int]
    packets: int

    @classmethod
    def now(cls, lab: Lab) -> Self:
        """Return the counters at this moment."""
        program, mirrors = program_seconds(lab, "lb"), program_seconds(lab, "m")
        return cls(time.monotonic(), machine_seconds(), program, mirrors, others_ticks(lab), client_packets(lab))

    def since(self, before: "Usage") -> "Usage":
        """Return the differences to an earlier moment."""
        return Usage(
            self.seconds - before.seconds,
            self.machine - before.machine,
            self.program - before.program,
            self.mirrors - before.mirrors,
            {pid: ticks - before.others.get(pid, 0) for pid, ticks in self.others.items()},
            self.packets - before.packets,
        )

    @property
    def others_cores(self) -> float:
        """The number of cores that other programs took; programs that have ended since are not counted."""
        return sum(self.others.values()) / _TICKS / self.seconds
