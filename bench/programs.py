"""The benchmark's own programs in C."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from natmirror.errors import HostError

_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Programs:
    """Where they are: the load's clients and servers, and the bare loop that natmirror is compared with."""

    load: Path
    bare_loop: Path


def compile_programs(directory: Path) -> Programs:
    """Build them in ``directory``; HostError where gcc refuses."""
    return Programs(*(_compile(directory, name) for name in ("load", "bare_loop")))


def _compile(directory: Path, name: str) -> Path:
    program = directory / name
    source = Path(__file__).with_name(f"{name}.c")
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-o", str(program), str(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except FileNotFoundError:
        raise HostError("gcc is missing: install the package gcc") from None
    if done.returncode:
        raise HostError(f"gcc: {done.stderr}")
    return program
