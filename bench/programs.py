"""The benchmark's own programs in C."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from natmirror.errors import HostError

_TIMEOUT = 60.0
_NATMIRROR = Path(__file__).parents[1] / "natmirror"


@dataclass(frozen=True, slots=True)
class Programs:
    """The paths of the programs: the load's clients and servers, the bare loop, and the measures of natmirror's C
    code."""

    load: Path
    bare_loop: Path
    isolated: Path


def compile_programs(directory: Path) -> Programs:
    """Build the programs in ``directory``; HostError where gcc fails."""
    gear = [str(path) for path in (_NATMIRROR / "_fastpath.c", *sorted(_NATMIRROR.glob("fastpath/*.c")))]
    return Programs(
        _compile(directory, "load"),
        _compile(directory, "bare_loop"),
        _compile(directory, "isolated", f"-I{_NATMIRROR}", "-ffp-contract=off", *gear, "-lm"),
    )


def _compile(directory: Path, name: str, *more: str) -> Path:
    program = directory / name
    source = Path(__file__).with_name(f"{name}.c")
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-o", str(program), str(source), *more]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except FileNotFoundError:
        raise HostError("gcc is missing: install the package gcc") from None
    if done.returncode:
        raise HostError(f"gcc: {done.stderr}")
    return program
